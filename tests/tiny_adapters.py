"""Small random LoRA adapters for the checkpoints of ``tiny_families``, as PEFT saves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tiny_checkpoint import safetensors
from tests.tiny_families import CASES, random_tensor

PLAIN: Mapping[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 12, "bias": "none", "use_dora": False}


@dataclass(frozen=True)
class AdapterCase:
    """``ranks`` are by the end of the names of what is adapted, ``forms`` the formats to compare."""

    base: str
    ranks: Mapping[str, int]
    dtype: str = "F32"
    config: Mapping[str, Any] = field(default_factory=dict)
    forms: tuple[str, ...] = ("f32",)

    def write(self, folder: Path, base: Path | str = "owner/base") -> None:
        """Write the adapter, which names ``base`` as its base model."""
        folder.mkdir(parents=True)
        stated = {**PLAIN, "base_model_name_or_path": str(base), **self.config}
        (folder / "adapter_config.json").write_text(json.dumps(stated), "utf-8")
        case = CASES[self.base]
        tensors = {}
        flat = {**case.config, **case.config.get("text_config", {}), "vocab_size": 32}
        for name, shape in case.shapes(flat).items():
            for ending, rank in self.ranks.items():
                module = name.removesuffix(".weight")
                if module.endswith(ending):
                    down, up = (f"base_model.model.{module}.lora_{half}.weight" for half in "AB")
                    tensors[down] = random_tensor(down, (rank, shape[1]), self.dtype)
                    tensors[up] = random_tensor(up, (shape[0], rank), self.dtype)
        (folder / "adapter_model.safetensors").write_bytes(safetensors(tensors))


_ATTENTION = {"q_proj": 4, "k_proj": 4, "v_proj": 4, "o_proj": 4}
_ALL = {**_ATTENTION, "gate_proj": 4, "up_proj": 4, "down_proj": 4}

ADAPTERS: Mapping[str, AdapterCase] = {
    "lora-llama": AdapterCase("llama", _ALL, forms=("f32", "f16", "bf16")),
    "lora-llama-ranks": AdapterCase(
        "llama", {**_ATTENTION, "up_proj": 2}, "BF16", {"rank_pattern": {"up_proj": 2}}
    ),
    "lora-smollm3": AdapterCase("smollm3", _ATTENTION, "F16"),
    "lora-qwen2": AdapterCase("qwen2", _ALL, "BF16", forms=("f32", "bf16")),
    "lora-qwen3": AdapterCase("qwen3", _ALL),
    "lora-gemma3-vision": AdapterCase("gemma3-vision", {"q_proj": 4, "down_proj": 4}),
    "lora-minicpm": AdapterCase("minicpm", {"q_proj": 4, "k_proj": 4}),
    "lora-minicpm3": AdapterCase("minicpm3", {"q_a_proj": 4, "kv_b_proj": 4, "o_proj": 4}),
    "lora-bert": AdapterCase("bert", {"query": 4, "value": 4}),
    "lora-activated": AdapterCase("qwen3", {"q_proj": 4}, config={"alora_invocation_tokens": [3, 5, 7]}),
}
