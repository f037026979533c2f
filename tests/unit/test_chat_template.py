"""Chat templates are programs of strangers."""

from __future__ import annotations

import pytest

from kylin_gguf.chat_template import MAX_TEMPLATE_CHARS, ChatTemplate
from kylin_gguf.errors import TemplateFailed
from kylin_gguf.records import Message

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_chatml_is_rendered_as_the_model_was_trained() -> None:
    text = ChatTemplate("m", CHATML).render([Message("system", "S"), Message("user", "<你好>")])
    assert (
        text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n<你好><|im_end|>\n<|im_start|>assistant\n"
    )


def test_tokens_and_filters_that_templates_use_are_there() -> None:
    source = "{{ bos_token }}{{ messages | tojson }}{{ strftime_now('%Y') | length }}{{ eos_token }}"
    text = ChatTemplate("m", source, "<s>", "</s>").render([Message("user", "a<b")])
    assert text == '<s>[{"role": "user", "content": "a<b"}]4</s>'


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
        ChatTemplate("m", source).render([Message("user", "hi")])


@pytest.mark.parametrize("source", ["", "{% if %}", "x" * (MAX_TEMPLATE_CHARS + 1)])
def test_a_template_that_is_none_is_refused_at_once(source: str) -> None:
    with pytest.raises(TemplateFailed):
        ChatTemplate("m", source)
