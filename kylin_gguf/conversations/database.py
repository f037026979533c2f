"""Conversations that outlive the service: one SQLite database, which only its user can read.

Written in write-ahead mode without waiting for the disk: what was committed survives the end of this process
in any way, and a power failure costs at most the last turns, never the database. So a call takes well below
a millisecond and may be made on the event loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kylin_gguf.conversations.conversation import Conversation
from kylin_gguf.errors import Busy, KeptSessionsUnusable, KylinError, UnknownKeptSession
from kylin_gguf.records import Overflow

SCHEMA_VERSION = 1
MAX_KEPT = 1000
"""Conversations in one database."""
LOCK_TIMEOUT_S = 1.0
"""Another service of the same user, on another bus, may be writing."""
_SCHEMA = """
CREATE TABLE session (
    id TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    path TEXT NOT NULL,
    overflow TEXT NOT NULL,
    created REAL NOT NULL,
    changed REAL NOT NULL,
    title TEXT NOT NULL,
    messages INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT
"""


@dataclass(frozen=True)
class Kept:
    """A conversation as it is kept."""

    id: str
    model: str
    """The model's name, for people."""
    reference: str
    """What finds the model again."""
    overflow: Overflow
    conversation: Conversation


class Database:
    """The conversations of one user. Nothing is read or made on disk before the first call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def add(self, kept: Kept) -> None:
        """Begin to keep a conversation.

        Raises:
            Busy: MAX_KEPT are kept already.
            KeptSessionsUnusable: as every method here.
        """
        with self._open() as connection, connection:
            (count,) = connection.execute("SELECT count(*) FROM session").fetchone()
            if count >= MAX_KEPT:
                raise Busy("kept sessions", MAX_KEPT)
            now = time.time()
            connection.execute(
                "INSERT INTO session (id, created, changed, model, path, overflow, title, messages, document)"
                " VALUES (:id, :now, :now, :model, :path, :overflow, :title, :messages, :document)",
                _row(kept, now),
            )

    def update(self, kept: Kept) -> bool:
        """Write what a conversation has become; False when it has been deleted meanwhile."""
        with self._open() as connection, connection:
            changed = connection.execute(
                "UPDATE session SET changed = :now, model = :model, path = :path, overflow = :overflow,"
                " title = :title, messages = :messages, document = :document WHERE id = :id",
                _row(kept, time.time()),
            )
            return changed.rowcount > 0

    def get(self, session_id: str) -> Kept:
        """Return a conversation.

        Raises:
            UnknownKeptSession: there is none with this id.
        """
        with self._open() as connection:
            found = connection.execute(
                "SELECT model, path, overflow, document FROM session WHERE id = ?", (session_id,)
            ).fetchone()
        if found is None:
            raise UnknownKeptSession(session_id)
        model, path, overflow, document = found
        try:
            conversation = Conversation.from_json(json.loads(document))
        except (ValueError, KylinError) as error:  # not written by us, or by a newer version
            raise KeptSessionsUnusable(str(self._path), str(error)) from error
        return Kept(session_id, model, path, overflow, conversation)

    def listing(self) -> list[dict[str, Any]]:
        """Return ``id``, ``title``, ``model``, ``messages`` (their number), ``created`` and ``changed``
        (seconds since 1970) of every conversation, the one changed last first."""
        keys = ("id", "title", "model", "messages", "created", "changed")
        with self._open() as connection:
            rows = connection.execute(f"SELECT {', '.join(keys)} FROM session ORDER BY changed DESC, id")
            return [dict(zip(keys, row, strict=True)) for row in rows]

    def delete(self, session_id: str) -> None:
        """Delete a conversation, also from the free pages of the file.

        Raises:
            UnknownKeptSession: there is none with this id.
        """
        with self._open() as connection:
            with connection:
                gone = connection.execute("DELETE FROM session WHERE id = ?", (session_id,)).rowcount
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if not gone:
            raise UnknownKeptSession(session_id)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection = self._connection or _connected(self._path)
            yield self._connection
        except (OSError, sqlite3.Error) as error:
            raise KeptSessionsUnusable(str(self._path), str(error)) from error


def _connected(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    # SQLite gives its journals the permissions of the database, which it would make readable for all.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S)
    try:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"its format {version} is of a newer version of the service")
    except BaseException:
        connection.close()
        raise
    return connection


def _row(kept: Kept, now: float) -> dict[str, Any]:
    return {
        "id": kept.id,
        "now": now,
        "model": kept.model,
        "path": kept.reference,
        "overflow": kept.overflow,
        "title": kept.conversation.title(),
        "messages": len(kept.conversation.entries),
        "document": json.dumps(kept.conversation.to_json(kept.model), ensure_ascii=False),
    }
