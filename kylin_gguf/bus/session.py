"""Session objects: one conversation of one connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from kylin_gguf.bus import names
from kylin_gguf.bus.dispatch import Reply
from kylin_gguf.bus.registry import Published, Registry
from kylin_gguf.bus.request import RequestObject
from kylin_gguf.bus.signal_feed import SignalFeed
from kylin_gguf.conversations import Conversation
from kylin_gguf.errors import Cancelled, InvalidValue
from kylin_gguf.records import Entry, RemoteModel

if TYPE_CHECKING:
    import socket

    from kylin_gguf.engine.generation import Generation
    from kylin_gguf.sessions import Session

DRAIN_BYTES = 1 << 16
MAX_ID_DIGITS = 15


class SessionObject(Published):
    """``org.openkylin.GgufEngine1.Session`` around a ``sessions.Session``."""

    interfaces = (names.SESSION,)

    def __init__(
        self,
        registry: Registry,
        owner: str,
        session: Session,
        switch_model: Callable[[Session, str], Awaitable[None]],
        release: Callable[[], None],
    ) -> None:
        super().__init__(registry, registry.new_path("session"), owner)
        self._session, self._switch_model = session, switch_model
        self._release = release
        self.alone = False
        """Whether it is there for one call, which closes it."""
        self._requests: list[RequestObject] = []

    async def generate(self, caller: str, options: dict[str, Any]) -> Reply:
        """Method Generate."""
        before = self._session.conversation.entries
        request, generation = await self._begin(caller, options)

        def refused() -> None:
            self.registry.remove(request)
            generation.cancel()
            generation.finished.add_done_callback(lambda _: self._session.set_context(before))

        return Reply((request.path, 0), generation.stream, request.start, refused)

    async def stream(self, caller: str, options: dict[str, Any]) -> Reply:
        """Method Stream."""
        request, generation = await self._begin(caller, options)
        return Reply((request.path,), sent=SignalFeed(request, generation.stream).start)

    async def _begin(self, caller: str, options: dict[str, Any]) -> tuple[RequestObject, Generation]:
        release = self._hold(caller)
        try:
            generation = await self._session.generate(options)
        except BaseException:
            release()
            raise
        request = self.registry.add(RequestObject(self.registry, caller, generation, release))
        self._requests = [r for r in self._requests if not r.finished] + [request]
        return request, generation

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
        return [_described(entry) for entry in self._session.conversation.entries]

    async def set_context(self, _: str, messages: list[dict[str, str]]) -> None:
        """Method SetContext."""
        self._session.set_context([_entry(message) for message in messages])

    async def select_context(self, _: str, ids: list[str]) -> None:
        """Method SelectContext."""
        self._session.select_context([_number(name) for name in ids])

    async def clear(self, _: str) -> None:
        """Method Clear."""
        self._session.clear()

    async def set_model(self, _: str, model: str) -> None:
        """Method SetModel."""
        before = await self._of_model()
        await self._switch_model(self._session, model)
        changed = {name: value for name, value in (await self._of_model()).items() if value != before[name]}
        if changed:
            self.registry.announce(self, names.SESSION, changed)

    async def _of_model(self) -> dict[str, str]:
        return {"Model": await self.get_model(), "Remote": await self.get_remote()}

    async def export(self, _: str) -> str:
        """Method Export."""
        document = self._session.conversation.to_json(self._session.model.name)
        return json.dumps(document, ensure_ascii=False)

    async def import_(self, _: str, document: str) -> None:
        """Method Import."""
        try:
            value = json.loads(document)
        except (ValueError, RecursionError) as error:
            raise InvalidValue("conversation", document[:40], "JSON, as Export returns it") from error
        self._session.replace(Conversation.from_json(value))

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
        return self._session.model.name

    async def get_remote(self) -> str:
        """Property Remote."""
        model = self._session.model
        return model.host if isinstance(model, RemoteModel) else ""

    async def get_kept_as(self) -> str:
        """Property KeptAs."""
        return self.kept_as

    @property
    def kept_as(self) -> str:
        """The id that the session is kept by; empty when it is not."""
        return self._session.kept_as

    def _hold(self, caller: str) -> Callable[[], None]:
        return self.registry.hold(caller, "requests", names.MAX_RUNNING)


def _described(entry: Entry) -> dict[str, str]:
    return {
        "id": str(entry.id),
        "role": entry.message.role,
        "content": entry.message.content,
        "counts": "true" if entry.counts else "false",
    }


def _entry(message: dict[str, str]) -> Entry:
    """Read what ``_described`` wrote; id and counts may be absent."""
    typed: dict[str, Any] = dict(message)
    if "id" in message:
        typed["id"] = _number(message["id"])
    if "counts" in message:
        typed["counts"] = {"true": True, "false": False}.get(message["counts"], message["counts"])
    return Entry.from_json(typed)


def _number(name: str) -> int:
    # int() reads more than digits, and other scripts' digits.
    if not (name.isascii() and name.isdecimal() and len(name) <= MAX_ID_DIGITS):
        raise InvalidValue("id", name[:80], "the id of a message, as Messages returns it")
    return int(name)


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
