"""Finds out, on a loaded model, whether guessing makes its answers come faster.

Some real prompts are answered with and without guesses, turn and turn about: texts to correct and to change,
which quote, and a question, which does not. The work is cut into single decodes, to be done while nobody
waits for the model; who comes in between waits for one of them, and only its own answer's figures are lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence

from kylin_gguf.engine.context import Context
from kylin_gguf.engine.prefix_cache import PrefixCache, Slot
from kylin_gguf.engine.speculation.choice import Choice
from kylin_gguf.engine.speculation.payoff import LONGEST, Costs
from kylin_gguf.engine.speculation.speculator import Speculator

PROMPTS = (
    "Correct the spelling and leave everything else as it is:\n"
    "The keeper of the lighthouse climbs the stairs evry evening, lights the lamp and writes the weather "
    "into his book. In the morning he puts the lamp out and sleeps untill noon.",
    "请改正下面这段话里的错别字，其他内容保持不变：\n"
    "每天傍晚，守塔人爬上楼梯，点亮灯火，把天气记在本子上。到了早上，他熄灭灯火，一直睡到中无。",
    "Why is the sky blue?",
)
ANSWER_TOKENS = 48

_SIZES = (1, 2, 3, 4, 6, LONGEST + 1)
_REPETITIONS = 3
_PIECE = 64
"""Prompt tokens of one decode."""


class _Interrupted(Exception):
    """A decode was given up for somebody who waits."""


class Trial:
    """One trial. ``step`` until it gives a choice; ``give_way`` when there is other work."""

    def __init__(
        self,
        context: Context,
        cache: PrefixCache,
        prompts: Sequence[list[int]],
        is_end: Callable[[int], bool],
        interrupted: Callable[[], bool],
    ) -> None:
        """``prompts`` are tokens, of which the first half may fill the context; ``interrupted`` is asked
        during a decode whether somebody waits."""
        self._context, self._cache = context, cache
        self._is_end, self._interrupted = is_end, interrupted
        self._batch = context.new_batch()
        self._costs: Costs | None = None
        self._seconds = {False: 0.0, True: 0.0}
        """By whether guesses were tried: the time of all answers' decodes."""
        self._tokens = {False: 0, True: 0}
        self._left = [(prompt, guess) for prompt in prompts for guess in (False, True)]
        self._slot: Slot | None = None
        self._work: Iterator[None] | None = None

    def step(self) -> Choice | None:
        """Do one decode; return the choice when that was the last."""
        if self._work is None:
            self._work = self._measure() if self._costs is None else self._answer(*self._left[0])
        try:
            next(self._work)
            return None
        except _Interrupted:
            self.give_way()
            return None
        except StopIteration:
            self.give_way()
        if self._left:
            return None
        assert self._costs is not None, "measured first"
        speed = {guess: self._tokens[guess] / self._seconds[guess] for guess in (False, True)}
        return Choice(speed[True] / speed[False], self._costs)

    def give_way(self) -> None:
        """Let go of the KV cache; what was begun is begun again later."""
        self._work = None
        if self._slot:
            self._cache.forget(self._slot)
            self._cache.release(self._slot)
            self._slot = None

    def _measure(self) -> Iterator[None]:
        """Time decodes of several sizes behind a prompt."""
        slot = yield from self._prefilled(self._left[0][0])
        times: dict[int, list[float]] = {size: [] for size in _SIZES}
        for _ in range(_REPETITIONS):
            for size in _SIZES:
                times[size].append(self._decode(slot, [slot.tokens[-1]] * size, outputs=True))
                self._context.truncate(slot.sequence, len(slot.tokens))
                yield
        # Whatever else runs on the machine makes a decode longer, never shorter.
        self._costs = Costs({size: min(values) for size, values in times.items()})

    def _prefilled(self, prompt: list[int]) -> Generator[None, None, Slot]:
        """Compute all of ``prompt`` but its last token, whose logits are wanted."""
        slot, cached = self._cache.acquire(prompt)
        self._slot = slot
        for start in range(cached, len(prompt) - 1, _PIECE):
            piece = prompt[start : min(start + _PIECE, len(prompt) - 1)]
            self._decode(slot, piece, outputs=False)
            slot.tokens += piece
            yield
        return slot

    def _answer(self, prompt: list[int], guess: bool) -> Iterator[None]:
        """Answer greedily as the scheduler would, and note how long the decodes took."""
        assert self._costs is not None, "measured first"
        slot = yield from self._prefilled(prompt)
        speculator = Speculator(self._costs) if guess else None
        tokens, seconds, drawn = list(prompt), 0.0, 0
        while drawn < ANSWER_TOKENS:
            guesses = speculator.propose(tokens, ANSWER_TOKENS - drawn - 1) if speculator else []
            seconds += self._decode(slot, [tokens[-1], *guesses], outputs=True)
            slot.tokens.append(tokens[-1])
            for index, expected in enumerate((*guesses, None)):
                tokens.append(int(self._context.logits(index).argmax()))
                drawn += 1
                if speculator:
                    speculator.drawn(tokens[-1])
                if tokens[-1] != expected:
                    break
                slot.tokens.append(tokens[-1])
            self._context.truncate(slot.sequence, len(slot.tokens))
            if self._is_end(tokens[-1]):
                break
            yield
        self._seconds[guess] += seconds
        self._tokens[guess] += drawn
        self._left.pop(0)

    def _decode(self, slot: Slot, tokens: Sequence[int], *, outputs: bool) -> float:
        """Decode ``tokens`` behind what ``slot`` holds; return the seconds it took.

        With ``outputs`` each token gives logits, and the time until they are there counts.
        """
        self._batch.clear()
        for position, token in enumerate(tokens, len(slot.tokens)):
            self._batch.add(token, position, slot.sequence, logits=outputs)
        began = time.perf_counter()
        if not self._context.decode(self._batch, self._interrupted):
            raise _Interrupted
        if outputs:
            self._context.logits(0)  # waits for a device that decodes in the background
        return time.perf_counter() - began
