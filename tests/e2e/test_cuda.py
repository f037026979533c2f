"""The CUDA plug-in on a real GPU. ``make native PRESET=cuda`` and NVIDIA's driver provide it.

The first load may take a minute: the driver compiles the plug-in's PTX for a GPU it holds no code for.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kylin_gguf import catalogue
from kylin_gguf.bus.client import Client
from kylin_gguf.records import InstalledModel, Settings
from kylin_gguf.service import Service
from kylin_gguf.store import Store

from .conftest import serving, with_plugin
from .test_vulkan import answer, logprobs

_PLUGIN = Path(__file__).parents[2] / "build" / "native" / "cuda" / "libggml-cuda.so"
_GPUS = Path("/proc/driver/nvidia/gpus")
pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not _PLUGIN.is_file(), reason="make native PRESET=cuda has not been run"),
    pytest.mark.skipif(not _GPUS.is_dir(), reason="NVIDIA's driver finds no GPU"),
]


@pytest.fixture(scope="module")
def accelerated(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return with_plugin(settings, _PLUGIN, tmp_path_factory.mktemp("cuda") / "native")


@pytest.fixture
def bus(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_address)


@pytest.mark.usefixtures("bus")
@pytest.mark.parametrize("layers", [31, 8, -1])
async def test_it_answers_through_the_service(
    accelerated: Settings, model: InstalledModel, tmp_path: Path, layers: int
) -> None:
    environment = {
        **os.environ,
        "KYLIN_GGUF_NATIVE_DIRS": str(accelerated.native_dirs[0]),
        "KYLIN_GGUF_RUNTIME_DIR": str(tmp_path),
        "KYLIN_GGUF_GPU_LAYERS": str(layers),
    }
    with serving(environment, tmp_path):
        async with await Client.connect(accelerated, start=False) as client:
            session = await client.create_session(str(model.path))
            reply = await session.complete("Say hello.", temperature=0.0, max_tokens=4)
            (loaded,) = (await client.properties())["LoadedModels"]
    # Left to itself the planner puts all of so small a model on the GPU.
    assert loaded["placement"]["gpu_layers"] == (31 if layers == -1 else layers)
    assert "Hello" in reply


async def test_the_device_is_listed(accelerated: Settings) -> None:
    service = Service(accelerated, Store(accelerated, catalogue.load(accelerated.catalogue)))
    assert {"CUDA0", "CPU"} <= {device["name"] for device in await service.devices()}


@pytest.mark.parametrize("layers", [8, 31])
async def test_it_answers_as_the_processor_does_but_for_rounding(
    accelerated: Settings, model: InstalledModel, layers: int
) -> None:
    ours, theirs = [await logprobs(accelerated, model, count) for count in (0, layers)]
    # Later tokens follow other ones as soon as two candidates are about equally likely: docs/native.md.
    assert theirs[0]["text"] == ours[0]["text"]
    assert theirs[0]["logprob"] == pytest.approx(ours[0]["logprob"], abs=0.3)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 2])
async def test_a_budget_is_not_exceeded(accelerated: Settings, model: InstalledModel, share: float) -> None:
    budget = int(share * model.size / 1_000_000)
    loaded, text = await answer(replace(accelerated, device="CUDA0", gpu_memory_mb=budget), model)
    assert text.strip()
    assert sum(loaded.buffers.get("CUDA0", {}).values()) <= budget * 1_000_000
    assert bool(loaded.placement.shares) == bool(loaded.buffers.get("CUDA0"))


@pytest.fixture
def full_gpu() -> Iterator[None]:
    """Another program, this one, holds all but 100 MB of the GPU: too little for a context of CUDA's."""
    runtime = ctypes.CDLL("libcudart.so.13")
    free, total, taken = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
    assert runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
    assert runtime.cudaMalloc(ctypes.byref(taken), ctypes.c_size_t(free.value - 100_000_000)) == 0
    yield
    assert runtime.cudaFree(taken) == 0


@pytest.mark.usefixtures("full_gpu")
@pytest.mark.parametrize("layers", [-1, 31])
async def test_a_gpu_that_others_have_filled_is_done_without(
    accelerated: Settings, model: InstalledModel, tmp_path: Path, layers: int
) -> None:
    loaded, text = await answer(replace(accelerated, gpu_layers=layers, cache_dir=tmp_path), model)
    assert text.strip()
    assert loaded.placement.gpu_layers == 0
