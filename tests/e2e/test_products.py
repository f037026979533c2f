"""A token's products with quantised weights: to the last bit the same alone and in a batch."""

from __future__ import annotations

import ctypes
import platform

import gguf
import numpy as np
import pytest

from bench import products
from bench.cpu_kernels import runnable
from kylin_gguf import config, native

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="others have kernels of their own"),
]


@pytest.fixture(scope="module")
def multipliers() -> dict[str, products.Multiplier]:
    directory = native.find(config.load()).directory
    base = ctypes.CDLL(str(directory / "libggml-base.so"))
    return {name: products.Multiplier(base, library) for name, library in runnable(directory).items()}


@pytest.mark.parametrize("shape", products.SHAPES)
@pytest.mark.parametrize("kind", products.TYPES)
def test_a_token_in_a_batch_gets_what_it_gets_alone(
    kind: gguf.GGMLQuantizationType, shape: tuple[int, int], multipliers: dict[str, products.Multiplier]
) -> None:
    base = next(iter(multipliers.values())).base
    weights, tokens = products.numbers(base, kind, shape)
    exact = tokens @ gguf.dequantize(weights, kind).T
    for name, multiply in multipliers.items():
        alone = np.concatenate([multiply(kind, weights, token[None])[0] for token in tokens])
        # Tokens are rounded to 8 bits, hence the tolerance.
        np.testing.assert_allclose(alone, exact, atol=0.02 * np.abs(exact).max(), err_msg=name)
        for count in products.BATCHES:
            together, _ = multiply(kind, weights, tokens[:count])
            assert together.tobytes() == alone[:count].tobytes(), f"{name}, {count} tokens"
