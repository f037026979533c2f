"""LlamaForCausalLM: Llama 1 to 3, SmolLM, TinyLlama, MiniCPM-style exports and many others."""

from __future__ import annotations

import math
from dataclasses import replace

import gguf
import numpy as np

from kylin_convert.arch.base import Family, OutputTensor, TensorSpec
from kylin_convert.checkpoint import read_json
from kylin_convert.safetensors import Array
from kylin_convert.vocab import Vocabulary

# StarCoder's tokenizer, shared by Granite and SmolLM: its models were trained without a leading BOS.
_GRANITE_VOCAB_SIZE = 49_152


class Llama(Family):
    """The plain block. Biases are allowed: llama.cpp reads them where a checkpoint has them."""

    arch = gguf.MODEL_ARCH.LLAMA
    default_context = 2048
    attention_bias = None

    def arrange(self, stored: Array, spec: TensorSpec) -> Array:
        """Pair up the rows that rotary embedding turns together.

        transformers rotates row i of a head with row i + d/2, llama.cpp's "norm" rope row 2i with row 2i + 1.
        """
        if not spec.rotary_heads:
            return stored
        half = stored.shape[0] // spec.rotary_heads // 2
        rows = stored.reshape(spec.rotary_heads, 2, half, *stored.shape[1:])
        return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(stored.shape)

    def extra_tensors(self) -> list[OutputTensor]:
        """Return Llama 3's per-frequency rope factors, where the configuration asks for them."""
        if self.hp.rope.kind != "llama3":
            return []
        factors = self._llama3_factors()
        return [OutputTensor("rope_freqs.weight", factors.shape, lambda: factors)]

    def _llama3_factors(self) -> Array:
        # The formula of transformers' _compute_llama3_parameters, in float32 as upstream computes it: long
        # wavelengths are stretched by `factor`, short ones kept, those between interpolated.
        rope, dim = self.hp.rope, self.hp.head_dim
        scaling = rope.scaling
        factor = scaling.number("factor", 8.0)
        low, high = scaling.number("low_freq_factor", 1.0), scaling.number("high_freq_factor", 4.0)
        if low == high:
            raise self.config.fail("rope_scaling", "has equal low and high frequency factors")
        original = scaling.integer("original_max_position_embeddings")
        # Two roundings are torch's: a power in double precision, and x / tensor as x * (1 / tensor).
        one = np.float32(1.0)
        exponents = (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)).astype(np.float64)
        frequencies = one / np.power(rope.theta, exponents).astype(np.float32)
        wavelengths = np.float32(2 * math.pi) * (one / frequencies)
        smooth = (np.float32(original) * (one / wavelengths) - np.float32(low)) / np.float32(high - low)
        between = one / ((one - smooth) / np.float32(factor) + smooth)
        kept = np.where(wavelengths < original / high, one, between)
        return np.where(wavelengths > original / low, np.float32(factor), kept).astype(np.float32)

    def vocabulary(self) -> Vocabulary:
        """Return the tokenizer with the flags that upstream's Llama conversion forces."""
        vocabulary = super().vocabulary()
        path = self.checkpoint.folder / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {}
        if self.hp.vocab_size == _GRANITE_VOCAB_SIZE:
            vocabulary.special.add["bos"] = False
        prefix = settings.get("add_prefix_space")
        return replace(vocabulary, add_space_prefix=prefix if isinstance(prefix, bool) else None)

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the vocabulary size and rope dimension beside the shared keys."""
        super().write_parameters(writer, file_type)
        writer.add_vocab_size(self.hp.vocab_size)
        writer.add_rope_dimension_count(self.hp.head_dim)

    def writes_head_dim(self) -> bool:
        """Return True: transformers' LlamaConfig always states it, so upstream writes it."""
        return True
