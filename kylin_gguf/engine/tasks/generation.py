"""Generates text: draws tokens and streams them to a client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kylin_gguf import frames
from kylin_gguf.chat_template import END_OF_TURN
from kylin_gguf.engine.context import Context
from kylin_gguf.engine.prefix_cache import Slot
from kylin_gguf.engine.reasoning import Parts, ReasoningSplitter, is_tag, tags_of
from kylin_gguf.engine.sampling import Sampler
from kylin_gguf.engine.sampling.logprobs import LogProbs
from kylin_gguf.engine.sentences import SentenceSplitter
from kylin_gguf.engine.speculation.speculator import Speculator
from kylin_gguf.engine.stream import ClientStream
from kylin_gguf.engine.tasks.stopwatch import Stopwatch
from kylin_gguf.engine.tasks.task import Priority
from kylin_gguf.engine.text import TextAssembler
from kylin_gguf.engine.vocabulary import Vocabulary
from kylin_gguf.errors import KylinError
from kylin_gguf.frames import EndReason
from kylin_gguf.records import SamplingOptions, Usage

FRAME_INTERVAL_S = 0.05
"""Text is sent no more often than this. Waking a reader for each token of a fast model takes a core from the
decode threads, and nobody reads twenty frames a second apart from each other."""

_TAG_TOKENS = 16
"""Tokens at the end of a prompt that a tag and the white space behind it can take."""


class Generation:
    """Draws tokens and streams them to a client."""

    def __init__(  # noqa: PLR0913 - a request has this many parts; the caller builds it in one place
        self,
        request_id: int,
        *,
        vocabulary: Vocabulary,
        template: str,
        prompt: list[int],
        options: SamplingOptions,
        speculator: Speculator | None,
        stream: ClientStream,
        report: Callable[[EndReason, str, Usage, KylinError | None], None],
    ) -> None:
        """``template`` is the source of the chat template that wrote ``prompt``, empty for the default;
        without ``speculator`` nothing is guessed."""
        self.id, self.tokens, self.stream = request_id, list(prompt), stream
        self.priority = Priority.INTERACTIVE
        self.cancelled = False
        self._vocabulary, self._options, self._report = vocabulary, options, report
        self._speculator = speculator
        self._sampler = Sampler(vocabulary, options, prompt)
        self._logprobs = LogProbs(vocabulary, options.logprobs) if options.logprobs >= 0 else None
        self._text = _assembler(vocabulary, template, prompt, options)
        self._sentences = SentenceSplitter() if options.sentences else None
        self._unread, self._unsent_reasoning, self._unsent = b"", "", ""
        self._sent = 0.0
        self._prompt_tokens = len(prompt)
        self._cached = self._drawn = 0
        self._stopwatch = Stopwatch()

    @property
    def paused(self) -> bool:
        """A client that does not read pauses its own sequence only."""
        return self.stream.blocked

    @property
    def room(self) -> int:
        """How many more tokens may be drawn."""
        return self._options.max_tokens - self._drawn

    def queued(self, position: int) -> None:
        """Tell the client its place in the queue."""
        self.stream.send(frames.queued(position))

    def started(self, cached: int) -> None:
        """Note when prefill begins; what is computed again after a displacement is not the client's doing."""
        if not self._drawn:
            self._cached = cached
            self._stopwatch.started()

    def logits_ready(self, context: Context, slot: Slot, index: int) -> bool:
        """Draw a token, send its text, and decide whether that was the last."""
        token = self._sampler.sample(context, index)
        now = self._stopwatch.token()
        if self._speculator:
            self._speculator.drawn(token)
        self._drawn += 1
        if self._vocabulary.is_end(token):
            self.finish("stop")
            return True
        if self._logprobs:
            self._logprobs.add(context.logits(index), token)
        self._unread += _text_bytes(self._vocabulary, token)
        due = now - self._sent >= FRAME_INTERVAL_S
        if due or self._text.watches:
            self._read()
        if due:
            self._send(now)
        if self._text.stopped:
            self.finish("stop")
        elif self._drawn >= self._options.max_tokens or len(slot.tokens) + 1 >= context.length:
            self.finish("length")
        else:
            self.tokens.append(token)
            return False
        return True

    def _read(self) -> None:
        """Turn the bytes of tokens into text, of several together unless a stop string may be among them."""
        self._add(self._text.push(self._unread))
        self._unread = b""

    def _add(self, parts: Parts) -> None:
        self._unsent_reasoning += parts.reasoning
        self._unsent += parts.answer

    def _send(self, now: float) -> None:
        if self._unsent_reasoning:
            self.stream.send(frames.reasoning(self._unsent_reasoning))
        if self._unsent:
            self.stream.send(frames.text(self._unsent))
            self._speak(self._sentences.push(self._unsent) if self._sentences else ())
        for tokens in self._logprobs.take() if self._logprobs else ():
            self.stream.send(frames.logprobs(tokens))
        if self._unsent or self._unsent_reasoning:
            self._unsent_reasoning, self._unsent, self._sent = "", "", now

    def _speak(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self.stream.send(frames.sentence(sentence))

    def guess(self, limit: int) -> Sequence[int]:
        """Return what may follow, no more than may still be drawn behind the next token."""
        return self._speculator.propose(self.tokens, min(limit, self.room - 1)) if self._speculator else ()

    def finish(self, reason: EndReason, failure: KylinError | None = None) -> None:
        """Send what was held back, the usage and the end, and report to the parent."""
        self._read()
        self._add(self._text.finish())
        self._send(self._sent)
        self._speak(self._sentences.finish() if self._sentences else ())
        usage = self._stopwatch.usage(
            self._prompt_tokens,
            self._cached,
            guessed_tokens=self._speculator.guessed if self._speculator else 0,
            accepted_tokens=self._speculator.accepted if self._speculator else 0,
        )
        self.stream.send(frames.usage(usage))
        if failure:
            self.stream.send(frames.error(failure))
        self.stream.send(frames.end(reason))
        self._sampler.close()
        self._report(reason, self._text.text, usage, failure)


def _assembler(
    vocabulary: Vocabulary, template: str, prompt: list[int], options: SamplingOptions
) -> TextAssembler:
    """Return what turns the tokens into text.

    With a grammar the whole text is the answer: it matches from the first token. A model without a template
    talks ChatML, whose end of turn may be plain text to it.
    """
    stops = options.stop if template else (*options.stop, END_OF_TURN)
    if options.grammar or options.json_schema:
        return TextAssembler(stops)
    tags = tags_of(template)
    end = b"".join(vocabulary.piece(token, special=True) for token in prompt[-_TAG_TOKENS:])
    # Some templates open the block themselves, as DeepSeek R1's.
    thinking = end.rstrip().endswith(tags.opening.encode())
    return TextAssembler(stops, ReasoningSplitter(tags, thinking=thinking))


def _text_bytes(vocabulary: Vocabulary, token: int) -> bytes:
    """Return the bytes of ``token``; a control token has none, unless it begins or ends reasoning."""
    piece = vocabulary.piece(token)
    if piece:
        return piece
    control = vocabulary.piece(token, special=True)
    return control if is_tag(control) else b""
