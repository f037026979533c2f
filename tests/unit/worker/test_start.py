"""Starts of workers that go wrong, with programs that behave as a worker would: they die, hang, talk."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kylin_gguf import config
from kylin_gguf.engine import assignment, child, heartbeat
from kylin_gguf.engine.child import Child
from kylin_gguf.engine.process import EngineProcess, Listeners
from kylin_gguf.errors import WorkerDied, WorkerHung
from kylin_gguf.records import InstalledModel, Placement

MODEL = InstalledModel("toy", Path("/models/toy.gguf"), 1, False)
CONTROL = "${@: -1}"  # its end of the channel: the last argument

Program = Callable[[str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """A function that puts a shell script in the place of the worker."""

    def put(script: str) -> None:
        path = tmp_path / "worker"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(child.sys, "executable", str(path))

    return put


async def start() -> EngineProcess:
    listeners = Listeners(lambda _: None, lambda: None, lambda _: None)
    return await EngineProcess.start(MODEL, Placement(0, 128, 1), config.load(), listeners)


async def test_a_death_while_loading_is_reported_with_its_last_words(program: Program) -> None:
    program('echo "<6>loading" >&2; echo "ggml-cuda.cu:98: CUDA error" >&2; kill -ABRT $$')
    with pytest.raises(WorkerDied) as caught:
        await start()
    assert caught.value.fields() == {
        "model": "toy",
        "status": "SIGABRT",
        "last_words": "ggml-cuda.cu:98: CUDA error",
        "no_memory": False,
    }


@pytest.mark.parametrize("words", ["what():  std::bad_alloc", "MemoryError: no room for a batch"])
async def test_a_death_for_want_of_memory_is_known_by_its_words(program: Program, words: str) -> None:
    program(f'echo "{words}" >&2; kill -ABRT $$')
    with pytest.raises(WorkerDied) as caught:
        await start()
    assert caught.value.no_memory


async def test_an_exit_without_a_word_is_reported_too(program: Program) -> None:
    program("exit 3")
    with pytest.raises(WorkerDied) as caught:
        await start()
    assert (caught.value.status, caught.value.last_words) == ("status 3", "")


async def test_what_a_grandchild_holds_open_delays_nothing(program: Program) -> None:
    """A process that outlives the worker with its standard error is no reason to wait."""
    program(f'eval "exec {CONTROL}>&-"; sleep 1000 & echo $! >&2; exit 1')
    with pytest.raises(WorkerDied) as caught:
        await asyncio.wait_for(start(), 60)
    os.kill(int(caught.value.last_words), 9)


async def test_a_worker_that_hangs_while_loading_is_ended(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.05)
    monkeypatch.setattr(heartbeat, "LOADING_PERIODS", 60)
    program(f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    with pytest.raises(WorkerHung) as caught:
        await start()
    assert caught.value.fields() == {"model": "toy", "seconds": 3}
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_progress_is_a_sign_of_life(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.02)
    monkeypatch.setattr(heartbeat, "LOADING_PERIODS", 150)
    progress = json.dumps({"event": "progress", "fraction": 0.5})
    program(
        f"read -r load <&{CONTROL}\n"
        f"for i in {{1..160}}; do read -r ping <&{CONTROL}; echo '{progress}' >&{CONTROL}; done\n"
        "exit 7"
    )
    with pytest.raises(WorkerDied) as caught:
        await start()
    assert caught.value.status == "status 7", "it was ended although it made progress"


async def test_a_cancelled_load_leaves_no_process(program: Program, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program(f"echo $$ > {pid_file}; exec sleep 1000")
    starting = asyncio.ensure_future(start())
    while not (pid_file.exists() and pid_file.read_text().strip()):
        await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_a_worker_inherits_its_channel_and_its_log_and_nothing_else(
    program: Program, tmp_path: Path
) -> None:
    program(
        f"umask > {tmp_path}/umask; pwd > {tmp_path}/cwd; env -0 > {tmp_path}/env;"
        f" ls -l /proc/$$/fd > {tmp_path}/fds; ps -o pgid= $$ > {tmp_path}/pgid"
    )
    leaked = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    settings = config.load({"native_dirs": ("/native",)})
    held = assignment.held(MODEL, Placement(0, 128, 1), settings)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        started = await Child.start("toy", theirs, held.program)
        await started.bury()
        control = theirs.fileno()
    os.close(leaked)
    assert (tmp_path / "umask").read_text() == "0077\n"
    assert (tmp_path / "cwd").read_text() == "/\n"
    assert int((tmp_path / "pgid").read_text()) == started.pid
    lines = [line.split() for line in (tmp_path / "fds").read_text().splitlines() if "->" in line]
    open_files = {int(words[-3]): words[-1].partition(":")[0] for words in lines}
    script = [number for number, target in open_files.items() if target == sys.executable]
    assert len(script) == 1, "the shell reads its script"
    del open_files[script[0]]
    assert open_files == {0: "/dev/null", 1: "pipe", 2: "pipe", control: "socket"}
