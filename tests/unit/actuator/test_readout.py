"""What is read from states: right where they are, trusted as far as that, and never more than numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.actuator.gaussian_head import GaussianHead
from kylin_gguf.actuator.kernel_head import KernelHead
from kylin_gguf.actuator.readout import MAX_TRUST, Readout
from kylin_gguf.actuator.shortlist import Meaning

MEANINGS = [Meaning(name) for name in ("volume.get", "volume.mute", "window.style")] + [Meaning(None)]


def clusters(noise: float, each: int = 30, width: int = 24) -> tuple[np.ndarray, list[Meaning]]:
    random = np.random.default_rng(7)
    centres = random.standard_normal((len(MEANINGS), width))
    rows = [centre + noise * random.standard_normal((each, width)) for centre in centres]
    return np.concatenate(rows).astype(np.float32), [m for m in MEANINGS for _ in range(each)]


def corners() -> tuple[np.ndarray, list[Meaning]]:
    """Return two classes in opposite corners of a square each, which no line parts."""
    random = np.random.default_rng(3)
    signs = random.choice([-1.0, 1.0], (200, 2))
    states = np.concatenate([signs + 0.1 * random.standard_normal((200, 2)), np.ones((200, 1))], axis=1)
    return states.astype(np.float32), [MEANINGS[0] if a * b > 0 else MEANINGS[1] for a, b in signs]


def long_clouds() -> tuple[np.ndarray, list[Meaning]]:
    """Return few examples of classes that all spread in the same directions."""
    random = np.random.default_rng(5)
    spread = np.where(np.arange(24) < 4, 6.0, 0.7)
    rows = [centre + spread * random.standard_normal((12, 24)) for centre in random.standard_normal((4, 24))]
    return np.concatenate(rows).astype(np.float32), [m for m in MEANINGS for _ in range(12)]


def test_what_is_learnt_is_recognised() -> None:
    states, meanings = clusters(noise=0.5)
    readout = Readout.fit(states[::2], meanings[::2])
    for state, meaning in zip(states[1::2], meanings[1::2], strict=True):
        scores = readout.scores(state, 1.0)
        assert max(scores, key=lambda m: scores[m]) == meaning


def test_states_that_say_nothing_are_hardly_trusted() -> None:
    clear, noisy = (Readout.fit(*clusters(noise)).trust for noise in (0.2, 30.0))
    assert clear == MAX_TRUST
    assert noisy < 0.4


def test_the_head_is_taken_that_understands_more_of_what_is_left_out() -> None:
    assert isinstance(Readout.fit(*corners()).head, KernelHead)
    assert isinstance(Readout.fit(*long_clouds()).head, GaussianHead)


def test_half_the_odds_of_an_example_left_out() -> None:
    states, meanings = clusters(noise=3.5, each=70)
    readout = Readout.fit(states, meanings)
    mean = states.mean(axis=0)
    points = (states - mean) / np.linalg.norm(states - mean, axis=1, keepdims=True) @ readout.axes
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    classes = np.array([readout.meanings.index(meaning) for meaning in meanings], np.int32)
    shares = [head.fit(points, classes, len(readout.meanings))[1] for head in (KernelHead, GaussianHead)]
    assert 0.3 < max(shares) < 0.65
    assert readout.trust == pytest.approx(max(shares) / (2 * (1 - max(shares))), rel=1e-4)


def test_what_is_kept_says_the_same() -> None:
    states, meanings = clusters(noise=0.5)
    readout = Readout.fit(states, meanings)
    kept = Readout.from_arrays(readout.meanings, readout.arrays())
    assert kept.trust == readout.trust
    for state in states[::7]:
        assert kept.scores(state, 1.0) == pytest.approx(readout.scores(state, 1.0), abs=0.01)


def test_classes_that_no_line_parts_are_told_apart() -> None:
    assert Readout.fit(*corners()).trust == MAX_TRUST


READOUT = Readout.fit(*clusters(noise=0.5))
NUMBER = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(NUMBER, min_size=24, max_size=24))
def test_any_state_gives_finite_scores(numbers: list[float]) -> None:
    scores = READOUT.scores(np.array(numbers, np.float32), 4.0)
    assert set(scores) == set(MEANINGS)
    assert all(map(math.isfinite, scores.values()))


def test_arrays_of_something_else_are_refused() -> None:
    arrays = READOUT.arrays()
    with pytest.raises(ValueError, match="3 meanings"):
        Readout.from_arrays(READOUT.meanings[:3], arrays)
    with pytest.raises(ValueError, match="do not fit"):
        Readout.from_arrays(READOUT.meanings, {**arrays, "axes": arrays["axes"][:-1]})
    with pytest.raises(KeyError):
        Readout.from_arrays(READOUT.meanings, {"mean": READOUT.mean})
