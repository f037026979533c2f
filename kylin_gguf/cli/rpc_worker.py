"""``rpc-worker``: lend this machine's devices to another machine's engine."""

from __future__ import annotations

from typing import Annotated

import typer

from kylin_gguf import config
from kylin_gguf.cli import output
from kylin_gguf.offload import lend
from kylin_gguf.translation import translate as _

_PORT = 50052
"""As upstream's server."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "rpc-worker",
        help=_("Lend this machine's devices to the engine of another machine, until Ctrl-C.")
        + "\n\n"
        + _("That machine lists HOST:PORT in its setting rpc_workers; docs/offload.md says more."),
    )(rpc_worker)


def rpc_worker(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help=_("The address of this machine to listen on."))
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help=_("The port."))] = _PORT,
    device: Annotated[
        str, typer.Option(help=_("The only device to lend; else all GPUs, or the processor."))
    ] = "",
    memory: Annotated[
        int, typer.Option(metavar="MB", min=0, help=_("Most megabytes of each device; 0: what is free."))
    ] = 0,
    force: Annotated[
        bool, typer.Option("--force", help=_("Listen on any address, also where strangers reach it."))
    ] = False,
) -> None:
    """Command ``rpc-worker``."""
    lend.check_address(host, port, anywhere=force)
    output.notice(
        _(
            "Careful: llama.cpp calls this experimental, fragile and insecure, and warns never to use it on "
            "an open network or near secrets. Whoever reaches {host}:{port} can use it; there is no "
            "password, and what is sent, prompts included, is not encrypted."
        ).format(host=host, port=port)
    )
    settings = config.load()
    lend.serve(settings, f"{host}:{port}", device, memory * 1_000_000)
