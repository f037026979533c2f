"""What llama_decode returns: success, want of memory, anything else."""

from __future__ import annotations

import pytest

from kylin_gguf.engine import decode_status
from kylin_gguf.engine.worker_log import NO_MEMORY
from kylin_gguf.errors import DecodeFailed


def test_success_is_no_error() -> None:
    decode_status.check(0)


def test_want_of_memory_is_told_apart_and_known_by_its_words() -> None:
    with pytest.raises(MemoryError) as caught:
        decode_status.check(-2)
    assert NO_MEMORY.search(f"{type(caught.value).__name__}: {caught.value}")


@pytest.mark.parametrize("status", [1, -1, -3])
def test_any_other_status_is_a_failed_decode(status: int) -> None:
    with pytest.raises(DecodeFailed) as caught:
        decode_status.check(status)
    assert caught.value.status == status
