"""What UPower and power-profiles-daemon tell on the system bus."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Self

from dbus_next.message import Message

from kylin_gguf.bus import names, values
from kylin_gguf.bus.connection import Connection, close_descriptors
from kylin_gguf.errors import KylinError
from kylin_gguf.records import Power

ANSWER_TIMEOUT_S = 5.0

UPOWER = ("org.freedesktop.UPower", "/org/freedesktop/UPower", "org.freedesktop.UPower")
PROFILES = ("net.hadess.PowerProfiles", "/net/hadess/PowerProfiles", "net.hadess.PowerProfiles")
"""The name that every release has; newer ones have a second."""


class PowerWatch:
    """Follows both, and starts neither; made by ``start``, ended by ``close``."""

    def __init__(self, bus: Connection, told: Callable[[Power], None]) -> None:
        self._bus, self._told = bus, told
        self._looking: asyncio.Task[None] | None = None
        self._again = False
        bus.on_signal = lambda _: self._changed()
        bus.lost.add_done_callback(self._lost)

    @classmethod
    async def start(cls, told: Callable[[Power], None]) -> Self:
        """Call ``told`` now, and whenever something may have changed.

        Raises:
            ServiceUnavailable: there is no system bus.
        """
        address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or names.SYSTEM_BUS
        watch = cls(await Connection.connect(address), told)
        for service, path, _ in (UPOWER, PROFILES):
            rule = (
                f"type='signal',sender='{service}',path='{path}',"
                f"interface='{names.PROPERTIES}',member='PropertiesChanged'"
            )
            await watch._bus.daemon("AddMatch", "s", [rule])
            await watch._bus.watch(service, lambda _: watch._changed())
        await watch._look()
        return watch

    async def close(self) -> None:
        """Leave the system bus."""
        if self._looking:
            self._looking.cancel()
        await self._bus.close()

    def _lost(self, lost: asyncio.Future[bool]) -> None:
        if not lost.result():  # it was not we who left
            self._told(Power())

    def _changed(self) -> None:
        """Look again. What a signal says is not used: it may be another's, or old."""
        self._again = True
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_again())

    async def _look_again(self) -> None:
        while self._again:
            self._again = False
            await self._look()

    async def _look(self) -> None:
        battery = await self._get(*UPOWER, "OnBattery")
        profile = await self._get(*PROFILES, "ActiveProfile")
        if not self._bus.lost.done():
            self._told(
                Power(
                    on_battery=battery if isinstance(battery, bool) else None,
                    profile=profile if isinstance(profile, str) else "",
                )
            )

    async def _get(self, service: str, path: str, interface: str, name: str) -> Any:
        """Return a property; None where the service does not run, or does not tell."""
        message = Message(service, path, names.PROPERTIES, "Get", signature="ss", body=[interface, name])
        try:
            if not await self._bus.has_owner(service):
                return None
            reply = await self._bus.call(message, ANSWER_TIMEOUT_S)
        except KylinError:
            return None
        close_descriptors(reply)
        return values.plain(reply.body[0]) if reply.signature == "v" else None


async def read() -> Power:
    """Return what both tell now; nothing where there is no system bus."""
    found = Power()

    def take(power: Power) -> None:
        nonlocal found
        found = power

    try:
        watch = await PowerWatch.start(take)
    except KylinError:
        return found
    now = found
    await watch.close()
    return now
