"""One conversation: messages in order, each with an id, and which of them the next answer is given from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from kylin_gguf.errors import ConversationTooLong, InvalidValue
from kylin_gguf.records import Entry, Message

FORMAT = "kylin-gguf-conversation"
VERSION = 1
MAX_CHARS = 2_000_000
"""Characters of all messages together: far above any context."""
MAX_MESSAGES = 10_000
_DOCUMENT_KEYS = {"format", "version", "model", "next_id", "messages"}


class Conversation:
    """Messages in order. A system message can only be the first, and always counts."""

    def __init__(self, entries: Iterable[Entry] = (), next_id: int = 1) -> None:
        """Take ``entries`` over; those without an id get one from ``next_id`` on, or from the largest on.

        Raises:
            InvalidValue: two have the same id, or a system message is not the first.
            ConversationTooLong: there are more than MAX_MESSAGES, or they have more than MAX_CHARS.
        """
        given = list(entries)
        if any(entry.message.role == "system" for entry in given[1:]):
            raise InvalidValue("messages", "a later system message", "a system message in first place only")
        numbers = [entry.id for entry in given if entry.id]
        if len(set(numbers)) < len(numbers):
            raise InvalidValue("messages", "the same id twice", "ids that differ")
        self._next_id = max(next_id, max(numbers, default=0) + 1)
        self._entries: list[Entry] = []
        self._extend(given)
        self.check_room(0)

    @classmethod
    def beginning_with(cls, system: str) -> Self:
        """Return a conversation of the system message alone, or an empty one."""
        return cls([Entry(Message("system", system))] if system else [])

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every message, in order."""
        return tuple(self._entries)

    def context(self) -> list[Message]:
        """Return the messages that count, in order."""
        return [entry.message for entry in self._entries if entry.counts]

    def title(self, length: int = 80) -> str:
        """Return the beginning of what the user said first; empty before that."""
        said = next((e.message.content for e in self._entries if e.message.role == "user"), "")
        return " ".join(said.split())[:length]

    def check_room(self, more: int) -> None:
        """Raise ConversationTooLong unless ``more`` characters and another turn fit."""
        length = sum(len(entry.message.content) for entry in self._entries) + more
        if length > MAX_CHARS or len(self._entries) > MAX_MESSAGES:
            raise ConversationTooLong(len(self._entries), length, MAX_MESSAGES, MAX_CHARS)

    def add(self, *messages: Message) -> None:
        """Append messages, which count."""
        self._extend(Entry(message) for message in messages)

    def _extend(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            counts = entry.counts or entry.message.role == "system"
            self._entries.append(replace(entry, id=entry.id or self._next_id, counts=counts))
            self._next_id += not entry.id

    def select(self, ids: Collection[int]) -> None:
        """Let the messages with these ids count and no others, except the system message.

        Raises:
            InvalidValue: there is no message with such an id; nothing has changed.
        """
        wanted = set(ids)
        unknown = wanted - {entry.id for entry in self._entries}
        if unknown:
            raise InvalidValue("ids", str(min(unknown)), "ids of messages of this session")
        self._entries = [
            replace(entry, counts=entry.id in wanted or entry.message.role == "system")
            for entry in self._entries
        ]

    def cleared(self) -> Self:
        """Return a conversation of the system message alone; ids are not used again."""
        return type(self)([e for e in self._entries if e.message.role == "system"], self._next_id)

    def replaced(self, entries: Sequence[Entry]) -> Self:
        """Return a conversation of ``entries``, raising as the constructor; new ids are not used again."""
        return type(self)(entries, self._next_id)

    # --- JSON ---------------------------------------------------------------------------------------

    def to_json(self, model: str) -> dict[str, Any]:
        """Return the JSON object that ``from_json`` reads; ``model`` is a note of who answered."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": model,
            "next_id": self._next_id,
            "messages": [entry.to_json() for entry in self._entries],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Rebuild from ``to_json``.

        Raises:
            InvalidValue: it is another format, or of a newer version.
            ConversationTooLong: as the constructor.
        """
        if not isinstance(value, Mapping) or value.get("format") != FORMAT:
            raise InvalidValue("conversation", str(value)[:80], f"an object with the format {FORMAT}")
        if value.get("version") != VERSION or not set(value) <= _DOCUMENT_KEYS:
            raise InvalidValue("conversation", f"version {value.get('version')!r}"[:80], f"version {VERSION}")
        messages, next_id = value.get("messages"), value.get("next_id", 1)
        if not isinstance(messages, list):
            raise InvalidValue("messages", str(messages)[:80], "a list of messages")
        if isinstance(next_id, bool) or not isinstance(next_id, int) or not 0 < next_id < 1 << 53:
            raise InvalidValue("next_id", str(next_id)[:80], "the number of the next message")
        return cls(map(Entry.from_json, messages), next_id)
