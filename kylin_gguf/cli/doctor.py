"""``doctor``: what was found, what is missing, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Literal

import typer

from kylin_gguf import catalogue, config, energy, native
from kylin_gguf.bus import contract, power, private
from kylin_gguf.bus.client import Client
from kylin_gguf.cli import output
from kylin_gguf.cli.models import AsJson, not_local
from kylin_gguf.errors import KylinError, ModelError
from kylin_gguf.offload import machine
from kylin_gguf.records import Settings
from kylin_gguf.store import Store
from kylin_gguf.translation import translate as _

Level = Literal["ok", "note", "problem"]
TOOLS = ("llama-quantize", "llama-imatrix")
_STYLES: dict[Level, str] = {"ok": "✓", "note": "•", "problem": "✗"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. A ``problem`` keeps chat and commands from working."""

    level: Level
    about: str
    text: str


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "doctor",
        help=_(
            "Check the installation, and say what to do. Starts nothing. Ends with status 1 on a problem."
        ),
    )(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Command ``doctor``."""
    settings = config.load()
    findings = [finding for check in CHECKS for finding in _safely(check, settings)]
    for finding in findings:
        if as_json:
            output.print_json(asdict(finding))
        else:
            print(f"{_STYLES[finding.level]} {finding.about}: {finding.text}")
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


Check = Callable[[Settings], Iterator[Finding]]


def _safely(check: Check, settings: Settings) -> Iterator[Finding]:
    """Yield what ``check`` finds; an error that stops it is a problem found, with its remedy."""
    try:
        yield from check(settings)
    except KylinError as error:
        yield Finding("problem", check.__name__.removeprefix("_check_"), error.message())


def _check_settings(settings: Settings) -> Iterator[Finding]:
    for name, origin in settings.origins.items():
        value = getattr(settings, name)
        separator = "," if name == "rpc_workers" else os.pathsep
        shown = separator.join(map(str, value)) if isinstance(value, tuple) else str(value)
        yield Finding("ok", f"settings.{name}", f"{shown or '—'} ({origin})")


def _check_libraries(settings: Settings) -> Iterator[Finding]:
    libraries = native.find(settings)
    loaded = machine.libraries(settings)
    yield Finding("ok", "libraries", f"llama.cpp {loaded.version}, {loaded.processor}, {loaded.directory}")
    for device in loaded.devices:
        memory = output.size(device.memory_total)
        yield Finding("ok", "device", f"{device.name} ({device.kind}, {device.description}, {memory})")
    for plugin in loaded.failed:
        yield Finding("note", "back end", f"{plugin.name}: {plugin.reason}")
    for tool in TOOLS:
        if not (libraries.directory / tool).is_file():
            yield Finding(
                "note", "tool", _("{tool} is missing: models cannot be converted").format(tool=tool)
            )


def _check_models(settings: Settings) -> Iterator[Finding]:
    store = Store(settings, catalogue.load(settings.catalogue))
    for model in store.installed():
        try:
            store.resolve(str(model.path))
        except ModelError as error:
            yield Finding("note", "model", error.message())
        else:
            yield Finding("ok", "model", f"{model.name}, {output.size(model.size)}, {model.path}")
    for remote in store.remotes():
        yield Finding("note", "model", f"{remote.name}, {not_local(remote.host)}")
    default = store.default()
    store.resolve(str(default.path))
    yield Finding("ok", "default model", default.name)


def _check_disk(settings: Settings) -> Iterator[Finding]:
    directory = settings.models_dir
    while not directory.exists():
        directory = directory.parent
    free = output.size(shutil.disk_usage(directory).free)
    level: Level = "ok" if os.access(directory, os.W_OK) else "problem"
    text = _("{free} free in {directory}") if level == "ok" else _("{directory} cannot be written")
    yield Finding(level, "disk", text.format(free=free, directory=directory))


def _check_power(_settings: Settings) -> Iterator[Finding]:
    found = asyncio.run(power.read())
    if found.on_battery is None:
        yield Finding("note", "power", _("the source is not known: UPower does not run"))
    else:
        source = _("on battery") if found.on_battery else _("on mains")
        profile = _(", power profile {profile}").format(profile=found.profile) if found.profile else ""
        yield Finding("ok", "power", source + profile)
    meter = energy.meter(on_battery=found.on_battery is True)
    if meter:
        yield Finding("ok", "energy", _("measured by {meter}").format(meter=meter.name))
    elif energy.packages().locked:
        yield Finding("note", "energy", _("the processor's meter (RAPL) may be read by root only"))
    else:
        yield Finding("note", "energy", _("nothing measures it now"))


def _check_bus(settings: Settings) -> Iterator[Finding]:
    contract.load()
    address = asyncio.run(private.running_bus(settings))
    if address:
        yield Finding("ok", "bus", address)
    elif shutil.which("dbus-daemon"):
        yield Finding("note", "bus", _("no session bus; a private one is started when it is needed"))
    else:
        yield Finding(
            "problem", "bus", _("no session bus and no dbus-daemon: install the package dbus-daemon")
        )


def _check_service(settings: Settings) -> Iterator[Finding]:
    try:
        version = asyncio.run(_version(settings))
    except KylinError:
        yield Finding("note", "service", _("not running; it starts when it is needed"))
    else:
        yield Finding("ok", "service", _("running, version {version}").format(version=version))


async def _version(settings: Settings) -> str:
    async with await Client.connect(settings, start=False) as client:
        return str((await client.properties())["Version"])


def _check_converter(_settings: Settings) -> Iterator[Finding]:
    if find_spec("kylin_convert") is None:
        yield Finding("note", "converter", _("not installed: apt install kylin-gguf-convert"))
    else:
        yield Finding("ok", "converter", _("installed"))


CHECKS: tuple[Check, ...] = (
    _check_settings,
    _check_libraries,
    _check_models,
    _check_disk,
    _check_power,
    _check_bus,
    _check_service,
    _check_converter,
)
