"""llama.cpp's ``llama-server`` of the same build, and a client that costs it as little as can be.

The client shares the machine with what it measures, so it notes when a chunk came and reads it afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes
from bench.case import Unfair
from bench.chat import Reply
from kylin_gguf import config, native
from kylin_gguf.records import InstalledModel, Message

HOST = "127.0.0.1"
START_S = 300.0
_OK = b"HTTP/1.1 200"
_MAX_HEAD = 1 << 16


@dataclass(frozen=True)
class LlamaServer:
    """A running server. An ``Engine`` to the cases."""

    port: int
    pid: int

    def processes(self) -> Iterable[int]:
        """The server."""
        return [self.pid]

    async def chat(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        begun: asyncio.Event | None = None,
        json_schema: str = "",
    ) -> Reply:
        """Answer, as ``Engine.chat``, through ``/v1/chat/completions``; in the form of ``json_schema``."""
        body = {
            "messages": [message.to_json() for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "top_k": 1,  # else its chain sorts out forty candidates before it takes the best
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if json_schema:
            form = {"name": "answer", "schema": json.loads(json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        reader, writer = await asyncio.open_connection(HOST, self.port, limit=_MAX_HEAD)
        chunks = []
        try:
            asked = time.perf_counter()
            writer.write(_request("POST", "/v1/chat/completions", json.dumps(body).encode()))
            async for chunk in _chunks(reader):
                chunks.append((time.perf_counter(), chunk))
                if begun and not begun.is_set() and b'"content":"' in chunk:
                    begun.set()
        finally:
            writer.close()
        return reply(asked, chunks)


def reply(asked: float, chunks: Sequence[tuple[float, bytes]]) -> Reply:
    """Make a reply of a stream's chunks, each with the time when it came.

    Raises:
        Unfair: no text, or an error came.
    """
    arrivals, text, reason = [], [], ""
    last: dict[str, Any] = {}
    for when, event in _events(chunks):
        if "error" in event:
            raise Unfair(f"llama-server: {event['error']}")
        for choice in event.get("choices", ()):
            piece = choice["delta"].get("content") or choice["delta"].get("reasoning_content")
            if piece:
                arrivals.append(when)
                text.append(piece)
            reason = choice.get("finish_reason") or reason
        last |= {key: event[key] for key in ("usage", "timings") if event.get(key)}
    if not arrivals:
        raise Unfair(f"llama-server gave no text ({reason})")
    return Reply(
        asked=asked,
        arrivals=tuple(arrivals),
        text="".join(text),
        reason=reason,
        prompt_tokens=last["usage"]["prompt_tokens"],
        cached_tokens=last["usage"]["prompt_tokens_details"]["cached_tokens"],
        completion_tokens=last["usage"]["completion_tokens"],
        prefill_tokens_per_s=last["timings"]["prompt_per_second"],
        decode_tokens_per_s=last["timings"]["predicted_per_second"],
    )


def _events(chunks: Sequence[tuple[float, bytes]]) -> Iterable[tuple[float, dict[str, Any]]]:
    """Yield the server-sent events, each with the time when its last byte came."""
    pending = b""
    for when, chunk in chunks:
        *complete, pending = (pending + chunk).split(b"\n\n")
        for event in complete:
            name, _, data = event.partition(b": ")
            if name in (b"data", b"error") and data != b"[DONE]":
                yield when, json.loads(data)


def _request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the chunks of a response's body (RFC 9112, section 7.1) as they come.

    Raises:
        Unfair: the server refused.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(_OK):
        raise Unfair(f"llama-server: {(await reader.read()).decode(errors='replace')[:300]}")
    if b"transfer-encoding: chunked" not in head.lower():
        yield await reader.read()
        return
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]


@contextlib.asynccontextmanager
async def running(
    model: InstalledModel, *, threads: int, context_length: int, parallel: int, unified: bool = True
) -> AsyncIterator[LlamaServer]:
    """Start a server on a free port and wait until it has loaded the model; it ends with the block.

    ``unified`` gives all slots one KV cache of ``context_length``, as the server has it by default; without,
    each has its share of it.
    """
    tool = native.find(config.load()).tool("llama-server")
    port = _free_port()
    command = [tool, "-m", model.path, "-t", threads, "-c", context_length, "-np", parallel]
    command += ["-kvu" if unified else "-no-kvu", "--host", HOST, "--port", port]
    # Off: changing what it was asked for, and copying a slot's state aside when a prompt replaces another,
    # which would cost the next request of a new prompt its time to the first token.
    command += ["-fit", "off", "-cram", "0"]
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as empty:
        log = Path(empty, "log")
        async with processes.child(list(map(str, command)), log=log, cwd=empty) as process:
            await _until_healthy(process, port, log)
            yield LlamaServer(port, process.pid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _until_healthy(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not await _healthy(port):
        if process.returncode is not None or time.monotonic() > deadline:
            raise SystemExit(f"llama-server did not start: {processes.tail(log)}")
        await asyncio.sleep(0.1)


async def _healthy(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.write(_request("GET", "/health"))
    answer = await reader.read()
    writer.close()
    return answer.startswith(_OK)
