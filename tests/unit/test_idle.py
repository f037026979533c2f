"""What a service that nobody uses has in memory."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, sys
from kylin_gguf.cli import app
app.build(["serve"])
from kylin_gguf import config
from kylin_gguf.catalogue import Catalogue
from kylin_gguf.records import ExecutorAddress
from kylin_gguf.service import Service
from kylin_gguf.store import Store
settings = config.load()
service = Service(settings, Store(settings, Catalogue(settings.catalogue, (), ())))
TEXT = '''
version: 1
commands:
  note.write:
    description: {zh: 写便签, en: Write a note}
    examples: {zh: [写个便签], en: [write a note]}
lists: {notes: {}}
'''

async def register():
    catalogues = service.catalogues
    await catalogues.register(ExecutorAddress(":1.1", "/x"), "own", TEXT)
    await catalogues.update_choices(":1.1", "own", "notes", {"a": ["购物", "shopping"]})
    assert [found["commands"] for found in catalogues.listing()] == [1]

asyncio.run(register())
unwanted = {"numpy", "llama_cpp", "jinja2", "rich", "opencc", "kylin_gguf.actuator.interpret"}
print(*sorted(unwanted & set(sys.modules)))
"""


def test_libraries_that_only_work_needs_are_not_loaded_even_with_a_clients_commands() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
