"""What a worker is asked for, turned into tasks of the scheduler. Messages as in ``engine.channel``."""

from __future__ import annotations

import base64
import contextlib
import functools
import gc
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kylin_gguf import energy, frames, native
from kylin_gguf.chat_template import ChatTemplate
from kylin_gguf.engine.buffers import BufferSizes
from kylin_gguf.engine.channel import Payload
from kylin_gguf.engine.confinement import limit_memory
from kylin_gguf.engine.context import Context
from kylin_gguf.engine.embedding.context import EmbeddingContext, Vectors
from kylin_gguf.engine.embedding.hidden_states import HiddenStateContext
from kylin_gguf.engine.embedding.queue import EmbeddingQueue, Report, Request
from kylin_gguf.engine.embedding.understanding import Understanding
from kylin_gguf.engine.history import fit, room_for_prompt
from kylin_gguf.engine.model import LogTail, Model
from kylin_gguf.engine.placing import free_memory
from kylin_gguf.engine.prefix_cache import PrefixCache
from kylin_gguf.engine.prefix_store import PrefixStore, fingerprint
from kylin_gguf.engine.prompt import encode_prompt
from kylin_gguf.engine.scheduler import Scheduler
from kylin_gguf.engine.speculation.speculation import Speculation
from kylin_gguf.engine.speculation.trial import PROMPTS, Trial
from kylin_gguf.engine.stream import ClientStream
from kylin_gguf.engine.tasks.generation import Generation
from kylin_gguf.errors import KylinError, TemplateFailed, UnsupportedModel
from kylin_gguf.frames import EndReason
from kylin_gguf.records import Activity, Message, Placement, SamplingOptions, Usage
from kylin_gguf.records import Speculation as SpeculationState

_PROGRESS_STEP = 0.02

_EMBEDDING_NICE = 10
"""Vectors are background work: where cores are short, those that generate for someone who waits go first."""


class Requests:
    """The loaded model and what is asked of it."""

    def __init__(
        self,
        send: Callable[[Payload], None],
        open_stream: Callable[[int, int], ClientStream],
        listen: Callable[[], bool],
        build: str,
    ) -> None:
        """``send`` answers the service; ``open_stream`` takes a request's id and descriptor; ``listen`` is
        for the scheduler; ``build`` names llama.cpp's build."""
        self._send, self._open_stream, self._listen, self._build = send, open_stream, listen, build
        self._handlers: dict[str, Callable[[Payload, int | None], None]] = {
            "load": self._load,
            "generate": self._generate,
            "embed": self._embed,
            "states": self._states,
            "cancel": lambda payload, _: self.cancel(int(payload["id"])),
            "activity": lambda payload, _: self._tell_activity(int(payload["id"])),
            "power": lambda payload, _: self._heed_power(payload),
            "ping": lambda payload, _: self._send({"event": "pong", "id": payload["id"]}),
        }
        self._scheduler: Scheduler | None = None
        self._embeddings: EmbeddingQueue | None = None
        """A model has one of the two: it generates or it embeds."""
        self._understanding: Understanding | None = None
        """Of a model that generates, once it was asked for hidden states."""
        self._speculation: Speculation | None = None
        self._meter = energy.meter(on_battery=False)

    def step(self) -> bool:
        """Take one decode step; False if there is nothing to do until a message or a client's event comes."""
        for queue in self._queues():
            if queue.has_work:
                if self._speculation:
                    self._speculation.give_way()
                queue.step()
                return True
        return self._speculation is not None and self._speculation.step()

    def rest(self) -> float | None:
        """Use that ``step`` had nothing to do; return after how many seconds to ask again, if at all."""
        return self._scheduler.rest() if self._scheduler else None

    def _queues(self) -> Iterator[Scheduler | EmbeddingQueue]:
        """What may have something to do, the most urgent first. A single text's hidden state is a command
        that somebody waits for, and quickly made."""
        if self._understanding:
            yield self._understanding.urgent
        if self._scheduler:
            yield self._scheduler
        if self._embeddings:
            yield self._embeddings
        if self._understanding:
            yield self._understanding.background

    def handle(self, payload: Payload, descriptor: int | None) -> None:
        """Do what one message asks.

        Raises:
            KylinError: refused; nothing has begun, but a stream that came with it may be open.
        """
        self._handlers[payload["op"]](payload, descriptor)

    def cancel(self, request_id: int) -> None:
        """End a request at the next step."""
        for queue in self._queues():
            queue.cancel(request_id)

    def close(self) -> None:
        """Keep what the next worker of this model can use."""
        if self._scheduler:
            self._scheduler.close()

    # --- handlers -----------------------------------------------------------------------------------

    def _load(self, payload: Payload, _: int | None) -> None:
        began = time.perf_counter()
        placement = self._placement = Placement.from_json(payload["placement"])
        limit_memory(placement)
        tail, buffers = LogTail(), BufferSizes()
        self._tail = tail

        def overhear(level: int, line: str) -> None:
            buffers(line)
            tail(level, line)

        native.capture_log(overhear)
        self._model = Model(Path(payload["path"]), placement, tail, self._report_progress())
        if self._model.embeds:
            os.nice(_EMBEDDING_NICE)
            self._embeddings = EmbeddingQueue(EmbeddingContext(self._model, placement, tail))
        else:
            self._make_scheduler(payload, placement, tail)
        speculation = self._speculation.state if self._speculation else SpeculationState()
        self._send(
            {
                "event": "ready",
                "load_s": time.perf_counter() - began,
                "speculation": speculation.to_json(),
                "buffers": buffers.found,
            }
        )
        if self._scheduler:
            with contextlib.suppress(TemplateFailed):  # which every request will be told
                self._compiled_template()  # while nobody waits for it
        # What stands now stands as long as the process: no collection need look at it again.
        gc.collect()
        gc.freeze()

    def _make_scheduler(self, payload: Payload, placement: Placement, tail: LogTail) -> None:
        self._context = Context(self._model, placement, tail)
        if not self._model.has_decoder or not self._context.has_cache:
            raise UnsupportedModel(
                str(self._model.path), "it writes no text token by token, and states no pooling for vectors"
            )
        # Where weights are mapped that would read all of them from the disk.
        if placement.shares or placement.in_memory:
            self._context.try_out(0)
        self._template_source = self._model.chat_template()
        self._template: ChatTemplate | None = None
        # What the numbers in a KV cache depend on; how long it is does not matter.
        where = [*((share.device, share.layers) for share in placement.shares), placement.ram_experts]
        key = _key(self._model.path, self._build, placement.kv_type, placement.mode, where)
        cache_dir, room = Path(payload["cache_dir"]), payload["prefix_bytes"]
        store = PrefixStore(cache_dir / "prefixes", key, room) if room else None
        cache = PrefixCache(self._context, store)
        self._scheduler = Scheduler(self._context, cache, placement.sequences, self._listen)
        if payload["speculate"] and self._context.cuttable:
            path = cache_dir / "speculation" / f"{_key(key, placement.threads)}.json"
            self._speculation = self._make_speculation(self._scheduler, cache, path)

    def _make_speculation(self, scheduler: Scheduler, cache: PrefixCache, path: Path) -> Speculation:
        def begin_trial() -> Trial:
            prompts = [self._encode([Message("user", text)]) for text in PROMPTS]
            is_end = self._model.vocabulary.is_end
            return Trial(
                self._context, cache, prompts, is_end, lambda: not self._listen() or scheduler.has_work
            )

        def report(found: SpeculationState) -> None:
            self._send({"event": "speculation", "id": 0, "speculation": found.to_json()})

        return Speculation(path, begin_trial, report)

    def _report_progress(self) -> Callable[[float], None]:
        sent = 0.0

        def report(fraction: float) -> None:
            nonlocal sent
            if fraction - sent >= _PROGRESS_STEP:
                sent = fraction
                self._send({"event": "progress", "fraction": fraction})

        return report

    def _generate(self, payload: Payload, descriptor: int | None) -> None:
        if descriptor is None:
            raise ValueError("generate came without a stream")
        request_id = int(payload["id"])
        stream = self._open_stream(request_id, descriptor)

        scheduler = self._generating()
        options = SamplingOptions.from_options(payload["options"])
        room = room_for_prompt(self._context.length, options.max_tokens)
        messages = [Message.from_json(item) for item in payload["messages"]]
        encode = functools.partial(self._encode, thinking=options.thinking)
        fitted = fit(encode, messages, room, payload["overflow"], payload["dropped"])
        if fitted.dropped:
            stream.send(frames.trimmed(fitted.dropped))

        def report(reason: EndReason, text: str, usage: Usage, failure: KylinError | None) -> None:
            self._send(
                {
                    "event": "finished",
                    "id": request_id,
                    "reason": reason,
                    "text": text,
                    "usage": usage.to_json(),
                    "dropped": fitted.dropped,
                    "error": failure.to_wire() if failure else None,
                }
            )

        task = Generation(
            request_id,
            vocabulary=self._model.vocabulary,
            template=self._template_source,
            prompt=fitted.tokens,
            options=options,
            speculator=self._speculation.speculator() if self._speculation else None,
            stream=stream,
            report=report,
        )
        scheduler.submit(task)

    def _embed(self, payload: Payload, _: int | None) -> None:
        request_id = int(payload["id"])
        if self._embeddings is None:
            raise UnsupportedModel(str(self._model.path), "it states no pooling, so it makes no vectors")

        tokens = [self._model.vocabulary.tokenize_whole(text) for text in payload["texts"]]
        self._embeddings.submit(Request(request_id, payload["texts"], tokens, self._vectors(request_id)))

    def _states(self, payload: Payload, _: int | None) -> None:
        request_id = int(payload["id"])
        self._generating()
        if self._understanding is None:
            self._understanding = Understanding(HiddenStateContext(self._model, self._placement, self._tail))
        before = tuple(Message.from_json(item) for item in payload["messages"])
        texts, encode = payload["texts"], functools.partial(self._encode_last, before)
        request = Request(request_id, texts, [encode(text) for text in texts], self._vectors(request_id))
        self._understanding.submit(
            request, before, payload["depth"], encode, background=payload["background"]
        )

    def _tell_activity(self, request_id: int) -> None:
        found = self._scheduler.activity() if self._scheduler else Activity(time=time.monotonic())
        embedding = [queue for queue in self._queues() if isinstance(queue, EmbeddingQueue)]
        found = replace(
            found,
            waiting=found.waiting + sum(map(len, embedding)),
            texts=sum(queue.texts for queue in embedding),
            device_free=free_memory(self._placement),
            energy_j=(self._meter.joules() if self._meter else None) or 0.0,
        )
        self._send({"event": "activity", "id": request_id, "activity": found.to_json()})

    def _heed_power(self, payload: Payload) -> None:
        self._meter = energy.meter(on_battery=payload["on_battery"])
        if self._scheduler is None:
            return
        if payload["save"]:
            self._context.save_energy(self._meter)
        else:
            self._context.save_time()

    def _vectors(self, request_id: int) -> Report:
        def report(vectors: Vectors | None, failure: KylinError | None) -> None:
            if vectors is None:
                error = failure.to_wire() if failure else None
                self._send({"event": "failed", "id": request_id, "error": error})
                return
            encoded = base64.b64encode(vectors.tobytes()).decode("ascii")
            self._send({"event": "embedded", "id": request_id, "shape": vectors.shape, "vectors": encoded})

        return report

    def _generating(self) -> Scheduler:
        if self._scheduler is None:
            raise UnsupportedModel(str(self._model.path), "it is an embedding model and generates no text")
        return self._scheduler

    def _encode(self, messages: Sequence[Message], *, thinking: bool = False) -> list[int]:
        return encode_prompt(self._model.vocabulary, self._compiled_template(), messages, thinking=thinking)

    def _encode_last(self, before: Sequence[Message], text: str) -> list[int]:
        return self._encode([*before, Message("user", text)])

    def _compiled_template(self) -> ChatTemplate:
        if self._template is None:
            bos, eos = (self._model.vocabulary.special_text(kind) for kind in ("bos", "eos"))
            self._template = ChatTemplate(self._model.path.name, self._template_source, bos, eos)
        return self._template


def _key(*parts: object) -> str:
    """Return a name for files that depend on ``parts``; a path stands for the file's content."""
    known = [fingerprint(part) if isinstance(part, Path) else str(part) for part in parts]
    return hashlib.blake2b(" ".join(known).encode(), digest_size=16).hexdigest()
