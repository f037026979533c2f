"""FM9GForCausalLM (九格): the name under which Llama, MiniCPM and MiniCPM 3 blocks were published.

Upstream does not know the name. Which block it is follows from the configuration: low-rank attention is
MiniCPM 3's, scales without it MiniCPM's, and neither is a plain Llama.
"""

from __future__ import annotations

from kylin_convert.arch.base import Family
from kylin_convert.arch.llama import Llama
from kylin_convert.arch.minicpm import MiniCPM
from kylin_convert.arch.minicpm3 import MiniCPM3
from kylin_convert.checkpoint import Checkpoint

_SCALES = ("scale_emb", "scale_depth", "dim_model_base")


def fm9g(checkpoint: Checkpoint) -> type[Family]:
    """Return the family of the block that ``checkpoint`` has."""
    if checkpoint.config.get("kv_lora_rank") is not None:
        return MiniCPM3
    if any(checkpoint.config.get(key) is not None for key in _SCALES):
        return MiniCPM
    return Llama
