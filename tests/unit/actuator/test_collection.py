"""Catalogues that come and go: names, owners, limits, and what an utterance means among many of them."""

import asyncio
import statistics
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from kylin_gguf.actuator import interpret, quota, reader
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.collection import Collection
from kylin_gguf.actuator.interpret import Interpreter
from kylin_gguf.actuator.quota import Size
from kylin_gguf.actuator.shipped import load_commands
from kylin_gguf.actuator.shortlist import Shortlist
from kylin_gguf.actuator.study import Study
from kylin_gguf.errors import (
    AccessDenied,
    CatalogueLimit,
    CommandsInvalid,
    InvalidValue,
    UnknownCatalogue,
)
from kylin_gguf.records import ExecutorAddress, no_progress
from tests.synthetic_catalogues import PROGRAMS, catalogue
from tests.unit.actuator.catalogues import FIRST
from tests.unit.actuator.models import Model
from tests.unit.actuator.test_interpret import COMMANDS, NOTHING

WALLET = """
version: 1
lists:
  cards: {}
commands:
  open:
    description: {zh: 打开钱包, en: Open the wallet}
    examples: {zh: [打开钱包, 看看我的钱包, 钱包在哪], en: [open my wallet, show the wallet, open the wallet]}
  pay:
    description: {zh: 用卡付款, en: Pay with a card}
    risk: confirm
    arguments: {card: {type: choice, list: cards}}
    examples: {zh: [用<card>付款, 刷<card>], en: [pay with <card>, use <card> to pay]}
"""
ME, OTHER = ExecutorAddress(":1.1", "/me"), ExecutorAddress(":1.2", "/other")


@pytest.fixture
def interpreter() -> Interpreter:
    return Interpreter(reader.parse(FIRST, "first"))


async def command(interpreter: Interpreter, utterance: str) -> str | None:
    return (await interpreter.interpret(utterance)).command


async def test_a_registered_catalogue_is_understood_beside_the_first(interpreter: Interpreter) -> None:
    catalogues = interpreter.collection
    assert await command(interpreter, "打开我的钱包") is None
    await catalogues.register(ME, "wallet", WALLET)
    assert await command(interpreter, "打开我的钱包") == "wallet/open"
    assert await command(interpreter, "show me the wallet") == "wallet/open"
    assert await command(interpreter, "把灯关掉") == "lamp.power"
    assert await command(interpreter, "今天天气怎么样") is None
    assert await command(interpreter, "用蓝卡付款") is None, "the list has no entries yet"
    await catalogues.update_choices(":1.1", "wallet", "cards", {"42": ["蓝卡", "blue card"]})
    found = await interpreter.interpret("用蓝卡付款吧")
    assert (found.command, dict(found.arguments), found.confirm) == ("wallet/pay", {"card": "42"}, True)
    catalogues.remove(":1.1", "wallet")
    assert await command(interpreter, "打开我的钱包") is None


async def test_the_same_ids_in_two_catalogues_do_not_clash(interpreter: Interpreter) -> None:
    catalogues = interpreter.collection
    await catalogues.register(ME, "wallet", WALLET)
    await catalogues.register(
        OTHER, "door", WALLET.replace("钱包", "车库门").replace("wallet", "garage door")
    )
    assert await command(interpreter, "打开车库门") == "door/open"
    assert await command(interpreter, "打开我的钱包") == "wallet/open"
    assert catalogues.executor("door/open") == (OTHER, "open")
    assert catalogues.executor("lamp.power") == (None, "lamp.power")
    ids = [c.id for c in catalogues.catalogue.commands]
    assert len(ids) == len(set(ids)) == 6


async def test_no_catalogue_takes_over_a_command_of_the_first(interpreter: Interpreter) -> None:
    thief = WALLET.replace("打开钱包, 看看我的钱包", "开灯, 把灯打开").replace("open my wallet", "lamp on")
    await interpreter.collection.register(ME, "thief", thief)
    for utterance in ("开灯", "把灯打开", "lamp on", "lamp on please"):
        assert await command(interpreter, utterance) != "thief/open"


async def test_names_belong_to_their_owners(interpreter: Interpreter) -> None:
    catalogues = interpreter.collection
    await catalogues.register(ME, "wallet", WALLET)
    with pytest.raises(AccessDenied):
        await catalogues.register(OTHER, "wallet", WALLET)
    with pytest.raises(AccessDenied):
        catalogues.remove(":1.2", "wallet")
    with pytest.raises(AccessDenied):
        await catalogues.update_choices(":1.2", "wallet", "cards", {})
    with pytest.raises(AccessDenied):
        await catalogues.update_choices("", "wallet", "cards", {})
    for name in ("first", "", "Wallet", "a/b", "-", "x" * 41, "ä"):
        with pytest.raises(InvalidValue):
            await catalogues.register(ME, name, WALLET)
    with pytest.raises(UnknownCatalogue):
        catalogues.remove(":1.1", "walet")
    with pytest.raises(UnknownCatalogue):
        await catalogues.update_choices(":1.1", "first", "cards", {})
    catalogues.remove_all(":1.2")
    assert [c["name"] for c in catalogues.listing()] == ["wallet"]
    catalogues.remove_all(":1.1")
    assert catalogues.listing() == []
    await catalogues.register(OTHER, "wallet", WALLET)


async def test_registering_again_replaces_and_a_failure_changes_nothing(interpreter: Interpreter) -> None:
    catalogues = interpreter.collection
    await catalogues.register(ME, "wallet", WALLET)
    with pytest.raises(CommandsInvalid):
        await catalogues.register(ME, "wallet", WALLET.replace("description", "descripton"))
    assert await command(interpreter, "打开我的钱包") == "wallet/open"
    await catalogues.register(ME, "wallet", WALLET.replace("  open:", "  unfold:"))
    assert await command(interpreter, "打开我的钱包") == "wallet/unfold"
    assert [c["commands"] for c in catalogues.listing()] == [2]


@pytest.mark.parametrize(
    ("each", "total", "what"),
    [
        (Size(1, 99, 99), Size(9, 99, 99), "catalogues per client"),
        (Size(9, 3, 99), Size(9, 99, 99), "commands per client"),
        (Size(9, 99, 19), Size(9, 99, 99), "examples per client"),
        (Size(9, 99, 99), Size(1, 99, 99), "catalogues"),
        (Size(9, 99, 99), Size(9, 3, 99), "commands"),
        (Size(9, 99, 99), Size(9, 99, 19), "examples"),
    ],
)
async def test_limits(
    interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch, each: Size, total: Size, what: str
) -> None:
    monkeypatch.setattr(quota, "EACH", each)
    monkeypatch.setattr(quota, "ALL", total)
    catalogues = interpreter.collection
    await catalogues.register(ME, "one", WALLET)
    await catalogues.register(ME, "one", WALLET)  # replaces, so it counts once
    with pytest.raises(CatalogueLimit) as caught:
        await catalogues.register(ME, "two", WALLET)
    assert caught.value.what == what
    if "per client" in what:
        await catalogues.register(OTHER, "two", WALLET)


@pytest.mark.parametrize(
    "choices",
    [
        {"": ["x"]},
        {"x": []},
        {"x": [""]},
        {"x": ["y"] * 9},
        {"x": ["a\nb"]},
        {"x" * 201: ["y"]},
        {"x": ["y" * 201]},
        {str(i): ["y"] for i in range(2001)},
    ],
)
async def test_lists_are_checked(interpreter: Interpreter, choices: dict[str, list[str]]) -> None:
    await interpreter.collection.register(ME, "wallet", WALLET)
    with pytest.raises(InvalidValue):
        await interpreter.collection.update_choices(":1.1", "wallet", "cards", choices)
    with pytest.raises(InvalidValue):
        await interpreter.collection.update_choices(":1.1", "wallet", "card", {})


async def test_what_is_unavailable_is_not_offered_and_nothing_stands_in_for_it(
    interpreter: Interpreter,
) -> None:
    await interpreter.collection.register(ME, "wallet", WALLET)
    assert await command(interpreter, "看看我的钱包") == "wallet/open"
    await interpreter.collection.register(ME, "wallet", WALLET, unavailable=["open"])
    found = await interpreter.interpret("看看我的钱包")
    assert found.command is None
    assert "wallet/open" not in {choice.command for choice in found.alternatives}
    assert interpreter.collection.unavailable == {"wallet/open"}
    interpreter.collection.remove(":1.1", "wallet")
    assert not interpreter.collection.unavailable
    with pytest.raises(InvalidValue, match="unavailable"):
        await interpreter.collection.register(ME, "wallet", WALLET, unavailable=["close"])


async def test_an_interpretation_under_way_is_not_disturbed(tmp_path: Path) -> None:
    """The model is asked while the catalogue goes away: the answer is still of what was offered."""

    class Slow(Model):
        def state(self, text: str) -> NDArray[np.float32]:
            if self.learnt and text == "钱包打开一下看看呢":
                interpreter.collection.remove(":1.1", "wallet")
            return super().state(text)

    interpreter, model = Interpreter(reader.parse(FIRST, "first"), study=Study(tmp_path)), Slow()
    await interpreter.collection.register(ME, "wallet", WALLET)
    await interpreter.learn(model, no_progress)
    with patch.object(interpret, "SURE_BELIEF", 2.0):
        found = await interpreter.interpret("钱包打开一下看看呢", model)
    assert (found.command, found.decided_by) == ("wallet/open", "model")
    assert interpreter.collection.listing() == []


async def test_a_caller_that_gives_up_registers_nothing(interpreter: Interpreter) -> None:
    task = asyncio.create_task(interpreter.collection.register(ME, "wallet", WALLET))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await interpreter.collection.register(OTHER, "wallet", WALLET)
    assert [c["owner"] for c in interpreter.collection.listing()] == [":1.2"]


async def test_a_thousand_commands() -> None:
    """They cost little time, hold nothing up while they are learnt, and leave the first ones understood."""
    shipped = load_commands(())
    few = tuple(
        c for c in shipped.commands if c.id.split(".")[0] in ("volume", "brightness", "bluetooth", "panel")
    )
    interpreter = Interpreter(replace(shipped, commands=few, negatives=shipped.negatives[:600]))
    known = [(utterance, expected) for utterance, expected, _ in COMMANDS if expected in {c.id for c in few}]
    alone = await _latency(interpreter)
    lags: list[float] = []
    watch = asyncio.create_task(_measure_lag(lags))
    for number, program in enumerate(PROGRAMS):
        owner = ExecutorAddress(f":1.{number // 5}", "/")
        await interpreter.collection.register(owner, program, catalogue(program))
    watch.cancel()
    assert len(interpreter.collection.catalogue.commands) > 1000
    assert statistics.quantiles(lags, n=100)[94] < 0.1
    assert await _latency(interpreter) < alone + 0.05
    right = [await command(interpreter, utterance) == expected for utterance, expected in known]
    assert len(right) > 10
    assert sum(right) >= len(right) - 1
    answers = [await command(interpreter, utterance) for utterance in NOTHING]
    assert sum("/" in (answer or "") for answer in answers) <= 1, "acted on for a registered catalogue"
    for utterance, expected in (
        ("建个邮件的文件夹", "mail/folder.new"),
        ("请分享相册的模板", "photos/template.share"),
    ):
        # Commands made of the same few words are hard to believe in without a model; the guess is right.
        found = await interpreter.interpret(utterance)
        assert (found.command or found.alternatives[0].command) == expected


async def _latency(interpreter: Interpreter) -> float:
    times = []
    for _ in range(3):
        for utterance, _, _ in COMMANDS:
            started = time.perf_counter()
            await interpreter.interpret(utterance)
            times.append(time.perf_counter() - started)
    return statistics.median(times)


async def _measure_lag(lags: list[float]) -> None:
    while True:
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - started)


async def test_the_lists_of_the_first_catalogue_are_the_services_to_refresh() -> None:
    """No client's name is empty, so none can pass for the service."""
    first = replace(reader.parse(WALLET, "first"), name="first")
    collection = Collection(first)
    await collection.ready()
    await collection.update_choices("", "first", "cards", {"1": ["蓝卡"]})
    assert collection.catalogue.validate("pay", {"card": "1"}) == {"card": "1"}
    with pytest.raises(UnknownCatalogue):
        await collection.update_choices(":1.1", "first", "cards", {})


async def test_nothing_is_learnt_before_somebody_asks() -> None:
    """What is registered before is checked at once, and understood from the first question on."""
    taught: list[str] = []

    def noting(catalogue: CommandCatalogue) -> Shortlist:
        taught.append(catalogue.name)
        return Shortlist(catalogue)

    collection = Collection(reader.parse(FIRST, "first"), noting)
    await collection.register(ME, "wallet", WALLET)
    with pytest.raises(CommandsInvalid):
        await collection.register(ME, "broken", "version: 9")
    await collection.register(ME, "gone", WALLET)
    collection.remove(ME.name, "gone")
    assert taught == []
    assert any(command.id.startswith("wallet/") for command in collection.catalogue.commands)
    assert {len(offer.indexes) for offer in (await collection.ready(), await collection.ready())} == {2}
    assert taught == ["first", "wallet"]
    await collection.register(ME, "late", WALLET)
    assert taught == ["first", "wallet", "late"]
