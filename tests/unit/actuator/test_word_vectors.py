"""The table of pieces: how a text is taken apart, and what 4 bits keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.actuator.word_vectors import Pieces, WordVectors, pack

PIECES = Pieces(["大", " dim", "mer", "小"])
TABLE = WordVectors(PIECES, *pack(np.eye(4, dtype=np.float32)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("声音大", ["声音", "大"]),
        ("声声音", ["声", "声音"]),
        ("dim dimmer", [" dim", " dim", "mer"]),
        ("dim,声音", [" dim", "声音"]),
        ("一dim", [" dim"]),
        ("mer", ["mer"]),
        ("123 ∑", []),
    ],
)
def test_pieces_are_the_longest_from_the_left(text: str, found: list[str]) -> None:
    known = ["声", "声音", "大", " dim", "mer"]
    assert [known[number] for number in Pieces(known).find(text)] == found


def test_four_bits_keep_the_direction() -> None:
    rows = np.random.default_rng(5).standard_normal((40, 128)).astype(np.float32) * 3
    pieces = [chr(0x4E00 + number) for number in range(len(rows))]
    table = WordVectors(Pieces(pieces), *pack(rows))
    for piece, row in zip(pieces, rows, strict=True):
        assert table.of(piece) @ row / np.linalg.norm(row) > 0.98
    total = rows[3] + rows[4]
    assert table.of(pieces[3] + pieces[4]) @ total / np.linalg.norm(total) > 0.98


def test_a_table_that_was_kept_is_the_same() -> None:
    kept = WordVectors.from_arrays(TABLE.arrays())
    assert kept.digest == TABLE.digest
    np.testing.assert_array_equal(kept.of("大 dimmer"), TABLE.of("大 dimmer"))
    np.testing.assert_allclose(kept.of("大 dim"), [0.5**0.5, 0.5**0.5, 0, 0], atol=1e-3)
    other = WordVectors(PIECES, *pack(2 * np.eye(4, dtype=np.float32)))
    assert other.digest != TABLE.digest


def test_arrays_of_something_else_are_refused() -> None:
    arrays = TABLE.arrays()
    for name in arrays:
        with pytest.raises(ValueError, match="pieces"):
            WordVectors.from_arrays(
                {**arrays, name: arrays[name][:-1]}
                if name != "pieces"
                else {**arrays, name: arrays[name][:5]}
            )
        with pytest.raises(KeyError):
            WordVectors.from_arrays({n: a for n, a in arrays.items() if n != name})
    with pytest.raises(ValueError, match="codec"):
        WordVectors.from_arrays({**arrays, "pieces": np.array([255], np.uint8)})


@given(st.text(max_size=300))
def test_any_text_has_a_vector(text: str) -> None:
    vector = TABLE.of(text)
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3) or not vector.any()
