"""Carries out a command: checks it against the catalogue, chooses what this desktop has, does it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from kylin_gguf.actuator import effects
from kylin_gguf.actuator.arguments import Action
from kylin_gguf.actuator.catalogue import Command, CommandCatalogue
from kylin_gguf.adapter import amounts, steps
from kylin_gguf.adapter.amounts import Amount
from kylin_gguf.adapter.gsettings import Key
from kylin_gguf.adapter.outcome import Failed, Unavailable
from kylin_gguf.adapter.services import Member, Property, Services
from kylin_gguf.adapter.steps import Step
from kylin_gguf.records import Execution

log = logging.getLogger(__name__)

Fill = Callable[[str], Amount]
"""Puts values in for the placeholders of one text of an effect."""


class Executor:
    """Carries out the commands of one catalogue."""

    def __init__(self, catalogue: CommandCatalogue, services: Services) -> None:
        self.catalogue = catalogue
        self._services = services

    async def execute(self, command_id: str, arguments: Mapping[str, object]) -> Execution:
        """Carry out a command and return what came of it.

        All its steps are looked at before the first is taken, so a desktop that lacks what one of them needs
        is left as it was.

        Raises:
            InvalidValue, UnknownOption: no such command, or wrong arguments.
        """
        command = self.catalogue.get(command_id)
        checked = command.check(arguments)
        try:
            chosen = [
                await self._choose(step, lambda text: amounts.amount(text, command, checked))
                for step in command.actions(checked)
            ]
            if not chosen:
                raise Unavailable(f"the catalogue does not say what carries {command_id} out")
            told = [await step.run() for step in chosen]
        except Unavailable as missing:
            return Execution("unavailable", reason=str(missing))
        except Failed as failure:
            log.warning("%s: %s", command_id, failure)
            return Execution("failed", reason=str(failure))
        return Execution("done", next((value for value in told if value is not None), None))

    async def available(self, command: Command) -> bool:
        """Return whether this desktop can carry ``command`` out, with some of its arguments at least."""
        ways = [value.effect for value in command.values() if value.effect] or [()]
        for way in ways:
            every = (*command.effect, *way)
            if every and await self._can(every):
                return True
        return False

    async def _can(self, actions: tuple[Action, ...]) -> bool:
        try:
            for action in actions:
                await self._any(action)
        except Unavailable:
            return False
        return True

    async def _any(self, action: Action) -> None:
        missing = []
        for way in effects.alternatives(action):
            try:
                return await self._step(way, lambda text: text).probe()
            except Unavailable as reason:
                missing.append(str(reason))
        raise Unavailable("; ".join(missing))

    async def _choose(self, action: Action, fill: Fill) -> Step:
        """Return the first way to carry ``action`` out that this desktop has.

        Raises:
            Unavailable: it has none.
        """
        missing = []
        for way in effects.alternatives(action):
            step = self._step(way, fill)
            try:
                await step.check()
            except Unavailable as reason:
                missing.append(str(reason))
            else:
                return step
        raise Unavailable("; ".join(missing))

    def _step(self, action: Action, fill: Fill) -> Step:
        match action["kind"]:
            case "gsettings":
                key = Key(action["schema"], action["key"])
                return steps.Kept(key, _value(action, fill), _divisor(action))
            case "dbus-property":
                kept = Property(self._services, _member(action, "property"))
                return steps.Kept(kept, _value(action, fill), _divisor(action))
            case "dbus":
                member, arguments = _member(action, "method"), [fill(text) for text in action.get("args", ())]
                current = _member(action, "current") if "current" in action else None
                return steps.Call(self._services, member, arguments, current, _divisor(action))
            case "application":
                return steps.Application(str(fill(action["id"])))
            case "kylin-actuator":
                return steps.Instruction(action["instruction"])
            case _:
                return _program(action, fill)


def _program(action: Action, fill: Fill) -> Step:
    if action["kind"] == "settings-page":
        return steps.Launch(steps.CONTROL_CENTRE, ("-m", action["page"]))
    return steps.Launch(action["program"], [str(fill(text)) for text in action.get("args", ())])


def _value(action: Action, fill: Fill) -> Amount | None:
    return fill(action["value"]) if "value" in action else None


def _divisor(action: Action) -> int:
    return int(action.get("divisor", 1))


def _member(action: Action, key: str) -> Member:
    return Member.of(action["bus"], action["dest"], action["path"], action[key])
