"""Qwen2ForCausalLM: Qwen 1.5, 2 and 2.5, and DeepSeek's Qwen distillations."""

from __future__ import annotations

import gguf

from kylin_convert.arch.base import Family


class Qwen2(Family):
    """The Llama block with biases on query, key and value; its rope needs no reordering of rows."""

    arch = gguf.MODEL_ARCH.QWEN2
    attention_bias = True
