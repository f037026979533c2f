"""What llama.cpp's log tells of its buffers. The lines are its own, of build 11312."""

from __future__ import annotations

from kylin_gguf.engine.buffers import BufferSizes

LINES = """\
load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
load_tensors:      Vulkan0 model buffer size =    43.49 MiB
llama_context: Vulkan_Host  output buffer size =    13.50 MiB
llama_kv_cache:        CPU KV buffer size =     8.00 MiB
llama_kv_cache:        CPU KV buffer size =    44.00 MiB
llama_kv_cache: size =   44.00 MiB (  4096 cells,  22 layers, 72/1 seqs), K (f16):   22.00 MiB
llama_memory_recurrent:        CPU RS buffer size =     5.62 MiB
sched_reserve:        CPU compute buffer size =    19.70 MiB
sched_reserve:        CPU compute buffer size =    20.00 MiB
"""
MIB = 1 << 20


def test_buffers_are_told_apart_by_place_and_purpose() -> None:
    sizes = BufferSizes()
    for line in LINES.splitlines():
        sizes(line)
    assert sizes.found == {
        "CPU_Mapped": {"model": round(92.10 * MIB)},
        "Vulkan0": {"model": round(43.49 * MIB)},
        "Vulkan_Host": {"output": round(13.5 * MIB)},
        "CPU": {"kv": 52 * MIB, "rs": round(5.62 * MIB), "compute": 20 * MIB},
    }
