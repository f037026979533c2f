"""What users hand in: the text of a file, or of standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from kylin_gguf.errors import FileMissing

STDIN = "-"


def text(path: str) -> str:
    """Return the text of a file; raises FileMissing where it cannot be read, or is none in UTF-8."""
    try:
        return sys.stdin.read() if path == STDIN else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileMissing(path, str(error)) from error


def lines(path: str) -> list[str]:
    """Return the lines of a file; errors as of ``text``."""
    # Only \n ends a line here: the other ends of str.splitlines occur within texts.
    return text(path).removesuffix("\n").split("\n")
