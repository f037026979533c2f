"""One piece of a streamed chat completion, checked: a server is not trusted to keep to the format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kylin_gguf.engine.remote.unusable import Unusable
from kylin_gguf.frames import Frame

_MAX_COUNT = 1_000_000_000
"""Tokens that a request can plausibly have."""
_MAX_TOKEN = 200
"""Characters of one token: a frame with many of them must stay small."""


@dataclass(frozen=True)
class Counts:
    """Tokens as the server counts them."""

    prompt: int
    cached: int
    completion: int


@dataclass(frozen=True)
class Chunk:
    """What one event brings. ``finish`` is the server's word for the end, empty before that."""

    text: str = ""
    reasoning: str = ""
    logprobs: tuple[Frame, ...] = ()
    finish: str = ""
    counts: Counts | None = None


def read(data: str) -> Chunk:
    """Read the data of one event.

    Raises:
        Unusable: it is no piece of a chat completion, or something that was not asked for.
    """
    value = parsed(data)
    if value.get("error"):
        raise Unusable(error_message(value) or "an error without a message")
    counts = _counts(value["usage"]) if value.get("usage") else None
    choices = value.get("choices")
    if not isinstance(choices, list):
        raise Unusable("an event that is no chat completion")
    if not choices:
        return Chunk(counts=counts)
    choice = _mapping(choices[0])
    delta = _mapping(choice.get("delta") or {})
    if delta.get("tool_calls") or delta.get("function_call"):
        raise Unusable("a call of a tool, and none was offered")
    return Chunk(
        text=_text(delta.get("content")),
        # DeepSeek's and llama.cpp's name for it, and vLLM's.
        reasoning=_text(delta.get("reasoning_content")) or _text(delta.get("reasoning")),
        logprobs=tuple(_logprobs(choice.get("logprobs"))),
        finish=_text(choice.get("finish_reason")),
        counts=counts,
    )


def parsed(data: str | bytes) -> Mapping[str, Any]:
    """Return the JSON object that ``data`` is; raises Unusable."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unusable("something that is not JSON") from error
    except MemoryError as error:
        raise Unusable("JSON that takes too much memory") from error
    return _mapping(value)


def error_message(value: Mapping[str, Any]) -> str:
    """Return what a server says went wrong, empty where it says nothing."""
    error = value.get("error")
    message = error.get("message") if isinstance(error, Mapping) else error
    return message if isinstance(message, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Unusable("JSON of another form than a chat completion's")
    return value


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable("JSON of another form than a chat completion's")
    # JSON can spell half a surrogate pair, which UTF-8 cannot.
    return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _counts(usage: object) -> Counts:
    found = _mapping(usage)
    details = found.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Counts(
        count(found.get("prompt_tokens")), count(cached or 0), count(found.get("completion_tokens"))
    )


def count(value: object) -> int:
    """Return a plausible number of tokens; raises Unusable."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        raise Unusable("a number of tokens that is none")
    return value


def _logprobs(value: object) -> list[Frame]:
    listed = value.get("content") if isinstance(value, Mapping) else None
    return [
        _entry(token) | {"top": [_entry(other) for other in _list(_mapping(token).get("top_logprobs"))]}
        for token in _list(listed)
    ]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _entry(token: object) -> Frame:
    found = _mapping(token)
    logprob = found.get("logprob")
    # Of one that is no number, such as NaN, no comparison is true.
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= 1:
        raise Unusable("a log-probability that is none")
    # As of a local model: minus infinity has no number in JSON.
    return {"text": _text(found.get("token"))[:_MAX_TOKEN], "logprob": round(float(max(logprob, -9999)), 4)}
