"""What a loaded model is asked, and what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from kylin_gguf.records.conversation import Message


@dataclass(frozen=True)
class Usage:
    """What one request cost. ``first_token_s`` and ``total_s`` are seconds from its arrival in the worker."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_s: float
    total_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    queue_s: float
    """From its arrival until it had a place in the KV cache."""
    prefill_s: float
    """From then until its first token was drawn."""
    decode_s: float
    """From its first token to its end."""
    longest_gap_s: float
    """The longest time between two tokens drawn, waiting for a slow reader included."""
    guessed_tokens: int = 0
    """Tokens that were decoded because they might come (``engine.speculation``)."""
    accepted_tokens: int = 0
    """How many of these came."""
    energy_j: float | None = None
    """What the processor packages took from the place in the KV cache to the end, everything else that ran on
    them included; None where their meters cannot be read."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; rates and times rounded to what is meaningful, what is not known left out."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


@dataclass(frozen=True)
class StatesRequest:
    """Ask a model what it makes of each of ``texts`` as the user's turn that follows ``messages``.

    The answer has one row a text: the hidden state of the last token of the prompt. ``messages`` are computed
    once for all requests that share them.
    """

    messages: tuple[Message, ...]
    texts: tuple[str, ...]
    depth: float
    """Behind which layer: 0 to 1, the last."""
    background: bool = False
    """Whether everything else that the model is asked goes first."""
