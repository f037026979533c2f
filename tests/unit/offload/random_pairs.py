"""Random machines, models and requests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.machine import Machine
from kylin_gguf.offload.plan import Request
from kylin_gguf.records import Device

from .headers import Tensor, header

GIB = 1 << 30


def model(layers: int, layer_bytes: int, width: int, experts: int, kind: str) -> GgufInfo:
    """Return a model of equal layers; ``experts`` 0: a dense one."""
    tensors: list[Tensor] = [("token_embd.weight", (width, 32000), kind, layer_bytes // 2)]
    for layer in range(layers):
        name = "ffn_up_exps" if experts else "ffn_up"
        tensors += [
            (f"blk.{layer}.attn_k.weight", (width, 512), kind, layer_bytes // 10),
            (f"blk.{layer}.attn_v.weight", (width, 512), kind, layer_bytes // 10),
            (f"blk.{layer}.{name}.weight", (width, 4 * width), kind, layer_bytes * 8 // 10),
        ]
    tensors.append(("output.weight", (width, 32000), kind, layer_bytes // 2))
    own: dict[str, Any] = {"feed_forward_length": 4 * width}
    if experts:
        own |= {"expert_count": experts, "expert_used_count": 4, "expert_feed_forward_length": width}
    return header("qwen3moe" if experts else "llama", tensors, layers, width, **own)


devices = st.builds(
    Device,
    name=st.sampled_from(["CUDA0", "CUDA1", "Vulkan0", "Vulkan1", "CPU"]),
    description=st.sampled_from(["a card", "another card", "llvmpipe (LLVM 15)"]),
    kind=st.sampled_from(["cpu", "gpu", "igpu", "accel"]),
    memory_total=st.just(64 * GIB),
    memory_free=st.integers(0, 64 * GIB),
    bandwidth=st.sampled_from([0.0, 3e10, 2.5e11, 1e12]),
    compute=st.sampled_from([0.0, 1e12, 4e13]),
)
machines = st.builds(
    Machine,
    cores=st.integers(1, 128),
    memory=st.integers(1, 256 * GIB),
    devices=st.lists(devices, max_size=4, unique_by=lambda device: device.name).map(tuple),
    processor=st.sampled_from(["", "cpu-zen4", "cpu-armv8.2_2"]),
)
models = st.builds(
    model,
    layers=st.integers(1, 100),
    layer_bytes=st.integers(1 << 20, GIB),
    width=st.sampled_from([512, 2048, 8192]),
    experts=st.sampled_from([0, 0, 8, 128]),
    kind=st.sampled_from(["Q4_K", "Q6_K", "F16"]),
)
requests = st.builds(
    Request,
    context_length=st.integers(128, 1 << 17),
    kv_type=st.sampled_from(["f16", "q8_0"]),
    use=st.sampled_from(["chat", "command", "document"]),
    gpu_memory=st.sampled_from([0, 2 * GIB]),
)
