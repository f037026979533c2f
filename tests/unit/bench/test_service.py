"""What is read from the service's own streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from bench.service import read

USAGE = {
    "type": "usage",
    "prompt_tokens": 5,
    "cached_tokens": 0,
    "completion_tokens": 2,
    "prefill_tokens_per_s": 10.0,
    "decode_tokens_per_s": 4.0,
    "longest_gap_s": 0.25,
}


async def frames(usage: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    for frame in ({"type": "text", "text": "Hi"}, usage, {"type": "end", "reason": "stop"}):
        yield frame


@pytest.mark.parametrize(("told", "expected"), [({}, None), ({"energy_j": 12.5}, 12.5)])
async def test_energy_is_read_where_the_service_tells_it(
    told: dict[str, float], expected: float | None
) -> None:
    reply = await read(cast("Any", frames(USAGE | told)), 0.0)
    assert (reply.energy_j, reply.text, reply.completion_tokens) == (expected, "Hi", 2)
