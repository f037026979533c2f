"""Child process of ``offload.machine``: load the back ends and print what they found as one JSON object."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from kylin_gguf import config, native
from kylin_gguf.errors import KylinError


def main() -> None:
    """Print ``{"devices": [...]}`` (records.Device) or ``{"error": ...}`` (KylinError.to_wire)."""
    try:
        found = native.load(config.load()).devices
    except KylinError as error:
        json.dump({"error": error.to_wire()}, sys.stdout)
    else:
        json.dump({"devices": [asdict(device) for device in found]}, sys.stdout)


if __name__ == "__main__":
    main()
