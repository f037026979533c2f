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
