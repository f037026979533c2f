"""A catalogue whose examples share no word, and models that know, or do not, which of them mean the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from kylin_gguf.actuator.catalogue import Command, CommandCatalogue, Example
from tests.tiny_model import write_vocabulary

SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
"""How byte-level BPE writes it."""
WIDTH = 64
IDS = ("north", "south", "east", "west")
EACH = 30

_RANDOM = np.random.default_rng(11)
_CODES = ["".join(code) for code in itertools.product("bdfgk", "aeiou", "lmnr", "aeiou", "stvz")]
WORDS = {
    identity: [_CODES[number] for number in numbers]
    for identity, numbers in zip(
        IDS, _RANDOM.permutation(len(_CODES))[: EACH * len(IDS)].reshape(len(IDS), EACH), strict=True
    )
}


def catalogue() -> CommandCatalogue:
    """Return one in which each example is a word that no other example has."""
    commands = (
        Command(identity, {"en": identity}, (), tuple(Example(word, identity) for word in words[:-1]))
        for identity, words in WORDS.items()
    )
    return CommandCatalogue("directions", tuple(commands))


def unseen(identity: str) -> str:
    """Return a word that means ``identity``, and is no example."""
    return WORDS[identity][-1]


def model(path: Path, noise: float, space: str = SPACE, tokenizer: str = "gpt2") -> Path:
    """Write a model to ``path`` in which words of one command are alike, the less the more ``noise``."""
    random = np.random.default_rng(3)
    centres = random.standard_normal((len(IDS), WIDTH))
    rows = {
        space + word: (centres[i] + noise * random.standard_normal(WIDTH)).tolist()
        for i, words in enumerate(WORDS.values())
        for word in words
    }
    return write_vocabulary(path, rows, tokenizer=tokenizer)
