"""Entry point of the process that asks a server: ``python -m kylin_gguf.engine.remote --control FD``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket

from kylin_gguf.engine import confinement
from kylin_gguf.engine.remote.worker import RemoteWorker
from kylin_gguf.engine.worker_log import LevelFormatter

_MEMORY = 1 << 30
"""Bytes that answers may take together: parsed, JSON of 64 MiB can take twenty times as much."""


def main() -> None:
    """Answer for one server's model over the inherited socket ``--control`` until it is closed."""
    parser = argparse.ArgumentParser(prog="kylin_gguf.engine.remote", description=main.__doc__)
    parser.add_argument("--control", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control)
    output = logging.StreamHandler()
    output.setFormatter(LevelFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[output])
    confinement.confine(control)
    confinement.limit_data(_MEMORY)
    asyncio.run(RemoteWorker(control).run())


if __name__ == "__main__":
    main()
