"""The interface XML in ``dbus/`` as data: the service dispatches by it and serves it for introspection.

Prose stands in comments, each before the element it is about, in gdbus-codegen's documentation syntax;
``document`` turns it into docs/dbus-api.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from kylin_gguf.bus import names
from kylin_gguf.config import in_checkout, shared_file
from kylin_gguf.errors import ServiceUnavailable

INSTALLED = Path("/usr/share/dbus-1/interfaces")
EMITS_CHANGED = "org.freedesktop.DBus.Property.EmitsChangedSignal"
HEADER = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)
STANDARD = ElementTree.fromstring(f"""<node>
  <interface name="{names.PROPERTIES}">
    <method name="Get">
      <arg name="interface" type="s" direction="in"/>
      <arg name="property" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface" type="s" direction="in"/>
      <arg name="properties" type="a{{sv}}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface" type="s" direction="in"/>
      <arg name="property" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface" type="s"/>
      <arg name="changed" type="a{{sv}}"/>
      <arg name="invalidated" type="as"/>
    </signal>
  </interface>
  <interface name="{names.INTROSPECTABLE}">
    <method name="Introspect"><arg name="xml" type="s" direction="out"/></method>
  </interface>
  <interface name="{names.PEER}">
    <method name="Ping"/>
    <method name="GetMachineId"><arg name="machine_id" type="s" direction="out"/></method>
  </interface>
</node>""")


@dataclass(frozen=True)
class Method:
    """One method: its argument names and signatures."""

    name: str
    arguments: tuple[str, ...]
    signature_in: str
    signature_out: str


@dataclass(frozen=True)
class Interface:
    """One interface. ``signals`` and ``properties`` map a name to its signature."""

    name: str
    methods: Mapping[str, Method]
    signals: Mapping[str, str]
    properties: Mapping[str, str]
    announced: frozenset[str]
    """Properties whose changes are announced with PropertiesChanged."""
    element: ElementTree.Element


def _method(element: ElementTree.Element) -> Method:
    arguments = element.findall("arg")
    ingoing = [a for a in arguments if a.get("direction", "in") == "in"]
    outgoing = [a for a in arguments if a.get("direction") == "out"]
    return Method(
        element.attrib["name"],
        tuple(a.attrib["name"] for a in ingoing),
        "".join(a.attrib["type"] for a in ingoing),
        "".join(a.attrib["type"] for a in outgoing),
    )


def _is_announced(element: ElementTree.Element) -> bool:
    values = [a.get("value") for a in element.findall("annotation") if a.get("name") == EMITS_CHANGED]
    return values in ([], ["true"])


def _interface(element: ElementTree.Element) -> Interface:
    properties = element.findall("property")
    return Interface(
        element.attrib["name"],
        {m.attrib["name"]: _method(m) for m in element.findall("method")},
        {
            s.attrib["name"]: "".join(a.attrib["type"] for a in s.findall("arg"))
            for s in element.findall("signal")
        },
        {p.attrib["name"]: p.attrib["type"] for p in properties},
        frozenset(p.attrib["name"] for p in properties if _is_announced(p)),
        element,
    )


def directory() -> Path:
    """Return where the interface files are: the checkout's ``dbus/`` or the system's place."""
    return shared_file("dbus") if in_checkout() else INSTALLED


def parse(path: Path, *, comments: bool = False) -> ElementTree.Element:
    """Return the root element of one interface file.

    Raises:
        ServiceUnavailable: the file is missing or not XML, which is a broken installation.
    """
    builder = ElementTree.TreeBuilder(insert_comments=comments)
    try:
        return ElementTree.parse(path, ElementTree.XMLParser(target=builder)).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ServiceUnavailable(f"{path}: {error}") from error


def load(source: Path | None = None) -> dict[str, Interface]:
    """Read the interfaces of ``names.INTERFACES``, and the standard ones, by name.

    Raises:
        ServiceUnavailable: a file is missing or does not describe the interface that it is named for.
    """
    interfaces = {e.attrib["name"]: _interface(e) for e in STANDARD}
    for name in names.INTERFACES:
        path = (source or directory()) / f"{name}.xml"
        for element in parse(path).findall("interface"):
            interfaces[element.attrib["name"]] = _interface(element)
        if name not in interfaces:
            raise ServiceUnavailable(f"{path}: no interface {name}")
    return interfaces


def introspection(interfaces: list[Interface], children: list[str]) -> str:
    """Return the introspection data of an object that has ``interfaces`` and child nodes ``children``."""
    root = ElementTree.Element("node")
    root.extend([copy.deepcopy(interface.element) for interface in interfaces])
    root.extend([ElementTree.Element("node", {"name": name}) for name in children])
    ElementTree.indent(root)
    return HEADER + ElementTree.tostring(root, encoding="unicode") + "\n"
