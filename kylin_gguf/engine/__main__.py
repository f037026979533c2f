"""Entry point of a worker process: ``python -m kylin_gguf.engine --control FD``."""

from __future__ import annotations

import argparse
import logging
import socket
from pathlib import Path

from kylin_gguf import config, native
from kylin_gguf.engine import channel
from kylin_gguf.errors import KylinError

log = logging.getLogger(__name__)


def _volunteer_for_oom() -> None:
    """When memory runs out, one request should go, not the desktop."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    except OSError as error:
        log.info("cannot volunteer for the out-of-memory killer: %s", error)


def main() -> None:
    """Serve one model over the inherited socket ``--control`` until it is closed."""
    parser = argparse.ArgumentParser(prog="kylin_gguf.engine", description=main.__doc__)
    parser.add_argument("--control", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control)
    logging.basicConfig(level=logging.INFO, format="kylin-gguf worker: %(message)s")
    _volunteer_for_oom()
    try:
        libraries = native.load(config.load())
    except KylinError as error:
        channel.send(control, {"event": "failed", "id": 0, "error": error.to_wire()})
        return
    # The bindings bind to the libraries when they are imported, so nothing that uses them comes earlier.
    from kylin_gguf.engine.worker import Worker  # noqa: PLC0415

    Worker(control, libraries.version).run()


if __name__ == "__main__":
    main()
