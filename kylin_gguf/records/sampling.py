"""How the next token is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from kylin_gguf.errors import InvalidValue, UnknownOption


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn; names and ranges as in llama.cpp's samplers.

    ``temperature`` 0 is greedy and exact. ``seed`` -1 draws a fresh one. ``grammar`` is GBNF.
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.1
    repeat_last_n: int = 64
    seed: int = -1
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    grammar: str = ""

    _RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {
        "temperature": (0.0, 5.0),
        "top_k": (0, 1_000_000),
        "top_p": (0.0, 1.0),
        "min_p": (0.0, 1.0),
        "repeat_penalty": (0.1, 10.0),
        "repeat_last_n": (0, 65_536),
        "seed": (-1, 2**32 - 1),
        "max_tokens": (1, 1_000_000),
    }

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the option names, in order."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from untrusted ``options``.

        Raises:
            UnknownOption: a name is not one of ours.
            InvalidValue: a value has the wrong type or range.
        """
        values = {name: cls._checked(name, value) for name, value in options.items()}
        return cls(**values)

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        if name not in cls.names():
            raise UnknownOption(name, cls.names())
        if name == "grammar":
            if not isinstance(value, str):
                raise InvalidValue(name, repr(value), "a GBNF grammar as text")
            return value
        if name == "stop":
            if not isinstance(value, list | tuple) or not all(isinstance(s, str) and s for s in value):
                raise InvalidValue(name, repr(value), "a list of non-empty strings")
            return tuple(value)
        low, high = cls._RANGES[name]
        wanted = float if isinstance(low, float) else int
        if isinstance(value, bool) or not isinstance(value, int | wanted) or not low <= value <= high:
            raise InvalidValue(name, repr(value), f"a number from {low} to {high}")
        return wanted(value)

    def to_json(self) -> dict[str, Any]:
        """Return the options as a JSON object that ``from_options`` reads."""
        return asdict(self)
