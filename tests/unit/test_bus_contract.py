"""The interface files, what is generated from them, and the tables of D-Bus and exit codes."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from kylin_gguf import errors
from kylin_gguf.bus import contract, dispatch, document, names
from kylin_gguf.bus import errors as bus_errors
from kylin_gguf.bus.job import JobObject
from kylin_gguf.bus.manager import RootObject
from kylin_gguf.bus.registry import Published
from kylin_gguf.bus.request import RequestObject
from kylin_gguf.bus.session import SessionObject
from kylin_gguf.errors import ServiceUnavailable
from kylin_gguf.sessions import GENERATE_OPTIONS

ROOT = Path(__file__).parents[2]
DBUS = ROOT / "dbus"


def prose_of(interface: str, member: str) -> document.Prose:
    root = contract.parse(DBUS / f"{interface}.xml", comments=True)
    for described, _ in document.described(root):
        for element, prose in document.described(described):
            if element.get("name") == member:
                return prose
    raise AssertionError(f"{interface}.{member} has no prose")


def option_names(prose: document.Prose) -> set[str]:
    return set(re.findall(r"^- (\w+) \(", prose.text, re.MULTILINE))


@pytest.mark.parametrize("name", names.INTERFACES)
def test_every_member_and_argument_has_prose(name: str) -> None:
    root = contract.parse(DBUS / f"{name}.xml", comments=True)
    (interface, about), *others = document.described(root)
    assert interface.get("name") == name
    assert not others
    assert about.text
    members = [e for e in interface if e.tag in ("method", "signal", "property")]
    described = dict(document.described(interface))
    assert list(described) == members
    for element, prose in described.items():
        assert list(prose.arguments) == [a.get("name") for a in element.findall("arg")], element.get("name")
        assert prose.text or prose.arguments


@pytest.mark.parametrize("published", [RootObject, SessionObject, RequestObject, JobObject])
def test_code_answers_what_the_contract_promises(published: type[Published]) -> None:
    dispatch.check(published, contract.load())


def test_a_missing_handler_is_noticed() -> None:
    class Incomplete(Published):
        interfaces = (names.SESSION,)

    with pytest.raises(TypeError, match="generate is missing"):
        dispatch.check(Incomplete, contract.load())


def test_documented_options_are_those_of_the_code() -> None:
    documented = option_names(prose_of(names.SESSION, "Generate"))
    assert documented == set(GENERATE_OPTIONS)


def test_broken_installation_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match=r"Manager\.xml"):
        contract.load(tmp_path)


def test_page_is_up_to_date() -> None:
    page = ROOT / document.PAGE
    assert page.read_text(encoding="utf-8") == document.page()


def test_every_error_has_a_name_of_its_own() -> None:
    classes = set(errors.all_errors())
    assert set(bus_errors.NAMES) == classes
    assert len(set(bus_errors.NAMES.values())) == len(classes)


@pytest.mark.parametrize("cls", list(errors.all_errors()))
def test_errors_survive_the_bus(cls: type[errors.KylinError]) -> None:
    name, text = bus_errors.to_bus(cls.relayed("what happened"))
    back = bus_errors.from_bus(name, text)
    assert type(back) is cls
    assert back.message() == "what happened"
    assert "what happened" in repr(back)


def test_foreign_errors_become_ours() -> None:
    unavailable = bus_errors.from_bus("org.freedesktop.DBus.Error.ServiceUnknown", "Nobody.")
    assert isinstance(unavailable, ServiceUnavailable)
    newer = bus_errors.from_bus(f"{names.ERROR_PREFIX}Future.Thing", "It is new")
    assert type(newer) is errors.KylinError
    assert newer.message() == "It is new"
    assert isinstance(bus_errors.from_bus("org.example.Odd", "x"), errors.InternalError)


def test_activation_and_unit_files_agree() -> None:
    activation = configparser.ConfigParser(interpolation=None)
    activation.read(DBUS / f"{names.BUS_NAME}.service")
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.read(DBUS / "kylin-gguf.service")
    section = activation["D-BUS Service"]
    assert section["Name"] == unit["Service"]["BusName"] == names.BUS_NAME
    assert section["Exec"] == unit["Service"]["ExecStart"]
    assert section["SystemdService"] == "kylin-gguf.service"
