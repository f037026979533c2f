"""How far two ways of computing one model are apart: llama-perplexity's figures over one text."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PIECE = 128
POSITIONS = _PIECE // 2 - 1
"""Positions of a piece that count: llama-perplexity takes the second half, which has text before it."""

_PATTERNS = {
    "mean": r"Mean +KLD: +(\S+)",
    "largest": r"Maximum KLD: +(\S+)",
    "same": r"Same top p: +(\S+)",
}


@dataclass(frozen=True)
class Way:
    """One way of computing: the folder with the tools and libraries, the weights, and what is special."""

    libraries: Path
    weights: Path
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """The text, and how many pieces of 128 tokens of it are computed."""

    text: Path
    pieces: int


def write_base(way: Way, probe: Probe, base: Path) -> None:
    """Write to ``base`` what ``way`` computes: the logits, rounded to 16 bits.

    Raises:
        CalledProcessError: llama-perplexity failed.
    """
    _perplexity(way, probe, base, ())


def divergence(way: Way, probe: Probe, base: Path) -> dict[str, float]:
    """Return how far ``way`` is from what ``base`` holds.

    ``mean`` and ``largest`` are Kullback-Leibler divergences of the next token's distribution, in nats;
    ``same`` is the share of positions with the same first choice, in per cent.

    Raises:
        CalledProcessError: llama-perplexity failed.
        ValueError: it said nothing that is understood here.
    """
    said = _perplexity(way, probe, base, ("--kl-divergence",))
    found = {name: re.search(pattern, said) for name, pattern in _PATTERNS.items()}
    figures = {name: float(match[1]) for name, match in found.items() if match}
    if figures.keys() != _PATTERNS.keys():
        raise ValueError(f"llama-perplexity did not say {sorted(_PATTERNS.keys() - figures.keys())}:\n{said}")
    return figures


def _perplexity(way: Way, probe: Probe, base: Path, more: Iterable[str]) -> str:
    command = [way.libraries / "llama-perplexity", "-m", way.weights, "-f", probe.text, "-c", _PIECE]
    command += ["-b", _PIECE, "--chunks", probe.pieces, "--kl-divergence-base", base, *more, *way.options]
    environment = os.environ | dict(way.environment)
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def write_exact(libraries: Path, model: Path, target: Path) -> None:
    """Write ``model`` with weights of 32 bits: the same numbers, but activations are not rounded for them.

    Raises:
        CalledProcessError: llama-quantize failed.
    """
    command: list[str | Path] = [libraries / "llama-quantize", "--allow-requantize", model, target, "F32"]
    subprocess.run(command, capture_output=True, check=True)
