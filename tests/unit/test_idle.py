"""What a service that nobody uses has in memory."""

from __future__ import annotations

import subprocess
import sys

BUILD = """
import sys
import kylin_gguf.bus.server, kylin_gguf.cli.app
from kylin_gguf import config
from kylin_gguf.catalogue import Catalogue
from kylin_gguf.service import Service
from kylin_gguf.store import Store
settings = config.load()
Service(settings, Store(settings, Catalogue(settings.catalogue, (), ())))
print(*sorted({"numpy", "llama_cpp", "kylin_gguf.actuator.interpret", "jinja2"} & set(sys.modules)))
"""


def test_libraries_that_only_work_needs_are_not_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
