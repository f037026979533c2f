"""Qwen2ForCausalLM: Qwen 1.5, 2 and 2.5, and DeepSeek's Qwen distillations."""

from __future__ import annotations

import gguf

from kylin_convert.arch.decoder import Decoder
from kylin_convert.arch.pooling import write_pooling


class Qwen2(Decoder):
    """The Llama block with biases on query, key and value; its rope needs no reordering of rows."""

    arch = gguf.MODEL_ARCH.QWEN2
    attention_bias = True

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add how vectors are pooled, which models tuned for embedding say."""
        super().write_parameters(writer, file_type)
        write_pooling(self.checkpoint.folder, writer)
