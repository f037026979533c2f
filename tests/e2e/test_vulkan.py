"""The Vulkan plug-in on Mesa's software driver: correct and very slow, and there without a graphics card.

``make native PRESET=vulkan`` and Debian's mesa-vulkan-drivers provide it; without them it is skipped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.offload import shapes
from kylin_gguf import catalogue, gguf_info, pool
from kylin_gguf.bus.client import Client
from kylin_gguf.engine.process import EngineProcess, Listeners
from kylin_gguf.offload import machine, plan, replan
from kylin_gguf.offload.estimate import Estimator, Layout, Run
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import FailedPlugin, InstalledModel, LoadedModel, Placement, Settings, Share
from kylin_gguf.service import Service
from kylin_gguf.sessions import Session
from kylin_gguf.store import Store

from .conftest import read_frames, serving, with_plugin

_PLUGIN = Path(__file__).parents[2] / "build" / "native" / "vulkan" / "libggml-vulkan.so"
_DRIVER = Path("/usr/share/vulkan/icd.d")
pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not _PLUGIN.is_file(), reason="make native PRESET=vulkan has not been run"),
    pytest.mark.skipif(not any(_DRIVER.glob("lvp_icd*.json")), reason="mesa-vulkan-drivers is not installed"),
]

_OPTIONS = {"prompt": "The capital of France is", "temperature": 0.0, "max_tokens": 4, "logprobs": 1}


@pytest.fixture(scope="module")
def accelerated(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return with_plugin(settings, _PLUGIN, tmp_path_factory.mktemp("vulkan") / "native")


@pytest.fixture
def software_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself the plug-in takes no software device."""
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0")


async def logprobs(settings: Settings, model: InstalledModel, layers: int) -> list[dict[str, Any]]:
    """Return the greedy tokens with their logprobs, with ``layers`` of the model on the GPU."""
    engines = EnginePool(replace(settings, gpu_layers=layers))
    try:
        frames = await read_frames(await Session(model, engines.acquire).generate(_OPTIONS))
        (loaded,) = engines.loaded()
    finally:
        await engines.close()
    assert loaded.placement.gpu_layers == layers
    assert frames[-1]["type"] == "end"
    return [token for frame in frames if frame["type"] == "logprobs" for token in frame["tokens"]]


async def test_the_device_is_listed(accelerated: Settings, software_gpu: None) -> None:
    service = Service(accelerated, Store(accelerated, catalogue.load(accelerated.catalogue)))
    devices = await service.devices()
    assert {"Vulkan0", "CPU"} == {device["name"] for device in devices}
    assert all(device["kind"] != "failed" for device in devices)
    card = next(device for device in devices if device["name"] == "Vulkan0")
    assert (card["plugin"], card["features"]) == ("vulkan", ()), "its back end states no features"


def test_a_software_driver_is_not_used_by_itself(accelerated: Settings) -> None:
    found = machine.probe(accelerated)
    assert [device.kind for device in found.devices] == ["cpu"]
    assert found.failed == (FailedPlugin("vulkan", "it loads, but finds no device"),)


async def answer(settings: Settings, model: InstalledModel) -> tuple[LoadedModel, str]:
    """Return what was loaded for a short answer, and the answer."""
    engines = EnginePool(settings)
    try:
        frames = await read_frames(await Session(model, engines.acquire).generate(_OPTIONS))
        (loaded,) = engines.loaded()
    finally:
        await engines.close()
    assert not [frame for frame in frames if frame["type"] == "error"]
    return loaded, "".join(frame["text"] for frame in frames if frame["type"] == "text")


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
async def test_a_part_of_the_model_s_size_is_enough_and_not_exceeded(
    accelerated: Settings, software_gpu: None, model: InstalledModel, share: float
) -> None:
    budget = int(share * model.size / 1_000_000)
    loaded, text = await answer(replace(accelerated, device="Vulkan0", gpu_memory_mb=budget), model)
    assert text.strip()
    taken = sum(loaded.buffers.get("Vulkan0", {}).values())
    assert taken <= budget * 1_000_000
    assert bool(loaded.placement.shares) == bool(taken)
    # A quarter holds less than the output and the compute buffers: that is the CPU's.
    assert bool(taken) == (share > 0.25)


async def test_where_the_budget_lies_less_is_loaded_within_the_same_request(
    accelerated: Settings,
    software_gpu: None,
    model: InstalledModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The driver tells of 2 GiB, and refuses what is larger than 60 MB."""
    monkeypatch.setenv("GGML_VK_FORCE_MAX_BUFFER_SIZE", "60000000")
    settings = replace(accelerated, gpu_layers=31, cache_dir=tmp_path)
    loaded, text = await answer(settings, model)
    assert text.strip()
    assert 0 < loaded.placement.gpu_layers < 31
    assert sum(loaded.buffers["Vulkan0"].values()) > 0
    assert "Vulkan0" in loaded.placement.reasons[0], "the failure is not told"
    again, _ = await answer(settings, model)
    assert again.placement.gpu_layers == loaded.placement.gpu_layers
    assert again.placement.reasons[0] != loaded.placement.reasons[0], "it was tried in vain again"


@pytest.mark.parametrize("layers", [8, 31])
async def test_it_answers_as_the_processor_does_but_for_rounding(
    accelerated: Settings, software_gpu: None, model: InstalledModel, layers: int
) -> None:
    ours, theirs = [await logprobs(accelerated, model, count) for count in (0, layers)]
    # Later tokens follow other ones as soon as two candidates are about equally likely: docs/native.md.
    assert theirs[0]["text"] == ours[0]["text"]
    assert theirs[0]["logprob"] == pytest.approx(ours[0]["logprob"], abs=0.3)


@pytest.fixture
def bus(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_address)


@pytest.mark.usefixtures("bus", "software_gpu")
@pytest.mark.parametrize("layers", [8, 31])
async def test_it_answers_through_the_service(
    accelerated: Settings, model: InstalledModel, tmp_path: Path, layers: int
) -> None:
    environment = {
        **os.environ,
        "KYLIN_GGUF_NATIVE_DIRS": str(accelerated.native_dirs[0]),
        "KYLIN_GGUF_RUNTIME_DIR": str(tmp_path),
        "KYLIN_GGUF_CONTEXT_LENGTH": "512",
        "KYLIN_GGUF_GPU_LAYERS": str(layers),
    }
    with serving(environment, tmp_path):
        async with await Client.connect(accelerated, start=False) as client:
            properties = await client.properties()
            assert "Vulkan0" in {device["name"] for device in properties["Devices"]}
            session = await client.create_session(str(model.path))
            answer = await session.complete("Say hello.", temperature=0.0, max_tokens=4)
            (loaded,) = (await client.properties())["LoadedModels"]
    assert loaded["placement"]["gpu_layers"] == layers
    assert "Hello" in answer


MIB = 1 << 20


@pytest.mark.parametrize(
    ("shares", "ram_experts"),
    [((("Vulkan0", 5),), 2), ((("Vulkan0", 2), ("Vulkan1", 3)), 0), ((("Vulkan0", 1), ("Vulkan1", 2)), 3)],
)
async def test_layers_and_experts_lie_where_the_estimate_counts_them(
    accelerated: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shares: tuple[tuple[str, int], ...],
    ram_experts: int,
) -> None:
    """The same software device twice makes two. Weights and cache are exact but for alignment; compute
    buffers may be smaller."""
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0,0")
    shape = replace(shapes.qwen3moe(layers=4, experts=8), vocabulary=4096)
    info = gguf_info.read(shapes.write(shape, tmp_path / "moe.gguf"))
    counts = tuple(layers for _, layers in shares)
    expected = Estimator(info, Run(1024, 512, 8)).memory(Layout(counts, ram_experts, repack=False))
    placement = Placement(
        gpu_layers=sum(counts),
        context_length=1024,
        threads=1,
        sequences=8,
        mode="instant",
        layers=info.layers,
        shares=tuple(Share(*share) for share in shares),
        ram_experts=ram_experts,
    )
    listeners = Listeners(lambda _: None, lambda: None, lambda _: None)
    model = InstalledModel("moe", info.path, info.file_size, False)
    engine = await EngineProcess.start(model, placement, accelerated, listeners)
    await engine.stop()
    for (device, _), use in zip(shares, expected.devices, strict=True):
        assert engine.buffers[device]["model"] == pytest.approx(use.weights, abs=MIB)
        assert engine.buffers[device].get("kv", 0) == pytest.approx(use.cache, abs=MIB)
        assert engine.buffers[device]["compute"] <= use.compute + MIB
    assert engine.buffers.get("CPU", {}).get("kv", 0) == pytest.approx(expected.ram.cache, abs=MIB)


async def test_a_gpu_that_others_fill_is_left_between_requests_and_taken_again(
    accelerated: Settings,
    software_gpu: None,
    model: InstalledModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """No other program takes this device's memory; so the bounds are moved, not the memory. What is compared
    with them is what the driver tells the worker."""
    monkeypatch.setattr(pool, "_SWEEP_SECONDS", 0.2)
    engines = EnginePool(replace(accelerated, device="Vulkan0", context_length=512, cache_dir=tmp_path))
    try:
        engine = await engines.acquire(model)
        everything = engine.placement.gpu_layers
        assert everything == engine.placement.layers + 1
        (free,) = (await engine.activity()).device_free.values()
        total = next(device for device in machine.probe(accelerated).devices if device.name == "Vulkan0")
        assert 0 < free <= total.memory_total, "Mesa 22 tells the same whatever is taken"

        with monkeypatch.context() as crowded:
            crowded.setattr(replan, "SHORT", free + 64 * MIB)
            crowded.setattr(replan, "TAKEN", 0)
            crowded.setattr(plan, "GPU_MARGIN", total.memory_total)
            await until(lambda: not engines.loaded())
            beside = await engines.acquire(model)
            assert beside.placement.gpu_layers == 0

        monkeypatch.setattr(replan, "EVERY_S", 0.0)
        for module in (replan, pool):
            monkeypatch.setattr(module, "IDLE_S", 0.0)
        await until(lambda: any(one.placement.gpu_layers == everything for one in engines.loaded()))
        frames = await read_frames(await Session(model, engines.acquire).generate(_OPTIONS))
        assert not [frame for frame in frames if frame["type"] == "error"]
    finally:
        await engines.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not true():
            await asyncio.sleep(0.05)
