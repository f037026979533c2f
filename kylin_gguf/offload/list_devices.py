"""Child process of ``offload.machine``: load the back ends and print their devices as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from kylin_gguf import config, native


def main() -> None:
    """Print a JSON list of records.Device on standard output."""
    loaded = native.load(config.load())
    json.dump([asdict(device) for device in loaded.devices], sys.stdout)


if __name__ == "__main__":
    main()
