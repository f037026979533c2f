"""RPC workers on loopback: devices of set memory, which other processes lend.

``make native PRESET=rpc`` provides the plug-in; without it they are skipped.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf import rpc
from kylin_gguf.offload import machine
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, LoadedModel, Settings
from kylin_gguf.sessions import Session

from .conftest import read_frames, with_plugin

_PLUGIN = Path(__file__).parents[2] / "build" / "native" / "rpc" / rpc.PLUGIN
pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not _PLUGIN.is_file(), reason="make native PRESET=rpc has not been run"),
]

_READY_S = 60
_ALL_LAYERS = 31
_OPTIONS = {"prompt": "The capital of France is", "temperature": 0.0, "max_tokens": 4, "logprobs": 1}
_MB = 1_000_000


@dataclass
class Lender:
    """A worker that runs."""

    address: str
    process: subprocess.Popen[bytes]

    @property
    def device(self) -> str:
        return f"RPC0[{self.address}]"

    def refuse_more_than(self, size: int) -> None:
        """Have the kernel give it no more than ``size`` bytes beyond what it has, whatever it promised."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[5])
        limit = pages * resource.getpagesize() + size
        resource.prlimit(self.process.pid, resource.RLIMIT_DATA, (limit, limit))


@pytest.fixture(scope="module")
def directory(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (copy,) = with_plugin(settings, _PLUGIN, tmp_path_factory.mktemp("rpc") / "native").native_dirs
    return copy


@contextmanager
def lending(directory: Path, *memories: int) -> Iterator[list[Lender]]:
    """Run a worker for each of ``memories``, in MB."""
    with ExitStack() as stack:
        yield [stack.enter_context(_lending(directory, memory)) for memory in memories]


@contextmanager
def _lending(directory: Path, memory: int) -> Iterator[Lender]:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    environment = {**os.environ, "KYLIN_GGUF_NATIVE_DIRS": str(directory), "KYLIN_GGUF_THREADS": "1"}
    command = [sys.executable, "-m", "kylin_gguf", "rpc-worker", "--port", str(port), "--memory", str(memory)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    lender = Lender(f"127.0.0.1:{port}", process)
    try:
        _await_answer(lender)
        yield lender
    finally:
        process.kill()
        process.wait()


def _await_answer(lender: Lender) -> None:
    end = time.monotonic() + _READY_S
    while True:
        try:
            rpc.look(lender.address)
            return
        except OSError:
            assert time.monotonic() < end and lender.process.poll() is None, "the worker does not start"
            time.sleep(0.2)


def using(settings: Settings, directory: Path, cache: Path, lenders: list[Lender]) -> Settings:
    addresses = tuple(lender.address for lender in lenders)
    return replace(settings, native_dirs=(directory,), cache_dir=cache, rpc_workers=addresses)


async def ask(pool: EnginePool, model: InstalledModel) -> tuple[LoadedModel, list[dict[str, Any]]]:
    """Return what is loaded after an answer, and the answer's tokens."""
    frames = await read_frames(await Session(model, pool.acquire).generate(_OPTIONS))
    assert not [frame for frame in frames if frame["type"] == "error"]
    (loaded,) = pool.loaded()
    return loaded, [token for frame in frames if frame["type"] == "logprobs" for token in frame["tokens"]]


async def answer(settings: Settings, model: InstalledModel) -> tuple[LoadedModel, list[dict[str, Any]]]:
    pool = EnginePool(settings)
    try:
        return await ask(pool, model)
    finally:
        await pool.close()


def test_workers_are_devices_with_memory_and_a_measured_link(
    settings: Settings, directory: Path, tmp_path: Path
) -> None:
    with lending(directory, 300, 200) as lenders:
        present = using(settings, directory, tmp_path, lenders)
        wanted = replace(present, rpc_workers=(*present.rpc_workers, "127.0.0.1:9"))
        found = machine.probe(wanted)
    remote = {device.name: device for device in found.devices if device.kind == "remote"}
    assert list(remote) == [lender.device for lender in lenders]
    for device, memory in zip(remote.values(), (300, 200), strict=True):
        assert device.memory_total == memory * _MB
        assert 0 < device.memory_free <= device.memory_total
        assert device.bandwidth > 0 and device.compute > 0
        assert device.plugin == "rpc" and not device.features
        assert device.link > 10 * _MB and 0 < device.delay < 1 and device.layer > 0
    assert [plugin.name for plugin in found.failed] == ["RPC[127.0.0.1:9]"]


async def test_a_model_split_over_two_workers_answers_as_the_processor_does(
    settings: Settings, directory: Path, model: InstalledModel, tmp_path: Path
) -> None:
    _, ours = await answer(replace(settings, gpu_layers=0, load_mode="instant"), model)
    with lending(directory, 130, 130) as lenders:
        wanted = replace(using(settings, directory, tmp_path, lenders), gpu_layers=_ALL_LAYERS)
        loaded, theirs = await answer(wanted, model)
    assert {share.device for share in loaded.placement.shares} == {lender.device for lender in lenders}
    for share in loaded.placement.shares:
        taken = sum(loaded.buffers[share.device].values())
        assert share.memory - 16 * _MB < taken <= share.memory <= 130 * _MB
    assert theirs[0]["text"] == ours[0]["text"]
    assert theirs[0]["logprob"] == pytest.approx(ours[0]["logprob"], abs=0.1)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
async def test_a_part_of_the_model_s_size_on_each_of_two_workers_is_enough_and_not_exceeded(
    settings: Settings, directory: Path, model: InstalledModel, tmp_path: Path, share: float
) -> None:
    budget = int(share * model.size / _MB)
    with lending(directory, budget, budget) as lenders:
        names = ",".join(lender.device for lender in lenders)
        wanted = replace(using(settings, directory, tmp_path, lenders), device=names)
        loaded, tokens = await answer(wanted, model)
    assert tokens
    taken = [sum(loaded.buffers.get(lender.device, {}).values()) for lender in lenders]
    assert all(size <= budget * _MB for size in taken)
    assert len(loaded.placement.shares) == sum(size > 0 for size in taken)
    # A quarter holds less than the output and the compute buffers: that is the CPU's.
    assert len(loaded.placement.shares) == (2 if share > 0.25 else 0)


async def test_where_a_worker_s_memory_lies_less_is_loaded_within_the_same_request(
    settings: Settings, directory: Path, model: InstalledModel, tmp_path: Path
) -> None:
    with lending(directory, 600) as lenders:
        wanted = replace(using(settings, directory, tmp_path, lenders), gpu_layers=_ALL_LAYERS)
        machine.probe(wanted)  # measured before, it counts with the full sum
        lenders[0].refuse_more_than(90 * _MB)
        loaded, tokens = await answer(wanted, model)
    assert tokens
    assert loaded.placement.gpu_layers < _ALL_LAYERS
    assert loaded.placement.reasons[0] != loaded.placement.reasons[-1]
    assert "stepped down" in loaded.placement.reasons[0]


@pytest.mark.parametrize("liars", [(1,), (0, 1)])
async def test_where_one_or_both_of_two_workers_lie_less_is_loaded_within_the_same_request(
    settings: Settings, directory: Path, model: InstalledModel, tmp_path: Path, liars: tuple[int, ...]
) -> None:
    with lending(directory, 130, 130) as lenders:
        names = ",".join(lender.device for lender in lenders)
        wanted = replace(using(settings, directory, tmp_path, lenders), device=names)
        machine.probe(wanted)  # measured before, they count with the full sum
        for number in liars:
            lenders[number].refuse_more_than(40 * _MB)
        pool = EnginePool(wanted)
        try:
            planned = await pool.plan(model, {})
            loaded, tokens = await ask(pool, model)
        finally:
            await pool.close()
    assert len(planned.shares) == 2 and planned.gpu_layers == _ALL_LAYERS
    assert tokens
    assert loaded.placement.gpu_layers < _ALL_LAYERS
    assert "stepped down" in loaded.placement.reasons[0]


async def test_a_worker_that_dies_costs_a_request_one_more_try(
    settings: Settings, directory: Path, model: InstalledModel, tmp_path: Path
) -> None:
    with lending(directory, 130, 130) as lenders:
        pool = EnginePool(replace(using(settings, directory, tmp_path, lenders), gpu_layers=_ALL_LAYERS))
        try:
            before, first = await ask(pool, model)
            lenders[1].process.kill()
            lenders[1].process.wait()
            after, second = await ask(pool, model)
        finally:
            await pool.close()
    assert len(before.placement.shares) == 2
    assert lenders[1].device not in {share.device for share in after.placement.shares}
    assert after.pid != before.pid
    assert second[0]["text"] == first[0]["text"]
