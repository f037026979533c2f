"""The loop of the process that holds one model; it speaks ``engine.channel`` on one socket.

One thread: it polls the channel and the clients' sockets, then lets the scheduler take one step, and so on.
A cancel, a closed stream or a new request therefore takes effect within one decode step.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kylin_gguf import frames, native
from kylin_gguf.chat_template import ChatTemplate
from kylin_gguf.engine import channel
from kylin_gguf.engine.llama import Context, LogTail, Model
from kylin_gguf.engine.prompt import encode_prompt
from kylin_gguf.engine.scheduler import Scheduler
from kylin_gguf.engine.stream import ClientStream
from kylin_gguf.engine.tasks import Generation, Scoring
from kylin_gguf.errors import KylinError, UnsupportedModel
from kylin_gguf.frames import EndReason
from kylin_gguf.records import Message, Placement, SamplingOptions, Scores, Usage

_PROGRESS_STEP = 0.02


class Worker:
    """The loop, the loaded model, and the streams that are still open."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reader = channel.Reader(control)
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._streams: dict[int, tuple[int, ClientStream]] = {}
        """By file descriptor: the request's id and its stream."""
        self._handlers: dict[str, Callable[[channel.Payload, int | None], None]] = {
            "load": self._load,
            "generate": self._generate,
            "score": self._score,
            "cancel": self._cancel,
        }
        self._scheduler: Scheduler | None = None

    def run(self) -> None:
        """Serve until the channel is closed."""
        while True:
            busy = self._scheduler is not None and self._scheduler.has_work
            for descriptor, events in self._poll.poll(0 if busy else None):
                if descriptor != self._control.fileno():
                    self._stream_event(descriptor, events)
                elif not self._control_event():
                    return
            if self._scheduler is not None and self._scheduler.has_work:
                self._scheduler.step()
            self._sweep()

    def _control_event(self) -> bool:
        try:
            messages = self._reader.receive()
        except (EOFError, ConnectionResetError):
            return False
        for payload, descriptor in messages:
            try:
                self._handlers[payload["op"]](payload, descriptor)
            except KylinError as error:
                self._fail(payload, descriptor, error)
        return True

    def _fail(self, payload: channel.Payload, descriptor: int | None, error: KylinError) -> None:
        """Refuse a message: tell the client whose stream it carries, and the service."""
        stream = self._streams.get(descriptor or -1, (0, None))[1]
        if stream:
            stream.send(frames.error(error))
            stream.send(frames.end("error"))
        self._send({"event": "failed", "id": payload.get("id", 0), "error": error.to_wire()})

    def _send(self, payload: channel.Payload) -> None:
        channel.send(self._control, payload)

    # --- messages -----------------------------------------------------------------------------------

    def _load(self, payload: channel.Payload, _: int | None) -> None:
        began = time.perf_counter()
        placement = Placement.from_json(payload["placement"])
        tail = LogTail()
        native.capture_log(tail)
        self._model = Model(Path(payload["path"]), placement, tail, self._report_progress())
        if not self._model.has_decoder:
            raise UnsupportedModel(payload["path"], "it is an embedding model and generates no text")
        self._context = Context(self._model, placement, tail)
        self._first_lane = placement.sequences
        self._template_source = self._model.chat_template()
        self._template: ChatTemplate | None = None
        self._scheduler = Scheduler(self._context, placement.sequences)
        self._send({"event": "ready", "load_s": time.perf_counter() - began})

    def _report_progress(self) -> Callable[[float], None]:
        sent = 0.0

        def report(fraction: float) -> None:
            nonlocal sent
            if fraction - sent >= _PROGRESS_STEP:
                sent = fraction
                self._send({"event": "progress", "fraction": fraction})

        return report

    def _generate(self, payload: channel.Payload, descriptor: int | None) -> None:
        if descriptor is None:
            raise ValueError("generate came without a stream")
        request_id = int(payload["id"])
        stream = ClientStream(socket.socket(fileno=descriptor))
        self._streams[descriptor] = (request_id, stream)
        self._poll.register(descriptor, 0)  # hang-ups are reported whatever the mask

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
        prompt = self._prompt(payload["messages"])
        task = Generation(
            request_id, model=self._model, prompt=prompt, options=options, stream=stream, report=report
        )
        self._submit(task)

    def _score(self, payload: channel.Payload, _: int | None) -> None:
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
        self._submit(
            Scoring(request_id, self._prompt(payload["messages"]), answers, self._first_lane, report)
        )

    def _cancel(self, payload: channel.Payload, _: int | None) -> None:
        if self._scheduler:
            self._scheduler.cancel(int(payload["id"]))

    def _submit(self, task: Generation | Scoring) -> None:
        assert self._scheduler is not None, "the service sends nothing before `ready`"
        self._scheduler.submit(task)

    def _prompt(self, messages: list[dict[str, Any]]) -> list[int]:
        if self._template is None:
            bos, eos = (self._model.special_text(kind) for kind in ("bos", "eos"))
            self._template = ChatTemplate(self._model.path.name, self._template_source, bos, eos)
        return encode_prompt(self._model, self._template, [Message.from_json(item) for item in messages])

    # --- streams ------------------------------------------------------------------------------------

    def _stream_event(self, descriptor: int, events: int) -> None:
        _, stream = self._streams[descriptor]
        if events & (select.EPOLLHUP | select.EPOLLERR):
            stream.hang_up()
        elif events & select.EPOLLOUT:
            stream.flush()

    def _sweep(self) -> None:
        """Watch for room where a client is slow; close what has ended, and stop working for who has gone."""
        for descriptor, (request_id, stream) in list(self._streams.items()):
            if stream.drained or stream.closed:
                if stream.closed and self._scheduler:
                    self._scheduler.cancel(request_id)
                del self._streams[descriptor]
                self._poll.unregister(descriptor)
                stream.close()
            else:
                self._poll.modify(descriptor, select.EPOLLOUT if stream.blocked else 0)
