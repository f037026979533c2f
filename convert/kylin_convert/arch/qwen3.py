"""Qwen3ForCausalLM."""

from __future__ import annotations

import gguf

from kylin_convert.arch.base import Family


class Qwen3(Family):
    """Qwen2 without biases, with a norm on each head's query and key, and a head size of its own."""

    arch = gguf.MODEL_ARCH.QWEN3
    attention_bias = False
    default_head_dim = 128
    qk_norm = True
