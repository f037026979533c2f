"""A LoRA adapter as a GGUF of its own, which llama.cpp adds to the model when it is loaded.

Keys and tensors are those of upstream's convert_lora_to_gguf.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gguf
import numpy as np

from kylin_convert import lora
from kylin_convert.arch import family_of
from kylin_convert.arch.base import Family, OutputTensor, TensorSpec
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.hyperparameters import Config
from kylin_convert.lora import Pair
from kylin_convert.metadata import read_metadata
from kylin_convert.safetensors import Array, widen
from kylin_convert.writer import output_bytes, write_file
from kylin_gguf.errors import BadCheckpoint, NotACheckpoint
from kylin_gguf.records import ProgressCallback

_MAX_TOKEN = (1 << 32) - 1


@dataclass(frozen=True)
class Adapter:
    """An adapter in ``folder`` for models of ``base``, of which the weights' headers must be there."""

    folder: Path
    base: Family
    config: Config
    pairs: Mapping[str, Pair]

    @classmethod
    def open(cls, folder: Path, base: Checkpoint) -> Adapter:
        """Open the adapter in ``folder`` and check that it fits ``base``.

        Raises:
            NotACheckpoint: it is another kind of adapter, or ``base`` of a family that is upstream's.
            BadCheckpoint: it changes more than pairs of matrices say, or does not fit.
        """
        family = family_of(base)
        if family is None:
            reason = f"an adapter of {base.architecture}, which is left to upstream's converter"
            raise NotACheckpoint(str(folder), reason)
        config = lora.read_config(folder)
        return cls(folder, family, config, lora.read_pairs(base, folder, config))

    @property
    def alpha(self) -> float:
        """What llama.cpp divides by a pair's rank and multiplies the pair with."""
        return self.config.number("lora_alpha", 8.0)

    def tensors(self) -> list[OutputTensor]:
        """Return the two matrices of each pair, as llama.cpp names and arranges them.

        Raises:
            BadCheckpoint: it changes a tensor that llama.cpp has in another form.
        """
        # What nothing reads of the base, such as an image encoder, nothing reads of the adapter.
        pairs = {read: pair for name, pair in self.pairs.items() if (read := self.base.rename(name))}
        result: list[OutputTensor] = []
        for spec in self.base.specs():
            for name in spec.stored_names:
                if pair := pairs.pop(name, None):
                    result += self._both(spec, pair)
        if pairs:
            raise BadCheckpoint(
                str(self.folder), f"it changes {next(iter(pairs))}, which llama.cpp does not read"
            )
        return result

    def nbytes(self, form: str) -> int:
        """Return how many bytes the tensors take in ``form``."""
        return output_bytes(self.tensors(), form)

    def _both(self, spec: TensorSpec, pair: Pair) -> Iterator[OutputTensor]:
        if spec.parts or spec.stored or not (spec.arrange is None or spec.by_rows):
            reason = f"it changes {spec.name}, which llama.cpp has in another form; merge it"
            raise BadCheckpoint(str(self.folder), reason)
        name = self.base.final_name(spec)
        up = partial(_up, pair, spec, pair.alpha / self.alpha)
        yield OutputTensor(f"{name}.lora_a", pair.down.shape, (pair.down.map,))
        yield OutputTensor(f"{name}.lora_b", pair.up.shape, (up,))

    def write(self, path: Path, form: str, progress: ProgressCallback) -> None:
        """Write the GGUF to ``path`` in a format of ``writer.FORMATS``; it appears whole or not at all.

        Raises:
            BadCheckpoint: as ``tensors`` and ``writer.write_gguf``.
        """

        def describe(writer: gguf.GGUFWriter) -> None:
            writer.add_type(gguf.GGUFType.ADAPTER)
            writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
            counts = writer.get_total_parameter_count()
            read_metadata(self.folder, counts).set_gguf_meta_model(writer)
            writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, self.alpha)
            if tokens := self._invocation():
                kinds = gguf.GGUFValueType
                key = gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS
                writer.add_key_value(key, tokens, kinds.ARRAY, kinds.UINT32)
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

        write_file(path, self.base.name, self.tensors(), form, describe, progress)

    def _invocation(self) -> list[int]:
        """Return the tokens from which on it counts, none where that is everywhere."""
        tokens = self.config.values.get("alora_invocation_tokens") or []
        if not isinstance(tokens, list) or not all(type(n) is int and 0 <= n <= _MAX_TOKEN for n in tokens):
            raise self.config.fail("alora_invocation_tokens", "is not a list of tokens")
        if not tokens and self.config.values.get("invocation_string"):
            raise self.config.fail("invocation_string", "is set without alora_invocation_tokens")
        return tokens


def _up(pair: Pair, spec: TensorSpec, factor: float) -> Array:
    """Return ``pair``'s left matrix, ``factor`` times: what is not the same for all pairs has no key."""
    stored = pair.up.map()
    if factor != 1.0:
        stored = widen(stored).astype(np.float32) * np.float32(factor)
    return spec.arrange(stored) if spec.arrange else stored
