"""A desktop made of stand-ins: programs that note how they were called, settings in a file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.stand_ins import Programs

SCHEMAS = """<schemalist>
<enum id="org.test.Mode"><value nick="day" value="0"/><value nick="night" value="1"/></enum>
<schema id="org.test.lamp" path="/org/test/lamp/">
  <key name="level" type="i"><range min="0" max="100"/><default>40</default></key>
  <key name="name" type="s"><default>'lamp'</default></key>
  <key name="text-level" type="s"><default>'11'</default></key>
  <key name="scale" type="d"><default>1.0</default></key>
  <key name="lit" type="b"><default>false</default></key>
  <key name="mode" enum="org.test.Mode"><default>'day'</default></key>
  <key name="colours" type="as"><default>['red']</default></key>
  <key name="count" type="u"><default>7</default></key>
</schema></schemalist>
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Stand-in programs, alone on PATH besides what they and the tests need."""
    made = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{made.directory}:/usr/bin:/bin")
    return made


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real gsettings with a schema of our own, kept in a file below ``tmp_path``."""
    directory = tmp_path / "schemas"
    directory.mkdir()
    (directory / "test.gschema.xml").write_text(SCHEMAS, encoding="utf-8")
    subprocess.run(["glib-compile-schemas", "--strict", directory], check=True)
    monkeypatch.setenv("GSETTINGS_SCHEMA_DIR", str(directory))
    monkeypatch.setenv("GSETTINGS_BACKEND", "keyfile")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert os.access("/usr/bin/gsettings", os.X_OK)
