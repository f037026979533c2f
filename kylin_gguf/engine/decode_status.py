"""What ``llama_decode`` and ``llama_encode`` return (``llama.h``, llama_context::decode)."""

from __future__ import annotations

from kylin_gguf.errors import DecodeFailed

NO_KV_SLOT, ABORTED = 1, 2  # "could not find a KV slot for the batch", "aborted"
_NO_MEMORY = -2  # GGML_STATUS_ALLOC_FAILED, or no room for a batch's outputs


def check(status: int) -> None:
    """Do nothing for 0, success.

    Raises:
        MemoryError: a buffer could not be had. Nobody in a worker catches it: the process ends, which gives
            its memory back, and the service asks a new one, with less.
        DecodeFailed: any other status.
    """
    if status == _NO_MEMORY:
        raise MemoryError(f"llama.cpp could not allocate what a batch needs (status {status})")
    if status != 0:
        raise DecodeFailed(status)
