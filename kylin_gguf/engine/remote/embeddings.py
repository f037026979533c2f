"""Vectors of texts from a server."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

from kylin_gguf.engine.remote.server import Server

_MAX_WIDTH = 16384
_MAX_NUMBER = 1e30
"""Its square is still a float."""


async def make(server: Server, texts: Sequence[str]) -> tuple[tuple[int, int], bytes]:
    """Return the shape (texts, width) and the float32 numbers of one vector a text, each of length 1.

    Raises:
        RemoteUnreachable, RemoteFailed: the server, or what it sends.
        UnsupportedModel: the server makes no vectors.
    """
    value = await server.json("embeddings", {"input": list(texts), "encoding_format": "float"})
    rows = _in_order(value.get("data"), len(texts))
    if rows is None or len({len(row) for row in rows}) != 1:
        raise server.failed(f"it sent no {len(texts)} vectors of one width")
    numbers = array("f")
    for row in rows:
        length = math.sqrt(math.fsum(number * number for number in row))
        if not (length > 0 and math.isfinite(length)):
            raise server.failed("it sent a vector without a direction")
        numbers.extend(number / length for number in row)
    return (len(rows), len(rows[0])), numbers.tobytes()


def _in_order(data: object, count: int) -> list[list[float]] | None:
    """Return the vectors by their index; None if they are not just that."""
    if not isinstance(data, list) or len(data) != count:
        return None
    rows: dict[int, list[float]] = {}
    for item in data:
        index, vector = (item.get("index"), item.get("embedding")) if isinstance(item, dict) else (None, None)
        if not isinstance(index, int) or not isinstance(vector, list) or not _is_vector(vector):
            return None
        rows[index] = list(map(float, vector))
    return [rows[index] for index in range(count)] if set(rows) == set(range(count)) else None


def _is_vector(value: list[Any]) -> bool:
    numbers = all(isinstance(n, int | float) and abs(n) < _MAX_NUMBER for n in value)
    return numbers and 0 < len(value) <= _MAX_WIDTH
