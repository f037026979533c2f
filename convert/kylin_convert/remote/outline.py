"""A checkpoint without its weights: enough to refuse or plan a conversion before gigabytes are downloaded.

Of each safetensors file only the header is fetched. It is written to a file of the true size, whose data the
file system does not store, so that everything but the weights is as it will be.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx2

from kylin_convert.remote.listing import RemoteFile
from kylin_convert.safetensors import LENGTH_BYTES, MAX_HEADER
from kylin_gguf.errors import SourceFailed
from kylin_gguf.sources import http

_GUESS = 1 << 17
"""Bytes that are asked for first; most headers are shorter."""


def sketch(label: str, file: RemoteFile, headers: Mapping[str, str], target: Path) -> None:
    """Write the outline of ``file`` to ``target``.

    Raises:
        SourceFailed: the hub does not deliver, or not a safetensors file.
    """
    try:
        with http.client_for(file.url, label) as client:
            start = _part(client, file, headers, _GUESS)
            length = LENGTH_BYTES + int.from_bytes(start[:LENGTH_BYTES], "little")
            if len(start) < LENGTH_BYTES or length > min(MAX_HEADER, file.size):
                raise SourceFailed(label, f"{file.name} is not a safetensors file")
            if len(start) < length:
                start = _part(client, file, headers, length)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SourceFailed(label, http.reason(error)) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as outline:
        outline.write(start[:length])
        outline.truncate(file.size)


def _part(client: httpx2.Client, file: RemoteFile, headers: Mapping[str, str], count: int) -> bytes:
    """Return the first ``count`` bytes; a server that knows no ranges is hung up on after them."""
    result = bytearray()
    with client.stream("GET", file.url, headers={**headers, "Range": f"bytes=0-{count - 1}"}) as response:
        response.raise_for_status()
        for chunk in response.iter_raw():
            result += chunk
            if len(result) >= count:
                break
    return bytes(result[:count])
