"""Between plain Python values and D-Bus ones.

Outgoing dictionaries keep their types stable for foreign clients: None and empty lists are left out, whole
numbers are ``x``, fractions ``d``, lists of dictionaries ``aa{sv}``, other lists ``as``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbus_next.signature import SignatureTree, Variant

from kylin_gguf.bus.names import MAX_TEXT
from kylin_gguf.errors import InvalidValue


def plain(value: Any) -> Any:
    """Return ``value`` with every variant in it replaced by what it holds.

    Raises:
        InvalidValue: a string is longer than ``MAX_TEXT``.
    """
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise InvalidValue("text", f"{value[:20]}…", f"at most {MAX_TEXT} characters")
    return value


def text(value: str) -> str:
    """Return ``value`` as D-Bus can carry it.

    A NUL character, or half a surrogate pair from an undecodable file name, would make the daemon drop our
    connection; each becomes U+FFFD.
    """
    whole = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def dictionary(value: Mapping[str, object]) -> dict[str, Variant]:
    """Return ``value`` as an ``a{sv}``."""
    present = {
        k: v for k, v in value.items() if v is not None and not (isinstance(v, list | tuple) and not v)
    }
    return {text(str(key)): typed(_signature(item), item) for key, item in present.items()}


def typed(signature: str, value: object) -> Variant:
    """Return ``value`` as a variant of ``signature``."""
    return Variant(signature, _as(signature, value))


def body(signature: str, values: Sequence[object]) -> list[Any]:
    """Return ``values`` as the body of a message of ``signature``.

    Raises:
        ValueError: they do not fit, which is a defect of the code that made them.
    """
    tree = SignatureTree(signature)
    converted = [_as(kind.signature, value) for kind, value in zip(tree.types, values, strict=True)]
    tree.verify(converted)
    return converted


def _signature(value: object) -> str:
    if isinstance(value, bool):
        return "b"
    if isinstance(value, int):
        return "x"
    if isinstance(value, float):
        return "d"
    if isinstance(value, Mapping):
        return "a{sv}"
    if isinstance(value, list | tuple):
        return "aa{sv}" if isinstance(value[0], Mapping) else "as"
    return "s"


def _as(signature: str, value: Any) -> Any:
    match signature:
        case "s" if isinstance(value, str | Path):
            return text(str(value))
        case "as":
            return [text(item) for item in value]
        case "a{sv}" if any(not isinstance(item, Variant) for item in value.values()):
            return dictionary(value)
        case "aa{sv}":
            return [dictionary(item) for item in value]
        case "aa{ss}":
            return [{text(key): text(item) for key, item in one.items()} for one in value]
        case _:
            return value
