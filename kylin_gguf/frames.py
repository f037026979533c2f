"""The frames of a token stream: one JSON object a line, as documented in docs/dbus-api.md.

A stream is any number of ``text``, ``reasoning``, ``logprobs``, ``sentence``, ``command``, ``confirm``,
``result``, ``question`` and ``notice`` frames, at most one ``usage``, at most one ``error``, and exactly one
``end``, which is last.
Readers skip frame types they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from kylin_gguf.errors import KylinError
from kylin_gguf.records import Usage

EndReason = Literal["stop", "length", "cancelled", "error"]
Frame = dict[str, Any]


def text(piece: str) -> Frame:
    """A piece of the answer: whole Unicode characters, never half of one."""
    return {"type": "text", "text": piece}


def sentence(whole: str) -> Frame:
    """A whole sentence of the answer, for speech."""
    return {"type": "sentence", "text": whole}


def reasoning(piece: str) -> Frame:
    """A piece of what the model thinks before it answers; not part of the answer."""
    return {"type": "reasoning", "text": piece}


def logprobs(tokens: Sequence[Frame]) -> Frame:
    """Log-probabilities of the tokens drawn since the last such frame: ``{"text", "logprob", "top"}`` each.

    ``top`` lists the likeliest tokens as ``{"text", "logprob"}``, best first. A logprob is the natural
    logarithm of the softmax over all raw logits, before penalties and temperature.
    """
    return {"type": "logprobs", "tokens": list(tokens)}


def command(interpretation: Mapping[str, Any]) -> Frame:
    """The command that the words stand for, as ``Interpret`` describes it."""
    return {"type": "command", **interpretation}


def confirm(text: str, seconds: float) -> Frame:
    """The command waits so many seconds for the user's yes; ``text`` asks for it."""
    return {"type": "confirm", "text": text, "seconds": seconds}


def result(outcome: Mapping[str, Any]) -> Frame:
    """What came of the command: ``status``, and ``value``, ``reason``, ``text`` and ``code`` if there are."""
    return {"type": "result", **outcome}


def question(text: str, readings: Sequence[Mapping[str, Any]]) -> Frame:
    """Two commands may be meant: ``{"command", "arguments", "confidence", "text"}`` each."""
    return {"type": "question", "text": text, "readings": [dict(one) for one in readings]}


def notice(code: str, fraction: float) -> Frame:
    """News that is not part of the answer: ``loading`` with the share done, 0 to 1."""
    return {"type": "notice", "code": code, "fraction": round(fraction, 3)}


def queued(position: int) -> Frame:
    """The request has to wait for others; position 1 is next."""
    return {"type": "notice", "code": "queued", "position": position}


def trimmed(messages: int) -> Frame:
    """News before an answer that the model gives without the oldest ``messages`` of the conversation."""
    return {"type": "notice", "code": "trimmed", "messages": messages}


def stepped_down(reason: str) -> Frame:
    """News that the model was loaded with less than planned, because of ``reason``, a sentence."""
    return {"type": "notice", "code": "stepped-down", "reason": reason}


def remote(host: str) -> Frame:
    """News before an answer that ``host`` gives and not this machine."""
    return {"type": "notice", "code": "remote", "host": host}


def usage(counts: Usage) -> Frame:
    """What the request cost."""
    return {"type": "usage", **counts.to_json()}


def error(failure: KylinError) -> Frame:
    """Why the stream ends early; an ``end`` with reason ``error`` follows."""
    return {"type": "error", "code": failure.code, "message": str(failure)}


def end(reason: EndReason) -> Frame:
    """The last frame of every stream."""
    return {"type": "end", "reason": reason}


def encode(frame: Frame) -> bytes:
    """Return the line that carries ``frame``, newline included."""
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode(chunks: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the frames of a byte stream read in arbitrary ``chunks``.

    Raises:
        ValueError: a complete line is not a JSON object.
    """
    pending = b""
    for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            frame = json.loads(line)
            if not isinstance(frame, dict):
                raise ValueError(f"frame is not an object: {line[:80]!r}")
            yield frame
