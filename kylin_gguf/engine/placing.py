"""A placement as llama.cpp's parameters: which devices get which layers, and what stays in RAM.

Names in parentheses are of ``llama.h`` and ``ggml-backend.h``.
"""

from __future__ import annotations

import ctypes

import llama_cpp

from kylin_gguf import native
from kylin_gguf.records import Placement

_LOAD_MODE_NONE, _LOAD_MODE_MMAP = 0, 1  # enum llama_load_mode


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override; the array ends with one without a pattern."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


class ModelParams:
    """``llama_model_params`` for a placement, with the arrays that they point to."""

    def __init__(self, placement: Placement) -> None:
        """Raises LoadFailed where the placement names a device that this process does not have."""
        self.struct = llama_cpp.llama_model_default_params()
        # The kernel backs memory with huge pages, but most files' caches with small ones.
        self.struct.load_mode = _LOAD_MODE_NONE if placement.in_memory else _LOAD_MODE_MMAP
        self.struct.use_extra_bufts = placement.mode == "throughput"
        self.struct.n_gpu_layers = placement.gpu_layers
        # Without a list llama.cpp takes every GPU, even for no layer at all: weights are then not repacked,
        # and prompts go through the GPU's memory.
        handles = [native.device_handle(share.device) for share in placement.shares]
        self._devices = (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
        self.struct.devices = ctypes.cast(self._devices, ctypes.c_void_p)
        # Cut exactly between the shares (upper_bound in llama_model_base::load_tensors).
        self._split = (ctypes.c_float * llama_cpp.llama_max_devices())(
            *(share.layers for share in placement.shares)
        )
        self.struct.tensor_split = self._split
        self._overrides = _in_ram(placement.ram_experts)
        if placement.ram_experts:
            self.struct.tensor_buft_overrides = ctypes.cast(self._overrides, ctypes.c_void_p)


def free_memory(placement: Placement) -> dict[str, int]:
    """Return the bytes that are free now on each GPU of ``placement``. What RPC workers lend is not asked
    for: they lend it to one at a time."""
    used = {share.device for share in placement.shares}
    if not used:
        return {}
    return {
        device.name: device.memory_free
        for device in native.devices()
        if device.name in used and device.kind in ("gpu", "igpu")
    }


def flash_attention(placement: Placement) -> int:
    """Return the flash_attn_type. Left to itself, llama.cpp does without where layers are both on a device
    and in RAM: it compares where attention runs for a long prompt with where the layer lies."""
    if placement.shares and placement.is_partial:
        return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED)
    return int(llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO)


def _in_ram(layers: int) -> ctypes.Array[_Override]:
    """Return overrides that keep the experts of the first ``layers`` layers in RAM."""
    buffer_type = native.cpu_buffer_type() if layers else None
    numbers = "|".join(map(str, range(layers)))
    pattern = rf"blk\.({numbers})\.ffn_.*_(ch)?exps".encode()
    return (_Override * 2)(_Override(pattern, buffer_type), _Override(None, None))
