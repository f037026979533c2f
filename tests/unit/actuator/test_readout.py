"""What is read from states: right where they are, trusted as far as that, and never more than numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.actuator.readout import MAX_TRUST, Readout
from kylin_gguf.actuator.shortlist import Meaning

MEANINGS = [Meaning(name) for name in ("volume.get", "volume.mute", "window.style")] + [Meaning(None)]


def clusters(noise: float, each: int = 30, width: int = 24) -> tuple[np.ndarray, list[Meaning]]:
    random = np.random.default_rng(7)
    centres = random.standard_normal((len(MEANINGS), width))
    rows = [centre + noise * random.standard_normal((each, width)) for centre in centres]
    return np.concatenate(rows).astype(np.float32), [m for m in MEANINGS for _ in range(each)]


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


def test_half_the_odds_of_an_example_left_out() -> None:
    """The closed form is what leaving each example out really gives."""
    states, meanings = clusters(noise=2.0, each=8)
    known = list(dict.fromkeys(meanings))
    right = 0
    for i in range(len(states)):
        rest = [j for j in range(len(states)) if j != i]
        centred = states - states.mean(axis=0)  # the mean is of all: one example does not move it much
        rows = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        wanted = np.array([[float(m == k) for k in known] for m in meanings])
        gram = rows[rest].T @ rows[rest] + 0.1 * np.eye(rows.shape[1])
        outputs = rows[i] @ np.linalg.solve(gram, rows[rest].T @ wanted[rest])
        right += known[int(outputs.argmax())] == meanings[i]
    share = right / len(states)
    assert Readout.fit(states, meanings).trust == pytest.approx(share / (2 * (1 - share)), rel=1e-4)


NUMBER = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(NUMBER, min_size=24, max_size=24))
def test_any_state_gives_finite_scores(numbers: list[float]) -> None:
    states, meanings = clusters(noise=0.5)
    scores = Readout.fit(states, meanings).scores(np.array(numbers, np.float32), 4.0)
    assert set(scores) == set(MEANINGS)
    assert all(map(math.isfinite, scores.values()))


def test_arrays_of_something_else_are_refused() -> None:
    readout = Readout.fit(*clusters(noise=0.5))
    arrays = readout.arrays()
    assert Readout.from_arrays(readout.meanings, arrays).trust == readout.trust
    with pytest.raises(ValueError, match="for 3 meanings"):
        Readout.from_arrays(readout.meanings[:3], arrays)
    with pytest.raises(KeyError):
        Readout.from_arrays(readout.meanings, {"mean": readout.mean})
