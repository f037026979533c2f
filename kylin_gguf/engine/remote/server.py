"""Requests to one OpenAI-compatible server: what is sent, how long is waited, what a refusal means."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import httpx2

from kylin_gguf.engine.remote import chunks, token
from kylin_gguf.engine.remote.event_stream import EventReader
from kylin_gguf.engine.remote.unusable import Unusable
from kylin_gguf.errors import ContextFull, KylinError, RemoteFailed, RemoteUnreachable, UnsupportedModel
from kylin_gguf.records import RemoteModel

CONNECT_S = 10.0
SILENCE_S = 300.0
"""How long a server may say nothing: it may have others to answer first, and a long prompt to compute."""
MAX_BODY = 64 << 20
"""Bytes of one answer with all that is around its text."""
_MAX_REFUSAL = 1 << 16
_REASON_CHARS = 300
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
"""OpenAI's code and llama.cpp's type of the error that a prompt does not fit."""
_TOO_LONG_WORDS = "maximum context length"
"""vLLM has neither, and says so."""


class TooLong(Exception):
    """The server refused a prompt that does not fit; ``failure`` is the error for it."""

    def __init__(self, failure: KylinError) -> None:
        super().__init__()
        self.failure = failure


class Server:
    """One model of one server. Its token leaves this object for that server alone."""

    def __init__(self, model: RemoteModel) -> None:
        """Read the token; nothing is sent yet.

        Raises:
            ConfigError: as ``token.read``.
        """
        self.model = model
        self._token = token.read(model)
        headers = {"Accept-Encoding": "identity", "User-Agent": "kylin-gguf-engine"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S),
            # The token is for this server and no other.
            follow_redirects=False,
            # A proxy, or certificates beside the system's, are the environment's to name. Without encryption
            # it is this machine, and a proxy would read the token.
            trust_env=model.url.startswith("https:"),
        )

    def failed(self, reason: str) -> RemoteFailed:
        """Return the error that says why the server's answer is of no use."""
        return RemoteFailed(self.model.name, self.model.host, self._shown(reason))

    def _unreachable(self, reason: str) -> RemoteUnreachable:
        return RemoteUnreachable(self.model.name, self.model.host, self._shown(reason))

    def _shown(self, text: str) -> str:
        """Return a server's words for people: a server may repeat the token it was given, or steer a
        terminal."""
        if self._token:
            text = text.replace(self._token, "***")
        line = " ".join(text.split()).rstrip(".")
        return "".join(c for c in line if c.isprintable())[:_REASON_CHARS]

    async def events(self, body: Mapping[str, Any]) -> AsyncGenerator[chunks.Chunk, None]:
        """Ask for a chat completion and yield what comes of it, up to the server's word that it is done.

        Nothing is read ahead of the consumer by more than the connection's buffers. Closing the iterator
        closes the connection.

        Raises:
            RemoteUnreachable, RemoteFailed: the server, or what it sends.
            TooLong: the prompt does not fit.
        """
        async with self._posted("chat/completions", body) as response:
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise Unusable("something that is not a stream of events")
            async with contextlib.aclosing(_events(self._pieces(response))) as events:
                async for event in events:
                    if event.strip() == "[DONE]":
                        return
                    yield chunks.read(event)
            raise Unusable("an answer that breaks off")

    async def json(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the server answers to ``body`` at ``path``, a JSON object.

        Raises:
            RemoteUnreachable, RemoteFailed: the server, or what it sends.
            UnsupportedModel: it has nothing at ``path``.
        """
        async with self._posted(path, body) as response:
            async with asyncio.timeout(SILENCE_S):
                return chunks.parsed(b"".join([piece async for piece in self._pieces(response)]))

    @contextlib.asynccontextmanager
    async def _posted(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[httpx2.Response]:
        """Send ``body`` and yield a response that is none of a refusal; tell what goes wrong meanwhile."""
        content = json.dumps({"model": self.model.model, **body}).encode("ascii")
        headers = {"Content-Type": "application/json"}
        url = f"{self.model.url}/{path}"
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(SILENCE_S):  # httpx's own begins anew with each byte
                    stream = self._client.stream("POST", url, content=content, headers=headers)
                    response = await stack.enter_async_context(stream)
                    if response.status_code != httpx2.codes.OK:
                        raise await self._refusal(path, response)
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise Unusable("an encoding that was not asked for")
                yield response
        except Unusable as error:
            raise self.failed(f"it sent {error}") from error
        except (httpx2.TimeoutException, TimeoutError) as error:
            raise self._unreachable("it gave no answer in time") from error
        except httpx2.RemoteProtocolError as error:
            raise self.failed(str(error)) from error
        except (httpx2.RequestError, httpx2.InvalidURL, ssl.SSLError) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error

    async def _pieces(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        size = 0
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > MAX_BODY:
                raise Unusable(f"more than {MAX_BODY} bytes")
            yield piece

    async def _refusal(self, path: str, response: httpx2.Response) -> KylinError | TooLong:
        if response.is_redirect:
            return self.failed("it redirects, and its token must not go elsewhere")
        said = b""
        async for piece in response.aiter_raw():
            said += piece
            if len(said) > _MAX_REFUSAL:
                break
        try:
            value = chunks.parsed(said)
        except Unusable:
            value = {}
        reason = f"{response.status_code} {response.reason_phrase} {chunks.error_message(value)}"
        if path != "chat/completions" and response.status_code in (404, 405, 501):
            return UnsupportedModel(
                self.model.name, self._shown(f"{self.model.host} has no {path}: {reason}")
            )
        return self._too_long(value, reason) or self.failed(reason)

    def _too_long(self, value: Mapping[str, Any], reason: str) -> TooLong | None:
        error = value.get("error")
        if not isinstance(error, Mapping):
            return None
        known = error.get("code") in _TOO_LONG or error.get("type") in _TOO_LONG
        if not known and _TOO_LONG_WORDS not in chunks.error_message(value):
            return None
        with contextlib.suppress(Unusable):  # llama.cpp says by how much
            numbers = chunks.count(error.get("n_prompt_tokens")), chunks.count(error.get("n_ctx"))
            return TooLong(ContextFull(*numbers))
        return TooLong(self.failed(reason))


async def _events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """Yield the data of each event.

    Comments keep a connection alive, and are no answer: the time runs from event to event.
    """
    reader = EventReader()
    while True:
        found: list[str] = []
        async with asyncio.timeout(SILENCE_S):
            while not found:
                piece = await anext(pieces, None)
                if piece is None:
                    return
                found = reader.push(piece)
        for event in found:
            yield event
