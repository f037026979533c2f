"""The token table of a GGUF: one text, type and perhaps score for each id."""

from __future__ import annotations

from dataclasses import dataclass, field

import gguf

TokenType = gguf.TokenType

# Added tokens that some checkpoints forget to mark as special; the list is upstream's.
_CONTROL_NAMES = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
_CONTROL_FRAMES = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))


@dataclass
class TokenTable:
    """``model`` and ``pre`` are GGUF's names of the algorithm and of its pre-tokeniser."""

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)

    @classmethod
    def padded(cls, model: str, pre: str, size: int, score: float | None = None) -> TokenTable:
        """Return a table of ``size`` unused tokens; with ``score``, it is theirs."""
        scores = [] if score is None else [score] * size
        return cls(model, pre, [f"[PAD{i}]" for i in range(size)], [TokenType.UNUSED] * size, scores)

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Add the table's keys."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)


def added_token(text: str, special: bool) -> tuple[str, int]:
    """Return the text and type that an added token gets in GGUF."""
    framed = any(text.startswith(left) and text.endswith(right) for left, right in _CONTROL_FRAMES)
    if special or framed or text in _CONTROL_NAMES:
        return text, TokenType.CONTROL
    # llama.cpp matches user-defined tokens against raw text, where SentencePiece's mark is a plain space.
    return text.replace("\u2581", " "), TokenType.USER_DEFINED
