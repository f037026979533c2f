"""Sampling options as an OpenAI-compatible server knows them."""

from __future__ import annotations

import json
from typing import Any

from kylin_gguf.errors import InvalidGrammar, UnknownOption
from kylin_gguf.records import SamplingOptions

_SAME = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
"""Options with their name and meaning there."""

KNOWN = (*_SAME, "seed", "max_tokens", "stop", "json_schema", "logprobs", "sentences")
"""Options that can be had. Sentences are cut here, all others are the server's to keep."""


def request_fields(options: SamplingOptions) -> dict[str, Any]:
    """Return ``options`` as fields of a request for a chat completion.

    What was not asked for is left to the server, except the length of an answer.

    Raises:
        UnknownOption: one that was asked for has no equivalent there.
        InvalidGrammar: the JSON schema is not JSON.
    """
    for name in sorted(options.given):
        if name not in KNOWN:
            raise UnknownOption(name, KNOWN)
    fields: dict[str, Any] = {name: getattr(options, name) for name in _SAME if name in options.given}
    fields["max_tokens"] = options.max_tokens
    if options.seed >= 0:
        fields["seed"] = options.seed
    if options.stop:
        fields["stop"] = list(options.stop)
    if options.json_schema:
        described = {"name": "answer", "strict": True, "schema": _schema(options.json_schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": described}
    if options.logprobs >= 0:
        fields["logprobs"] = True
        fields["top_logprobs"] = options.logprobs
    return fields


def _schema(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidGrammar(f"the JSON schema is not JSON: {error}") from error
