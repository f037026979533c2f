"""What a reasoning model thinks before it answers, told apart from the answer."""

from __future__ import annotations

from typing import NamedTuple


class Tags(NamedTuple):
    """The texts that begin and end a block of reasoning."""

    opening: str
    closing: str


_KNOWN = (
    Tags("<think>", "</think>"),  # DeepSeek, Qwen, GLM, MiniCPM and most others
    Tags("<seed:think>", "</seed:think>"),  # Seed-OSS
    Tags("<mm:think>", "</mm:think>"),  # MiniMax
    Tags("[THINK]", "[/THINK]"),  # Ministral
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R7B
)
_TAG_BYTES = frozenset(tag.encode() for tags in _KNOWN for tag in tags)


class Parts(NamedTuple):
    """Text of two kinds."""

    reasoning: str
    answer: str


def tags_of(template: str) -> Tags:
    """Return the tags that a chat template's source uses; the usual ones if it uses none."""
    return next((tags for tags in _KNOWN if tags.closing in template), _KNOWN[0])


def is_tag(piece: bytes) -> bool:
    """Return whether a token's bytes are a tag."""
    return piece in _TAG_BYTES


def overlap(text: str, markers: tuple[str, ...]) -> int:
    """Return the length of the longest end of ``text`` that begins one of ``markers``, without being it
    whole."""
    longest = max((len(marker) for marker in markers), default=0)
    for length in range(min(len(text), longest - 1), 0, -1):
        if any(len(marker) > length and marker.startswith(text[-length:]) for marker in markers):
            return length
    return 0


class ReasoningSplitter:
    """Takes blocks of reasoning out of a text that comes in pieces.

    A block is looked for where models put it: before any word of the answer. Who asks a model about the tag
    itself gets it as text. White space before and behind a block belongs to neither part.
    """

    def __init__(self, tags: Tags, *, thinking: bool) -> None:
        """``thinking``: the prompt has opened a block already."""
        self._tags = tags
        self._thinking = thinking
        self._answering = False
        self._held = ""
        self._after_block = False

    def push(self, text: str) -> Parts:
        """Return the parts of ``text`` that can be shown now."""
        if self._answering:
            return Parts("", text)
        self._held += text
        reasoning = []
        while not self._answering:
            if not self._thinking:
                if not self._look_for_block():
                    break
            elif self._tags.closing in self._held:
                inside, _, self._held = self._held.partition(self._tags.closing)
                reasoning.append(inside)
                self._thinking, self._after_block = False, True
            else:
                keep = overlap(self._held, (self._tags.closing,))
                shown = len(self._held) - keep
                reasoning.append(self._held[:shown])
                self._held = self._held[shown:]
                break
        return Parts("".join(reasoning), self._release())

    def _look_for_block(self) -> bool:
        """Decide whether a block or the answer begins; False if more text is needed to tell."""
        begun = self._held.lstrip()
        if begun.startswith(self._tags.opening):
            self._held, self._thinking = begun.removeprefix(self._tags.opening), True
        elif self._tags.opening.startswith(begun):
            return False
        else:
            self._answering = True
        return True

    def _release(self) -> str:
        """Return what is held if it belongs to the answer."""
        if not self._answering:
            return ""
        answer, self._held = self._held, ""
        return answer.lstrip() if self._after_block else answer

    def finish(self) -> Parts:
        """Return what was held back; an unclosed block is reasoning to its end."""
        held, self._held = self._held, ""
        if self._thinking:
            return Parts(held, "")
        return Parts("", held.lstrip() if self._after_block else held)
