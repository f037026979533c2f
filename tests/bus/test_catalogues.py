"""Catalogues that clients bring: registered, understood, owned and gone, over a real bus."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from kylin_gguf import errors
from kylin_gguf.actuator import quota, reader
from kylin_gguf.actuator.collection import Collection
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.quota import Size
from kylin_gguf.bus import names, values
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.server import Server
from kylin_gguf.records import ExecutorAddress
from tests.bus.conftest import Connect, Foreign
from tests.bus.fake_service import FakeService
from tests.unit.actuator.catalogues import FIRST, PLAYER
from tests.unit.actuator.hostile import documents


class InterpretingService(FakeService):
    """Understands commands, with a model that knows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._interpreter = Interpreter(reader.parse(FIRST, "first"))

    @property
    def catalogues(self) -> Collection:
        return self._interpreter.collection

    async def interpret(self, utterance: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return (await self._interpreter.interpret(utterance)).to_json()


@pytest.fixture
def service() -> InterpretingService:
    return InterpretingService()


async def register(client: Client, name: str, text: str = PLAYER, **options: object) -> None:
    await client.call(names.ACTUATOR, "RegisterCatalogue", "s", name, "s", text, "a{sv}", options)


async def listed(client: Client) -> list[str]:
    reply = await client.call(names.ACTUATOR, "ListCatalogues")
    return [one["name"] for one in values.plain(reply.body[0])]


async def test_registered_commands_are_understood_at_once(client: Client, service: FakeService) -> None:
    assert (await client.interpret("我想听爵士台"))["command"] is None
    await register(client, "player")
    found = await client.interpret("我想听爵士台")
    assert (found["command"], found["arguments"]) == ("player/radio.tune", {"station": "jazz-24"})
    speed = await client.interpret("播放速度1.5倍")
    assert speed["arguments"] == {"speed": 1.5}
    assert (await client.interpret("把灯关掉"))["command"] == "lamp.power"
    await client.call(names.ACTUATOR, "RemoveCatalogue", "s", "player")
    assert (await client.interpret("我想听爵士台"))["command"] is None


async def test_an_executor_says_where_it_is(client: Client, service: InterpretingService) -> None:
    await register(client, "one")
    await register(client, "two", executor="/here", keep_alive=False)
    owner = service.catalogues.listing()[0]["owner"]
    assert owner.startswith(":")
    assert service.catalogues.executor("one/web.search") == (
        ExecutorAddress(owner, f"{names.ROOT}/Executor"),
        "web.search",
    )
    assert service.catalogues.executor("two/web.search") == (ExecutorAddress(owner, "/here"), "web.search")
    for wrong in ({"executor": "here"}, {"executor": 5}, {"keep_alive": "yes"}, {"unavailable": "x"}):
        with pytest.raises(errors.InvalidValue):
            await register(client, "three", **wrong)
    with pytest.raises(errors.UnknownOption, match="executor"):
        await register(client, "three", executer="/here")
    assert await listed(client) == ["one", "two"]


async def test_lists_are_refreshed_by_their_owner(client: Client, connect: Connect) -> None:
    await register(client, "player")
    update = (names.ACTUATOR, "UpdateChoices", "s", "player", "s", "apps", "a{sas}")
    await client.call(*update, {"kate.desktop": ["文本编辑器", "Kate"]})
    assert (await client.interpret("打开文本编辑器"))["arguments"] == {"app": "kate.desktop"}
    with pytest.raises(errors.AccessDenied):
        await (await connect()).call(*update, {})
    with pytest.raises(errors.InvalidValue):
        await client.call(*update, {"kate.desktop": []})


async def test_names_belong_to_connections(client: Client, connect: Connect) -> None:
    other = await connect()
    await register(client, "player")
    with pytest.raises(errors.AccessDenied):
        await register(other, "player")
    with pytest.raises(errors.AccessDenied):
        await other.call(names.ACTUATOR, "RemoveCatalogue", "s", "player")
    await register(other, "radio")  # the same ids under another name
    assert await listed(other) == ["player", "radio"]
    with pytest.raises(errors.UnknownCatalogue):
        await client.call(names.ACTUATOR, "RemoveCatalogue", "s", "plaier")
    with pytest.raises(errors.InvalidValue):
        await register(client, "first")


async def test_a_catalogue_leaves_with_its_owner(client: Client, connect: Connect) -> None:
    other = await connect()
    await register(other, "player")
    assert (await client.interpret("我想听爵士台"))["command"] == "player/radio.tune"
    await other.close()
    async with asyncio.timeout(20):
        while await listed(client):
            await asyncio.sleep(0.01)
    assert (await client.interpret("我想听爵士台"))["command"] is None
    await register(client, "player")


async def test_an_owner_that_leaves_while_its_catalogue_is_learnt_leaves_nothing(
    client: Client, connect: Connect, service: InterpretingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await connect()
    begun = asyncio.Event()
    register_in = service.catalogues.register

    async def slow(*arguments: Any, **options: Any) -> Any:
        begun.set()
        await asyncio.sleep(0.2)
        return await register_in(*arguments, **options)

    monkeypatch.setattr(service.catalogues, "register", slow)
    call = asyncio.create_task(register(other, "player"))
    await begun.wait()
    await other.close()
    with pytest.raises(errors.KylinError):
        await call
    await asyncio.sleep(0.5)
    assert await listed(client) == []


async def test_limits_are_errors_with_a_name(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "EACH", Size(1, 100, 1000))
    await register(client, "one")
    with pytest.raises(errors.CatalogueLimit, match="1"):
        await register(client, "two")
    with pytest.raises(errors.CommandsInvalid, match="larger"):
        await register(client, "one", "#" * (reader.MAX_BYTES + 1))


async def test_registrations_of_one_client_do_not_pile_up(
    client: Client, connect: Connect, service: InterpretingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()
    register_in = service.catalogues.register

    async def waiting(*arguments: Any, **options: Any) -> Any:
        await go_on.wait()
        return await register_in(*arguments, **options)

    monkeypatch.setattr(service.catalogues, "register", waiting)
    calls = [asyncio.create_task(register(client, "one")) for _ in range(names.MAX_REGISTRATIONS + 1)]
    [refused], waited = await asyncio.wait(calls, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert isinstance(refused.exception(), errors.Busy)
    other = asyncio.create_task(register(await connect(), "two"))
    go_on.set()
    await asyncio.gather(*waited, other)
    assert await listed(client) == ["one", "two"]


async def test_the_service_stays_for_a_catalogue_that_would_be_missed(
    client: Client, service: InterpretingService
) -> None:
    await register(client, "extra", keep_alive=False)
    assert not service.catalogues.keeps_alive
    await register(client, "player")
    assert service.catalogues.keeps_alive


async def test_hostile_catalogues_are_refused_and_the_service_goes_on(client: Client) -> None:
    """The text goes through the whole of the bus; unit tests try many more."""
    texts: list[str] = []

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(documents())
    def gather(text: str) -> None:
        texts.append(text)

    await asyncio.to_thread(gather)
    refused = 0
    for text in texts:
        try:
            await register(client, "hostile", values.text(text))
        except errors.CommandsInvalid:
            refused += 1
    assert refused > 0
    assert (await client.interpret("把灯关掉"))["command"] == "lamp.power"


async def test_a_foreign_client_registers_with_gdbus(server: Server, foreign: Foreign) -> None:
    """And leaves at once, so the catalogue does, too."""
    call = ["gdbus", "call", "--session", "--dest", names.BUS_NAME, "--object-path", names.ROOT, "--method"]
    status, output, complaints = await foreign(
        *call, f"{names.ACTUATOR}.RegisterCatalogue", "player", PLAYER, "{'keep_alive': <false>}"
    )
    assert (status, output.strip()) == (0, "()"), complaints
    status, _, complaints = await foreign(
        *call, f"{names.ACTUATOR}.RegisterCatalogue", "player", "version: 2", "{}"
    )
    assert status != 0
    assert "Actuator.CatalogueInvalid" in complaints
