"""Sessions that are kept: their conversations are written down whenever they change."""

from __future__ import annotations

import logging
import secrets
from typing import Any
from weakref import WeakValueDictionary

from kylin_gguf.conversations import Database, Kept
from kylin_gguf.errors import KeptSessionsUnusable
from kylin_gguf.sessions import Session

log = logging.getLogger(__name__)

_ID_BYTES = 16


class KeptSessions:
    """The kept sessions of one user. Methods raise as those of ``Database``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: WeakValueDictionary[str, Session] = WeakValueDictionary()

    def keep(self, session: Session) -> None:
        """Keep ``session`` from now on."""
        session.kept_as = secrets.token_hex(_ID_BYTES)
        self._database.add(_kept(session))
        self.attach(session, session.kept_as)

    def attach(self, session: Session, session_id: str) -> None:
        """Write down what becomes of ``session``, which goes on with a kept conversation."""
        session.kept_as = session_id
        session.on_change = lambda: self._save(session)
        self._open[session_id] = session

    def get(self, session_id: str) -> Kept:
        """Return a kept conversation."""
        return self._database.get(session_id)

    def listing(self) -> list[dict[str, Any]]:
        """Return what ``Database.listing`` does."""
        return self._database.listing()

    def delete(self, session_id: str) -> None:
        """Delete a kept conversation; a session that has it open goes on without being kept."""
        self._database.delete(session_id)
        if session_id in self._open:
            _detach(self._open[session_id])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _save(self, session: Session) -> None:
        """A turn is not lost to its client because the disk is full, so this tells the log alone."""
        try:
            if not self._database.update(_kept(session)):  # another service has deleted it
                _detach(session)
        except KeptSessionsUnusable as error:
            log.error("%s", error.statement())


def _detach(session: Session) -> None:
    session.kept_as = ""
    session.on_change = lambda: None


def _kept(session: Session) -> Kept:
    return Kept(
        session.kept_as, session.model.name, session.model.reference, session.overflow, session.conversation
    )
