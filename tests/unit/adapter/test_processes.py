"""Programs get their arguments as they are, never stay for ever, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from kylin_gguf.adapter import processes
from kylin_gguf.adapter.outcome import Failed, Unavailable
from tests.stand_ins import Programs

HOSTILE = ("$(touch pwned)", "`touch pwned`", "; touch pwned", "a b", "--", "'\"", "|| reboot", "{}", "\n")


async def test_arguments_arrive_one_by_one_in_a_clean_environment(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    programs.add("tool", "print('said'); print('complained', file=sys.stderr); sys.exit(3)")
    done = await processes.run("tool", *HOSTILE, seconds=20)
    assert (done.status, done.output, done.complaints) == (3, "said", "complained")
    assert programs.calls() == [["tool", *HOSTILE]]
    (record,) = programs.records()
    assert record["cwd"] == "/"
    assert "PYTHONPATH" not in str(record["environment"])


@pytest.mark.parametrize("program", ["no-such-tool", ""])
async def test_a_missing_program_is_unavailable(programs: Programs, program: str) -> None:
    with pytest.raises(Unavailable):
        await processes.run(program, seconds=1)


async def test_a_nul_character_starts_nothing(programs: Programs) -> None:
    programs.add("tool")
    with pytest.raises(Failed):
        await processes.launch("tool", "a\0b")
    assert not programs.calls()


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


FORK = "pid = os.fork()\nopen({path!r}, 'a').write(f'{{os.getpid()}}\\n')\ntime.sleep(60)"


async def test_a_hanging_program_is_killed_with_its_children(programs: Programs, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    programs.add("tool", FORK.format(path=str(pids)))
    began = time.monotonic()
    with pytest.raises(Failed, match="not ended"):
        await processes.run("tool", seconds=1.5)
    assert time.monotonic() - began < 15
    started = [int(line) for line in pids.read_text(encoding="ascii").split()]
    assert len(started) == 2
    for _ in range(100):
        if not any(map(_alive, started)):
            break
        await asyncio.sleep(0.05)
    assert not any(map(_alive, started))


async def test_listening_ends_at_the_last_word_and_leaves_what_was_started(
    programs: Programs, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    body = (
        f"child = os.fork()\nif not child:\n    os.close(1)\n    time.sleep(30)\n    sys.exit()\n"
        f"open({str(pids)!r}, 'w').write(str(child))\nprint('one <end>', flush=True)\ntime.sleep(30)"
    )
    programs.add("tool", body)
    assert await processes.listen("tool", last="<end>", seconds=20) == "one <end>\n"
    child = int(pids.read_text(encoding="ascii"))
    assert _alive(child)
    os.kill(child, 9)


async def test_launching_returns_at_once_and_reports_a_false_start(programs: Programs) -> None:
    programs.add("stays", "time.sleep(4)")
    programs.add("fails", "sys.exit(4)")
    programs.add("hands-over", "")
    began = time.monotonic()
    await processes.launch("stays")
    await processes.launch("hands-over")
    assert time.monotonic() - began < 3
    with pytest.raises(Failed, match="status 4"):
        await processes.launch("fails")
    await asyncio.gather(*processes._launched)
