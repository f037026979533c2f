"""How a real worker lives: what it may do, how it is asked to end, what is said when it does not."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf.engine import heartbeat, process
from kylin_gguf.engine.generation import Generation
from kylin_gguf.engine.process import EngineProcess
from kylin_gguf.errors import WorkerDied, WorkerHung
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, LoadMode, Settings
from kylin_gguf.sessions import Session

from .conftest import STALLED_S, Reading, read_frames

pytestmark = pytest.mark.native

ENDLESS = {
    "prompt": "Write a very long story about the sea.",
    "max_tokens": 900,
    "temperature": 1.2,
    "seed": 3,
}


async def answering(pool: EnginePool, model: InstalledModel) -> tuple[EngineProcess, Generation, Reading]:
    """Start an endless answer and wait until its first token is out."""
    engine = await pool.acquire(model)
    generation = await Session(model, pool.acquire).generate(ENDLESS)
    reading = Reading(generation)
    await asyncio.wait_for(reading.begun.wait(), STALLED_S)
    return engine, generation, reading


def ends(frames: list[dict[str, Any]]) -> list[str]:
    """Return the reasons of all ``end`` frames; the last frame must be one."""
    assert frames[-1]["type"] == "end"
    return [frame["reason"] for frame in frames if frame["type"] == "end"]


def impatience(monkeypatch: pytest.MonkeyPatch, period_s: float, periods: int) -> None:
    """Make the service ping every ``period_s`` and give a worker up after ``periods`` of silence."""
    monkeypatch.setattr(heartbeat, "PERIOD_S", period_s)
    monkeypatch.setattr(heartbeat, "LOADING_PERIODS", periods)
    monkeypatch.setattr(heartbeat, "SILENT_PERIODS", periods)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limits_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()[1:]
    return {line[:26].strip(): line[26:].split()[:2] for line in lines}


async def test_a_worker_is_confined(
    pool: EnginePool, model: InstalledModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    leaked = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    engine, generation, reading = await answering(pool, model)
    os.close(leaked)
    proc = Path(f"/proc/{engine.pid}")
    status, limits = status_of(engine.pid), limits_of(engine.pid)
    assert (status["NoNewPrivs"], status["Umask"]) == ("1", "0077")
    assert os.readlink(proc / "cwd") == "/"
    assert b"secret" not in (proc / "environ").read_bytes()
    assert limits["Max core file size"] == ["0", "0"]
    (soft, hard), planned = limits["Max data size"], engine.placement.memory
    assert planned < int(soft) == int(hard) < planned * 2 + (8 << 30)
    targets = {int(link.name): os.readlink(link).partition(":")[0] for link in (proc / "fd").iterdir()}
    assert [targets.pop(number) for number in (0, 1, 2)] == ["/dev/null", "pipe", "pipe"]
    # The channel, the client's stream, what watches them, and who else wants a core; the bindings open
    # /dev/null when imported.
    assert sorted(set(targets.values())) == ["/dev/null", "/proc/loadavg", "anon_inode", "socket"]
    assert list(targets.values()).count("socket") == 2
    generation.cancel()
    assert ends(await reading.frames) == ["cancelled"]


SERVICE = """
import asyncio, os, socket
from kylin_gguf import config
from kylin_gguf.engine import environment
from kylin_gguf.engine.child import Child, Program

async def main():
    ours, theirs = socket.socketpair()
    found = environment.for_worker(os.environ, config.load().native_dirs)
    child = await Child.start("toy", theirs, Program("kylin_gguf.engine", (), found))
    print(child.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def test_a_worker_dies_with_the_service_even_if_it_hangs() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        worker = os.pidfd_open(pid)
        while status_of(pid)["NoNewPrivs"] != "1":  # comes after it is tied to the service
            assert not select.select([worker], [], [], 0.05)[0], "it ended by itself"
        os.kill(pid, signal.SIGSTOP)  # from now on it cannot notice that the channel has closed
        service.kill()
    ended = select.select([worker], [], [], STALLED_S)[0]
    os.close(worker)
    assert ended, "it outlived the service"


ORPHAN = """
import os, socket, subprocess, sys

ours, theirs = socket.socketpair()
if os.fork():
    os.wait()
else:
    command = [sys.executable, "-m", "kylin_gguf.engine", "--control", str(theirs.fileno())]
    done = subprocess.run(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
    print(done.returncode, done.stderr)
"""


def test_a_worker_without_its_service_does_not_begin() -> None:
    """The service may have gone before the worker is tied to it: the socket knows who made it."""
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["1", "the service has gone\n\n"]


GREEDY = """
from kylin_gguf import config, native
from kylin_gguf.engine.confinement import limit_memory
from kylin_gguf.records import Placement

native.load(config.load())
limit_memory(Placement(gpu_layers=0, context_length=128, threads=1, memory=256 << 20))
block = bytearray(512 << 20)
try:
    bytearray(2 << 30)
except MemoryError:
    print("refused")
"""


def test_memory_beyond_the_plan_and_its_margin_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", GREEDY], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


async def test_a_worker_that_hangs_is_noticed_and_replaced(
    pool: EnginePool, model: InstalledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatience(monkeypatch, period_s=0.05, periods=1_000_000)
    engine, generation, reading = await answering(pool, model)
    os.kill(engine.pid, signal.SIGSTOP)
    impatience(monkeypatch, period_s=0.05, periods=10)
    frames = await reading.frames
    assert ends(frames) == ["error"]
    assert frames[-2]["code"] == WorkerHung.code
    assert isinstance((await generation.finished).error, WorkerHung)
    assert pool.loaded() == ()
    impatience(monkeypatch, period_s=0.05, periods=1_000_000)
    after = await read_frames(await Session(model, pool.acquire).generate({"prompt": "Hi", "max_tokens": 4}))
    assert ends(after)[0] in ("stop", "length")


async def test_a_worker_at_work_answers_pings(
    pool: EnginePool, model: InstalledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its client does not read, nothing but pongs comes from it."""
    impatience(monkeypatch, period_s=0.02, periods=1_000_000)
    engine = await pool.acquire(model)
    pongs = 0
    handle = engine._handle

    def counting(event: dict[str, Any]) -> None:
        nonlocal pongs
        pongs += event["event"] == "pong"
        handle(event)

    monkeypatch.setattr(engine, "_handle", counting)
    generation = await Session(model, pool.acquire).generate(ENDLESS)
    generation.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    while pongs < 5:
        await asyncio.sleep(0.01)
    assert pool.loaded()
    generation.cancel()
    assert ends(await read_frames(generation)) == ["cancelled"]


async def test_what_a_worker_says_before_it_dies_reaches_the_client(
    pool: EnginePool, model: InstalledModel
) -> None:
    engine, generation, reading = await answering(pool, model)
    said = "ggml.c:42: GGML_ASSERT(a == b) failed"
    Path(f"/proc/{engine.pid}/fd/2").write_text(f"{said}\n", encoding="ascii")
    os.kill(engine.pid, signal.SIGABRT)
    frames = await reading.frames
    assert ends(frames) == ["error"]
    error = (await generation.finished).error
    assert isinstance(error, WorkerDied)
    assert (error.status, error.last_words) == ("SIGABRT", said)
    assert said in frames[-2]["message"]


async def test_a_worker_is_unloaded_in_order_amid_a_long_answer(
    pool: EnginePool, model: InstalledModel
) -> None:
    """systemd signals every process of a service that stops; the worker leaves that to the service."""
    engine, generation, reading = await answering(pool, model)
    os.kill(engine.pid, signal.SIGTERM)
    await pool.unload(model)
    assert ends(await reading.frames) == ["cancelled"]
    assert (await generation.finished).reason == "cancelled"
    assert engine._child.death().status == "status 0", "it was not asked but killed"
    assert pool.loaded() == ()


async def test_unloading_a_worker_whose_client_does_not_read(pool: EnginePool, model: InstalledModel) -> None:
    engine = await pool.acquire(model)
    generation = await Session(model, pool.acquire).generate(ENDLESS)
    while not select.select([generation.stream], [], [], 0)[0]:
        await asyncio.sleep(0.01)
    await pool.unload(model)
    assert ends(await read_frames(generation)) == ["cancelled"]
    assert engine._child.death().status == "status 0"


async def test_a_worker_that_does_not_end_is_made_to(
    pool: EnginePool, model: InstalledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_RELEASE_SECONDS", 0.5)
    engine, _, reading = await answering(pool, model)
    os.kill(engine.pid, signal.SIGSTOP)
    await pool.unload(model)
    assert ends(await reading.frames) == ["cancelled"]
    assert engine._child.death().status == "SIGKILL"
    assert pool.loaded() == ()


async def test_memory_and_measures(pool: EnginePool, model: InstalledModel) -> None:
    frames = await read_frames(await Session(model, pool.acquire).generate({"prompt": "Hi", "max_tokens": 8}))
    usage = next(frame for frame in frames if frame["type"] == "usage")
    parts = usage["queue_s"] + usage["prefill_s"] + usage["decode_s"]
    assert parts == pytest.approx(usage["total_s"], abs=0.001)
    assert 0 <= usage["longest_gap_s"] <= usage["decode_s"]
    assert usage.get("energy_j", 0) >= 0
    (loaded,) = pool.loaded()
    assert loaded.memory == loaded.memory_private + loaded.memory_mapped
    assert loaded.memory_private > 16 << 20, "an interpreter alone has more"


async def test_weights_are_in_pages_of_the_file_or_in_memory(
    settings: Settings, model: InstalledModel
) -> None:
    found = {}
    modes: tuple[LoadMode, ...] = ("instant", "throughput")
    for mode in modes:
        pool = EnginePool(replace(settings, load_mode=mode))
        await pool.acquire(model)
        (found[mode],) = pool.loaded()
        await pool.close()
    instant, throughput = found["instant"], found["throughput"]
    assert instant.memory_mapped > model.size, "the whole file"
    assert throughput.memory_mapped < model.size // 2, "no weight of it"
    assert throughput.memory_private - instant.memory_private > model.size // 2


async def test_a_worker_killed_before_its_first_word_costs_one_more_try(
    pool: EnginePool, model: InstalledModel
) -> None:
    """As the out-of-memory killer does it: the client sees an answer, and nothing of the death."""
    engine = await pool.acquire(model)
    prompt = "The sea is wide. " * 180 + "What is wide?"
    generation = await Session(model, pool.acquire).generate({"prompt": prompt, "max_tokens": 4})
    reading = Reading(generation)
    while not engine.busy:
        await asyncio.sleep(0.001)
    os.kill(engine.pid, signal.SIGKILL)
    frames = await reading.frames
    assert ends(frames) == ["length"]
    assert any(frame["type"] == "text" for frame in frames)
    assert not any(frame["type"] == "error" for frame in frames)
    (loaded,) = pool.loaded()
    assert loaded.pid != engine.pid


async def test_want_of_memory_over_a_prompt_costs_one_more_try_with_less(
    pool: EnginePool, model: InstalledModel
) -> None:
    """From now on the kernel gives the worker nothing more, and what it then asks for ends it."""
    engine = await pool.acquire(model)
    resource.prlimit(engine.pid, resource.RLIMIT_DATA, (engine.memory().private, engine.memory().private))
    prompt = "The sea is wide. " * 180 + "What is wide?"
    frames = await read_frames(
        await Session(model, pool.acquire).generate({"prompt": prompt, "max_tokens": 4})
    )
    assert ends(frames) == ["length"]
    assert any(frame["type"] == "text" for frame in frames)
    told = [frame for frame in frames if frame["type"] == "notice" and frame["code"] == "stepped-down"]
    assert len(told) == 1 and not any(frame["type"] == "error" for frame in frames)
    (loaded,) = pool.loaded()
    assert loaded.pid != engine.pid
    assert (engine.placement.mode, loaded.placement.mode) == ("throughput", "instant")
