"""LoRA adapters, merged into the checkpoint they were trained on while its tensors are read.

Format: what PEFT writes, https://huggingface.co/docs/peft/developer_guides/checkpoint. W becomes
W + scale · B · A, computed in F32, a tensor at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from kylin_convert.checkpoint import Checkpoint, listed, read_json
from kylin_convert.hyperparameters import Config
from kylin_convert.safetensors import Array, StoredTensor, read_header, widen
from kylin_gguf.errors import BadCheckpoint, NotACheckpoint

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight")
# What changes more than two matrices can say. Each is absent or has this value in a plain adapter.
_PLAIN: Mapping[str, Any] = {
    "bias": "none",
    "fan_in_fan_out": False,
    "lora_bias": False,
    "modules_to_save": None,
    "use_dora": False,
}


@dataclass(frozen=True)
class AdaptedTensor(StoredTensor):
    """A tensor of the base with what the adapter adds: ``scale`` times ``up`` (rows, rank) by ``down``."""

    down: StoredTensor
    up: StoredTensor
    scale: float

    @property
    def precision(self) -> str:
        """F32: the sum is none of the types that the base is stored in."""
        return "F32"

    def map(self) -> Array:
        """Return the sum, as F32."""
        base = widen(super().map()).astype(np.float32)
        up, down = (widen(half.map()).astype(np.float32) for half in (self.up, self.down))
        base += np.float32(self.scale) * (up @ down)
        return base


def is_adapter(folder: Path) -> bool:
    """Return whether ``folder`` holds an adapter and not a whole checkpoint."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_name(folder: Path) -> str:
    """Return the path or repository of the checkpoint that the adapter in ``folder`` belongs to.

    Raises:
        NotACheckpoint: it is another kind of adapter, or does not say.
    """
    match read_json(folder / CONFIG):
        case {"peft_type": "LORA", "base_model_name_or_path": str(name)} if name:
            return name
        case {"peft_type": str(kind)} if kind != "LORA":
            raise NotACheckpoint(str(folder), f"it is an adapter of type {kind}; LORA is supported")
        case _:
            raise NotACheckpoint(str(folder), f"its {CONFIG} names no base model")


def merge(base: Checkpoint, folder: Path) -> Checkpoint:
    """Return ``base`` with the adapter of ``folder`` added to it; nothing is computed until tensors are read.

    Raises:
        BadCheckpoint: the adapter is malformed, changes more than its pairs of matrices say, or does not
            fit the base.
    """
    config = Config(str(folder), read_json(folder / CONFIG))
    for key, plain in _PLAIN.items():
        if config.values.get(key, plain) not in (plain, None):
            raise BadCheckpoint(
                str(folder), f"{CONFIG}: {key} is {config.values[key]!r}, which is not supported"
            )
    tensors = dict(base.tensors)
    for module, halves in _pairs(folder).items():
        name = f"{module}.weight"
        if name not in tensors:
            raise BadCheckpoint(str(folder), f"it changes {name}, which the base model does not have")
        tensors[name] = _adapted(tensors[name], halves, _scale(config, module, halves["A"].shape[0]))
    return replace(base, tensors=tensors)


def _pairs(folder: Path) -> Mapping[str, Mapping[str, StoredTensor]]:
    pairs: dict[str, dict[str, StoredTensor]] = {}
    stored = read_header(folder / WEIGHTS)
    if unknown := [name for name in stored if not _NAME.fullmatch(name)]:
        raise BadCheckpoint(str(folder / WEIGHTS), f"tensors of no pair of matrices: {listed(unknown)}")
    for name, tensor in stored.items():
        found = _NAME.fullmatch(name)
        assert found is not None
        pairs.setdefault(found["module"], {})[found["half"]] = tensor
    if single := [module for module, halves in pairs.items() if len(halves) != len("AB")]:
        raise BadCheckpoint(str(folder / WEIGHTS), f"one of two matrices is missing: {listed(single)}")
    return pairs


def _adapted(base: StoredTensor, halves: Mapping[str, StoredTensor], scale: float) -> AdaptedTensor:
    down, up = halves["A"], halves["B"]
    if not (down.is_float and up.is_float) or base.shape != (*up.shape[:1], *down.shape[1:]):
        reason = f"matrices of shapes {up.shape} and {down.shape} do not fit {base.name}, {base.shape}"
        raise BadCheckpoint(str(down.path), reason)
    if len(up.shape) != len(base.shape) or up.shape[1:] != down.shape[:1]:
        raise BadCheckpoint(str(down.path), f"the two matrices for {base.name} have different ranks")
    stated = {field.name: getattr(base, field.name) for field in fields(StoredTensor)}
    return AdaptedTensor(**stated, down=down, up=up, scale=scale)


def _scale(config: Config, module: str, rank: int) -> float:
    alpha = _of_module(config, "alpha_pattern", module) or config.number("lora_alpha", 8.0)
    return alpha / (math.sqrt(rank) if config.flag("use_rslora", False) else rank)


def _of_module(config: Config, key: str, module: str) -> float | None:
    """Return the number that a table of patterns gives for ``module``, as PEFT looks it up."""
    patterns = config.values.get(key) or {}
    if not isinstance(patterns, dict):
        raise config.fail(key, "is not an object")
    for pattern, _ in patterns.items():
        if module == pattern or module.endswith(f".{pattern}"):
            return Config(config.origin, patterns).number(pattern, 0.0)
    return None
