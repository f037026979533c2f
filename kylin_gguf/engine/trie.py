"""A token trie over candidate answers, and what each answer's probability is among them.

Only nodes with several children say anything: a node with one child forces it. So only branching nodes
need logits, only the paths to them need decoding, and the softmax at each is over its children alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kylin_gguf.engine.context import Logits


@dataclass
class Node:
    """One token of some answers. ``depth`` 0 is the root: the prompt's last token."""

    token: int
    depth: int
    children: dict[int, Node] = field(default_factory=dict)
    branch_below: bool = False
    """Whether this node or one below it branches: then its token has to be decoded."""
    lanes: list[int] = field(default_factory=list)
    """Sequences that pass through this node, as indices from 0."""

    @property
    def branches(self) -> bool:
        """Whether the next token is open."""
        return len(self.children) > 1


class Trie:
    """The answers' token sequences, none of which may be a prefix of another: end each with an end token."""

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        """Build the trie.

        Raises:
            ValueError: an answer is empty, repeated, or a prefix of another.
        """
        self.root = Node(token=-1, depth=0)
        self._answers = [tuple(answer) for answer in answers]
        for answer in self._answers:
            self._insert(answer)
        self._mark(self.root)
        self.lane_count = self._assign_lanes(self.root, 0)

    def _insert(self, answer: tuple[int, ...]) -> None:
        node, grown = self.root, False
        for token in answer:
            if node is not self.root and not node.children and not grown:
                raise ValueError("an answer is a prefix of another")
            if token not in node.children:
                node.children[token] = Node(token, node.depth + 1)
                grown = True
            node = node.children[token]
        if not grown:
            raise ValueError("an answer is empty, repeated or a prefix of another")

    def _mark(self, node: Node) -> bool:
        below = [self._mark(child) for child in node.children.values()]
        node.branch_below = node.branches or any(below)
        return node.branch_below

    def _assign_lanes(self, node: Node, first: int) -> int:
        """Give every decoded path a sequence of its own; return the next free one."""
        lane = first
        for child in node.children.values():
            if child.branch_below:
                lane = self._assign_lanes(child, lane)
        if lane == first and node is not self.root:
            lane += 1
        node.lanes = list(range(first, lane))
        return lane

    def to_decode(self) -> Iterator[Node]:
        """Yield the nodes whose tokens must go through the model, parents before children."""
        level = [self.root]
        while level:
            level = [child for node in level for child in node.children.values() if child.branch_below]
            yield from level

    def score(self, logits_of: Callable[[Node], Logits]) -> tuple[float, ...]:
        """Return each answer's natural log-probability among all answers, in the order given.

        Args:
            logits_of: Logits after a branching node, shape (vocab_size,). Called once for each.
        """
        step: dict[tuple[int, ...], float] = {}

        def walk(node: Node, path: tuple[int, ...], so_far: float) -> None:
            tokens = list(node.children)
            logprobs = _log_softmax(logits_of(node)[tokens]) if node.branches else np.zeros(len(tokens))
            if not tokens:
                step[path] = so_far
            for token, logprob in zip(tokens, logprobs, strict=True):
                walk(node.children[token], (*path, token), so_far + float(logprob))

        walk(self.root, (), 0.0)
        return tuple(step[answer] for answer in self._answers)


def _log_softmax(logits: Logits) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    wide = logits.astype(np.float64)
    shifted = wide - wide.max()
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = shifted - np.log(np.exp(shifted).sum())
    return result
