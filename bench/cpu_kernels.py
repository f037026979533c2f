"""Where do the CPU variants of llama.cpp part? Their own functions, on the same numbers.

    python -m bench.cpu_kernels

Calls five functions of every CPU library that this processor can run: the one that rounds activations to
8 bits, the product of those with weights in Q4_1, the product of numbers of 16 bits, softmax, and SiLU.
Counts the results that differ from those of the plainest library. The numbers are random, the same in every
run, and as uneven as activations are. Writes bench/results/MACHINE/cpu-kernels.json and prints a table.
"""

from __future__ import annotations

import ctypes
import json
import sys
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import record
from kylin_gguf import config, native

WIDTH, HEAD, ROWS = 576, 64, 4000
"""A row of SmolLM2-135M's, the share of a head in it, and how many of each are computed."""

CELLS = 61
"""Of the KV cache, for softmax: vectors of every width, and a rest."""

_BLOCK = 32
_Q4_1 = np.dtype([("scale", "<f2"), ("minimum", "<f2"), ("weights", "u1", _BLOCK // 2)])
_Q8_1 = np.dtype([("scale", "<f2"), ("sum", "<f2"), ("rounded", "i1", _BLOCK)])

Blocks = NDArray[np.void]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Given:
    """The numbers: activations (ROWS × WIDTH), weights (ROWS rows of blocks), keys (ROWS × HEAD)."""

    activations: Floats
    weights: Blocks
    keys: NDArray[np.float16]


def numbers() -> Given:
    """Return the same random numbers every time."""
    random = np.random.default_rng(1)
    uneven = np.exp(random.normal(0, 0.5, (ROWS, WIDTH)))
    weights = np.zeros((ROWS, WIDTH // _BLOCK), _Q4_1)
    weights["scale"] = random.uniform(0.001, 0.011, weights.shape)
    weights["minimum"] = random.uniform(-0.03, 0.02, weights.shape)
    weights["weights"] = random.integers(0, 256, weights["weights"].shape)
    activations = random.normal(size=uneven.shape) * uneven
    return Given(activations.astype("f4"), weights, random.normal(size=(ROWS, HEAD)).astype("f2"))


def runnable(directory: Path) -> dict[str, ctypes.CDLL]:
    """Return the CPU libraries in ``directory`` that this processor can run, the plainest first."""
    prefix = "libggml-cpu-"
    found = {path.stem.removeprefix(prefix): ctypes.CDLL(str(path)) for path in directory.glob(f"{prefix}*")}
    scores = {name: library.ggml_backend_score() for name, library in found.items()}
    return {
        name: found[name] for name in sorted(found, key=lambda name: (scores[name], name)) if scores[name]
    }


def rounded(library: ctypes.CDLL, activations: Floats) -> Blocks:
    """Return the activations in blocks of Q8_1, as ``library`` rounds them."""
    blocks = np.zeros((ROWS, WIDTH // _BLOCK), _Q8_1)
    library.quantize_row_q8_1(_address(activations), _address(blocks), c_int64(activations.size))
    return blocks


def silu(library: ctypes.CDLL, activations: Floats) -> Floats:
    """Return SiLU of the activations."""
    result = np.zeros_like(activations)
    library.ggml_vec_silu_f32(c_int(activations.size), _address(result), _address(activations))
    return result


def softmax(library: ctypes.CDLL, activations: Floats) -> NDArray[np.float64]:
    """Return for the first numbers of each row the sum of their exponentials."""
    function, row = library.ggml_vec_soft_max_f32, np.zeros(CELLS, "f4")
    function.restype = ctypes.c_double
    return np.array(
        [
            function(c_int(CELLS), _address(row), _address(given), c_float(given[:CELLS].max()))
            for given in activations
        ]
    )


def products(function: Any, width: int, left: NDArray[Any], right: NDArray[Any]) -> Floats:
    """Return the products of rows with rows, ``width`` numbers each, as a library's ``function`` adds up."""
    found = np.zeros(ROWS, "f4")
    none = c_size_t(0)
    for row in range(ROWS):
        result = c_float()
        pair = (_address(left[row]), none, _address(right[row]), none)
        function(c_int(width), byref(result), none, *pair, c_int(1))
        found[row] = result.value
    return found


def _address(array: NDArray[Any]) -> c_void_p:
    return c_void_p(array.ctypes.data)


def measure(libraries: dict[str, ctypes.CDLL]) -> dict[str, dict[str, float]]:
    """Return for each library the shares of results that differ, and how much products differ at most."""
    given = numbers()
    for library in libraries.values():
        library.ggml_cpu_init()
    plainest = next(iter(libraries.values()))
    blocks = rounded(plainest, given.activations)

    def results(library: ctypes.CDLL) -> dict[str, NDArray[Any]]:
        queries = given.activations[:, :HEAD].astype("f2")
        return {
            "rounded": rounded(library, given.activations)["rounded"],
            "q4_1": products(library.ggml_vec_dot_q4_1_q8_1, WIDTH, given.weights, blocks),
            "f16": products(library.ggml_vec_dot_f16, HEAD, given.keys, queries),
            "softmax": softmax(library, given.activations),
            "silu": silu(library, given.activations),
        }

    base = results(plainest)
    size = float(np.sqrt(np.mean(np.square(base["q4_1"], dtype="f8"))))
    found = {}
    for name, library in libraries.items():
        ours = results(library)
        shares = {what: float(np.mean(ours[what] != base[what])) for what in base}
        found[name] = {**shares, "q4_1_largest": float(np.max(np.abs(ours["q4_1"] - base["q4_1"]))) / size}
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the result in Markdown."""
    lines = ["| variant | rounding to 8 bits | product, Q4_1 | by at most | product, F16 | softmax | SiLU |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for name, figures in found.items():
        shares = [f"{figures[what]:.1%}".replace("%", " %") for what in ("q4_1", "f16", "softmax", "silu")]
        lines.append(
            f"| {name} | {figures['rounded'] * 1e6:.1f} in a million | {shares[0]} "
            f"| {figures['q4_1_largest']:.0e} | {shares[1]} | {shares[2]} | {shares[3]} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the command; return the exit status."""
    written: dict[str, Any] = {
        "taken": record.now(),
        "machine": record.machine(),
        "versions": record.versions(),
        "conditions": {"width": WIDTH, "head": HEAD, "rows": ROWS, "cells": CELLS},
        "variants": measure(runnable(native.find(config.load()).directory)),
    }
    path = record.folder(written["machine"]) / "cpu-kernels.json"
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"{table(written['variants'])}\n\nwritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
