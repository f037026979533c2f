"""Session objects: one conversation of one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kylin_gguf.bus import names
from kylin_gguf.bus.dispatch import Reply
from kylin_gguf.bus.registry import Published, Registry
from kylin_gguf.bus.request import RequestObject
from kylin_gguf.errors import Cancelled
from kylin_gguf.records import Message

if TYPE_CHECKING:
    import socket

    from kylin_gguf.engine.generation import Generation
    from kylin_gguf.sessions import Session

DRAIN_BYTES = 1 << 16


class SessionObject(Published):
    """``org.openkylin.GgufEngine1.Session`` around a ``sessions.Session``."""

    interfaces = (names.SESSION,)

    def __init__(self, registry: Registry, owner: str, session: Session, release: Callable[[], None]) -> None:
        super().__init__(registry, registry.new_path("session"), owner)
        self._session = session
        self._release = release
        self._requests: list[RequestObject] = []

    async def generate(self, caller: str, options: dict[str, Any]) -> Reply:
        """Method Generate."""
        release = self._hold(caller)
        before = self._session.messages()
        try:
            generation = await self._session.generate(options)
        except BaseException:
            release()
            raise
        request = self.registry.add(RequestObject(self.registry, caller, generation, release))
        self._requests = [r for r in self._requests if not r.finished] + [request]

        def refused() -> None:
            self.registry.remove(request)
            generation.cancel()
            generation.finished.add_done_callback(lambda _: self._session.set_context(before))

        return Reply((request.path, 0), generation.stream, request.start, refused)

    async def complete(self, caller: str, prompt: str, options: dict[str, Any]) -> str:
        """Method Complete."""
        release = self._hold(caller)
        try:
            generation = await self._session.generate({**options, "prompt": prompt})
            return await _whole(generation)
        finally:
            release()

    async def messages(self, _: str) -> list[dict[str, str]]:
        """Method Messages."""
        return [message.to_json() for message in self._session.messages()]

    async def set_context(self, _: str, messages: list[dict[str, str]]) -> None:
        """Method SetContext."""
        self._session.set_context([Message.from_json(message) for message in messages])

    async def clear(self, _: str) -> None:
        """Method Clear."""
        self._session.clear()

    async def close(self, _: str) -> None:
        """Method Close."""
        self.registry.remove(self)
        await self.abandon()

    async def abandon(self) -> None:
        """Stop the session's requests and forget its messages."""
        self._release()
        for request in self._requests:
            await request.abandon()
        await self._session.close()

    async def get_model(self) -> str:
        """Property Model."""
        return self._session.model

    def _hold(self, caller: str) -> Callable[[], None]:
        return self.registry.hold(caller, "requests", names.MAX_RUNNING)


async def _whole(generation: Generation) -> str:
    """Return the text of the finished answer.

    Raises:
        KylinError: the answer's own error, or Cancelled.
    """
    try:
        # The frames are read only to keep the answer going: a full socket would pause it.
        await _drain(generation.stream)
        outcome = await asyncio.shield(generation.finished)
    except asyncio.CancelledError:
        generation.cancel()
        raise
    finally:
        generation.stream.close()
    if outcome.error is not None:
        raise outcome.error
    if outcome.reason == "cancelled":
        raise Cancelled
    return outcome.text


async def _drain(stream: socket.socket) -> None:
    stream.setblocking(False)
    while await asyncio.get_running_loop().sock_recv(stream, DRAIN_BYTES):
        pass
