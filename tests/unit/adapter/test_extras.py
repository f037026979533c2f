"""A desktop offers what it can do, and knows what it cannot do for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kylin_gguf.actuator import reader
from kylin_gguf.actuator.index import Index, none_of
from kylin_gguf.actuator.shipped import load_commands
from kylin_gguf.actuator.values import Utterance
from kylin_gguf.adapter.extras import NAME, Extras
from kylin_gguf.adapter.outcome import Unavailable
from kylin_gguf.adapter.services import Member
from tests.stand_ins import Programs


class NoServices:
    """A bus on which nothing is."""

    async def probe(self, member: Member) -> None:
        raise Unavailable(str(member))

    async def check(self, member: Member, _: int) -> None:
        await self.probe(member)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name}: nothing is there to be asked")


@pytest.fixture
def extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Extras:
    programs = Programs(tmp_path / "programs")
    programs.add("loginctl")
    monkeypatch.setenv("PATH", str(programs.directory))
    return Extras(NoServices(), load_commands(()))


@pytest.mark.parametrize("asked", ["关机", "重启电脑", "log me out", "shut down the computer", "睡眠"])
async def test_what_a_desktop_cannot_do_is_not_taken_for_what_it_can(extras: Extras, asked: str) -> None:
    missing = await extras.unavailable()
    assert "session.lock" not in missing
    scores = Index.train(reader.parse(extras.text, NAME)).match(Utterance(asked), missing)
    assert none_of(scores) > max(score for meaning, score in scores.items() if meaning.command)


async def test_what_it_can_do_is_understood_beside_it(extras: Extras) -> None:
    index, missing = Index.train(reader.parse(extras.text, NAME)), await extras.unavailable()
    scores = index.match(Utterance("帮我把电脑锁了"), missing)
    assert max(scores, key=scores.__getitem__).command == "session.lock"
