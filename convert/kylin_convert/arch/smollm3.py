"""SmolLM3ForCausalLM."""

from __future__ import annotations

import gguf

from kylin_convert.arch.llama import Llama
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.hyperparameters import Defaults

_NO_ROPE_INTERVAL = 4


class SmolLM3(Llama):
    """Llama, every fourth block of which has no rotary embedding. llama.cpp knows."""

    arch = gguf.MODEL_ARCH.SMOLLM3
    defaults = Defaults(kv_heads=4, rms_eps=1e-6, tied_embeddings=True, rope_theta=2_000_000.0)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        expected = [int((layer + 1) % _NO_ROPE_INTERVAL != 0) for layer in range(self.layers)]
        if self.config.integer("no_rope_layer_interval", _NO_ROPE_INTERVAL) != _NO_ROPE_INTERVAL:
            raise self.config.fail("no_rope_layer_interval", f"is not {_NO_ROPE_INTERVAL}, as in llama.cpp")
        if self.config.values.get("no_rope_layers", expected) != expected:
            raise self.config.fail("no_rope_layers", "is another pattern than llama.cpp's")

    def writes_head_dim(self) -> bool:
        """Return whether the configuration states it: SmolLM3Config does not add it."""
        return self.config.values.get("head_dim") is not None
