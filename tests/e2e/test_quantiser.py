"""The patch that searches eight blocks at once must leave every byte as upstream writes it."""

from __future__ import annotations

import hashlib
import platform

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from bench import quantisers
from kylin_gguf import config, native

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="others round products and sums together"),
]

# Made with llama.cpp b11312 without our patches.
UPSTREAM = {
    Type.Q2_K: ("ad9c0982e9ff463b", "fb9d2ef9b800cb55"),
    Type.Q3_K: ("70a93afefb082f35", "70eaab15719aeb79"),
    Type.Q4_K: ("de7cb2554c1e7e81", "a422b57117171406"),
    Type.Q5_K: ("6df38b98efed64bc", "c081636dbb3f005d"),
    Type.Q6_K: ("62da7d04e441450e", "52a0a12db9da1843"),
}


def _numbers(count: int, factor: int) -> quantisers.Floats:
    """Return uneven numbers around 0 that do not depend on NumPy's generators."""
    bits = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(factor)) % np.uint64(1 << 32)
    even = bits.astype(np.float64) / (1 << 31) - 1
    return (even**5).astype(np.float32)


@pytest.mark.parametrize("kind", UPSTREAM)
def test_quantised_bytes_are_upstreams(kind: Type) -> None:
    quantise = quantisers.opened(native.find(config.load()).directory / "libggml-base.so")
    values = _numbers(16 * 1024, 2654435761).reshape(16, 1024)
    values[3, 100:180] = 0  # whole blocks
    importance = np.abs(_numbers(1024, 40503 * 65537))
    made = [quantise(kind, values, weights) for weights in (None, importance)]
    assert tuple(hashlib.sha256(one).hexdigest()[:16] for one in made) == UPSTREAM[kind]
