"""Who said what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from kylin_gguf.errors import InvalidValue

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

Overflow = Literal["trim", "refuse"]
"""What happens to a conversation that does not fit the context: its oldest turns are left out, or it is an
error."""
OVERFLOWS: tuple[Overflow, ...] = ("trim", "refuse")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; a tool's is what carrying out a call of the assistant gave."""

    role: Role
    content: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read ``{"role", "content"}``; raises InvalidValue for anything else."""
        role, content = value.get("role"), value.get("content")
        if role not in ROLES or not isinstance(content, str) or len(value) != 2:  # noqa: PLR2004
            raise InvalidValue(
                "message", str(dict(value))[:80], "role (system, user, assistant or tool) and content"
            )
        return cls(role, content)

    def to_json(self) -> dict[str, str]:
        """Return the JSON object that ``from_json`` reads."""
        return {"role": self.role, "content": self.content}


_ENTRY_KEYS = {"id", "role", "content", "counts"}
_MAX_ID = 1 << 53
"""From here on not every number is exact in the JSON of other languages."""


@dataclass(frozen=True)
class Entry:
    """A message of a conversation. ``id`` is positive, and 0 for one that has none yet."""

    message: Message
    id: int = 0
    counts: bool = True
    """Whether answers are given from it."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read ``{"role", "content"}`` with, if given, ``id`` and ``counts``.

        Raises:
            InvalidValue: it is anything else.
        """
        if not isinstance(value, Mapping) or not set(value) <= _ENTRY_KEYS:
            raise InvalidValue("message", str(value)[:80], "role, content, and perhaps id and counts")
        message = Message.from_json({key: value[key] for key in ("role", "content") if key in value})
        if not _is_text(message.content):
            raise InvalidValue("content", ascii(message.content)[:80], "text that has a form in UTF-8")
        number, counts = value.get("id", 0), value.get("counts", True)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < _MAX_ID:
            raise InvalidValue("id", str(number)[:80], "the number of a message")
        if not isinstance(counts, bool):
            raise InvalidValue("counts", str(counts)[:80], "true or false")
        return cls(message, number, counts)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that ``from_json`` reads."""
        return {"id": self.id, **self.message.to_json(), "counts": self.counts}


def _is_text(content: str) -> bool:
    """JSON can write half a surrogate pair, which neither SQLite nor D-Bus can take."""
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True
