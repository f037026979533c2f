"""Child process of ``offload.machine``: load the back ends and print what they found as one JSON object."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from kylin_gguf import config, native
from kylin_gguf.errors import KylinError


def main() -> None:
    """Print ``{"directory", "version", "processor", "devices": [...], "failed": [...]}`` or
    ``{"error": ...}`` (KylinError.to_wire).

    The lists hold records.Device and records.FailedPlugin as objects.
    """
    try:
        loaded = native.load(config.load())
    except KylinError as error:
        json.dump({"error": error.to_wire()}, sys.stdout)
    else:
        devices = [asdict(device) for device in loaded.devices]
        failed = [asdict(plugin) for plugin in loaded.failed]
        found = {"directory": str(loaded.directory), "version": loaded.version, "processor": loaded.processor}
        json.dump({**found, "devices": devices, "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main()
