"""The lines of ``monitor``'s tables, from what the service tells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kylin_gguf.cli import output
from kylin_gguf.cli.watch import Look, Speed
from kylin_gguf.translation import translate as _

NOTHING = "—"
NAME_WIDTH = 20
"""Characters of a model's name that leave room for the rest of its line on 80 columns."""


def headline(found: Look) -> str:
    """Return the line about the service itself."""
    told = found["Statistics"]
    return _("Version {version}, {memory}, default model {model}").format(
        version=found["Version"], memory=output.size(told["memory"]), model=found["DefaultModel"] or NOTHING
    )


def power_line(found: Look, watts: float) -> str:
    """Return where the power comes from, what is done about it, and how much it is, as far as that is
    known."""
    told = found["Statistics"]["power"]
    states = {model["saving"] for model in found["Statistics"]["models"]}
    parts = [_("on battery")] if told.get("on_battery") else []
    parts += [_("too warm")] if told["hot"] else []
    parts += [_("saving")] if states & {"measuring", "found"} else []
    parts += [f"{watts:.1f} W"] if watts else []
    return ", ".join(parts)


def model_columns() -> tuple[str, ...]:
    """Return the heads of ``model_rows``."""
    columns = (_("MODEL"), _("LAYERS ON"), _("RUN"), _("WAIT"), _("T/S"))
    return (*columns, _("PROMPT"), _("CONTEXT"), _("HITS"), _("MEMORY"))


def model_rows(found: Look, speeds: Mapping[int, Speed]) -> list[tuple[str, ...]]:
    """Return one line for each loaded model; ``speeds`` by its process."""
    placements = {model["pid"]: model.get("placement", {}) for model in found.get("LoadedModels", ())}
    return [
        (
            _clipped(model["name"]),
            model.get("remote") or _where(placements.get(model["pid"], {})),
            str(model["running"]),
            str(model["waiting"]),
            _rate(speeds[model["pid"]].answers),
            _rate(speeds[model["pid"]].prompts),
            _share(model["cells_used"], model["cells"]),
            _share(model["cache_hits"], model["requests"]),
            output.size(model["memory"]),
        )
        for model in found["Statistics"]["models"]
    ]


def _clipped(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def _where(placement: Mapping[str, Any]) -> str:
    shares = placement.get("shares", ())
    return " ".join(f"{share['device']}:{share['layers']}" for share in shares) or "CPU"


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if rate else NOTHING


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else NOTHING


def device_columns() -> tuple[str, ...]:
    """Return the heads of ``device_rows``."""
    return (_("DEVICE"), _("LAYERS"), _("MEMORY"))


def device_rows(found: Look) -> list[tuple[str, ...]]:
    """Return one line for each device, with the layers that loaded models have on it."""
    layers: dict[str, int] = {}
    for model in found.get("LoadedModels", ()):
        for share in model.get("placement", {}).get("shares", ()):
            layers[share["device"]] = layers.get(share["device"], 0) + share["layers"]
    return [
        (
            device["name"],
            _("failed") if device["kind"] == "failed" else str(layers.get(device["name"], NOTHING)),
            output.size(device["memory_total"]) if device["memory_total"] else NOTHING,
        )
        for device in found.get("Devices", ())
    ]


def command_columns() -> tuple[str, ...]:
    """Return the heads of ``command_rows``."""
    return (_("TIME"), _("COMMAND"), _("RESULT"), _("SECONDS"))


def command_rows(found: Look) -> list[tuple[str, ...]]:
    """Return one line for each command that was carried out, the latest first."""
    ends = {"done": _("done"), "unavailable": _("unavailable"), "failed": _("failed")}
    return [
        (
            time.strftime("%H:%M:%S", time.localtime(entry["at"])),
            entry["command"],
            ends.get(entry["status"], entry["status"]),
            f"{entry['seconds']:.2f}",
        )
        for entry in found["Statistics"]["commands"]
    ]
