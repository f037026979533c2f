"""Slips of the fingers, and the words that only look like them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.actuator.misspelling import Spelling

WORDS = (
    "bluetooth",
    "airplane",
    "keyboard",
    "store",
    "screen",
    "brightness",
    "wakes",
    "world",
    "speakers",
    "locking",
)
SPELLING = Spelling(WORDS)


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("blutooth", "bluetooth"),
        ("bluettooth", "bluetooth"),
        ("bluetopth", "bluetooth"),
        ("airplaen", "airplane"),
        ("airplnae", "airplane"),
        ("keybord", "keyboard"),
        ("stroe", "store"),
        ("brigthness", "brightness"),
        # An ordinary word, or too little of one.
        ("takes", "takes"),
        ("would", "would"),
        ("stare", "stare"),
        ("stores", "stores"),
        ("speaker", "speaker"),
        ("lacking", "lacking"),
        ("xluetooth", "xluetooth"),
        ("blueteeth", "blueteeth"),
        ("bluetoothx", "bluetoothx"),
        ("bluezooth", "bluezooth"),
        ("brughtnesz", "brughtnesz"),
        ("scfreen", "scfreen"),
        ("", ""),
        ("a", "a"),
    ],
)
def test_a_slip_is_corrected_and_nothing_else(typed: str, word: str) -> None:
    assert SPELLING.correct(typed) == word


def test_a_slip_of_two_words_stays() -> None:
    assert Spelling(("keyboard",)).correct("keybard") == "keyboard"
    assert Spelling(("keyboard", "keybeard")).correct("keybard") == "keybard"


@given(st.sampled_from(WORDS), st.integers(1, 5))
def test_any_two_letters_exchanged_are_put_right(word: str, at: int) -> None:
    at = min(at, len(word) - 2)
    assert SPELLING.correct(word[:at] + word[at + 1] + word[at] + word[at + 2 :]) == word


@given(st.text("abcdeghilnoprstuwy", max_size=14))
def test_corrections_are_stable(typed: str) -> None:
    corrected = SPELLING.correct(typed)
    assert SPELLING.correct(corrected) == corrected
    assert abs(len(corrected) - len(typed)) <= 1
