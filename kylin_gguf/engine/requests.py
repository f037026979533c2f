"""What a worker is asked for, turned into tasks of the scheduler. Messages as in ``engine.channel``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kylin_gguf import native
from kylin_gguf.chat_template import ChatTemplate
from kylin_gguf.engine.channel import Payload
from kylin_gguf.engine.confinement import limit_memory
from kylin_gguf.engine.context import Context
from kylin_gguf.engine.model import LogTail, Model
from kylin_gguf.engine.prefix_cache import PrefixCache
from kylin_gguf.engine.prefix_store import PrefixStore, fingerprint
from kylin_gguf.engine.prompt import encode_prompt
from kylin_gguf.engine.scheduler import Scheduler
from kylin_gguf.engine.stream import ClientStream
from kylin_gguf.engine.tasks.generation import Generation
from kylin_gguf.engine.tasks.scoring import Scoring
from kylin_gguf.errors import KylinError, UnsupportedModel
from kylin_gguf.frames import EndReason
from kylin_gguf.records import Message, Placement, SamplingOptions, Scores, Usage

_PROGRESS_STEP = 0.02


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
            "score": self._score,
            "cancel": lambda payload, _: self.cancel(int(payload["id"])),
            "ping": lambda payload, _: self._send({"event": "pong", "id": payload["id"]}),
        }
        self._scheduler: Scheduler | None = None

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do something now."""
        return self._scheduler is not None and self._scheduler.has_work

    def step(self) -> None:
        """Take one decode step."""
        assert self._scheduler is not None, "asked for without work"
        self._scheduler.step()

    def handle(self, payload: Payload, descriptor: int | None) -> None:
        """Do what one message asks.

        Raises:
            KylinError: refused; nothing has begun, but a stream that came with it may be open.
        """
        self._handlers[payload["op"]](payload, descriptor)

    def cancel(self, request_id: int) -> None:
        """End a request at the next step."""
        if self._scheduler:
            self._scheduler.cancel(request_id)

    def close(self) -> None:
        """Keep what the next worker of this model can use."""
        if self._scheduler:
            self._scheduler.close()

    # --- handlers -----------------------------------------------------------------------------------

    def _load(self, payload: Payload, _: int | None) -> None:
        began = time.perf_counter()
        placement = Placement.from_json(payload["placement"])
        limit_memory(placement)
        tail = LogTail()
        native.capture_log(tail)
        self._model = Model(Path(payload["path"]), placement, tail, self._report_progress())
        if not self._model.has_decoder:
            raise UnsupportedModel(payload["path"], "it is an embedding model and generates no text")
        self._context = Context(self._model, placement, tail)
        self._template_source = self._model.chat_template()
        self._template: ChatTemplate | None = None
        cache = PrefixCache(self._context, self._store(payload, placement))
        self._scheduler = Scheduler(self._context, cache, placement.sequences, self._listen)
        self._send({"event": "ready", "load_s": time.perf_counter() - began})

    def _store(self, payload: Payload, placement: Placement) -> PrefixStore | None:
        if not payload["prefix_bytes"]:
            return None
        # What the numbers in a KV cache depend on; how long it is does not matter.
        parts = (fingerprint(self._model.path), placement.kv_type, placement.mode, placement.gpu_layers)
        key = hashlib.blake2b(" ".join(map(str, (*parts, self._build))).encode(), digest_size=16).hexdigest()
        return PrefixStore(Path(payload["prefix_dir"]), key, payload["prefix_bytes"])

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

        def report(reason: EndReason, text: str, usage: Usage, failure: KylinError | None) -> None:
            self._send(
                {
                    "event": "finished",
                    "id": request_id,
                    "reason": reason,
                    "text": text,
                    "usage": usage.to_json(),
                    "error": failure.to_wire() if failure else None,
                }
            )

        options = SamplingOptions.from_options(payload["options"])
        prompt = self._prompt(payload["messages"], thinking=options.thinking)
        task = Generation(
            request_id, model=self._model, prompt=prompt, options=options, stream=stream, report=report
        )
        self._submit(task)

    def _score(self, payload: Payload, _: int | None) -> None:
        request_id = int(payload["id"])

        def report(scores: Scores | None, failure: KylinError | None) -> None:
            if scores is None:
                error = failure.to_wire() if failure else None
                self._send({"event": "failed", "id": request_id, "error": error})
                return
            self._send(
                {
                    "event": "scored",
                    "id": request_id,
                    "logprobs": scores.logprobs,
                    "prefill_ms": scores.prefill_ms,
                    "score_ms": scores.score_ms,
                }
            )

        end = self._model.end_of_turn()
        answers = [[*self._model.tokenize(text, special=False), end] for text in payload["continuations"]]
        prompt = self._prompt(payload["messages"])
        self._submit(Scoring(request_id, prompt, answers, report, standing=payload["standing"]))

    def _submit(self, task: Generation | Scoring) -> None:
        assert self._scheduler is not None, "the service sends nothing before `ready`"
        self._scheduler.submit(task)

    def _prompt(self, messages: list[dict[str, Any]], *, thinking: bool = False) -> list[int]:
        if self._template is None:
            bos, eos = (self._model.special_text(kind) for kind in ("bos", "eos"))
            self._template = ChatTemplate(self._model.path.name, self._template_source, bos, eos)
        turns = [Message.from_json(item) for item in messages]
        return encode_prompt(self._model, self._template, turns, thinking=thinking)
