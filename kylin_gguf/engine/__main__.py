"""Entry point of a worker process: ``python -m kylin_gguf.engine --control FD``."""

from __future__ import annotations

import argparse
import logging
import socket

from kylin_gguf import config, native
from kylin_gguf.engine import channel, confinement
from kylin_gguf.engine.worker_log import LevelFormatter
from kylin_gguf.errors import KylinError


def main() -> None:
    """Serve one model over the inherited socket ``--control`` until it is closed. One that is all on the
    processor (``--processor-only``) needs no other back end, and what its driver does to a process."""
    parser = argparse.ArgumentParser(prog="kylin_gguf.engine", description=main.__doc__)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--processor-only", action="store_true")
    arguments = parser.parse_args()
    control = socket.socket(fileno=arguments.control)
    output = logging.StreamHandler()
    output.setFormatter(LevelFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[output])
    confinement.confine(control)
    try:
        libraries = native.load(config.load(), accelerators=not arguments.processor_only)
    except KylinError as error:
        channel.send(control, {"event": "failed", "id": 0, "error": error.to_wire()})
        return
    # The bindings bind to the libraries when they are imported, so nothing that uses them comes earlier.
    from kylin_gguf.engine.worker import Worker  # noqa: PLC0415

    Worker(control, libraries.version).run()


if __name__ == "__main__":
    main()
