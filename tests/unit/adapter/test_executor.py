"""Commands become settings, calls and programs; what a desktop lacks is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from kylin_gguf.actuator import reader
from kylin_gguf.adapter.executor import Executor
from kylin_gguf.adapter.gsettings import Key
from kylin_gguf.adapter.outcome import Failed, Unavailable
from kylin_gguf.adapter.services import Given, Member
from kylin_gguf.errors import InvalidValue, UnknownOption
from kylin_gguf.records import ResultValue
from tests.stand_ins import Programs

pytestmark = pytest.mark.usefixtures("settings")

CATALOGUE = """
version: 1
commands:
  level.set:
    description: {zh: 亮度, en: Level}
    arguments:
      level: {type: integer, min: 0, max: 100, relative: {"+": {en: [brighter]}, "-": {en: [darker]}}}
    examples: {en: [level 40]}
    effect: [{kind: gsettings, op: set, schema: org.test.lamp, key: level, value: <level>}]
  level.get:
    description: {zh: 亮度, en: Level}
    examples: {en: [which level]}
    effect: [{kind: gsettings, op: get, schema: org.test.lamp, key: level}]
  size.set:
    description: {zh: 字号, en: Size}
    arguments:
      size: {type: integer, min: 6, max: 72, step: 2, relative: {"+": {en: [bigger]}, "-": {en: [smaller]}}}
    examples: {en: [size 12]}
    effect: [{kind: gsettings, op: set, schema: org.test.lamp, key: text-level, value: <size>}]
  scale.set:
    description: {zh: 缩放, en: Scale}
    arguments:
      percent: {type: integer, min: 50, max: 400, step: 25, relative: {"+": {en: [up]}, "-": {en: [down]}}}
    examples: {en: [scale 125]}
    effect: [{kind: gsettings, op: set, schema: org.test.lamp, key: scale, value: <percent>, divisor: 100}]
  scale.get:
    description: {zh: 缩放, en: Scale}
    examples: {en: [which scale]}
    effect: [{kind: gsettings, op: get, schema: org.test.lamp, key: scale, divisor: 100}]
  volume.set:
    description: {zh: 音量, en: Volume}
    arguments:
      level: {type: integer, min: 0, max: 100, relative: {"+": {en: [louder]}, "-": {en: [quieter]}}}
    examples: {en: [volume 40]}
    effect:
      - any:
          - {kind: dbus, bus: session, dest: org.new.S, path: /s, method: org.new.S.Set, args: [<level>],
             current: org.new.S.Get}
          - {kind: dbus, bus: session, dest: org.old.S, path: /s, method: org.old.S.Set, args: [<level>]}
          - {kind: gsettings, op: set, schema: org.test.lamp, key: level, value: <level>}
  both.set:
    description: {zh: 两者, en: Both}
    arguments:
      mode:
        type: enum
        values:
          night:
            examples: {en: [night]}
            effect:
              - {kind: gsettings, op: set, schema: org.test.lamp, key: mode, value: night}
              - {kind: gsettings, op: set, schema: org.test.nowhere, key: mode, value: night}
          loud:
            examples: {en: [loud]}
            effect: [{kind: launch, program: lampctl, args: [--mode, "is <mode>", "; reboot"]}]
  page.open:
    description: {zh: 页面, en: Page}
    examples: {en: [page]}
    effect: [{kind: settings-page, page: Login Options}]
  radio.set:
    description: {zh: 蓝牙, en: Radio}
    arguments:
      state:
        type: switch
        values: {"on": {examples: {en: [radio on]}}, "off": {examples: {en: [radio off]}}}
    effect: [{kind: dbus-property, bus: system, dest: org.bluez, path: /org/bluez/*,
              property: org.bluez.Adapter1.Powered, op: set, value: <state>}]
  shot.take:
    description: {zh: 截图, en: Screenshot}
    examples: {en: [screenshot]}
    effect: [{kind: kylin-actuator, instruction: screenshot}]
  orphan.do:
    description: {zh: 无, en: Nothing}
    examples: {en: [orphan]}
"""


class FakeServices:
    """Methods by name, with what they return; calls and property changes in order."""

    def __init__(self, methods: Mapping[str, ResultValue | None] | None = None) -> None:
        self.methods = dict(methods or {})
        self.done: list[tuple[str, tuple[Given, ...]]] = []

    async def probe(self, member: Member) -> None:
        await self.check(member, 0)

    async def check(self, member: Member, arguments: int) -> None:
        if f"{member.interface}.{member.name}" not in self.methods:
            raise Unavailable(f"no {member}")

    async def check_property(self, member: Member) -> None:
        await self.check(member, 0)

    async def call(self, member: Member, arguments: Sequence[Given]) -> ResultValue | None:
        await self.check(member, 0)
        self.done.append((member.name, tuple(arguments)))
        return self.methods[f"{member.interface}.{member.name}"]

    async def get(self, member: Member) -> ResultValue:
        found = await self.call(member, ())
        if found is None:
            raise Failed("nothing")
        return found

    async def set(self, member: Member, value: Given) -> None:
        await self.call(member, (value,))


def executor(services: FakeServices | None = None) -> Executor:
    return Executor(reader.parse(CATALOGUE, "test"), services or FakeServices())


async def test_a_setting_is_set_changed_by_steps_and_read() -> None:
    lamp = executor()
    assert (await lamp.execute("level.set", {"level": 95})).to_json() == {"status": "done"}
    up = await lamp.execute("level.set", {"level": "+"})
    assert (up.status, up.value) == ("done", 100)  # a step is ten, the range ends at a hundred
    assert (await lamp.execute("level.set", {"level": "-"})).value == 90
    assert (await lamp.execute("level.get", {})).value == 90


async def test_steps_work_on_text_and_on_fractions_too() -> None:
    lamp = executor()
    assert (await lamp.execute("size.set", {"size": "+"})).value == 13
    assert await Key("org.test.lamp", "text-level").get() == "13"
    assert (await lamp.execute("scale.set", {"percent": 125})).status == "done"
    assert await Key("org.test.lamp", "scale").get() == 1.25
    assert (await lamp.execute("scale.set", {"percent": "-"})).value == 100
    assert (await lamp.execute("scale.get", {})).value == 100


async def test_a_present_value_that_is_no_number_is_a_failure_and_stays() -> None:
    await Key("org.test.lamp", "text-level").set("huge")
    found = await executor().execute("size.set", {"size": "+"})
    assert found.status == "failed" and "huge" in found.reason
    assert await Key("org.test.lamp", "text-level").get() == "huge"


@pytest.mark.parametrize(
    ("there", "done"),
    [
        (["org.new.S.Set", "org.old.S.Set", "org.new.S.Get"], [("Set", (30,))]),
        (["org.old.S.Set"], [("Set", (30,))]),
        ([], []),
    ],
)
async def test_the_first_alternative_that_is_there_is_taken(
    there: list[str], done: list[tuple[str, tuple[int, ...]]]
) -> None:
    services = FakeServices(dict.fromkeys(there, 55))
    found = await executor(services).execute("volume.set", {"level": 30})
    assert found.status == "done"
    assert services.done == done
    assert await Key("org.test.lamp", "level").get() == (40 if there else 30)


async def test_a_step_of_a_call_starts_from_the_present_value() -> None:
    services = FakeServices({"org.new.S.Set": None, "org.new.S.Get": 55})
    found = await executor(services).execute("volume.set", {"level": "+"})
    assert (found.status, found.value) == ("done", 65)
    assert services.done == [("Get", ()), ("Set", (65,))]


async def test_a_step_passes_over_what_does_not_tell_the_present_value() -> None:
    services = FakeServices({"org.old.S.Set": None})
    found = await executor(services).execute("volume.set", {"level": "+"})
    assert (found.status, found.value) == ("done", 50)  # the setting's 40 and a step
    assert services.done == []


async def test_nothing_is_begun_that_cannot_be_ended() -> None:
    found = await executor().execute("both.set", {"mode": "night"})
    assert found.status == "unavailable" and "org.test.nowhere" in found.reason
    assert await Key("org.test.lamp", "mode").get() == "day"


async def test_programs_get_arguments_one_by_one(programs: Programs) -> None:
    for name in ("lampctl", "ukui-control-center"):
        programs.add(name)
    assert (await executor().execute("both.set", {"mode": "loud"})).status == "done"
    assert (await executor().execute("page.open", {})).status == "done"
    assert programs.calls() == [
        ["lampctl", "--mode", "is loud", "; reboot"],
        ["ukui-control-center", "-m", "Login Options"],
    ]


async def test_a_missing_program_is_unavailable(programs: Programs) -> None:
    found = await executor().execute("page.open", {})
    assert (found.status, found.reason) == ("unavailable", "ukui-control-center is not installed")


async def test_properties_of_every_object() -> None:
    services = FakeServices({"org.bluez.Adapter1.Powered": True})
    assert (await executor(services).execute("radio.set", {"state": "off"})).status == "done"
    assert services.done == [("Powered", ("off",))]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("print('<AI>截图已保存'); print('screenshot  [已完成]'); print('<end>', flush=True)", "done"),
        ("print('\\x1b[32mx [已完成]\\x1b[0m\\n<end>', flush=True); time.sleep(60)", "done"),
        ("print('<AI>没有屏幕'); print('<end>')", "failed"),
        ("", "failed"),
        ("print('<end>' * 100000)", "failed"),
    ],
)
async def test_kylin_actuator_is_believed_by_its_words(programs: Programs, body: str, status: str) -> None:
    programs.add("kylin-actuator", body)
    found = await executor().execute("shot.take", {})
    assert found.status == status, found
    assert programs.calls() == [["kylin-actuator", "{screenshot}"]]


async def test_a_hanging_kylin_actuator_is_given_up(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kylin_gguf.adapter.kylin_actuator.TIMEOUT_S", 1.0)
    programs.add("kylin-actuator", "time.sleep(60)")
    assert (await executor().execute("shot.take", {})).status == "failed"


async def test_a_command_without_an_effect_is_unavailable() -> None:
    assert (await executor().execute("orphan.do", {})).status == "unavailable"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("level.none", {}),
        ("level.set", {}),
        ("level.set", {"level": 101}),
        ("level.set", {"level": "40; reboot"}),
        ("level.set", {"level": 40, "and": "reboot"}),
        ("both.set", {"mode": "$(reboot)"}),
    ],
)
async def test_what_the_catalogue_does_not_have_is_refused(
    programs: Programs, command: str, arguments: dict[str, object]
) -> None:
    with pytest.raises((InvalidValue, UnknownOption)):
        await executor().execute(command, arguments)
    assert not programs.calls()


async def test_what_a_desktop_can_do(programs: Programs) -> None:
    catalogue = reader.parse(CATALOGUE, "test")
    lamp = Executor(catalogue, FakeServices())

    async def can() -> set[str]:
        return {c.id for c in catalogue.commands if await lamp.available(c)}

    always = {"level.set", "level.get", "size.set", "scale.set", "scale.get", "volume.set"}
    assert await can() == always
    programs.add("lampctl")  # one value of the two is enough
    programs.add("kylin-actuator")
    assert await can() == always | {"both.set", "shot.take"}


def test_the_shipped_catalogue_names_no_path_and_no_shell() -> None:
    source = Path(reader.__file__).parent / "commands"
    programs = {
        way["program"]
        for path in source.iterdir()
        for command in reader.load(path).commands
        for step in (*command.effect, *(a for v in command.values() for a in v.effect))
        for way in step.get("any", (step,))
        if way["kind"] == "launch"
    }
    assert programs
    assert not programs & {"sh", "bash", "dash", "env", "sudo", "pkexec", "python3", "xterm", "mate-terminal"}
