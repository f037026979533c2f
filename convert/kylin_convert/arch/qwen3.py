"""Qwen3ForCausalLM, Qwen3-Embedding among them."""

from __future__ import annotations

import gguf

from kylin_convert.arch.qwen2 import Qwen2
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.hyperparameters import Defaults

_RERANKER = "qwen3-reranker"


class Qwen3(Qwen2):
    """Qwen2 without biases, with a norm on each head's query and key, and a head size of its own."""

    arch = gguf.MODEL_ARCH.QWEN3
    attention_bias = False
    defaults = Defaults(head_dim=128)
    qk_norm = True

    @classmethod
    def reads(cls, checkpoint: Checkpoint) -> bool:
        """Return False for Qwen3-Reranker, which upstream tells by its name and gives another output."""
        card = checkpoint.folder / "README.md"
        title = card.read_text("utf-8", "replace").lower() if card.is_file() else ""
        names = (checkpoint.folder.name, str(checkpoint.config.get("_name_or_path", "")))
        return "# qwen3-reranker" not in title and not any(_RERANKER in name.lower() for name in names)

    def rename(self, name: str) -> str | None:
        """Return ``name`` with the prefix that Qwen3-Embedding's checkpoints leave out."""
        kept = super().rename(name)
        return kept if kept is None or kept.startswith(("model.", "lm_head.")) else f"model.{kept}"
