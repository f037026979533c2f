"""MiniCPMForCausalLM: MiniCPM 1, 2 and 4."""

from __future__ import annotations

import gguf

from kylin_convert.arch.base import OutputTensor
from kylin_convert.arch.decoder import Decoder
from kylin_convert.hyperparameters import Defaults


class MiniCPM(Decoder):
    """The Llama block with three scales, on the embedding, on each block's contribution, and on the logits.

    transformers has no class for it and runs no code from the checkpoint, so upstream writes only what
    config.json itself states.
    """

    arch = gguf.MODEL_ARCH.MINICPM
    attention_bias = False
    defaults = Defaults(
        tied_embeddings=True, rope_theta=None, rope_types=("default", "linear", "yarn", "dynamic", "longrope")
    )
    pairs_rows = True

    def extra_tensors(self) -> list[OutputTensor]:
        """Return MiniCPM 4's longrope factors."""
        return self.long_rope_tensors(self.hp.head_dim)

    def write_parameters(self, writer: gguf.GGUFWriter, file_type: int) -> None:
        """Add the scales."""
        super().write_parameters(writer, file_type)
        config = self.config
        writer.add_embedding_scale(float(config.required_number("scale_emb")))
        writer.add_residual_scale(config.required_number("scale_depth") / self.layers**0.5)
        writer.add_logit_scale(self.hp.hidden_size / config.required_number("dim_model_base"))
