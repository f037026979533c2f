"""The numbers of a decoder's config.json that GGUF metadata and tensor shapes follow from.

Published configurations leave out what transformers fills in, so the same defaults are filled in here. What
all of its configuration classes have in common is in ``Hyperparameters.parse``, the rest in ``Defaults``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kylin_gguf.errors import BadCheckpoint

_MAX = (1 << 31) - 1
_MAX_NUMBER = (2.0 - 2.0**-23) * 2.0**127
MAX_LAYERS = 1024
_ROPE_TYPES = ("default", "linear", "yarn", "llama3", "dynamic")
_ROPE_NAMES = {"su": "longrope"}


class Config:
    """``file``, config.json, with checked access. Every method raises BadCheckpoint naming the key."""

    def __init__(self, origin: str, values: Mapping[str, Any], file: str = "config.json") -> None:
        self.origin = origin
        self.values = values
        self.file = file

    def fail(self, key: str, reason: str) -> BadCheckpoint:
        """Return the error that says what is wrong with ``key``."""
        return BadCheckpoint(self.origin, f"{self.file}: {key} {reason}")

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
        """Return a positive number that F32 can hold, as GGUF stores them."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_NUMBER:
            raise self.fail(key, f"is {value!r}, not a positive number")
        return value

    def optional_number(self, key: str) -> float | None:
        """Return a positive finite number, or None where the key is absent."""
        return None if self.values.get(key) is None else self.number(key, 0.0)

    def required_number(self, key: str) -> float:
        """Return a positive finite number that must be there."""
        if self.values.get(key) is None:
            raise self.fail(key, "is missing")
        return self.number(key, 0.0)

    def numbers(self, key: str, count: int) -> list[float]:
        """Return a list of ``count`` positive finite numbers."""
        values = self.values.get(key)
        if not isinstance(values, list) or len(values) != count:
            raise self.fail(key, f"is not a list of {count} numbers")
        return [Config(self.origin, {key: value}).number(key, 0.0) for value in values]

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, f"is {value!r}, not true or false")
        return value


@dataclass(frozen=True)
class Defaults:
    """What transformers' configuration class of a family assumes where config.json is silent; None: nothing.

    ``kv_heads`` None means as many as there are heads, ``head_dim`` None the hidden size divided by them.
    ``rope_types`` are the ways of stretching the context that llama.cpp follows for the family.
    """

    context_length: int = 32_768
    head_dim: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    vocab_size: int | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None
    layers: int | None = None
    rms_eps: float = 1e-6
    tied_embeddings: bool = False
    activation: tuple[str, str] = ("hidden_act", "silu")
    rope_theta: float | None = 10_000.0
    rope_types: tuple[str, ...] = _ROPE_TYPES


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding: ``kind`` is transformers' rope_type, ``scaling`` its other parameters.

    ``theta`` is None where neither the configuration nor the family's defaults state it.
    """

    theta: float | None
    kind: str
    scaling: Config

    @classmethod
    def parse(cls, config: Config, context_length: int, defaults: Defaults) -> Rope:
        """Read ``rope_parameters`` or the older ``rope_scaling`` with ``rope_theta`` beside it.

        Raises:
            BadCheckpoint: malformed, or a scaling that GGUF metadata of the family cannot express.
        """
        values = config.values.get("rope_scaling") or config.values.get("rope_parameters") or {}
        if not isinstance(values, dict):
            raise config.fail("rope_scaling", "is not an object")
        original = config.values.get("original_max_position_embeddings")
        values = {"original_max_position_embeddings": context_length, **values}
        if original is not None:  # beside the others it wins, as in transformers
            values["original_max_position_embeddings"] = original
        if "attn_factor" in values:
            values.setdefault("attention_factor", values["attn_factor"])
        scaling = Config(config.origin, values)
        kind = values.get("rope_type", values.get("type", "default"))
        kind = _ROPE_NAMES.get(kind, kind) if isinstance(kind, str) else kind
        if kind not in defaults.rope_types:
            raise config.fail("rope_type", f"is {kind!r}; supported: {', '.join(defaults.rope_types)}")
        stated = scaling.optional_number("rope_theta") or config.optional_number("rope_theta")
        return cls(stated or defaults.rope_theta, kind, scaling)


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
    def parse(cls, config: Config, defaults: Defaults) -> Hyperparameters:
        """Read the keys that all Llama-like families share.

        Raises:
            BadCheckpoint: a key is missing, malformed or contradicts another.
        """
        hidden = config.integer("hidden_size", defaults.hidden_size)
        heads = config.integer("num_attention_heads", defaults.heads)
        kv_heads = config.integer("num_key_value_heads", defaults.kv_heads or heads)
        if heads % kv_heads:
            raise config.fail("num_attention_heads", f"is not a multiple of num_key_value_heads, {kv_heads}")
        key, activation = defaults.activation
        if config.values.get(key, activation) != activation:
            raise config.fail(key, f"is not {activation}")
        context = config.integer("max_position_embeddings", defaults.context_length)
        return cls(
            vocab_size=config.integer("vocab_size", defaults.vocab_size),
            hidden_size=hidden,
            intermediate_size=config.integer("intermediate_size", defaults.intermediate_size),
            layers=config.integer("num_hidden_layers", defaults.layers, limit=MAX_LAYERS),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=_head_dim(config, hidden, heads, defaults),
            context_length=context,
            rms_eps=config.number("rms_norm_eps", defaults.rms_eps),
            tied_embeddings=config.flag("tie_word_embeddings", defaults.tied_embeddings),
            rope=Rope.parse(config, context, defaults),
        )


def _head_dim(config: Config, hidden: int, heads: int, defaults: Defaults) -> int:
    if defaults.head_dim is None and config.values.get("head_dim") is None and hidden % heads:
        raise config.fail("hidden_size", f"({hidden}) is not a multiple of {heads} attention heads")
    size = config.integer("head_dim", defaults.head_dim or hidden // heads)
    if size % 2:
        raise config.fail("head_dim", f"is {size}; rotary embedding needs an even one")
    return size
