"""What is said to the user about a command: one short sentence, in the language that they spoke.

Written from the catalogue and the result, not by a model: it must be right, and is there at once.
"""

from __future__ import annotations

import re

from kylin_gguf.actuator.arguments import (
    DOWN,
    UP,
    Argument,
    Arguments,
    ChoiceArgument,
    EnumArgument,
    NumericArgument,
    Value,
)
from kylin_gguf.actuator.catalogue import Command, Language
from kylin_gguf.actuator.effects import placeholders
from kylin_gguf.records import Execution, ResultValue

_HAN = re.compile("[\u3400-\u9fff]")
_UNITS: dict[str, tuple[str, str]] = {
    "percent": ("%", " percent"),
    "of normal size": ("%", " percent"),
    "ms": (" 毫秒", " milliseconds"),
    "pt": (" 号", " points"),
}
_WORDS: dict[object, tuple[str, str]] = {
    "on": ("打开", "on"),
    "off": ("关闭", "off"),
    True: ("是", "yes"),
    False: ("否", "no"),
}
_STEPS = {UP: ("调高一点", "a step up"), DOWN: ("调低一点", "a step down")}
_SENTENCES: dict[str, tuple[str, str]] = {
    "done": ("好的，{what}。", "Done: {what}."),
    "value": ("{what}：{value}。", "{what}: {value}."),
    "failed": ("抱歉，没有成功：{what}。", "Sorry, that did not work: {what}."),
    "unavailable": ("抱歉，这台电脑上做不到：{what}。", "Sorry, this computer cannot do that: {what}."),
    "unanswered": ("抱歉，没有收到结果：{what}。", "Sorry, nobody said whether it was done: {what}."),
    "confirm": ("要{what}吗？", "Shall I do this: {what}?"),
    "declined": ("好的，不做了。", "All right, I will leave it."),
    "expired": ("没有等到您的答复，先不做了。", "I had no answer, so I left it."),
    "question": ("您是要{first}，还是{second}？", "Do you mean: {first}, or: {second}?"),
}


def language_of(text: str) -> Language:
    """Return the language to answer ``text`` in."""
    return "zh" if _HAN.search(text) else "en"


def describe(command: Command, arguments: Arguments, language: Language) -> str:
    """Return what the command does, with its arguments: "设置系统音量（40%）"."""
    shown = [_shown(command.argument(name), value, language) for name, value in arguments.items()]
    if language == "zh":
        return command.description["zh"] + (f"（{'，'.join(shown)}）" if shown else "")
    text = command.description["en"]
    text = text if text[:2].isupper() else text[:1].lower() + text[1:]
    return f"{text} ({', '.join(shown)})" if shown else text


def result(command: Command, arguments: Arguments, execution: Execution, language: Language) -> str:
    """Return what to say about what came of a command."""
    if execution.text.get(language):
        return execution.text[language]
    arguments = _moved(command, arguments, execution)
    if execution.status == "done":
        return _answer(command, arguments, execution.value, language)
    return sentence(execution.status, language, what=describe(command, arguments, language))


def sentence(name: str, language: Language, **fields: str) -> str:
    """Return one of the fixed sentences, filled in."""
    return _SENTENCES[name][language == "en"].format(**fields)


def _moved(command: Command, arguments: Arguments, execution: Execution) -> Arguments:
    """Return ``arguments`` with the value that a step has led to in the step's place."""
    value = execution.value
    if isinstance(value, bool) or value is None:
        return arguments
    return {
        name: value if given in _STEPS and isinstance(command.argument(name), NumericArgument) else given
        for name, given in arguments.items()
    }


def _answer(command: Command, arguments: Arguments, value: ResultValue | None, language: Language) -> str:
    template = command.answer.get(language, "")
    shown = {name: _shown(command.argument(name), given, language) for name, given in arguments.items()}
    if value is not None:
        shown["value"] = _plain(value, language)
    steps = any(isinstance(given, str) and given in _STEPS for given in arguments.values())
    if template and not steps and all(name in shown for name in placeholders(template)):
        for name, text in shown.items():
            template = template.replace(f"<{name}>", text)
        return template
    what = describe(command, arguments, language)
    if value is not None and not arguments:
        return sentence("value", language, what=what[:1].upper() + what[1:], value=shown["value"])
    return sentence("done", language, what=what)


def _plain(value: ResultValue, language: Language) -> str:
    if isinstance(value, bool):
        return _WORDS[value][language == "en"]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(argument: Argument, value: Value, language: Language) -> str:
    """Return a value as people say it."""
    english = language == "en"
    if isinstance(value, str) and value in _STEPS and not isinstance(argument, EnumArgument):
        return _STEPS[value][english]
    match argument:
        case EnumArgument():
            return _WORDS[value][english] if value in _WORDS else _called(argument, str(value), language)
        case ChoiceArgument():
            return (argument.choices.names.get(str(value)) or (str(value),))[0]
        case _ if isinstance(argument, NumericArgument):
            number = f"{value:g}" if isinstance(value, float) else str(value)
            unit = argument.unit
            return number + (_UNITS[unit][english] if unit in _UNITS else f" {unit}" if unit else "")
        case _:
            return str(value)


def _called(argument: EnumArgument, name: str, language: Language) -> str:
    """Return the first synonym of a value in ``language``; else its name."""
    found = (s for s in argument.value(name).synonyms if language_of(s) == language)
    return next(found, name)
