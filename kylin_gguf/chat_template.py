"""Chat templates: the Jinja program a model carries, run as the untrusted code it is.

Environment and globals follow what Hugging Face's ``apply_chat_template`` gives a template, since that is
what templates are written for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kylin_gguf.errors import TemplateFailed
from kylin_gguf.records import Message
from kylin_gguf.restraint import restrained

MAX_TEMPLATE_CHARS = 256 * 1024

MAX_SECONDS = 2.0
"""Processor time for compiling or rendering a template; real ones take milliseconds."""

MAX_MEMORY_BYTES = 256 * 1024 * 1024
"""Memory that compiling or rendering may take beyond what the process has."""

SPARE_OUTPUT_CHARS = 256 * 1024
"""Output beyond four times the messages' text, which leaves room for any escaping."""

_MAX_EXPONENT = 64

END_OF_TURN = "<|im_end|>"

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For models that carry no template: the most common format, and llama.cpp's default, too."""


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without powers that one instruction of the interpreter computes for minutes."""

    intercepted_binops = frozenset(("**",))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if abs(right) > _MAX_EXPONENT or abs(left) > 2**_MAX_EXPONENT:
            raise TemplateError(f"a power is out of range: the exponent may be {_MAX_EXPONENT}")
        return super().call_binop(context, operator, left, right)


class _GenerationTag(Extension):
    """``{% generation %}`` marks what a model is trained on; here it prints what stands in it."""

    tags: set[str] = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(value: Any, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML, which would put < where models saw "<" in training.
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """One model's template, compiled once. Compile and render in the main thread: see ``restraint``."""

    def __init__(self, model: str, source: str, bos: str = "", eos: str = "") -> None:
        """Compile ``source``; ``CHATML`` if it is empty.

        ``bos`` and ``eos`` are the texts of those tokens, which templates may print.

        Raises:
            TemplateFailed: too long a template, one that does not parse, or one that takes too much to
            compile.
        """
        self._model = model
        self._tokens = {"bos_token": bos, "eos_token": eos}
        if len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateFailed(model, f"it has {len(source)} characters")
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag], autoescape=False
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            with restrained(MAX_SECONDS, MAX_MEMORY_BYTES):
                self._template = environment.from_string(source or CHATML)
        # Jinja folds constants when it compiles: that runs part of the program.
        except Exception as error:
            raise TemplateFailed(model, _described(error)) from error

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, thinking: bool = False
    ) -> str:
        """Return the prompt text for ``messages``.

        Reasoning models are asked to think aloud only if ``thinking``: a desktop assistant's first sentence
        must come soon.

        Raises:
            TemplateFailed: the template refused the messages, did something the sandbox forbids, took too
            much
                time, memory or room, or has no place for a tool's message.
        """
        text = self._rendered(messages, add_generation_prompt, thinking)
        others = [message for message in messages if message.role != "tool"]
        # Many templates skip a role that they do not know, and the model would never see the result.
        if len(others) < len(messages) and text == self._rendered(others, add_generation_prompt, thinking):
            raise TemplateFailed(self._model, "it has no place for a tool's messages")
        return text

    def _rendered(self, messages: Sequence[Message], add_generation_prompt: bool, thinking: bool) -> str:
        room = SPARE_OUTPUT_CHARS + 4 * sum(len(message.content) for message in messages)
        pieces: list[str] = []
        try:
            with restrained(MAX_SECONDS, MAX_MEMORY_BYTES):
                for piece in self._template.generate(
                    messages=[message.to_json() for message in messages],
                    add_generation_prompt=add_generation_prompt,
                    enable_thinking=thinking,
                    **self._tokens,
                ):
                    room -= len(piece)
                    if room < 0:
                        raise TemplateError("its output has no end in sight")
                    pieces.append(piece)
                return "".join(pieces)
        # A template is a program: it can fail in any way a program can, and each is the template's fault.
        except Exception as error:
            raise TemplateFailed(self._model, _described(error)) from error


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
