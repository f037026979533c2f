"""The service on a real bus: calls, streams, ownership, limits and the standard interfaces."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any
from xml.etree import ElementTree

import pytest
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageFlag
from dbus_next.message import Message as BusMessage

from kylin_gguf import __version__, errors
from kylin_gguf.bus import contract, names, values
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import ClientSession
from kylin_gguf.bus.connection import Connection
from kylin_gguf.bus.server import Server
from kylin_gguf.records import Message, Progress
from tests.bus.conftest import Connect
from tests.bus.fake_service import FakeService


async def until(condition: Any) -> None:
    """Wait for a condition that another process brings about."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def collect(session: ClientSession, prompt: str, **options: object) -> list[dict[str, Any]]:
    return [frame async for frame in await session.generate(prompt, **options)]


async def introspect(client: Client, path: str) -> ElementTree.Element:
    reply = await client.call(names.INTROSPECTABLE, "Introspect", path=path)
    return ElementTree.fromstring(reply.body[0])


def descriptors() -> int:
    gc.collect()  # connections of earlier tests close when they are collected
    return len(os.listdir("/proc/self/fd"))


# --- Models and properties ----------------------------------------------------------------------------


async def test_models_arrive_with_stable_types(client: Client) -> None:
    reply = await client.call(names.MANAGER, "ListModels")
    assert reply.signature == "aa{sv}"
    echo, slow = reply.body[0]
    assert {key: value.signature for key, value in echo.items()} == {
        "name": "s",
        "installed": "b",
        "size": "x",
        "languages": "as",
    }
    assert echo["size"].value == 5_000_000_000
    assert "languages" not in slow, "an empty list has no element type, so the key is absent"


async def test_properties(client: Client) -> None:
    properties = await client.properties()
    assert properties["Version"] == __version__
    assert properties["ApiVersion"] == names.API_VERSION
    assert properties["DefaultModel"] == "echo"
    assert properties["LoadedModels"][0]["pid"] == 42
    assert properties["LoadedModels"][0]["placement"]["context_length"] == 4096
    processor, card = properties["Devices"]
    assert (processor["name"], processor["memory_total"]) == ("CPU", 1 << 34)
    assert (processor["plugin"], processor["features"]) == ("cpu-haswell", ["AVX2", "RVV_VLEN=256"])
    assert card["plugin"] == "vulkan" and "features" not in card
    reply = await client.call(names.PROPERTIES, "Get", "s", names.MANAGER, "s", "DefaultModel")
    assert values.plain(reply.body[0]) == "echo"


async def test_one_unreadable_property_does_not_hide_the_others(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> list[dict[str, Any]]:
        raise errors.LibrariesMissing(("/nowhere",))

    monkeypatch.setattr(service, "devices", fail)
    properties = await client.properties()
    assert "Devices" not in properties
    assert properties["DefaultModel"] == "echo"
    with pytest.raises(errors.LibrariesMissing, match="/nowhere"):
        await client.call(names.PROPERTIES, "Get", "s", names.MANAGER, "s", "Devices")


async def test_plan_is_json(client: Client) -> None:
    reply = await client.call(names.MANAGER, "Plan", "s", "echo", "a{sv}", {"threads": 2})
    assert reply.body == ['{"model": "echo", "threads": 2, "reasons": ["因为"]}']


async def test_statistics_arrive_with_the_documented_types(client: Client) -> None:
    reply = await client.call(names.MANAGER, "GetStatistics")
    assert reply.signature == "a{sv}"
    told = {key: value.signature for key, value in reply.body[0].items()}
    assert told == {"pid": "x", "memory": "x", "models": "aa{sv}", "power": "a{sv}", "commands": "aa{sv}"}
    (model,), (command,) = reply.body[0]["models"].value, reply.body[0]["commands"].value
    assert {key for key, value in model.items() if value.signature == "d"} == {
        "time",
        "prompt_s",
        "generated_s",
        "energy_j",
    }
    assert model.pop("device_free").signature == "a{sv}"
    assert {value.signature for value in model.values()} == {"s", "x", "d"}
    power = reply.body[0]["power"].value
    assert {key: value.signature for key, value in power.items()} == {
        "on_battery": "b",
        "profile": "s",
        "hot": "b",
    }
    assert {key: value.signature for key, value in command.items()} == {
        "command": "s",
        "status": "s",
        "at": "d",
        "seconds": "d",
    }, "what is None is absent"


async def test_statistics_are_the_users_own(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def someone_else(_: str) -> int:
        return os.getuid() + 1

    monkeypatch.setattr(server.connection, "user_of", someone_else)
    with pytest.raises(errors.AccessDenied):
        await client.statistics()


async def test_changes_are_broadcast(client: Client, bus_address: str) -> None:
    listener = await Connection.connect(bus_address)
    heard: list[BusMessage] = []
    listener.on_signal = heard.append
    await listener.daemon("AddMatch", "s", [f"interface='{names.PROPERTIES}',path='{names.ROOT}'"])
    await client.call(names.MANAGER, "Prewarm", "s", "echo")
    await until(lambda: heard)
    interface, changed, invalidated = heard[0].body
    assert (interface, list(changed), invalidated) == (names.MANAGER, ["LoadedModels"], [])
    await listener.close()


# --- Sessions and streams -----------------------------------------------------------------------------


async def test_stream_and_history(client: Client) -> None:
    session = await client.create_session("echo")
    frames = await collect(session, "你好 world", temperature=0, seed=2**32 - 1, stop=["\n"])
    assert [frame["type"] for frame in frames] == ["text", "text", "usage", "end"]
    assert frames[0]["text"] == "你好"
    assert frames[-1]["reason"] == "stop"
    assert await session.messages() == [Message("user", "你好 world")]
    await session.set_context([Message("system", "Be brief."), Message("user", "Hi")])
    assert await session.messages() == [Message("system", "Be brief."), Message("user", "Hi")]
    await session.clear()
    assert await session.messages() == [Message("system", "Be brief.")]


async def test_cancel_ends_the_stream(client: Client) -> None:
    session = await client.create_session()
    answer = await session.generate("FOREVER")
    frames = []
    async for frame in answer:
        frames.append(frame)
        if frame["type"] == "text":
            await answer.cancel()
    assert frames[-1] == {"type": "end", "reason": "cancelled"}


async def test_complete_reads_far_more_than_a_socket_holds(client: Client) -> None:
    session = await client.create_session()
    words = ["0123456789" * 100] * 1000
    assert await session.complete(" ".join(words)) == "".join(words)


async def test_text_that_dbus_cannot_carry_is_replaced(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models() -> list[dict[str, Any]]:
        return [{"name": "a\0b\udcffc"}]

    monkeypatch.setattr(service, "models", models)
    # The server's own connection must survive it.
    (model,) = await client.list_models()
    assert model["name"].count("\N{REPLACEMENT CHARACTER}") >= 2


async def test_finished_goes_to_the_owner_alone(client: Client, bus_address: str) -> None:
    eavesdropper = await Connection.connect(bus_address)
    overheard: list[BusMessage] = []
    eavesdropper.on_signal = overheard.append
    await eavesdropper.daemon("AddMatch", "s", [f"type='signal',interface='{names.REQUEST}'"])
    heard: list[BusMessage] = []
    client._connection.on_signal = heard.append
    session = await client.create_session()
    await collect(session, "hello")
    await until(lambda: heard)
    assert heard[0].member == "Finished"
    assert heard[0].body[0] == "stop"
    assert values.plain(heard[0].body[1])["completion_tokens"] == 2
    await eavesdropper.daemon("GetId")  # anything sent before this reply would have arrived before it
    assert not [message for message in overheard if message.interface == names.REQUEST]
    await eavesdropper.close()


async def test_close_stops_requests_and_removes_the_session(client: Client, service: FakeService) -> None:
    session = await client.create_session()
    await session.generate("FOREVER")
    await session.close()
    assert service.sessions[0].closed
    assert service.sessions[0].generations[0].cancelled.is_set()
    with pytest.raises(errors.UnknownObject):
        await session.messages()


async def test_no_descriptor_stays_open(client: Client) -> None:
    session = await client.create_session()
    await collect(session, "warm up")
    before = descriptors()
    for _ in range(40):
        await collect(session, "a b")
    assert descriptors() == before


async def test_descriptors_that_nobody_asked_for_are_closed(client: Client) -> None:
    await client.list_models()
    before = descriptors()
    reading, writing = os.pipe()
    message = BusMessage(
        names.BUS_NAME, names.ROOT, names.MANAGER, "Remove", signature="h", body=[0], unix_fds=[reading]
    )
    with pytest.raises(errors.InvalidValue):
        await client._connection.call(message)
    os.close(reading)
    os.close(writing)
    assert descriptors() == before


async def test_client_without_descriptor_passing_is_told(
    bus_address: str, server: Server, service: FakeService
) -> None:
    bus = await MessageBus(bus_address=bus_address, negotiate_unix_fd=False).connect()

    async def call(path: str, interface: str, member: str, signature: str, body: list[Any]) -> BusMessage:
        message = BusMessage(names.BUS_NAME, path, interface, member, signature=signature, body=body)
        reply = await asyncio.wait_for(bus.call(message), 20)
        assert reply is not None
        return reply

    path = (await call(names.ROOT, names.MANAGER, "CreateSession", "a{sv}", [{}])).body[0]
    prompt = values.dictionary({"prompt": "FOREVER"})
    reply = await call(path, names.SESSION, "Generate", "a{sv}", [prompt])
    assert reply.error_name == f"{names.ERROR_PREFIX}Bus.NoFdPassing"
    generation = service.sessions[0].generations[0]
    await generation.finished
    assert generation.cancelled.is_set()
    assert (await call(path, names.SESSION, "Messages", "", [])).body == [[]]
    reply = await call(path, names.SESSION, "Complete", "sa{sv}", ["in words", {}])
    assert reply.body == ["inwords"]
    bus.disconnect()


async def test_caller_that_leaves_during_generate_leaves_nothing(
    client: Client, connect: Connect, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reply, descriptor included, may be queued or not yet be made when it goes."""
    leavers = [await connect() for _ in range(8)]
    sessions = [await leaver.create_session() for leaver in leavers]
    before = descriptors()
    for leaver, session in zip(leavers, sessions, strict=True):
        call = asyncio.ensure_future(session.generate("FOREVER"))
        await asyncio.sleep(0)
        await leaver.close()
        with pytest.raises(errors.ServiceUnavailable):
            await call
    await until(lambda: all(session.closed for session in service.sessions))
    for generation in (g for session in service.sessions for g in session.generations):
        await generation.finished
    await until(lambda: descriptors() <= before)
    assert await (await client.create_session()).complete("still here") == "stillhere"


# --- Ownership and limits -----------------------------------------------------------------------------


async def test_others_are_denied(client: Client, connect: Connect) -> None:
    session = await client.create_session()
    stranger = await connect()
    theirs = ClientSession(stranger.call, session.path)
    for attempt in (theirs.messages, theirs.clear, theirs.close, lambda: theirs.generate("x")):
        with pytest.raises(errors.AccessDenied):
            await attempt()
    with pytest.raises(errors.AccessDenied):
        await stranger.call(names.PROPERTIES, "GetAll", "s", names.SESSION, path=session.path)
    with pytest.raises(errors.AccessDenied):
        await introspect(stranger, session.path)
    nodes = (await introspect(stranger, names.ROOT)).findall("node")
    assert not nodes, "objects of others are not listed"
    assert [node.get("name") for node in (await introspect(client, names.ROOT)).findall("node")] == [
        "session"
    ]


async def test_objects_vanish_with_their_owner(
    client: Client, connect: Connect, service: FakeService, server: Server
) -> None:
    session = await client.create_session()
    await session.generate("FOREVER")
    loading = asyncio.ensure_future(client.load("slow"))
    completing = asyncio.ensure_future((await client.create_session()).complete("FOREVER"))
    await until(lambda: service.jobs and len(service.sessions) == 2 and service.sessions[1].generations)
    await client.close()
    for waiting in (loading, completing):
        with pytest.raises(errors.ServiceUnavailable):
            await waiting
    await until(lambda: all(s.closed for s in service.sessions) and service.jobs[0].finished)
    assert all(g.cancelled.is_set() for s in service.sessions for g in s.generations)
    assert service.jobs[0].state == "cancelled"
    other = await connect()
    with pytest.raises(errors.UnknownObject):
        await ClientSession(other.call, session.path).messages()


async def test_limits_are_each_connections_own(client: Client, connect: Connect) -> None:
    sessions = [await client.create_session() for _ in range(names.MAX_SESSIONS)]
    with pytest.raises(errors.Busy):
        await client.create_session()
    await (await connect()).create_session()
    await sessions[0].close()
    session = await client.create_session()
    answers = [await session.generate("FOREVER") for _ in range(names.MAX_RUNNING)]
    with pytest.raises(errors.Busy):
        await session.generate("one more")
    with pytest.raises(errors.Busy):
        await session.complete("one more")
    await answers[0].cancel()
    assert [frame async for frame in answers[0]][-1]["reason"] == "cancelled"
    assert (await collect(session, "again"))[-1]["reason"] == "stop"


async def test_finished_requests_are_kept_in_a_bounded_number(client: Client) -> None:
    session = await client.create_session()
    first = await session.generate("a")
    assert [frame async for frame in first][-1]["type"] == "end"
    reply = await client.call(names.PROPERTIES, "Get", "s", names.REQUEST, "s", "State", path=first.path)
    assert values.plain(reply.body[0]) == "stop"
    for _ in range(names.MAX_KEPT):
        await collect(session, "b")
    await client.list_models()
    with pytest.raises(errors.UnknownObject):
        await first.cancel()


# --- Jobs ---------------------------------------------------------------------------------------------


async def test_job_reports_and_completes(client: Client, service: FakeService) -> None:
    reports: list[Progress] = []
    loading = asyncio.ensure_future(client.load("slow", reports.append))
    await until(lambda: reports)
    assert (reports[0].stage, reports[0].fraction) == ("reading", 0.25)
    service.release.set()
    await loading
    assert reports[-1].fraction == 1.0


async def test_a_conversion_is_a_job_whose_last_detail_stays(client: Client) -> None:
    reports: list[Progress] = []
    await client.convert("a/b", "Q4_0", reports.append, replace=True)
    assert reports[-1] == Progress("a/b {'quantisation': 'Q4_0', 'replace': True}", 1000, 1000, "permille")


async def test_a_job_that_ends_at_once_is_not_missed(client: Client) -> None:
    for _ in range(20):
        await client.load("echo")


async def test_job_failure_has_its_class_and_sentence(client: Client) -> None:
    with pytest.raises(errors.UnknownModel, match="no model named 'ecco'"):
        await client.load("ecco")


async def test_cancelled_wait_cancels_the_job(client: Client, service: FakeService) -> None:
    loading = asyncio.ensure_future(client.load("slow"))
    await until(lambda: service.jobs)
    await client.list_models()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await until(lambda: service.jobs[0].finished)
    assert service.jobs[0].state == "cancelled"


# --- Commands -----------------------------------------------------------------------------------------


async def test_interpret(client: Client) -> None:
    found = await client.interpret("把音量调到百分之四十")
    assert list(found)[:3] == ["command", "arguments", "kylin"]
    assert found["arguments"] == {"level": 40}
    assert found["alternatives"][0]["command"] == "volume.get"
    nothing = await client.interpret("who are you?")
    assert nothing == {
        "command": None,
        "arguments": {},
        "kylin": None,
        "confidence": 0.9,
        "alternatives": [],
    }
    assert (await client.list_commands())[0]["id"] == "volume.set"


# --- Refusals -----------------------------------------------------------------------------------------


async def test_vectors_come_in_order_over_several_calls(client: Client, service: FakeService) -> None:
    texts = ["x" * length for length in range(1, 151)]
    vectors = [vector async for vector in client.embed(texts, "vectors")]
    assert vectors == [[float(length), 0.5] for length in range(1, 151)]
    assert len(service.embedded) > 1 and sum(service.embedded) == 150
    assert [vector async for vector in client.embed([], "vectors")] == []


async def test_vectors_are_refused_with_a_name(client: Client) -> None:
    with pytest.raises(errors.UnsupportedModel, match="pooling"):
        await anext(client.embed(["x"], "echo"))
    with pytest.raises(errors.UnknownOption):
        await client.call(names.MANAGER, "Embed", "s", "vectors", "as", ["x"], "a{sv}", {"size": 3})


async def test_caller_that_leaves_stops_its_vectors(connect: Connect, service: FakeService) -> None:
    leaving = await connect()
    call = asyncio.ensure_future(anext(leaving.embed(["x"], "slow")))
    await until(lambda: service.embedded == [1])
    await leaving.close()
    await until(lambda: service.embedded == [1, 0])
    with pytest.raises(errors.ServiceUnavailable):
        await call


async def test_refusals_are_named_and_suggest(client: Client) -> None:
    with pytest.raises(errors.UnknownOption, match="model, system"):
        await client.call(names.MANAGER, "CreateSession", "a{sv}", {"modle": "echo"})
    with pytest.raises(errors.UnknownOption, match="temperature"):
        await collect(await client.create_session(), "x", temprature=1.0)
    with pytest.raises(errors.InvalidValue):
        await collect(await client.create_session(), "x", top_k="many")
    with pytest.raises(errors.UnknownObject, match="similar: ListModels"):
        await client.call(names.MANAGER, "ListModel")
    with pytest.raises(errors.UnknownObject, match="similar: DefaultModel"):
        await client.call(names.PROPERTIES, "Get", "s", names.MANAGER, "s", "DefaultMode")
    with pytest.raises(errors.UnknownObject, match="Manager"):
        await client.call(f"{names.BUS_NAME}.Manger", "ListModels")
    with pytest.raises(errors.UnknownObject):
        await client.call(names.SESSION, "Messages", path=names.child("session", 999))
    with pytest.raises(errors.InvalidValue, match="signature"):
        await client.call(names.MANAGER, "Remove", "u", 1)
    with pytest.raises(errors.PropertyReadOnly):
        version = values.typed("s", "2")
        await client.call(names.PROPERTIES, "Set", "s", names.MANAGER, "s", "Version", "v", version)


async def test_defects_are_logged_in_full_and_generic_on_the_wire(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(errors.InternalError) as caught:
        await client.unload("echo")
    assert "secret" not in str(caught.value)
    assert "a defect with a secret" in caplog.text


async def test_overlong_text_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_TEXT", 1000)
    with pytest.raises(errors.InvalidValue):
        await client.interpret("x" * 1001)


async def test_call_without_reply_leaks_nothing(client: Client, service: FakeService) -> None:
    session = await client.create_session()
    await client.list_models()
    before = descriptors()
    message = BusMessage(
        names.BUS_NAME,
        session.path,
        names.SESSION,
        "Generate",
        signature="a{sv}",
        body=[values.dictionary({"prompt": "FOREVER"})],
        flags=MessageFlag.NO_REPLY_EXPECTED,
    )
    await client._connection.send(message)
    await until(lambda: service.sessions[0].generations)
    await service.sessions[0].generations[0].finished
    await client.list_models()
    assert descriptors() == before


# --- Contract -----------------------------------------------------------------------------------------


async def test_introspection_is_the_committed_files(client: Client) -> None:
    def canonical(element: ElementTree.Element) -> str:
        return ElementTree.canonicalize(ElementTree.tostring(element), strip_text=True)

    session = await client.create_session()
    loading = asyncio.ensure_future(client.load("slow"))
    answer = await session.generate("FOREVER")
    paths = {
        names.ROOT: (names.MANAGER, names.ACTUATOR),
        session.path: (names.SESSION,),
        answer.path: (names.REQUEST,),
        names.child("job", 1): (names.JOB,),
    }
    for path, interfaces in paths.items():
        served = {e.attrib["name"]: e for e in (await introspect(client, path)).findall("interface")}
        assert set(served) - set(interfaces) == {names.PROPERTIES, names.INTROSPECTABLE, names.PEER}
        for name in interfaces:
            committed = contract.parse(contract.directory() / f"{name}.xml").find("interface")
            assert committed is not None
            assert canonical(served[name]) == canonical(committed)
    loading.cancel()


async def test_path_leads_to_the_root_object(client: Client) -> None:
    path = "/"
    for part in names.ROOT.strip("/").split("/"):
        assert [node.get("name") for node in (await introspect(client, path)).findall("node")] == [part]
        path = f"{path.rstrip('/')}/{part}"
    await client.call(names.PEER, "Ping")
