"""Messages to tokens, without letting a message pretend to be a control token."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from kylin_gguf.chat_template import ChatTemplate
from kylin_gguf.engine.vocabulary import Vocabulary
from kylin_gguf.records import Message

# Private-use characters stand for a suspicious message while the template runs; no text has a reason to
# contain this pair, and one that does is treated as suspicious itself.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_PLACEHOLDER = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


def encode_prompt(
    vocabulary: Vocabulary, template: ChatTemplate, messages: Sequence[Message], *, thinking: bool = False
) -> list[int]:
    """Return the prompt's tokens; ``thinking`` asks a template that can for reasoning.

    Control tokens may come from the template only. A message whose text would turn into one (someone typed
    ``<|im_end|>``) is kept out of the template's output and tokenised apart, as plain text.

    Raises:
        TemplateFailed: the template refused the messages.
    """
    apart: list[str] = []
    safe: list[Message] = []
    for message in messages:
        if _suspicious(vocabulary, message.content):
            safe.append(Message(message.role, f"{_OPEN}{len(apart)}{_CLOSE}"))
            apart.append(message.content)
        else:
            safe.append(message)
    rendered = template.render(safe, thinking=thinking)
    tokens: list[int] = []
    for index, part in enumerate(_PLACEHOLDER.split(rendered)):
        if index % 2:
            tokens += vocabulary.tokenize(apart[int(part)], special=False)
        elif part:
            tokens += vocabulary.tokenize(part, special=True)
    return vocabulary.with_bos(tokens)


# A conversation comes with all its messages each time; those of its newest turns are remembered.
@functools.lru_cache(maxsize=32)
def _suspicious(vocabulary: Vocabulary, text: str) -> bool:
    if _OPEN in text or _CLOSE in text:
        return True
    tokens = vocabulary.tokenize(text, special=True)
    # Some tokenizers write the unknown token for what they lack, too, so that it alone proves nothing.
    return any(map(vocabulary.is_control, tokens)) and tokens != vocabulary.tokenize(text, special=False)
