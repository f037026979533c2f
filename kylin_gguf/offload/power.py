"""Whether answers should take little energy rather than little time."""

from __future__ import annotations

from kylin_gguf.records import Power, PowerMode
from kylin_gguf.translation import N_, translate


def saves(mode: PowerMode, power: Power) -> bool:
    """Return whether threads are to be chosen by joules: as the setting says, and ``auto`` on battery, where
    the desktop's power profile wants it, and while the processor is too warm.

    A processor that is held to a temperature is held to a power. Then the threads that take the fewest joules
    for a token are also the fastest.
    """
    if mode != "auto":
        return mode == "saving"
    if power.hot or power.profile == "power-saver":
        return True
    return power.on_battery is True and power.profile != "performance"


def reason(mode: PowerMode, power: Power, meter: str) -> str:
    """Return what a plan says of it, empty where threads are chosen by time. ``meter`` is what measures
    energy here, empty where nothing does."""
    if not saves(mode, power):
        return ""
    why = translate(_cause(mode, power))
    if not meter:
        return translate(N_("{0}: all threads all the same, for nothing here measures energy")).format(why)
    saving = N_("{0}: fewer threads where an answer takes less energy so, by what {1} tells")
    return translate(saving).format(why, meter)


def _cause(mode: PowerMode, power: Power) -> str:
    if mode == "saving":
        return N_("energy is saved as the settings want it")
    if power.on_battery:
        return N_("on battery")
    return N_("the processor is too warm") if power.hot else N_("the desktop saves power")
