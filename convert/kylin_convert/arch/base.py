"""What all families share: from the tensors a checkpoint must have to those of the GGUF."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import gguf

from kylin_convert.checkpoint import Checkpoint, listed
from kylin_convert.hyperparameters import Config
from kylin_convert.safetensors import Array, StoredTensor
from kylin_convert.vocab import Vocabulary, read_vocabulary
from kylin_gguf.errors import BadCheckpoint

# Buffers that old checkpoints carry and nothing reads; upstream drops the same.
_IGNORED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")

_MANY = 10_000
"""Missing tensors after which no more are looked for."""

Arrange = Callable[[Array], Array]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that the family has, by the transformers name that gguf's table knows.

    ``shape`` is how the checkpoint stores it, under the name ``stored`` where that is another. ``parts`` are
    the names of the tensors of that shape which GGUF keeps stacked as one, empty for a tensor that stands
    alone. ``arrange`` turns what is stored into what llama.cpp expects, of shape ``result`` where that is
    another one; ``by_rows`` says that it puts the rows into another order and does no more.
    """

    name: str
    shape: tuple[int, ...]
    required: bool = True
    parts: tuple[str, ...] = ()
    arrange: Arrange | None = None
    result: tuple[int, ...] = ()
    stored: str = ""
    by_rows: bool = False

    @property
    def stored_names(self) -> tuple[str, ...]:
        """The checkpoint's tensors it is made of."""
        return self.parts or (self.stored or self.name,)

    @property
    def final_shape(self) -> tuple[int, ...]:
        """The shape in the GGUF, rows first."""
        one = self.result or self.shape
        return (len(self.parts), *one) if self.parts else one


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the GGUF, as pieces that follow one another; ``shape`` is that of all of them.

    Each piece gives stored bits (see ``safetensors.widen``) in their final order, and is loaded when its turn
    comes: a layer's experts are larger than what a small machine has to spare.
    """

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Callable[[], Array], ...]


class Family(ABC):
    """Base of all families."""

    arch: ClassVar[gguf.MODEL_ARCH]

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config = Config(str(checkpoint.folder), self.settings(checkpoint))

    @classmethod
    def reads(cls, checkpoint: Checkpoint) -> bool:
        """Return whether this is a variation that the class converts; the others are upstream's."""
        return True

    @staticmethod
    def settings(checkpoint: Checkpoint) -> Mapping[str, object]:
        """Return the part of config.json that describes the language model."""
        return checkpoint.config

    @property
    def name(self) -> str:
        """The value of ``general.architecture``."""
        return str(gguf.MODEL_ARCH_NAMES[self.arch])

    @property
    @abstractmethod
    def layers(self) -> int:
        """Number of blocks."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Rows of the embedding, which is the number of tokens that the GGUF lists."""

    @abstractmethod
    def specs(self) -> Iterator[TensorSpec]:
        """Yield what a checkpoint of this configuration holds, in the order it is written."""

    @abstractmethod
    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the architecture's keys, those of upstream's converter."""

    def rename(self, name: str) -> str | None:
        """Return the name that the specs use for the stored tensor ``name``; None if nothing reads it."""
        return None if name.endswith(_IGNORED) else name

    def extra_tensors(self) -> list[OutputTensor]:
        """Return tensors that are computed from the configuration."""
        return []

    def tensors(self) -> list[OutputTensor]:
        """Return the GGUF's tensors, in the order they are written.

        Raises:
            BadCheckpoint: a tensor is missing, unknown, or has another shape than the configuration says.
        """
        stored = self.stored
        specs = self._checked_specs(stored)
        result = self.extra_tensors()
        for spec in (s for s in specs if s.stored_names[0] in stored):
            pieces = tuple(self._piece(stored[part], spec) for part in spec.stored_names)
            result.append(OutputTensor(self.final_name(spec), spec.final_shape, pieces))
        return result

    def final_name(self, spec: TensorSpec) -> str:
        """Return what the GGUF calls the tensor."""
        return str(self._names.get_name(spec.name, try_suffixes=(".weight", ".bias")))

    @cached_property
    def _names(self) -> gguf.TensorNameMap:
        return gguf.get_tensor_name_map(self.arch, self.layers)

    @cached_property
    def stored(self) -> Mapping[str, StoredTensor]:
        """The checkpoint's tensors that are read, by the names that the specs use."""
        result: dict[str, StoredTensor] = {}
        for original, tensor in self.checkpoint.tensors.items():
            name = self.rename(original)
            if name in result:
                raise self.fail(f"tensors {result[name].name} and {original} are the same one")
            if name is not None:
                result[name] = tensor
        return result

    def _checked_specs(self, stored: Mapping[str, StoredTensor]) -> list[TensorSpec]:
        result: list[TensorSpec] = []
        missing: list[str] = []
        unknown = set(stored)
        for spec in self.specs():
            result.append(spec)
            unknown.difference_update(spec.stored_names)
            if spec.required:
                missing += [name for name in spec.stored_names if name not in stored]
            if len(missing) > _MANY:  # the configuration may ask for millions
                break
        if missing:
            raise self.fail(f"tensors are missing: {listed(missing)}")
        if unknown:
            raise self.fail(f"tensors that a {self.name} model does not have: {listed(unknown)}")
        return result

    def _piece(self, tensor: StoredTensor, spec: TensorSpec) -> Callable[[], Array]:
        if not tensor.is_float:
            raise self.fail(f"tensor {tensor.name} holds {tensor.dtype}, not weights")
        if tensor.shape != spec.shape:
            raise self.fail(f"tensor {tensor.name} has shape {tensor.shape}, config.json says {spec.shape}")
        arrange = spec.arrange
        return tensor.map if arrange is None else lambda: arrange(tensor.map())

    def fail(self, reason: str) -> BadCheckpoint:
        """Return the error that says what is wrong with the checkpoint."""
        return BadCheckpoint(str(self.checkpoint.folder), reason)

    def vocabulary(self) -> Vocabulary:
        """Return the tokenizer.

        Raises:
            BadCheckpoint: its files are missing or malformed, or llama.cpp cannot tokenise as it does.
        """
        return read_vocabulary(self.checkpoint.folder, self.vocab_size)
