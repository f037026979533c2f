"""Conversions for clients: what the child is given, what it says, and how it stands back and ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf import conversion
from kylin_gguf.conversion import Conversion, Converter
from kylin_gguf.errors import (
    ConverterMissing,
    InvalidValue,
    ToolFailed,
    UnknownOption,
    UnknownQuantisation,
)
from kylin_gguf.records import Progress, no_progress

SAY = "import json, os, subprocess, sys, time\ndef say(**what): print(json.dumps(what), flush=True)\n"
STEP = "say(type='progress', stage='write', done=1, total=4, unit='bytes')\n"
DONE = "say(type='done', path='made.gguf')\n"
WAITING = SAY + (
    "tool = subprocess.Popen(['sleep', '60'], process_group=0)\n"
    "say(type='progress', stage=str(os.getpid()), done=tool.pid, total=0, unit='')\n"
)


def play(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a script stand in for the converter's command line."""
    monkeypatch.setattr(conversion, "_PROGRAM", (sys.executable, "-c", script))


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def state(pid: int) -> str:
    """Return the letter of a process's state; X for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"


@pytest.mark.parametrize(
    ("wanted", "arguments"),
    [
        (Conversion("a/b"), ["--", "a/b"]),
        (Conversion("--upload=x", "Q4_0", replace=True), ["--quant=Q4_0", "--force", "--", "--upload=x"]),
        (Conversion("a", "--keep"), ["--quant=--keep", "--", "a"]),
    ],
)
def test_nothing_a_client_says_becomes_an_option(wanted: Conversion, arguments: list[str]) -> None:
    assert wanted.arguments() == arguments


@pytest.mark.parametrize(
    ("source", "options", "error"),
    [
        ("a", {"quantization": "Q4_0"}, UnknownOption),
        ("a", {"quantisation": 4}, InvalidValue),
        ("a", {"quantisation": "Q" * 5000}, InvalidValue),
        ("a", {"replace": 1}, InvalidValue),
        ("", {}, InvalidValue),
        ("a" * 5000, {}, InvalidValue),
    ],
)
def test_wrong_wishes_are_refused(source: str, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Conversion.from_options(source, options)


async def test_progress_and_the_file_come_from_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        SAY + STEP + "say(type='progress', stage=' '.join(sys.argv[1:]), done=0, total=0, unit='')\n"
        "say(type='progress', stage=os.getcwd(), done=os.nice(0), total=0, unit='')\n" + DONE,
        monkeypatch,
    )
    seen: list[Progress] = []
    made = await Converter(tmp_path / "models", lambda: False).convert(Conversion("a", "Q4_0"), seen.append)
    assert made == tmp_path / "models" / "made.gguf"
    assert seen[0] == Progress("write", 1, 4)
    assert seen[1].stage == "--quant=Q4_0 -- a"
    assert (seen[2].stage, seen[2].done) == (str(tmp_path / "models"), 19)


@pytest.mark.parametrize(
    ("script", "error", "text"),
    [
        (
            "say(type='error', code='convert.unknown-quantisation', message='no such thing'); sys.exit(35)",
            UnknownQuantisation,
            "no such thing",
        ),
        ("sys.exit(3)", ToolFailed, "(status 3)"),
        (STEP + "os.kill(os.getpid(), 9)", ToolFailed, "(status -9)"),
        (DONE + "sys.exit(4)", ToolFailed, "(status 4)"),
    ],
)
async def test_failures_keep_their_class_and_words(
    script: str, error: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(SAY + script, monkeypatch)
    with pytest.raises(error) as caught:
        await Converter(tmp_path, lambda: False).convert(Conversion("a"), no_progress)
    assert text in str(caught.value)


async def test_without_the_converter_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "find_spec", lambda _: None)
    with pytest.raises(ConverterMissing):
        await Converter(tmp_path, lambda: False).convert(Conversion("a"), no_progress)


async def test_child_and_tools_stand_still_while_somebody_waits_and_end_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(WAITING + "time.sleep(60)\n", monkeypatch)
    seen: list[Progress] = []
    busy = False
    work = asyncio.create_task(Converter(tmp_path, lambda: busy).convert(Conversion("a"), seen.append))
    await until(lambda: seen)
    pids = (int(seen[0].stage), seen[0].done)
    await until(lambda: [state(pid) for pid in pids] == ["S", "S"])
    busy = True
    await until(lambda: [state(pid) for pid in pids] == ["T", "T"])
    busy = False
    await until(lambda: [state(pid) for pid in pids] == ["S", "S"])
    busy = True
    await until(lambda: [state(pid) for pid in pids] == ["T", "T"])
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert state(pids[0]) == "X"
    os.kill(pids[1], signal.SIGKILL)  # the converter's own tools go with it; this one is a plain program


async def test_one_conversion_runs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = tmp_path / "gate"
    play(SAY + STEP + f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n" + DONE, monkeypatch)
    converter = Converter(tmp_path, lambda: False)
    begun: list[str] = []
    works = [
        asyncio.create_task(converter.convert(Conversion(name), lambda _, name=name: begun.append(name)))
        for name in "ab"
    ]
    await until(lambda: begun)
    await asyncio.sleep(0.3)
    assert begun == ["a"]
    gate.touch()
    await asyncio.gather(*works)
    assert begun == ["a", "b"]
