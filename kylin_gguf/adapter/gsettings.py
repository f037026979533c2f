"""Settings through the program ``gsettings``, which finds them and tells the desktop of changes.

Values travel as GVariant's text format. Only plain values are needed: text, numbers, booleans.
"""

from __future__ import annotations

import ast
import re

from kylin_gguf.adapter import processes
from kylin_gguf.adapter.outcome import Failed, Unavailable
from kylin_gguf.records import ResultValue

PROGRAM = "gsettings"
TIMEOUT_S = 5.0
_TYPED = re.compile(r"(?:byte|u?int(?:16|32|64)|double) (.*)", re.DOTALL)
_INTEGERS, _REAL, _BOOLEAN, _TEXT = "ynqiuxt", "d", "b", "s"


def parse(text: str) -> ResultValue:
    """Return the value that GVariant ``text`` says; raises Failed when it is not a plain one."""
    typed = _TYPED.fullmatch(text)
    bare = typed[1] if typed else text
    if bare in ("true", "false"):
        return bare == "true"
    try:
        value = ast.literal_eval(bare)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise Failed(f"'{text[:40]}' is not a plain value") from error
    if isinstance(value, int | float | str):
        return value
    raise Failed(f"'{text[:40]}' is not a plain value")


def quote(text: str) -> str:
    """Return ``text`` as a GVariant string."""
    escaped = "".join(c if c.isprintable() and c not in "\\'" else _escape(c) for c in text)
    return f"'{escaped}'"


def _escape(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 — what four digits hold


class Key:
    """One key of one schema."""

    def __init__(self, schema: str, key: str) -> None:
        self._schema, self._key = schema, key

    def __str__(self) -> str:
        return f"{self._schema} {self._key}"

    async def probe(self) -> None:
        """Return when the key is there; raises Unavailable."""
        await self.kind()

    check = probe

    async def kind(self) -> str:
        """Return the key's GVariant type; ``s`` for an enumeration.

        Raises:
            Unavailable: there is no such schema or key here.
        """
        described = await processes.run(PROGRAM, "range", self._schema, self._key, seconds=TIMEOUT_S)
        words = described.output.split()  # "type s", "range i 0 9", "enum 'one' 'two'"
        if described.status or not words:
            raise Unavailable(f"there is no setting {self}")
        return _TEXT if words[0] == "enum" else words[1]

    async def get(self) -> ResultValue:
        """Return the present value; raises Failed."""
        return parse(await self._run("get"))

    async def set(self, value: ResultValue) -> None:
        """Change the value; raises Failed when it does not fit or is locked, Unavailable as ``kind``."""
        await self._run("set", _literal(await self.kind(), value))

    async def _run(self, verb: str, *more: str) -> str:
        done = await processes.run(PROGRAM, verb, self._schema, self._key, *more, seconds=TIMEOUT_S)
        if done.status:
            raise Failed(f"gsettings {verb} {self}: {done.complaints or done.status}")
        return done.output


def _literal(kind: str, value: ResultValue) -> str:
    """Return ``value`` in the notation of GVariant type ``kind``."""
    said = str(value).lower() if isinstance(value, bool) else str(value)
    if kind == _TEXT:
        return quote(said)
    if kind == _BOOLEAN:
        choices = {"true": "true", "on": "true", "false": "false", "off": "false"}
        if said in choices:
            return choices[said]
    elif kind in _INTEGERS or kind == _REAL:
        try:
            return str(int(said) if kind in _INTEGERS else float(said))
        except ValueError:
            pass
    raise Failed(f"'{said[:40]}' is no value of type {kind}")
