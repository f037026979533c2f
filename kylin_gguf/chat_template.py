"""Chat templates: the Jinja program a model carries, run as the untrusted code it is.

Environment and globals follow what Hugging Face's ``apply_chat_template`` gives a template, since that is
what templates are written for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kylin_gguf.errors import TemplateFailed
from kylin_gguf.records import Message

MAX_TEMPLATE_CHARS = 256 * 1024


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(value: Any, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML, which would put < where models saw "<" in training.
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """One model's template, compiled once."""

    def __init__(self, model: str, source: str, bos: str = "", eos: str = "") -> None:
        """Compile ``source``. ``bos`` and ``eos`` are the texts of those tokens, which templates may print.

        Raises:
            TemplateFailed: no template, too long a one, or one that does not parse.
        """
        self._model = model
        self._tokens = {"bos_token": bos, "eos_token": eos}
        if not source or len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateFailed(model, "it has none" if not source else f"it has {len(source)} characters")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], autoescape=False
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except (TemplateError, RecursionError, ValueError) as error:
            raise TemplateFailed(model, str(error)) from error

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Return the prompt text for ``messages``.

        Reasoning models are asked not to think aloud: a desktop assistant's first sentence must come soon.

        Raises:
            TemplateFailed: the template refused the messages or did something the sandbox forbids.
        """
        try:
            return self._template.render(
                messages=[message.to_json() for message in messages],
                add_generation_prompt=add_generation_prompt,
                enable_thinking=False,
                **self._tokens,
            )
        # A template is a program: it can fail in any way a program can, and each is the template's fault.
        except Exception as error:
            raise TemplateFailed(self._model, f"{type(error).__name__}: {error}") from error
