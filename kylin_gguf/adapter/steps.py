"""The kinds of step, each able to say whether this desktop has what it needs, and to be carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kylin_gguf.actuator.arguments import Value
from kylin_gguf.adapter import applications, kylin_actuator, processes
from kylin_gguf.adapter.amounts import Amount, Change, scaled, unscaled
from kylin_gguf.adapter.outcome import Unavailable
from kylin_gguf.adapter.services import Member, Services
from kylin_gguf.records import ResultValue

CONTROL_CENTRE = "ukui-control-center"


class Step(Protocol):
    """One thing to do. ``probe`` and ``check`` raise Unavailable when this desktop cannot."""

    async def probe(self) -> None:
        """Return when the desktop has what the step needs. Nothing is started to find out."""

    async def check(self) -> None:
        """Return when the step can be tried, as nearly as can be said without changing anything."""

    async def run(self) -> ResultValue | None:
        """Do it and return what there is to tell; raises Unavailable or Failed."""


class Place(Protocol):
    """Where a value is kept: a setting, or a property of a D-Bus object."""

    async def probe(self) -> None:
        """As ``Step.probe``."""

    async def check(self) -> None:
        """As ``Step.check``."""

    async def get(self) -> ResultValue:
        """Return the present value; raises Unavailable or Failed."""

    async def set(self, value: Value) -> None:
        """Change it; raises Unavailable or Failed."""


@dataclass(frozen=True)
class Kept:
    """Read (``value`` None) or change what is kept at a place."""

    place: Place
    value: Amount | None
    divisor: int = 1

    async def probe(self) -> None:
        await self.place.probe()

    async def check(self) -> None:
        await self.place.check()

    async def run(self) -> ResultValue | None:
        if self.value is None:
            return _shown(await self.place.get(), self.divisor)
        if not isinstance(self.value, Change):
            await self.place.set(scaled(self.value, self.divisor))
            return None
        new = self.value.applied(unscaled(await self.place.get(), self.divisor))
        await self.place.set(scaled(new, self.divisor))
        return new


@dataclass(frozen=True)
class Call:
    """Call a method of a D-Bus object.

    ``current`` is the method that tells the value which a change starts from.
    """

    services: Services
    member: Member
    arguments: Sequence[Amount]
    current: Member | None = None
    divisor: int = 1

    async def probe(self) -> None:
        await self.services.probe(self.member)

    async def check(self) -> None:
        await self.services.check(self.member, len(self.arguments))
        if any(isinstance(argument, Change) for argument in self.arguments):
            await self.services.check(self._present(), 0)

    async def run(self) -> ResultValue | None:
        given = [await self._given(argument) for argument in self.arguments]
        found = await self.services.call(self.member, [scaled(value, self.divisor) for value in given])
        if any(isinstance(a, Change) for a in self.arguments):
            return given[0]
        return None if self.arguments else _shown(found, self.divisor)

    async def _given(self, argument: Amount) -> int | float | str:
        if not isinstance(argument, Change):
            return argument
        return argument.applied(unscaled(await self.services.call(self._present(), ()), self.divisor))

    def _present(self) -> Member:
        if self.current is None:
            raise Unavailable(f"{self.member} takes no steps: nothing tells the present value")
        return self.current


@dataclass(frozen=True)
class Launch:
    """Start a program and leave it running."""

    program: str
    arguments: Sequence[str] = ()

    async def probe(self) -> None:
        processes.find(self.program)

    async def check(self) -> None:
        await self.probe()

    async def run(self) -> None:
        await processes.launch(self.program, *self.arguments)


@dataclass(frozen=True)
class Application:
    """Start an installed application by the name of its desktop file."""

    id: str

    async def probe(self) -> None:
        processes.find(applications.LAUNCHER)

    async def check(self) -> None:
        await self.probe()

    async def run(self) -> None:
        await processes.launch(applications.LAUNCHER, "launch", str(applications.find(self.id)))


@dataclass(frozen=True)
class Instruction:
    """Have the program kylin-actuator carry out one of its instructions that are safe."""

    instruction: str

    async def probe(self) -> None:
        processes.find(kylin_actuator.PROGRAM)

    async def check(self) -> None:
        await self.probe()

    async def run(self) -> None:
        await kylin_actuator.run(self.instruction)


def _shown(found: ResultValue | None, divisor: int) -> ResultValue | None:
    if divisor == 1 or found is None:
        return found
    value = unscaled(found, divisor)
    return round(value) if abs(value - round(value)) < 0.01 else value  # noqa: PLR2004 — 1.1 * 100
