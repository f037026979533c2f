"""Which blocks an architecture can lose: what llama.cpp derives from a block's number, or from their count.

Checked against the graphs and hyperparameters of the pinned source, ``src/models/ARCHITECTURE.cpp``. An
architecture that is not listed was not read, or scales by how many blocks there are, and is refused: a block
in another's place may be computed without its rotation, or with another window, and nothing would say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kylin_gguf.errors import UnsupportedModel
from kylin_gguf.gguf_info import GgufInfo, MetadataValue

_WINDOWS = "attention.sliding_window_pattern"


@dataclass(frozen=True)
class Architecture:
    """``period``: every so manyth block is another kind, by its number alone. ``special_count``: with so many
    blocks, and only then, attention is scaled otherwise."""

    period: int = 1
    special_count: int = 0


ARCHITECTURES: Mapping[str, Architecture] = {
    **dict.fromkeys(("deepseek", "gemma", "llama", "minicpm"), Architecture()),
    **dict.fromkeys(("qwen2", "qwen2moe", "qwen3", "qwen3moe"), Architecture()),
    "gemma2": Architecture(period=2, special_count=46),
    "gemma3": Architecture(period=6, special_count=62),
    "smollm3": Architecture(period=4),
}

PER_BLOCK = (
    "attention.head_count",
    "attention.head_count_kv",
    _WINDOWS,
    "expert_feed_forward_length",
    "expert_used_count",
    "feed_forward_length",
)
"""Keys of these architectures that may hold a value for each block (llama_model_loader::get_key_or_arr)."""


@dataclass(frozen=True)
class Stack:
    """The ``blocks`` of a model; ``windows`` is what its file says of which are windowed, None if nothing."""

    path: str
    architecture: str
    blocks: int
    windows: MetadataValue | None = None

    @classmethod
    def of(cls, model: GgufInfo) -> Stack:
        """Return that of a file."""
        return cls(str(model.path), model.architecture, model.layers, model.own(_WINDOWS))

    @property
    def period(self) -> int:
        """Every how manyth block is another kind; 1 where any can stand in any other's place."""
        if isinstance(self.windows, tuple):  # it says of each block which it is, and is cut with them
            return 1
        stated = self.windows if isinstance(self.windows, int) else 0
        return stated if stated > 0 else ARCHITECTURES[self.architecture].period

    def runs(self, count: int) -> list[int]:
        """Return where ``count`` blocks in a row may begin that can go: all that stay keep their kind."""
        special = ARCHITECTURES[self.architecture].special_count
        if not 0 < count < self.blocks or (special and special in {self.blocks, self.blocks - count}):
            return []
        return [start for start in range(self.blocks - count + 1) if self._keeps_kinds(start + count, count)]

    def _keeps_kinds(self, end: int, count: int) -> bool:
        """Return whether the blocks from ``end`` on are of the kind of those ``count`` places before them."""
        return all(self._kind(block) == self._kind(block - count) for block in range(end, self.blocks))

    def _kind(self, block: int) -> bool:
        """Return whether ``block`` is the last of its period (llama_hparams::set_swa_pattern)."""
        return block % self.period == self.period - 1

    def check(self, count: int) -> None:
        """Refuse to cut ``count`` blocks, 0 for a number that is not known yet.

        Raises:
            UnsupportedModel: nothing is known of the architecture, or no run of so many can go.
        """
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(sorted(ARCHITECTURES))
            reason = (
                f"whether blocks of '{self.architecture}' stand alone is not known; of these it is: {known}"
            )
            raise _refused(self.path, reason)
        if count and not self.runs(count):
            possible = (
                ", ".join(str(number) for number in range(1, self.blocks) if self.runs(number)) or "none"
            )
            reason = f"of its {self.blocks} blocks, {count} cannot be cut; these numbers can: {possible}"
            raise _refused(self.path, reason)


def check(model: GgufInfo, count: int) -> None:
    """Refuse to cut ``count`` blocks out of ``model``, 0 for a number that is not known yet.

    Raises:
        UnsupportedModel: says why.
    """
    path = str(model.path)
    if not model.has_cache or model.pooling:
        raise _refused(path, "it computes no probabilities of tokens, by which a loss could be judged")
    Stack.of(model).check(count)
    if model.own("nextn_predict_layers"):
        raise _refused(path, "its last blocks predict further tokens, and belong to those before them")
    for key, value in model.metadata.items():
        own = key.removeprefix(f"{model.architecture}.")
        if own != key and own not in PER_BLOCK and isinstance(value, tuple) and len(value) == model.layers:
            raise _refused(path, f"'{key}' may hold a value for each block, and is not known")


def _refused(path: str, reason: str) -> UnsupportedModel:
    return UnsupportedModel(path, f"no blocks can be cut out of it: {reason}")
