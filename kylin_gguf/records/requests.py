"""What a loaded model is asked, and what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from kylin_gguf.records.conversation import Message


@dataclass(frozen=True)
class Usage:
    """What one request cost. Times are seconds from the request's arrival in the worker."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_s: float
    total_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; rates and times rounded to what is meaningful."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class ScoreRequest:
    """Ask a model how well each of ``continuations`` follows ``messages`` as the assistant's turn.

    The KV cache of whatever prefix two consecutive requests share is kept, so put what stays the same
    first. Used by the actuator, which turns scores into a command.
    """

    messages: tuple[Message, ...]
    continuations: tuple[str, ...]
    standing: bool = False
    """Whether later requests begin like this one, also after a restart: then the prefix is kept on disk."""


@dataclass(frozen=True)
class Scores:
    """The answer to a ScoreRequest.

    ``logprobs[i]`` is the natural logarithm of the probability of ``continuations[i]`` among the given
    continuations only: at each branching node of their token trie the softmax is restricted to that
    node's children, and forced tokens cost nothing. So ``sum(exp(logprobs)) == 1``.
    """

    logprobs: tuple[float, ...]
    prefill_ms: float
    score_ms: float
