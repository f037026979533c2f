"""Who carries a command out, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from kylin_gguf.errors import InvalidValue

Status = Literal["done", "unavailable", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
ResultValue = bool | int | float | str
MAX_RESULT_TEXT = 1000
"""Longest text of a result, in characters: it is spoken."""


@dataclass(frozen=True)
class ExecutorAddress:
    """Where an executor is on the session bus: a name and an object path."""

    name: str
    path: str


ADAPTER = ExecutorAddress("org.openkylin.GgufActuator1", "/org/openkylin/GgufActuator1")
"""Who carries out the commands that come with the desktop: ``kylin-gguf actuator``."""


@dataclass(frozen=True)
class Execution:
    """What came of a command.

    ``done``: carried out. ``unavailable``: nothing on this desktop can; nothing was changed. ``failed``: it
    was tried. ``value`` is what was asked for, or a relative change's new value. ``reason`` is technical and
    in English; ``text`` is what to tell the user, by language (``zh``, ``en``), where the executor knows
    better words than the catalogue.
    """

    status: Status
    value: ResultValue | None = None
    reason: str = ""
    text: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the object that an executor answered with; keys it may not have are ignored.

        Raises:
            InvalidValue: a key has a wrong type or value.
        """
        status, found = value.get("status"), value.get("value")
        reason, text = value.get("reason", ""), value.get("text", {})
        if status not in STATUSES:
            raise InvalidValue("status", str(status)[:80], " or ".join(STATUSES))
        if not (found is None or isinstance(found, bool | int | float | str)):
            raise InvalidValue("value", str(found)[:80], "a number, a text or a boolean")
        if not isinstance(text, Mapping):
            raise InvalidValue("text", str(text)[:80], "texts by language")
        for name, said in (("value", found), ("reason", reason), *text.items()):
            if name in ("reason", *text) and not isinstance(said, str):
                raise InvalidValue(str(name), str(said)[:80], "a text")
            if isinstance(said, str) and len(said) > MAX_RESULT_TEXT:
                raise InvalidValue(str(name), f"{said[:20]}…", f"at most {MAX_RESULT_TEXT} characters")
        return cls(status, found, reason, dict(text))

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``from_json`` reads; what is empty is left out."""
        values = {"status": self.status, "value": self.value, "reason": self.reason, "text": dict(self.text)}
        return {key: value for key, value in values.items() if value not in (None, "", {})}
