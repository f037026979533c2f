"""Entry point of the process that asks a server: ``python -m kylin_gguf.engine.remote --control FD``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket

from kylin_gguf.engine import confinement
from kylin_gguf.engine.remote.worker import RemoteWorker
from kylin_gguf.engine.worker_log import LevelFormatter


def main() -> None:
    """Answer for one server's model over the inherited socket ``--control`` until it is closed."""
    parser = argparse.ArgumentParser(prog="kylin_gguf.engine.remote", description=main.__doc__)
    parser.add_argument("--control", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control)
    output = logging.StreamHandler()
    output.setFormatter(LevelFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[output])
    confinement.confine(control)
    asyncio.run(RemoteWorker(control).run())


if __name__ == "__main__":
    main()
