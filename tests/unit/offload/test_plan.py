"""The planner: properties over random machines and models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.gguf_info import GgufInfo, TensorInfo
from kylin_gguf.offload.machine import Machine
from kylin_gguf.offload.plan import COMPUTE_MARGIN, GPU_MARGIN, Request, kv_bytes, needed_memory, plan
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
    tensors=(TensorInfo("t", (1,), "Q4_K", GIB, 0),),
    metadata={},
)
devices = st.builds(
    Device,
    name=st.sampled_from(["CUDA0", "Vulkan0", "CPU"]),
    description=st.just("device"),
    kind=st.sampled_from(["cpu", "gpu", "igpu", "accel"]),
    memory_total=st.just(64 * GIB),
    memory_free=st.integers(0, 64 * GIB),
)
machines = st.builds(
    Machine,
    cores=st.integers(1, 128),
    memory=st.integers(1, 256 * GIB),
    devices=st.lists(devices, max_size=4).map(tuple),
)
models = st.builds(
    lambda size, layers, kv: replace(
        MODEL, layers=layers, head_count_kv=(kv,), tensors=(TensorInfo("t", (1,), "Q4_K", size, 0),)
    ),
    size=st.integers(1, 64 * GIB),
    layers=st.integers(1, 128),
    kv=st.integers(1, 16),
)
requests = st.builds(Request, context_length=st.integers(128, 1 << 17))


def on_gpu(model: GgufInfo, layers: int, context: int) -> int:
    whole = model.tensor_bytes + kv_bytes(model, context)
    return whole if layers < 0 else whole // model.layers * layers


@given(models, machines, requests)
def test_never_over_the_budget_of_any_device_and_deterministic(
    model: GgufInfo, machine: Machine, request: Request
) -> None:
    placement = plan(model, machine, request)
    assert placement == plan(model, machine, request)
    free = max((d.memory_free for d in machine.devices if d.kind in ("gpu", "igpu")), default=0)
    if placement.gpu_layers:
        assert on_gpu(model, placement.gpu_layers, placement.context_length) <= free - GPU_MARGIN
    assert placement.context_length <= request.context_length
    assert placement.reasons


@given(models, machines, requests, st.integers(0, 64 * GIB))
def test_more_gpu_memory_never_means_fewer_layers_there(
    model: GgufInfo, machine: Machine, request: Request, more: int
) -> None:
    grown = tuple(replace(device, memory_free=device.memory_free + more) for device in machine.devices)
    before, after = (plan(model, m, request).gpu_layers for m in (machine, replace(machine, devices=grown)))
    assert after == -1 or (before != -1 and before <= after)


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


def test_an_encoder_has_no_kv_cache_and_takes_whole_texts() -> None:
    assert kv_bytes(ENCODER, 512) == 0
    logits = 512 * ENCODER.vocab_size * 4
    assert needed_memory(ENCODER, 512) == ENCODER.tensor_bytes + logits + COMPUTE_MARGIN
    placement = plan(ENCODER, Machine(2, 64 * GIB, ()), Request(4096))
    assert placement.batch_size == placement.context_length == 512


def test_a_decoder_that_embeds_keeps_its_cache_and_pays_for_logits_of_every_token() -> None:
    assert kv_bytes(DECODER, 4096) == kv_bytes(MODEL, 4096) > 0
    logits = 2 * Placement.batch_size * DECODER.vocab_size * 4
    assert needed_memory(DECODER, 4096) == needed_memory(MODEL, 4096) + logits
    assert plan(DECODER, Machine(2, 64 * GIB, ()), Request(4096)).batch_size == Placement.batch_size


@given(st.sampled_from([1, 2]), st.booleans())
def test_a_pooling_over_all_tokens_needs_them_in_one_batch(pooling: int, causal: bool) -> None:
    info = replace(DECODER, metadata={"llama.pooling_type": pooling, "llama.attention.causal": causal})
    assert plan(info, Machine(2, 64 * GIB, ()), Request(4096)).batch_size == 4096
    both_ways = replace(info, metadata={"llama.pooling_type": 3, "llama.attention.causal": False})
    assert plan(both_ways, Machine(2, 64 * GIB, ()), Request(4096)).batch_size == 4096


def test_kv_cache_size_counts_every_layer_key_and_value() -> None:
    # 24 layers x 8 heads x (128 + 128) wide x 2 bytes x 100 tokens
    assert kv_bytes(MODEL, 100) == 24 * 8 * 256 * 2 * 100
    per_layer = replace(MODEL, head_count_kv=(8, 0) * 12)
    assert kv_bytes(per_layer, 100) == 12 * 8 * 256 * 2 * 100
    own = replace(MODEL, metadata={"llama.attention.key_length": 64, "llama.attention.value_length": 32})
    assert kv_bytes(own, 100) == 24 * 8 * 96 * 2 * 100


def test_a_q8_0_kv_cache_takes_34_bytes_for_32_values() -> None:
    assert kv_bytes(MODEL, 100, "q8_0") * 32 == kv_bytes(MODEL, 100) // 2 * 34


def test_how_to_load_can_be_chosen_and_is_chosen_by_memory() -> None:
    ample, scarce = Machine(2, 64 * GIB, ()), Machine(2, GIB, ())
    assert plan(MODEL, ample, Request(4096)).mode == "throughput"
    assert plan(MODEL, scarce, Request(4096)).mode == "instant"
    assert plan(MODEL, ample, Request(4096, mode="instant")).mode == "instant"
    assert plan(MODEL, scarce, Request(4096, mode="throughput")).mode == "throughput"


def test_the_memory_of_a_placement_counts_the_repacked_copy_and_nothing_on_a_card() -> None:
    needed = needed_memory(MODEL, 4096)
    ample = plan(MODEL, Machine(2, 64 * GIB, ()), Request(4096))
    assert ample.mode == "throughput" and ample.memory == needed + MODEL.tensor_bytes
    scarce = plan(MODEL, Machine(2, needed, ()), Request(4096))
    assert scarce.mode == "instant" and scarce.memory == needed
    card = Device("CUDA0", "card", "gpu", 24 * GIB, 24 * GIB)
    assert plan(MODEL, Machine(2, 64 * GIB, (card,)), Request(4096)).memory == 0
