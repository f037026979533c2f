"""The bindings' own class ``llama_cpp.Llama``, as most Python programs use it, in a process of its own.

    python -m bench.peers.high_level MODEL --threads N --context-length N

As a program it answers JSON lines: {"messages", "max_tokens"} in, a ``Reply`` as an object out. It times its
chunks itself, so nothing but its own overhead is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from bench import processes
from bench.case import Unfair
from bench.chat import Reply
from kylin_gguf import config, native
from kylin_gguf.records import InstalledModel, Message


@dataclass(frozen=True)
class HighLevel:
    """A running child. An ``Engine`` to the cases, for one request at a time."""

    process: asyncio.subprocess.Process
    log: Path

    def processes(self) -> Iterable[int]:
        """The child."""
        return [self.process.pid]

    async def chat(
        self, messages: Sequence[Message], max_tokens: int, begun: asyncio.Event | None = None
    ) -> Reply:
        """Answer, as ``Engine.chat``; ``begun`` is set only at the end."""
        wanted = {"messages": [message.to_json() for message in messages], "max_tokens": max_tokens}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(wanted).encode() + b"\n")
        line = await self.process.stdout.readline()
        if not line:
            raise SystemExit(f"llama_cpp.Llama failed: {processes.tail(self.log)}")
        if begun:
            begun.set()
        answer = json.loads(line)
        if not answer["arrivals"]:
            raise Unfair(f"llama_cpp.Llama gave no text ({answer['reason']})")
        return Reply(**{**answer, "arrivals": tuple(answer["arrivals"])})


@contextlib.asynccontextmanager
async def running(model: InstalledModel, *, threads: int, context_length: int) -> AsyncIterator[HighLevel]:
    """Load ``model`` in a child, which ends with the block."""
    command = [sys.executable, "-m", "bench.peers.high_level", model.path]
    command += ["--threads", threads, "--context-length", context_length]
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as scratch:
        log = Path(scratch, "log")
        root = Path(__file__).resolve().parents[2]
        async with processes.child(list(map(str, command)), log=log, cwd=root, pipes=True) as process:
            yield HighLevel(process, log)


def main() -> None:
    """Answer until standard input ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context-length", type=int, required=True)
    options = parser.parse_args()
    # What the libraries print must not come between the answers.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    native.load(config.load())
    import llama_cpp  # noqa: PLC0415 - binds to the libraries when it is imported

    llama = llama_cpp.Llama(
        options.model,
        n_ctx=options.context_length,
        n_threads=options.threads,
        n_threads_batch=options.threads,
        verbose=False,
    )
    for line in sys.stdin:
        _print(output, asdict(_answer(llama, json.loads(line))))


def _print(output: TextIO, value: dict[str, Any]) -> None:
    output.write(json.dumps(value) + "\n")
    output.flush()


def _answer(llama: Any, wanted: dict[str, Any]) -> Reply:
    arrivals, text, reason = [], [], ""
    asked = time.perf_counter()
    chunks = llama.create_chat_completion(
        wanted["messages"], max_tokens=wanted["max_tokens"], temperature=0.0, stream=True
    )
    for chunk in chunks:
        (choice,) = chunk["choices"]
        if choice["delta"].get("content"):
            arrivals.append(time.perf_counter())
            text.append(choice["delta"]["content"])
        reason = choice["finish_reason"] or reason
    # A streamed answer carries no counts. Each chunk is a token, unless one held half a character.
    tokens = wanted["max_tokens"] if reason == "length" else len(arrivals)
    return Reply(
        asked=asked,
        arrivals=tuple(arrivals),
        text="".join(text),
        reason=reason,
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=tokens,
        prefill_tokens_per_s=0.0,
        decode_tokens_per_s=(tokens - 1) / (arrivals[-1] - arrivals[0]) if len(arrivals) > 1 else 0.0,
    )


if __name__ == "__main__":
    main()
