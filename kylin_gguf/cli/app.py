"""The program ``kylin-gguf``: registers the command groups, and is the only place that catches everything.

Only what a command needs is imported: the service is one of them, and its memory and start are everybody's.
"""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kylin_gguf import __version__
from kylin_gguf.cli.errors import exit_code
from kylin_gguf.errors import ConverterMissing, InternalError, KylinError
from kylin_gguf.translation import translate as _

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PROGRAM = "kylin-gguf"
PLUGIN_GROUP = "kylin_gguf.commands"
CONVERT = "convert"
CONVERTER_COMMANDS = (CONVERT, "convert-adapter", "compare")
"""What the converter adds: named, with how to install it, also where it is missing."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "models": ("models", "pull", "rm", "info"),
    "serve": ("serve",),
    "chat": ("chat",),
    "act": ("act",),
    "actuator": ("actuator",),
    "embed": ("embed",),
    "plan": ("devices", "plan"),
    "rpc_worker": ("rpc-worker",),
    "status": ("status",),
    "loaded": ("ps", "stop"),
    "monitor": ("monitor",),
    "doctor": ("doctor",),
}
"""The modules of this package that register commands, and which, in the order of the help."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _globals(
    debug: Annotated[
        bool, typer.Option("--debug", help=_("Log everything, and show the traceback of an error."))
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help=_("Print the version and exit."), callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def _add_plugin(app: typer.Typer, plugin: EntryPoint) -> None:
    """Let ``plugin`` register its commands; one that cannot be imported becomes a command that says so."""
    try:
        plugin.load()(app)
    except ImportError as error:
        # The runtime's package names the converter's entry point also where only the runtime is installed.
        absent = isinstance(error, ModuleNotFoundError) and error.name == plugin.module.split(".")[0]
        if absent and plugin.name == CONVERT:
            _add_converter_missing(app)
        else:
            _add_failure(app, plugin.name, InternalError(detail=f"{plugin.value}: {error}"))


def _add_converter_missing(app: typer.Typer) -> None:
    for name in CONVERTER_COMMANDS:
        _add_failure(app, name, ConverterMissing())


def _add_failure(app: typer.Typer, name: str, failure: KylinError) -> None:
    def fail(_context: typer.Context) -> None:
        raise failure

    anything = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(name, help=_("Not available: {reason}").format(reason=failure), context_settings=anything)(
        fail
    )


def build(arguments: list[str]) -> typer.Typer:
    """Return the program with the commands that ``arguments`` can mean.

    Where they name a command of ours, only its module is imported; else all are, and the plug-ins, of which
    the converter's imports alone would slow every command down.
    """
    app = typer.Typer(
        name=PROGRAM,
        help=_("Local language models for the openKylin desktop."),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    asked = next((a for a in arguments if not a.startswith("-")), None)
    wanted = [group for group, commands in GROUPS.items() if asked in commands]
    for group in wanted or GROUPS:
        importlib.import_module(f"kylin_gguf.cli.{group}").register(app)
    if not wanted:
        _add_plugins(app)
    return app


def _add_plugins(app: typer.Typer) -> None:
    from importlib.metadata import entry_points  # noqa: PLC0415 - takes as long as most commands

    plugins = {plugin.name: plugin for plugin in entry_points(group=PLUGIN_GROUP)}
    for name in sorted(plugins):
        _add_plugin(app, plugins[name])
    if CONVERT not in plugins:
        _add_converter_missing(app)


def main() -> NoReturn:
    """Run the program with the process's arguments; end with the exit code of ``cli/errors.py``."""
    try:
        build(sys.argv[1:])(prog_name=PROGRAM)
    except KylinError as error:
        failure = error
    except Exception as error:
        failure = InternalError(detail=f"{type(error).__name__}: {error}")
        failure.__cause__ = error
    else:
        sys.exit(0)
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        traceback.print_exception(failure)
    print(f"{PROGRAM}: {failure.message()}", file=sys.stderr, flush=True)
    sys.exit(exit_code(failure))
