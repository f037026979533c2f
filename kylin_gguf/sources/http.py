"""One file over HTTP into a folder, resuming where an earlier attempt stopped.

huggingface-hub's own downloader has thrown interrupted files away since version 2, hence this one.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2

from kylin_gguf.errors import NoSpace, SourceFailed
from kylin_gguf.records import Progress, ProgressCallback
from kylin_gguf.sources.base import CHUNK_BYTES, CancelCheck, check, require_space

CONNECT_SECONDS: Final = 8.0
_READ_SECONDS: Final = 15.0
_MAX_ATTEMPTS: Final = 10  # each must have brought new bytes to earn another
_REASON_LENGTH: Final = 160


@dataclass(frozen=True)
class Download:
    """A request for one file.

    ``size`` is the size to insist on, in bytes, or 0. ``pinned`` says that the caller verifies a hash
    afterwards: then two attempts may be joined even when the server gives no entity tag to prove that
    they are of the same file.
    """

    label: str
    url: str
    target: Path
    size: int = 0
    pinned: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def download(request: Download, progress: ProgressCallback, cancelled: CancelCheck) -> Path:
    """Fetch ``request.url`` to ``request.target`` and return that; raises as ``base.Fetch``.

    A redirect never leads from https to http.
    """
    partial = _Partial(request)
    try:
        with client_for(request.url, request.label) as client:
            for _ in range(_MAX_ATTEMPTS):
                before = partial.size()
                try:
                    _attempt(client, request, partial, progress, cancelled)
                    return partial.finish()
                except httpx2.TransportError:
                    if partial.size() <= before:
                        raise
        raise SourceFailed(request.label, f"the connection broke {_MAX_ATTEMPTS} times")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SourceFailed(request.label, reason(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(str(request.target.parent), max(request.size - partial.size(), 1), 0) from error
        raise SourceFailed(request.label, error.strerror or str(error)) from error


def client_for(url: str, label: str) -> httpx2.Client:
    """Return a client with our patience; a redirect from https to http is SourceFailed for ``label``."""
    timeout = httpx2.Timeout(_READ_SECONDS, connect=CONNECT_SECONDS)
    hooks: dict[str, list[Callable[..., None]]] = {}
    if url.startswith("https:"):
        hooks["request"] = [_RequireHttps(label)]
    return httpx2.Client(follow_redirects=True, timeout=timeout, event_hooks=hooks)


def reason(error: Exception) -> str:
    """Return in a few words why an HTTP request failed."""
    if isinstance(error, httpx2.HTTPStatusError):
        return refusal(error.response)
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    text = " ".join(str(error).split())[:_REASON_LENGTH] or type(error).__name__
    return f"cannot be reached: {text}" if isinstance(error, httpx2.ConnectError) else text


def refusal(response: httpx2.Response) -> str:
    """Return in a few words that the server refused."""
    return f"the server answered {response.status_code} {response.reason_phrase}".rstrip()


class _RequireHttps:
    """A request hook: httpx calls it for the first request and for each redirect."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __call__(self, request: httpx2.Request) -> None:
        if request.url.scheme != "https":
            raise SourceFailed(self._label, "it redirects to an address without encryption")


class _Partial:
    """The file while it grows, and beside it the entity tag (RFC 9110, 8.8.3) of what it is a part of."""

    def __init__(self, request: Download) -> None:
        self.path = request.target.with_name(request.target.name + ".part")
        self._tag_path = request.target.with_name(request.target.name + ".part.etag")
        self._request = request

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def tag(self) -> str:
        return self._tag_path.read_text("ascii", "replace") if self._tag_path.exists() else ""

    def resume_headers(self) -> dict[str, str]:
        """Return what to ask for: the rest, if it is sure to be the rest of the same file."""
        size, tag = self.size(), self.tag()
        if not size or not (tag or self._request.pinned):
            return {}
        return {"Range": f"bytes={size}-", **({"If-Range": tag} if tag else {})}

    def begin(self, tag: str) -> None:
        # A weak tag does not promise equal bytes, and If-Range refuses it.
        self._tag_path.write_text(tag if tag.startswith('"') and tag.isascii() else "", "ascii")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._tag_path.unlink(missing_ok=True)

    def finish(self) -> Path:
        self._tag_path.unlink(missing_ok=True)
        return self.path.replace(self._request.target)


def _attempt(
    client: httpx2.Client,
    request: Download,
    partial: _Partial,
    progress: ProgressCallback,
    cancelled: CancelCheck,
) -> None:
    """Bring the partial file to its full size, or raise httpx2.TransportError with what has arrived kept."""
    check(cancelled)
    if request.size and partial.size() == request.size:
        return
    headers = {**request.headers, "Accept-Encoding": "identity", **partial.resume_headers()}
    with client.stream("GET", request.url, headers=headers) as response:
        if response.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
            partial.discard()
        response.raise_for_status()
        start, total = _extent(response, partial.size())
        if request.size and total and total != request.size:
            raise SourceFailed(request.label, f"it offers {total} bytes, expected {request.size}")
        require_space(request.target.parent, total - start if total else request.size)
        if start == 0:
            partial.begin(response.headers.get("ETag", ""))
        with partial.path.open("r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            reported = start
            for chunk in response.iter_raw():
                check(cancelled)
                file.write(chunk)
                if request.size and file.tell() > request.size:
                    raise SourceFailed(request.label, f"it sends more than {request.size} bytes")
                if file.tell() - reported >= CHUNK_BYTES:
                    reported = file.tell()
                    progress(Progress(request.label, reported, total or request.size))
    expected = total or request.size
    if expected and partial.size() < expected:
        raise httpx2.RemoteProtocolError("the connection closed early")
    progress(Progress(request.label, partial.size(), expected))


def _extent(response: httpx2.Response, have: int) -> tuple[int, int]:
    """Return where the body starts within the file, and the file's size or 0."""
    if response.status_code == httpx2.codes.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != have:
            raise httpx2.RemoteProtocolError("the server sent another range than asked for")
        return have, 0 if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else 0
