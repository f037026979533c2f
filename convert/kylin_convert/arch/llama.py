"""LlamaForCausalLM and MistralForCausalLM: Llama 1 to 3, SmolLM 1 and 2, TinyLlama, Mistral and others."""

from __future__ import annotations

import math
from dataclasses import replace

import gguf
import numpy as np

from kylin_convert.arch.base import OutputTensor
from kylin_convert.arch.decoder import Decoder
from kylin_convert.checkpoint import read_json
from kylin_convert.hyperparameters import Defaults
from kylin_convert.safetensors import Array
from kylin_convert.vocab import Vocabulary

# StarCoder's tokenizer, shared by Granite and SmolLM: its models were trained without a leading BOS.
_GRANITE_VOCAB_SIZE = 49_152
# Code Llama, whose files do not say which tokens frame a gap to be filled.
_CODE_LLAMA_VOCAB_SIZE = 32_016
_CODE_LLAMA_IDS = {"prefix": 32_007, "suffix": 32_008, "middle": 32_009, "eot": 32_010}


class Llama(Decoder):
    """The plain block. Biases are allowed: llama.cpp reads them where a checkpoint has them."""

    arch = gguf.MODEL_ARCH.LLAMA
    defaults = Defaults(context_length=2048)
    pairs_rows = True

    def extra_tensors(self) -> list[OutputTensor]:
        """Return Llama 3's per-frequency rope factors, where the configuration asks for them."""
        if self.hp.rope.kind != "llama3":
            return []
        factors = self._llama3_factors()
        return [OutputTensor("rope_freqs.weight", factors.shape, (factors.copy,))]

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
        frequencies = one / np.power(rope.theta or 10_000.0, exponents).astype(np.float32)
        wavelengths = np.float32(2 * math.pi) * (one / frequencies)
        smooth = (np.float32(original) * (one / wavelengths) - np.float32(low)) / np.float32(high - low)
        between = one / ((one - smooth) / np.float32(factor) + smooth)
        kept = np.where(wavelengths < original / high, one, between)
        return np.where(wavelengths > original / low, np.float32(factor), kept).astype(np.float32)

    def vocabulary(self) -> Vocabulary:
        """Return the tokenizer with what upstream's Llama conversion forces."""
        vocabulary = super().vocabulary()
        path = self.checkpoint.folder / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {}
        if self.hp.vocab_size == _GRANITE_VOCAB_SIZE:
            vocabulary.special.add["bos"] = False
        if self.hp.vocab_size == _CODE_LLAMA_VOCAB_SIZE:
            vocabulary.special.ids.update(_CODE_LLAMA_IDS)
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


class Mistral(Llama):
    """Llama with other defaults. Its sliding window is not in the GGUF: llama.cpp attends to everything."""

    defaults = Defaults(context_length=131_072, kv_heads=8)
