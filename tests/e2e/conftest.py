"""A real model behind a real worker. ``make test`` provides both."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kylin_convert.vocab.fast import FastTokenizer
from kylin_gguf import catalogue, config, native
from kylin_gguf.bus import names
from kylin_gguf.engine.generation import Generation
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Settings
from kylin_gguf.store import Store

# OpenMP's threads spin while they wait, and come to a standstill where others want the processors too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# What the user's own service has computed is no business of the tests, and theirs not its.
os.environ.setdefault("KYLIN_GGUF_PREFIX_CACHE_MB", "0")
# Its trial takes the idle moments of the first seconds. The tests of speculation turn it on.
os.environ.setdefault("KYLIN_GGUF_SPECULATION", "off")

MODEL = "smollm2-135m-instruct"
ENDLESS = {
    "prompt": "Write a very long story about the sea.",
    "max_tokens": 900,
    "temperature": 1.2,
    "seed": 3,
}

READY_S = 60
STALLED_S = 120
"""A stream that says nothing for so long is broken; far more than the slowest machine takes for a token."""


@pytest.fixture(scope="session")
def settings() -> Settings:
    return config.load({"context_length": 1024, "idle_unload_s": 600})


@pytest.fixture(scope="session")
def model(settings: Settings) -> InstalledModel:
    return Store(settings, catalogue.load(settings.catalogue)).resolve(MODEL)


@pytest_asyncio.fixture
async def pool(settings: Settings) -> AsyncIterator[EnginePool]:
    engines = EnginePool(settings)
    yield engines
    await engines.close()


class Reading:
    """Reads a stream to its end, as a client would; ``begun`` is set at the first text."""

    def __init__(self, generation: Generation) -> None:
        self.begun = asyncio.Event()
        self.frames = asyncio.ensure_future(self._read(generation.stream))

    async def _read(self, stream: socket.socket) -> list[dict[str, Any]]:
        loop, data = asyncio.get_running_loop(), b""
        with stream:
            stream.setblocking(False)
            while chunk := await asyncio.wait_for(loop.sock_recv(stream, 1 << 16), STALLED_S):
                data += chunk
                if b'"type":"text"' in data:
                    self.begun.set()
        return [json.loads(line) for line in data.splitlines()]


async def read_frames(generation: Generation) -> list[dict[str, Any]]:
    """Return all frames of a stream."""
    return await Reading(generation).frames


def with_plugin(settings: Settings, plugin: Path, directory: Path) -> Settings:
    """Settings with a copy of the libraries in ``directory``, to which ``plugin`` was added as its package
    does."""
    shutil.copytree(native.find(settings).directory, directory, symlinks=True)
    shutil.copy2(plugin, directory)
    return replace(settings, native_dirs=(directory,))


@contextlib.contextmanager
def serving(environment: dict[str, str], directory: Path) -> Iterator[None]:
    """``kylin-gguf serve`` as a process of its own, on the bus that ``environment`` names."""
    log = directory / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kylin_gguf", "serve"], env=environment, stderr=output
        )
    wait = ["gdbus", "wait", "--session", "--timeout", str(READY_S), names.BUS_NAME]
    try:
        subprocess.run(wait, env=environment, check=True)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(READY_S)
        print(log.read_text(encoding="utf-8"))  # pytest shows it when a test failed
    assert status == 0, "the service did not end cleanly"


@pytest.fixture(scope="module")
def llama_cpp() -> Any:
    """The bindings, which are told by ``native.load`` where the libraries are."""
    native.load(config.load())
    return importlib.import_module("llama_cpp")


@pytest.fixture
def known_pre_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizers of the tests' own are none that llama.cpp has a name for."""
    original = FastTokenizer.pre_tokenizer
    monkeypatch.setattr(FastTokenizer, "pre_tokenizer", lambda self: original(self) or "qwen2")
