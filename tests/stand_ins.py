"""Programs that stand in for a desktop's: each notes how it was called, and does nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

_RECORDER = """#!{python} -I
import json, os, sys, time
with open({log!r}, "a", encoding="utf-8") as log:
    log.write(json.dumps({{"argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ)}}) + "\\n")
{body}
"""


class Programs:
    """A directory for PATH. ``calls`` lists the argv of every call, in order, with bare program names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self._log = directory / "calls.jsonl"

    def add(self, name: str, body: str = "") -> None:
        """Make the program ``name``; ``body`` is what it does besides taking notes, in Python."""
        path = self.directory / name
        text = _RECORDER.format(python=sys.executable, log=str(self._log), body=body)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def records(self) -> list[dict[str, object]]:
        """Return what every call has noted."""
        if not self._log.exists():
            return []
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]

    def calls(self) -> list[list[str]]:
        """Return the argument lists of the calls."""
        found = []
        for record in self.records():
            argv = record["argv"]
            assert isinstance(argv, list)
            found.append([Path(argv[0]).name, *argv[1:]])
        return found
