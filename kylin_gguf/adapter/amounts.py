"""What a placeholder in an effect stands for: a value, or a change of the present one."""

from __future__ import annotations

from dataclasses import dataclass

from kylin_gguf.actuator import effects
from kylin_gguf.actuator.arguments import UP, Arguments, IntegerArgument, NumericArgument, Value
from kylin_gguf.actuator.catalogue import Command
from kylin_gguf.adapter.outcome import Failed

DIGITS = 6
"""Behind the point, in what steps lead to: 0.1 and 0.2 make 0.3."""


@dataclass(frozen=True)
class Change:
    """One step up (``sign`` 1) or down (-1) of ``argument``, within its bounds and in its own unit."""

    sign: int
    argument: NumericArgument

    def applied(self, present: float) -> int | float:
        """Return the value after the change of ``present``."""
        limits = self.argument
        value = min(limits.maximum, max(limits.minimum, present + self.sign * limits.step))
        return round(value) if isinstance(limits, IntegerArgument) else round(value, DIGITS)


Amount = Value | Change


def amount(text: str, command: Command, arguments: Arguments) -> Amount:
    """Return what ``text`` of an effect of ``command`` stands for.

    A text that is one placeholder becomes the argument's value, with its type; placeholders inside a longer
    text are replaced there.

    Raises:
        Failed: a change, such as "louder", inside a longer text: nothing there can be read back.
    """
    names = effects.placeholders(text)
    if names and text == f"<{names[0]}>":
        return _whole(command, names[0], arguments)
    for name in names:
        if isinstance(_whole(command, name, arguments), Change):
            raise Failed(f"'{text}' has no place for a change of {name}")
        text = text.replace(f"<{name}>", str(arguments[name]))
    return text


def _whole(command: Command, name: str, arguments: Arguments) -> Amount:
    argument, value = command.argument(name), arguments[name]
    if isinstance(argument, NumericArgument) and isinstance(value, str):
        return Change(1 if value == UP else -1, argument)
    return value


def scaled(value: Value, divisor: int) -> Value:
    """Return ``value`` in the unit of a target that takes 1.5 for 150 (divisor 100) and the like."""
    return value if divisor == 1 or isinstance(value, str) else value / divisor


def unscaled(found: object, divisor: int) -> float:
    """Return what a target ``found`` in the argument's unit; raises Failed when it is no number."""
    try:
        if isinstance(found, bool) or not isinstance(found, int | float | str):
            raise ValueError
        return float(found) * divisor
    except ValueError as error:
        raise Failed(f"the present value {str(found)[:40]!r} is not a number") from error
