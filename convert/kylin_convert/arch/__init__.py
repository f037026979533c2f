"""One module per model family, imported only when a checkpoint of that family is converted."""

from __future__ import annotations

from importlib import import_module

from kylin_convert.arch.base import Family
from kylin_convert.checkpoint import Checkpoint
from kylin_gguf.errors import UnknownArchitecture

# transformers' architecture name: module and class of this package
_FAMILIES = {
    "LlamaForCausalLM": ("llama", "Llama"),
    "Qwen2ForCausalLM": ("qwen2", "Qwen2"),
    "Qwen3ForCausalLM": ("qwen3", "Qwen3"),
}
ARCHITECTURES = tuple(sorted(_FAMILIES))


def family_of(checkpoint: Checkpoint) -> Family:
    """Return the reader for ``checkpoint``'s family.

    Raises:
        UnknownArchitecture: there is none.
        BadCheckpoint: the configuration lacks or contradicts what the family needs.
    """
    if checkpoint.architecture not in _FAMILIES:
        raise UnknownArchitecture(checkpoint.architecture, ARCHITECTURES)
    module, name = _FAMILIES[checkpoint.architecture]
    cls: type[Family] = getattr(import_module(f"{__name__}.{module}"), name)
    return cls(checkpoint)
