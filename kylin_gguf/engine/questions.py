"""What the service asks of a worker, and the vectors that come back, as messages of their channel."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kylin_gguf.engine.channel import Payload
from kylin_gguf.records import Message, Overflow, SamplingOptions, StatesRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def answer(
    messages: Sequence[Message], options: SamplingOptions, overflow: Overflow, dropped: int, *, local: bool
) -> Payload:
    """Ask for the next message after ``messages``, on a stream that comes with this one. A server, which is
    asked where the model is not ``local``, has defaults of its own: it is sent only what was given."""
    return {
        "op": "generate",
        "fd": True,
        "messages": [message.to_json() for message in messages],
        "options": options.to_json() if local else options.given_json(),
        "overflow": overflow,
        "dropped": dropped,
    }


def embedding(texts: Sequence[str]) -> Payload:
    """Ask for one vector a text."""
    return {"op": "embed", "texts": list(texts)}


def states(request: StatesRequest) -> Payload:
    """Ask for one hidden state a text."""
    return {
        "op": "states",
        "messages": [message.to_json() for message in request.messages],
        "texts": list(request.texts),
        "depth": request.depth,
        "background": request.background,
    }


def vectors(answered: Payload) -> NDArray[np.float32]:
    """Return what came back, one vector a row."""
    import numpy as np  # noqa: PLC0415 - a third of the memory of a service that nobody uses

    return np.frombuffer(base64.b64decode(answered["vectors"]), np.float32).reshape(answered["shape"])
