"""Prompts: ones that are answered at length, and ones of a chosen length that no cache has seen."""

from __future__ import annotations

from itertools import cycle, islice

from bench.chat import Engine, user

STORY = (
    "Write a very long story about a lighthouse keeper, a storm and a ship, with many details and dialogue."
)

TOPICS = (
    "a lighthouse keeper and a storm",
    "a clockmaker in an old town",
    "a train that crosses a desert",
    "a gardener and a lost letter",
    "a fisherman who finds a map",
    "a school at the edge of a forest",
    "a painter who moves to an island",
    "a doctor on a long winter journey",
)

# Each of these is one token in the vocabularies of the common families when a space goes before it.
_TEXT = (
    "the light on the water was grey and the old man walked down to the sea with his dog in the cold wind "
    "while a small boat came back from the north and the people of the town stood by the wall to look at it"
)

_PROBE_WORDS = 64
_PROBE_NUMBER = 9999


def story(topic: str) -> str:
    """Return a request that is answered at length."""
    return f"Write a very long story about {topic}, with many details and dialogue."


def fresh(number: int, words: int, ending: str = "") -> str:
    """Return a text of ``words`` common words that shares with others only what precedes its number.

    The number, 0 to 9999, has four digits whatever it is, so that the length in tokens does not depend on it.
    """
    return f"{number:04} " + " ".join(islice(cycle(_TEXT.split()), words)) + ending


async def words_for(engine: Engine, tokens: int, ending: str = "") -> int:
    """Return how many words make ``fresh`` a prompt of ``tokens`` tokens, chat template included."""
    reply = await engine.chat(user(fresh(_PROBE_NUMBER, _PROBE_WORDS, ending)), 1)
    return tokens - (reply.prompt_tokens - _PROBE_WORDS)
