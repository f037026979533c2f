"""Chat templates are programs of strangers."""

from __future__ import annotations

import resource
import signal

import pytest

from kylin_gguf import chat_template
from kylin_gguf.chat_template import CHATML, MAX_TEMPLATE_CHARS, ChatTemplate
from kylin_gguf.errors import TemplateFailed
from kylin_gguf.records import Message
from kylin_gguf.restraint import OutOfTime, restrained

HI = [Message("user", "hi")]
TOOL = [*HI, Message("assistant", "clock()"), Message("tool", "12:00")]


@pytest.mark.parametrize("source", [CHATML, ""])
def test_chatml_is_rendered_as_the_model_was_trained_and_is_the_default(source: str) -> None:
    text = ChatTemplate("m", source).render([Message("system", "S"), Message("user", "<你好>")])
    assert (
        text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n<你好><|im_end|>\n<|im_start|>assistant\n"
    )


def test_tokens_and_filters_that_templates_use_are_there() -> None:
    source = (
        "{{ bos_token }}{{ messages | tojson }}{{ strftime_now('%Y') | length }}{{ eos_token }}{{ 2**3 }}"
    )
    text = ChatTemplate("m", source, "<s>", "</s>").render([Message("user", "a<b")])
    assert text == '<s>[{"role": "user", "content": "a<b"}]4</s>8'


def test_what_is_marked_for_training_is_printed() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}.{% endfor %}"
    assert ChatTemplate("m", source).render(HI) == "hi."


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ undefined_name.attribute }}",
        "{{ 1 / 0 }}",
    ],
)
def test_what_a_template_may_not_do_or_cannot_is_its_failure(source: str) -> None:
    with pytest.raises(TemplateFailed):
        ChatTemplate("m", source).render(HI)


NESTED = "{% for i in range(100000) %}{% for j in range(100000) %}BODY{% endfor %}{% endfor %}"
DOUBLED = "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (NESTED.replace("BODY", ""), "OutOfTime"),
        ("{% macro f(n) %}{{ f(n + 1) ~ f(n + 1) if n < 60 }}{% endmacro %}{{ f(0) }}", "OutOfTime"),
        ("{{ lipsum(n=100000000) }}", "OutOfTime"),
        (NESTED.replace("BODY", "x"), "no end in sight"),
        ("{{ 'x' * 10000000 }}", "no end in sight"),
        ("{{ 'x' * 1000000000 }}", "MemoryError"),
        ("{{ [0] * 1000000000 }}", "MemoryError"),
        ("{{ 'x' | center(1000000000) }}", "MemoryError"),
        ("{{ '%1000000000d' % 1 }}", "MemoryError"),
        (DOUBLED, "MemoryError|OutOfTime"),  # a slow machine takes its time to fill so much
        ("{{ 9 ** 9 ** 9 ** 9 }}", "power"),
        ("{{ (9 ** 60) ** 64 }}", "power"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "RecursionError"),
    ],
)
def test_time_memory_and_output_of_a_template_are_bounded(
    source: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template, "MAX_SECONDS", 0.3)
    before = (signal.getsignal(signal.SIGPROF), resource.getrlimit(resource.RLIMIT_AS))
    with pytest.raises(TemplateFailed, match=reason):
        ChatTemplate("m", source).render(HI)
    assert (signal.getsignal(signal.SIGPROF), resource.getrlimit(resource.RLIMIT_AS)) == before
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0.0
    assert ChatTemplate("m", CHATML).render(HI), "the next one is rendered"


def test_a_program_cannot_swallow_its_interruption() -> None:
    caught = 0
    with pytest.raises(OutOfTime), restrained(0.05, 1 << 26):
        while True:
            try:
                while True:
                    pass
            except Exception:
                caught += 1
    assert not caught


@pytest.mark.parametrize("source", ["{% if %}", "x" * (MAX_TEMPLATE_CHARS + 1)])
def test_a_template_that_is_none_is_refused_at_once(source: str) -> None:
    with pytest.raises(TemplateFailed):
        ChatTemplate("m", source)


def test_a_tools_message_reaches_the_model_or_is_refused() -> None:
    assert "<|im_start|>tool\n12:00<|im_end|>" in ChatTemplate("m", CHATML).render(TOOL)
    without_tools = "{% for message in messages if message.role != 'tool' %}{{ message.content }}{% endfor %}"
    assert ChatTemplate("m", without_tools).render(HI) == "hi"
    with pytest.raises(TemplateFailed, match="tool"):
        ChatTemplate("m", without_tools).render(TOOL)


def test_thinking_is_off_unless_asked_for() -> None:
    template = ChatTemplate("m", "{{ 'aloud' if enable_thinking else 'silent' }}")
    assert (template.render(HI), template.render(HI, thinking=True)) == ("silent", "aloud")
