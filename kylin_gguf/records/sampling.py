"""How the next token is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Self

from kylin_gguf import call_options
from kylin_gguf.errors import InvalidValue


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn; names and ranges as in llama.cpp's samplers.

    ``temperature`` 0 is greedy and exact. ``seed`` -1 draws a fresh one. ``grammar`` is GBNF, ``json_schema``
    a JSON text; at most one of them. ``logprobs`` -1 is none, 0 the drawn tokens' only, n the n likeliest
    tokens', too. ``thinking`` asks a reasoning model to think first; ``sentences`` for whole ones beside the
    text as it comes.
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repeat_penalty: float = 1.1
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    seed: int = -1
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    grammar: str = ""
    json_schema: str = ""
    logprobs: int = -1
    thinking: bool = False
    sentences: bool = False
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """The names of those that were asked for; the others have our defaults."""

    _RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {
        "temperature": (0.0, 5.0),
        "top_k": (0, 1_000_000),
        "top_p": (0.0, 1.0),
        "min_p": (0.0, 1.0),
        "typical_p": (0.0, 1.0),
        "xtc_probability": (0.0, 1.0),
        "xtc_threshold": (0.0, 1.0),
        "repeat_penalty": (0.1, 10.0),
        "repeat_last_n": (0, 65_536),
        "presence_penalty": (-2.0, 2.0),
        "frequency_penalty": (-2.0, 2.0),
        "dry_multiplier": (0.0, 10.0),
        "dry_base": (1.0, 10.0),
        "dry_allowed_length": (0, 1_000),
        "dry_penalty_last_n": (0, 65_536),
        "seed": (-1, 2**32 - 1),
        "max_tokens": (1, 1_000_000),
        "logprobs": (-1, 20),
    }
    _TEXTS: ClassVar[Mapping[str, str]] = {
        "grammar": "a GBNF grammar as text",
        "json_schema": "a JSON schema as text",
    }

    _FLAGS: ClassVar[tuple[str, ...]] = ("thinking", "sentences")

    @classmethod
    @cache
    def names(cls) -> tuple[str, ...]:
        """Return the option names, in order."""
        return tuple(f.name for f in fields(cls) if f.name != "given")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from untrusted ``options``.

        Raises:
            UnknownOption: a name is not one of ours.
            InvalidValue: a value has the wrong type or range.
        """
        call_options.refuse_unknown(options, cls.names())
        values = {name: cls._checked(name, value) for name, value in options.items()}
        if values.get("grammar") and values.get("json_schema"):
            raise InvalidValue("json_schema", values["json_schema"][:80], "no grammar beside it")
        return cls(**values, given=frozenset(values))

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        if name in cls._TEXTS:
            if not isinstance(value, str):
                raise InvalidValue(name, repr(value)[:80], cls._TEXTS[name])
            return value
        if name in cls._FLAGS:
            if not isinstance(value, bool):
                raise InvalidValue(name, repr(value)[:80], "true or false")
            return value
        if name == "stop":
            if not isinstance(value, list | tuple) or not all(isinstance(s, str) and s for s in value):
                raise InvalidValue(name, repr(value)[:80], "a list of non-empty strings")
            return tuple(value)
        low, high = cls._RANGES[name]
        wanted = float if isinstance(low, float) else int
        if isinstance(value, bool) or not isinstance(value, int | wanted) or not low <= value <= high:
            raise InvalidValue(name, repr(value)[:80], f"a number from {low} to {high}")
        return wanted(value)

    def to_json(self) -> dict[str, Any]:
        """Return the options as a JSON object that ``from_options`` reads."""
        return {name: value for name, value in asdict(self).items() if name != "given"}

    def given_json(self) -> dict[str, Any]:
        """Return as ``to_json`` those that were asked for."""
        return {name: value for name, value in self.to_json().items() if name in self.given}
