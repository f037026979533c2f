"""The numbers of a checkpoint's config.json that GGUF metadata and tensor shapes follow from.

Published configurations leave out what transformers fills in, so the same defaults are filled in here; they
are those of transformers' LlamaConfig, Qwen2Config and Qwen3Config, which agree on all but ``head_dim`` and
the context length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kylin_gguf.errors import BadCheckpoint

_MAX = (1 << 31) - 1
_MAX_LAYERS = 1024
_ROPE_TYPES = ("default", "linear", "yarn", "llama3", "dynamic")


class Config:
    """config.json with checked access. Every method raises BadCheckpoint naming the key."""

    def __init__(self, origin: str, values: Mapping[str, Any]) -> None:
        self.origin = origin
        self.values = values

    def fail(self, key: str, reason: str) -> BadCheckpoint:
        """Return the error that says what is wrong with ``key``."""
        return BadCheckpoint(self.origin, f"config.json: {key} {reason}")

    def integer(self, key: str, default: int | None = None, limit: int = _MAX) -> int:
        """Return a positive integer of at most ``limit``."""
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.fail(key, "is missing")
        if type(value) is not int or not 0 < value <= limit:
            raise self.fail(key, f"is {value!r}, not an integer from 1 to {limit}")
        return value

    def number(self, key: str, default: float) -> float:
        """Return a positive finite number."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.fail(key, f"is {value!r}, not a positive number")
        return value

    def optional_number(self, key: str) -> float | None:
        """Return a positive finite number, or None where the key is absent."""
        return None if self.values.get(key) is None else self.number(key, 0.0)

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, f"is {value!r}, not true or false")
        return value


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding: ``kind`` is transformers' rope_type, ``scaling`` its other parameters."""

    theta: float
    kind: str
    scaling: Config

    @classmethod
    def parse(cls, config: Config, context_length: int) -> Rope:
        """Read ``rope_parameters`` or the older ``rope_scaling`` with ``rope_theta`` beside it.

        Raises:
            BadCheckpoint: malformed, or a scaling that GGUF metadata of these families cannot express.
        """
        values = config.values.get("rope_parameters") or config.values.get("rope_scaling") or {}
        if not isinstance(values, dict):
            raise config.fail("rope_scaling", "is not an object")
        values = {"original_max_position_embeddings": context_length, **values}
        scaling = Config(config.origin, values)
        kind = values.get("rope_type", values.get("type", "default"))
        if kind not in _ROPE_TYPES:
            raise config.fail("rope_type", f"is {kind!r}; supported: {', '.join(_ROPE_TYPES)}")
        theta = scaling.number("rope_theta", config.number("rope_theta", 10_000.0))
        return cls(theta, kind, scaling)


@dataclass(frozen=True)
class Hyperparameters:
    """Sizes in elements."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_length: int
    rms_eps: float
    tied_embeddings: bool
    rope: Rope

    @classmethod
    def parse(cls, config: Config, *, context_length: int, head_dim: int | None = None) -> Hyperparameters:
        """Read the keys that all Llama-like families share.

        ``context_length`` and ``head_dim`` are the family's defaults; without a ``head_dim`` it is the
        hidden size divided by the number of heads.

        Raises:
            BadCheckpoint: a key is missing, malformed or contradicts another.
        """
        hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
        kv_heads = config.integer("num_key_value_heads", heads)
        if heads % kv_heads:
            raise config.fail("num_attention_heads", f"is not a multiple of num_key_value_heads, {kv_heads}")
        if config.values.get("hidden_act", "silu") != "silu":
            raise config.fail("hidden_act", "is not silu")
        if head_dim is None and config.values.get("head_dim") is None and hidden % heads:
            raise config.fail("hidden_size", f"({hidden}) is not a multiple of {heads} attention heads")
        size = config.integer("head_dim", head_dim or hidden // heads)
        if size % 2:
            raise config.fail("head_dim", f"is {size}; rotary embedding needs an even one")
        context = config.integer("max_position_embeddings", context_length)
        return cls(
            vocab_size=config.integer("vocab_size"),
            hidden_size=hidden,
            intermediate_size=config.integer("intermediate_size"),
            layers=config.integer("num_hidden_layers", limit=_MAX_LAYERS),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=size,
            context_length=context,
            rms_eps=config.number("rms_norm_eps", 1e-6),
            tied_embeddings=config.flag("tie_word_embeddings", False),
            rope=Rope.parse(config, context),
        )
