"""The part of the Manager interface by which sessions begin, and those that are kept are found again."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from kylin_gguf.bus import names
from kylin_gguf.bus.root import RootPart
from kylin_gguf.bus.session import SessionObject
from kylin_gguf.errors import AccessDenied, Busy

if TYPE_CHECKING:
    from kylin_gguf.sessions import Session


class SessionMethods(RootPart):
    """Create, list, open and delete sessions.

    An open session is its connection's own. One that is kept and that nobody has open is the user's: other
    users, whom a bus may let in, are turned away.
    """

    async def create_session(self, caller: str, options: dict[str, Any]) -> str:
        """Method CreateSession."""
        if options.get("keep"):
            await self._check_user(caller)
        return (await self._publish(caller, lambda: self._service.create_session(options))).path

    async def open_session(self, caller: str, session_id: str, options: dict[str, Any]) -> str:
        """Method OpenSession."""
        await self._check_user(caller)
        opened = self._opened(caller, session_id)
        if opened is not None:
            return opened.path
        return (await self._publish(caller, lambda: self._service.open_session(session_id, options))).path

    async def ask(self, caller: str, session_id: str, prompt: str, options: dict[str, Any]) -> str:
        """Method Ask."""
        await self._check_user(caller)
        self._opened(caller, session_id, alone=True)
        session = await self._publish(caller, lambda: self._service.open_session(session_id, {}), alone=True)
        try:
            return await session.complete(caller, prompt, options)
        finally:
            await session.close(caller)

    async def list_sessions(self, caller: str) -> list[dict[str, Any]]:
        """Method ListSessions."""
        await self._check_user(caller)
        owners = {session.kept_as: session.owner for session in self.registry.of_kind(SessionObject)}
        return [
            row | {"open": row["id"] in owners}
            for row in self._service.kept.listing()
            if owners.get(row["id"], caller) == caller
        ]

    async def delete_session(self, caller: str, session_id: str) -> None:
        """Method DeleteSession."""
        await self._check_user(caller)
        self._held(caller, session_id)
        self._service.kept.delete(session_id)

    async def _publish(
        self, caller: str, make: Callable[[], Awaitable[Session]], *, alone: bool = False
    ) -> SessionObject:
        await self.registry.adopt(caller)
        release = self.registry.hold(caller, "sessions", names.MAX_SESSIONS)
        try:
            session = await make()
            # another call may have been quicker
            opened = self._opened(caller, session.kept_as, alone=alone)
        except BaseException:
            release()
            raise
        if opened is not None:
            release()
            return opened
        switch_model = self._service.switch_model
        published = SessionObject(self.registry, caller, session, switch_model, release)
        published.alone = alone
        return self.registry.add(published)

    def _opened(self, caller: str, session_id: str, *, alone: bool = False) -> SessionObject | None:
        """Return as ``_held`` what the caller can share.

        Raises:
            AccessDenied: as ``_held``.
            Busy: a call wants it ``alone``, or has it.
        """
        session = self._held(caller, session_id)
        if session is not None and (alone or session.alone):
            raise Busy("holders of this session", 1)
        return session

    def _held(self, caller: str, session_id: str) -> SessionObject | None:
        """Return the caller's object for a kept session, if there is one.

        Raises:
            AccessDenied: another connection has it open.
        """
        for session in self.registry.of_kind(SessionObject):
            if session_id and session.kept_as == session_id:
                if session.owner != caller:
                    raise AccessDenied(session_id)
                return session
        return None

    async def _check_user(self, caller: str) -> None:
        if await self.registry.connection.user_of(caller) != os.getuid():
            raise AccessDenied("what belongs to this user")
