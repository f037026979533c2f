"""LoRA adapters as PEFT saves them: read, and merged into the checkpoint while its tensors are read.

Format: https://huggingface.co/docs/peft/developer_guides/checkpoint. W becomes W + scale · B · A, computed in
F32, a tensor at a time.
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
    "layer_replication": None,
    "lora_bias": False,
    "modules_to_save": None,
    "trainable_token_indices": None,
    "use_dora": False,
}
# An adapter that only counts from certain tokens on ("activated"), which a merged one could not.
_INVOCATION = ("alora_invocation_tokens", "invocation_string")
_EMBEDDING = re.compile(r"\.lora_embedding_[AB]$")
# What a module's name is made of. A pattern with anything else is a regular expression.
_PLAIN_PATTERN = re.compile(r"[\w.]+")


@dataclass(frozen=True)
class Pair:
    """What is added to one matrix: ``alpha`` / rank times ``up`` (rows, rank) by ``down`` (rank, columns)."""

    down: StoredTensor
    up: StoredTensor
    alpha: float

    @property
    def scale(self) -> float:
        """What the product of the two is multiplied with."""
        return self.alpha / self.down.shape[0]


@dataclass(frozen=True)
class AdaptedTensor(StoredTensor):
    """A tensor of the base with what the adapter adds."""

    pair: Pair

    @property
    def precision(self) -> str:
        """F32: the sum is none of the types that the base is stored in."""
        return "F32"

    def map(self) -> Array:
        """Return the sum, as F32."""
        base = widen(super().map()).astype(np.float32)
        up, down = (widen(half.map()).astype(np.float32) for half in (self.pair.up, self.pair.down))
        base += np.float32(self.pair.scale) * (up @ down)
        return base


def is_adapter(folder: Path) -> bool:
    """Return whether ``folder`` holds an adapter and not a whole checkpoint."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_name(folder: Path) -> str:
    """Return the path or repository of the checkpoint that the adapter in ``folder`` belongs to.

    Raises:
        NotACheckpoint: it does not say; or as ``read_config``.
        BadCheckpoint: as ``read_config``.
    """
    match read_config(folder).values.get("base_model_name_or_path"):
        case str(name) if name:
            return name
        case _:
            raise NotACheckpoint(str(folder), f"its {CONFIG} names no base model")


def read_config(folder: Path) -> Config:
    """Return the configuration of the adapter in ``folder``.

    Raises:
        NotACheckpoint: it is another kind of adapter.
        BadCheckpoint: it changes more than pairs of matrices say.
    """
    match read_json(folder / CONFIG):
        case {"peft_type": "LORA"} as values:
            config = Config(str(folder), values, CONFIG)
        case {"peft_type": str(kind)}:
            raise NotACheckpoint(str(folder), f"it is an adapter of type {kind}; LORA is supported")
        case _:
            raise NotACheckpoint(str(folder), f"its {CONFIG} does not say what kind of adapter it is")
    for key, plain in _PLAIN.items():
        if config.values.get(key, plain) not in (plain, None):
            raise config.fail(key, f"is {config.values[key]!r}, which is not supported")
    return config


def merge(base: Checkpoint, folder: Path) -> Checkpoint:
    """Return ``base`` with the adapter of ``folder`` added to it; nothing is computed until tensors are read.

    Raises:
        BadCheckpoint: the adapter is malformed, changes more than its pairs of matrices say, or does not
            fit the base.
    """
    config = read_config(folder)
    for key in _INVOCATION:
        if config.values.get(key):
            raise config.fail(key, "is set: an adapter that waits for certain tokens cannot be merged")
    adapted = {}
    for name, pair in read_pairs(base, folder, config).items():
        stated = {field.name: getattr(base.tensors[name], field.name) for field in fields(StoredTensor)}
        adapted[name] = AdaptedTensor(**stated, pair=pair)
    return replace(base, tensors={**base.tensors, **adapted})


def read_pairs(base: Checkpoint, folder: Path, config: Config) -> dict[str, Pair]:
    """Return what the adapter of ``folder`` adds, by the names of ``base``'s tensors.

    Raises:
        BadCheckpoint: it is malformed, or does not fit the base.
    """
    result = {}
    for module, halves in _halves(folder).items():
        name = f"{module}.weight"
        if name not in base.tensors:
            raise BadCheckpoint(str(folder), f"it changes {name}, which the base model does not have")
        down, up = halves["A"], halves["B"]
        _check_fit(base.tensors[name], down, up)
        result[name] = Pair(down, up, _alpha(config, module, rank=down.shape[0]))
    return result


def _halves(folder: Path) -> Mapping[str, Mapping[str, StoredTensor]]:
    pairs: dict[str, dict[str, StoredTensor]] = {}
    stored = read_header(folder / WEIGHTS)
    if embeddings := [name for name in stored if _EMBEDDING.search(name)]:
        reason = f"it adapts embeddings, which is not supported: {listed(embeddings)}"
        raise BadCheckpoint(str(folder / WEIGHTS), reason)
    if unknown := [name for name in stored if not _NAME.fullmatch(name)]:
        raise BadCheckpoint(str(folder / WEIGHTS), f"tensors of no pair of matrices: {listed(unknown)}")
    for name, tensor in stored.items():
        found = _NAME.fullmatch(name)
        assert found is not None
        pairs.setdefault(found["module"], {})[found["half"]] = tensor
    if single := [module for module, halves in pairs.items() if len(halves) != len("AB")]:
        raise BadCheckpoint(str(folder / WEIGHTS), f"one of two matrices is missing: {listed(single)}")
    return pairs


def _check_fit(base: StoredTensor, down: StoredTensor, up: StoredTensor) -> None:
    matrices = all(tensor.is_float and len(tensor.shape) == 2 and all(tensor.shape) for tensor in (down, up))  # noqa: PLR2004
    if not matrices or base.shape != (up.shape[0], down.shape[1]):
        reason = f"matrices of shapes {up.shape} and {down.shape} do not fit {base.name}, {base.shape}"
        raise BadCheckpoint(str(down.path), reason)
    if up.shape[1] != down.shape[0]:
        raise BadCheckpoint(str(down.path), f"the two matrices for {base.name} have different ranks")


def _alpha(config: Config, module: str, rank: int) -> float:
    alpha = _of_module(config, "alpha_pattern", module) or config.number("lora_alpha", 8.0)
    # "Rank-stabilised": divided by the root of the rank instead.
    return alpha * math.sqrt(rank) if config.flag("use_rslora", False) else alpha


def _of_module(config: Config, key: str, module: str) -> float | None:
    """Return the number that a table of patterns gives for ``module``, as PEFT looks it up."""
    patterns = config.values.get(key) or {}
    if not isinstance(patterns, dict):
        raise config.fail(key, "is not an object")
    for pattern in patterns:
        if not _PLAIN_PATTERN.fullmatch(pattern):
            raise config.fail(key, f"has the regular expression '{pattern}', which is not supported")
        if module == pattern or module.endswith(f".{pattern}"):
            return Config(config.origin, patterns, CONFIG).number(pattern, 0.0)
    return None
