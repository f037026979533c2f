"""Writes docs/exit-codes.md from the table in ``cli/errors.py``: ``python -m kylin_gguf.cli.document``."""

from __future__ import annotations

from pathlib import Path

from kylin_gguf.cli.errors import EXIT_CODES

PAGE = Path("docs/exit-codes.md")
INTRODUCTION = """# Exit codes

<!-- Generated from kylin_gguf/cli/errors.py by "python -m kylin_gguf.cli.document". -->

`kylin-gguf` ends with 0 when it did what was asked. Otherwise stderr has one sentence with what to do, and
the status says what kind of failure it was. `--debug` before the command adds the traceback.

| status | meaning |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    rows = sorted(EXIT_CODES.items(), key=lambda item: item[1])
    return INTRODUCTION + "".join(
        f"| {code} | {(cls.__doc__ or '').splitlines()[0]} |\n" for cls, code in rows
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
