"""Writes docs/dbus-api.md from the interface files and the error table.

``python -m kylin_gguf.bus.document`` rewrites the page; with ``--check`` it only says, by its exit status,
whether the page is up to date.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from kylin_gguf.bus import contract, errors, names

PAGE = Path("docs/dbus-api.md")
WIDTH = 118
INTRODUCTION = f"""# The D-Bus API

<!-- Generated from dbus/*.xml by "python -m kylin_gguf.bus.document"; edit those files instead. -->

The service owns the name `{names.BUS_NAME}` on the session bus and is started on demand. Its objects are

| path | interfaces |
|---|---|
| `{names.ROOT}` | Manager, Actuator |
| `{names.ROOT}/session/N` | Session |
| `{names.ROOT}/request/N` | Request |
| `{names.ROOT}/job/N` | Job |

Executors have the interface Executor, at paths of their own.

All objects have `org.freedesktop.DBus.Properties`, `Introspectable` and `Peer`, too. A first look:

    gdbus call --session --dest {names.BUS_NAME} --object-path {names.ROOT} \\
        --method {names.MANAGER}.ListModels
"""


@dataclass(frozen=True)
class Prose:
    """A documentation comment: what is said about the whole, and about each argument."""

    text: str
    arguments: dict[str, str]


def parse_comment(comment: str) -> Prose:
    """Read a comment in gdbus-codegen's syntax: ``Name:``, ``@argument: text`` lines, then prose."""
    lines = textwrap.dedent(comment).strip().splitlines()[1:]
    arguments: dict[str, str] = {}
    current = ""
    while lines and lines[0].strip():
        line = lines.pop(0).strip()
        if line.startswith("@"):
            current, _, line = line[1:].partition(":")
            arguments[current] = ""
        arguments[current] = f"{arguments[current]} {line.strip()}".strip()
    return Prose("\n".join(lines).strip(), arguments)


def described(parent: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, Prose]]:
    """Yield the children of ``parent`` that a comment stands before, with that comment."""
    prose: Prose | None = None
    for child in parent:
        if not isinstance(child.tag, str):  # comments have a function there
            prose = parse_comment(child.text or "")
        elif prose is not None:
            yield child, prose
            prose = None


def _arguments(member: ElementTree.Element, direction: str) -> str:
    default = "out" if member.tag == "signal" else "in"
    chosen = [a for a in member.findall("arg") if a.get("direction", default) == direction]
    return ", ".join(f"{a.get('type')} {a.get('name')}" for a in chosen)


def _heading(member: ElementTree.Element) -> str:
    name, kind = member.get("name"), member.tag
    if kind == "property":
        return f"### Property `{name}`: `{member.get('type')}`"
    if kind == "signal":
        return f"### Signal `{name}({_arguments(member, 'out')})`"
    results = _arguments(member, "out")
    return f"### `{name}({_arguments(member, 'in')})`" + (f" → `{results}`" if results else "")


def _member(member: ElementTree.Element, prose: Prose) -> Iterator[str]:
    yield _heading(member)
    arguments = [
        textwrap.fill(f"- `{name}`: {text}", WIDTH, subsequent_indent="  ")
        for name, text in prose.arguments.items()
    ]
    if arguments:
        yield "\n".join(arguments)
    if prose.text:
        yield prose.text


def _errors() -> Iterator[str]:
    yield "## Errors"
    yield (
        "Every failure has its own name. The message says what went wrong and what to do, in the service's\n"
        "language; programs go by the name. A failure that no other name describes is `Error.Internal`."
    )
    rows = [f"| `{name}` | {(cls.__doc__ or '').splitlines()[0]} |" for cls, name in errors.NAMES.items()]
    yield "\n".join(["| name | meaning |", "|---|---|", *rows])


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION.strip()]
    for name in names.INTERFACES:
        root = contract.parse(contract.directory() / f"{name}.xml", comments=True)
        for interface, prose in described(root):
            parts += [f"## {name}", prose.arguments["short_description"] + ".", prose.text]
            for member, about in described(interface):
                parts += _member(member, about)
    return "\n\n".join([*parts, *_errors()]) + "\n"


def main() -> int:
    """Write the page, or with ``--check`` compare it."""
    if sys.argv[1:] == ["--check"]:
        fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        if not fresh:
            print(f"{PAGE} is stale: run python -m kylin_gguf.bus.document", file=sys.stderr)
        return 0 if fresh else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
