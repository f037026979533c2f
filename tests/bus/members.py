"""Every member that the contract has, and arguments for it, made from its signature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dbus_next.message import Message
from dbus_next.signature import SignatureTree

from kylin_gguf.bus import contract, names, values

PLAIN: dict[str, object] = {
    "s": "x",
    "b": True,
    "a{sv}": {},
    "as": [],
    "aa{ss}": [],
    "a{sas}": {},
}


@dataclass(frozen=True)
class Call:
    """A call of one member, to be sent to any object."""

    interface: str
    member: str
    signature: str
    body: tuple[object, ...]

    def message(self, path: str) -> Message:
        body = values.body(self.signature, self.body)
        return Message(names.BUS_NAME, path, self.interface, self.member, signature=self.signature, body=body)

    def __str__(self) -> str:
        return f"{self.interface.removeprefix(names.BUS_NAME)}.{self.member}({self.body or ''})"


def calls(interface: str) -> Iterator[Call]:
    """Yield a call for each method of an interface, and the standard calls for each of its properties."""
    described = contract.load()[interface]
    for method in described.methods.values():
        arguments = tuple(PLAIN[kind] for kind in _kinds(method.signature_in))
        yield Call(interface, method.name, method.signature_in, arguments)
    for name, signature in described.properties.items():
        value = values.typed(signature, PLAIN.get(signature, 0.0 if signature == "d" else []))
        yield Call(names.PROPERTIES, "Get", "ss", (interface, name))
        yield Call(names.PROPERTIES, "Set", "ssv", (interface, name, value))
    yield Call(names.PROPERTIES, "GetAll", "s", (interface,))
    yield Call(names.INTROSPECTABLE, "Introspect", "", ())


def _kinds(signature: str) -> list[str]:
    return [kind.signature for kind in SignatureTree(signature).types]
