"""The planner: properties over random machines and models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.gguf_info import GgufInfo, TensorInfo
from kylin_gguf.offload.machine import Machine
from kylin_gguf.offload.plan import GPU_MARGIN, Request, plan
from kylin_gguf.records import Device, Placement

GIB = 1 << 30
MODEL = GgufInfo(
    path=Path("m.gguf"),
    file_size=GIB,
    version=3,
    kind="model",
    architecture="llama",
    name="m",
    size_label="1B",
    file_type="Q4_K_M",
    parameters=1,
    layers=24,
    embedding_length=2048,
    context_length=8192,
    head_count=16,
    head_count_kv=(8,),
    vocab_size=32000,
    chat_template="",
    tokenizer_model="gpt2",
    tokenizer_pre="",
    bos_id=None,
    eos_id=None,
    licence="",
    languages=(),
    tensors=(TensorInfo("blk.0.t", (1,), "Q4_K", GIB, 0),),
    metadata={},
)
devices = st.builds(
    Device,
    name=st.sampled_from(["CUDA0", "CUDA1", "Vulkan0", "CPU"]),
    description=st.just("device"),
    kind=st.sampled_from(["cpu", "gpu", "igpu", "accel"]),
    memory_total=st.just(64 * GIB),
    memory_free=st.integers(0, 64 * GIB),
)
machines = st.builds(
    Machine,
    cores=st.integers(1, 128),
    memory=st.integers(1, 256 * GIB),
    devices=st.lists(devices, max_size=4, unique_by=lambda device: device.name).map(tuple),
)
models = st.builds(
    lambda size, layers, kv: replace(
        MODEL, layers=layers, head_count_kv=(kv,), tensors=(TensorInfo("blk.0.t", (1,), "Q4_K", size, 0),)
    ),
    size=st.integers(1, 64 * GIB),
    layers=st.integers(1, 128),
    kv=st.integers(1, 16),
)
requests = st.builds(Request, context_length=st.integers(128, 1 << 17))


@given(models, machines, requests)
def test_never_over_the_budget_of_any_device_and_deterministic(
    model: GgufInfo, machine: Machine, request: Request
) -> None:
    placement = plan(model, machine, request)
    assert placement == plan(model, machine, request)
    free = {d.name: d.memory_free for d in machine.devices if d.kind in ("gpu", "igpu")}
    assert all(share.memory <= free[share.device] - GPU_MARGIN for share in placement.shares)
    assert placement.gpu_layers == sum(share.layers for share in placement.shares)
    assert placement.context_length <= request.context_length
    assert placement.reasons


@given(models, machines, requests, st.integers(0, 64 * GIB))
def test_more_gpu_memory_never_means_fewer_layers_there(
    model: GgufInfo, machine: Machine, request: Request, more: int
) -> None:
    grown = tuple(replace(device, memory_free=device.memory_free + more) for device in machine.devices)
    before, after = (plan(model, m, request).gpu_layers for m in (machine, replace(machine, devices=grown)))
    assert before <= after


def test_what_the_user_fixed_is_kept() -> None:
    machine = Machine(8, 64 * GIB, (Device("CUDA0", "card", "gpu", 24 * GIB, 24 * GIB),))
    placement = plan(MODEL, machine, Request(4096, threads=3, gpu_layers=5))
    assert (placement.threads, placement.gpu_layers) == (3, 5)


def test_a_context_longer_than_the_model_knows_is_shortened_and_said() -> None:
    placement = plan(MODEL, Machine(2, 64 * GIB, ()), Request(100_000))
    assert placement.context_length == MODEL.context_length
    assert any(str(MODEL.context_length) in reason for reason in placement.reasons)


ENCODER = replace(
    MODEL,
    architecture="bert",
    context_length=512,
    metadata={"bert.pooling_type": 1, "bert.attention.causal": False},
)
DECODER = replace(MODEL, metadata={"llama.pooling_type": 3})


def test_an_encoder_takes_whole_texts() -> None:
    placement = plan(ENCODER, Machine(2, 64 * GIB, ()), Request(4096))
    assert placement.batch_size == placement.context_length == 512
    assert plan(DECODER, Machine(2, 64 * GIB, ()), Request(4096)).batch_size == Placement.batch_size


@given(st.sampled_from([1, 2]), st.booleans())
def test_a_pooling_over_all_tokens_needs_them_in_one_batch(pooling: int, causal: bool) -> None:
    info = replace(DECODER, metadata={"llama.pooling_type": pooling, "llama.attention.causal": causal})
    assert plan(info, Machine(2, 64 * GIB, ()), Request(4096)).batch_size == 4096
    both_ways = replace(info, metadata={"llama.pooling_type": 3, "llama.attention.causal": False})
    assert plan(both_ways, Machine(2, 64 * GIB, ()), Request(4096)).batch_size == 4096


def test_how_to_load_can_be_chosen_and_is_chosen_by_memory() -> None:
    ample, scarce = Machine(2, 64 * GIB, ()), Machine(2, GIB, ())
    assert plan(MODEL, ample, Request(4096)).mode == "throughput"
    assert plan(MODEL, scarce, Request(4096)).mode == "instant"
    assert plan(MODEL, ample, Request(4096, mode="instant")).mode == "instant"
    assert plan(MODEL, scarce, Request(4096, mode="throughput")).mode == "throughput"
