"""The program ``kylin-gguf``: registers the command groups, and is the only place that catches everything."""

from __future__ import annotations

import logging
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, NoReturn

import typer

from kylin_gguf import __version__
from kylin_gguf.cli import (
    act,
    actuator,
    chat,
    doctor,
    embed,
    loaded,
    models,
    monitor,
    output,
    plan,
    serve,
    status,
)
from kylin_gguf.cli.errors import exit_code
from kylin_gguf.errors import ConverterMissing, InternalError, KylinError
from kylin_gguf.translation import translate as _

PROGRAM = "kylin-gguf"
PLUGIN_GROUP = "kylin_gguf.commands"
CONVERT = "convert"
GROUPS = (models, serve, chat, act, actuator, embed, plan, status, loaded, monitor, doctor)


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
            _add_failure(app, CONVERT, ConverterMissing())
        else:
            _add_failure(app, plugin.name, InternalError(detail=f"{plugin.value}: {error}"))


def _add_failure(app: typer.Typer, name: str, failure: KylinError) -> None:
    def fail(_context: typer.Context) -> None:
        raise failure

    anything = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(name, help=_("Not available: {reason}").format(reason=failure), context_settings=anything)(
        fail
    )


def build(arguments: list[str]) -> typer.Typer:
    """Return the program with the commands that ``arguments`` can mean.

    Plug-ins are imported only when one of them is asked for, or all are to be listed: the converter's
    imports would otherwise slow down every command.
    """
    app = typer.Typer(
        name=PROGRAM,
        help=_("Local language models for the openKylin desktop."),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    for group in GROUPS:
        group.register(app)
    builtin = {command.name for command in app.registered_commands}
    if next((a for a in arguments if not a.startswith("-")), None) in builtin:
        return app
    plugins = {plugin.name: plugin for plugin in entry_points(group=PLUGIN_GROUP)}
    for name in sorted(plugins):
        _add_plugin(app, plugins[name])
    if CONVERT not in plugins:
        _add_failure(app, CONVERT, ConverterMissing())
    return app


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
    output.notice(f"{PROGRAM}: {failure.message()}")
    sys.exit(exit_code(failure))
