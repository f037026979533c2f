"""One module per model family, imported only when a checkpoint of that family is converted."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from kylin_convert.arch.base import Family
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.upstream import architectures
from kylin_gguf.errors import UnknownArchitecture

# transformers' architecture name: module of this package, and in it the class or a function that chooses one
_FAMILIES = {
    "BertForMaskedLM": ("bert", "Bert"),
    "BertModel": ("bert", "Bert"),
    "FM9GForCausalLM": ("fm9g", "fm9g"),
    "Gemma3ForCausalLM": ("gemma3", "Gemma3"),
    "Gemma3ForConditionalGeneration": ("gemma3", "Gemma3"),
    "LLaMAForCausalLM": ("llama", "Llama"),
    "LlamaForCausalLM": ("llama", "Llama"),
    "MiniCPM3ForCausalLM": ("minicpm3", "MiniCPM3"),
    "MiniCPMForCausalLM": ("minicpm", "MiniCPM"),
    "MistralForCausalLM": ("llama", "Mistral"),
    "NomicBertModel": ("nomic_bert", "NomicBert"),
    "Qwen2ForCausalLM": ("qwen2", "Qwen2"),
    "Qwen3ForCausalLM": ("qwen3", "Qwen3"),
    "Qwen3MoeForCausalLM": ("qwen3moe", "Qwen3Moe"),
    "SmolLM3ForCausalLM": ("smollm3", "SmolLM3"),
    "XLMRobertaModel": ("xlm_roberta", "XlmRoberta"),
}
ARCHITECTURES = tuple(sorted(_FAMILIES))


def family_of(checkpoint: Checkpoint) -> Family | None:
    """Return the reader for ``checkpoint``'s family, None where only upstream's converter has one.

    Raises:
        UnknownArchitecture: neither has one.
        BadCheckpoint: the configuration lacks or contradicts what the family needs.
    """
    if checkpoint.architecture not in _FAMILIES:
        if checkpoint.architecture in architectures():
            return None
        raise UnknownArchitecture(checkpoint.architecture, _near(checkpoint.architecture))
    module, name = _FAMILIES[checkpoint.architecture]
    found = getattr(import_module(f"{__name__}.{module}"), name)
    cls: type[Family] = found if isinstance(found, type) else found(checkpoint)
    return cls(checkpoint) if cls.reads(checkpoint) else None


def _near(name: str) -> tuple[str, ...]:
    """Return the most similar names of all that can be converted, the families of this package if none is."""
    return tuple(get_close_matches(name, {*architectures(), *ARCHITECTURES})) or ARCHITECTURES
