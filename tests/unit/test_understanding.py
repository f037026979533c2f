"""What a service keeps ready for commands."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kylin_gguf import config
from kylin_gguf.understanding import Understanding
from tests.unit.actuator.models import Model


async def test_nothing_is_read_where_no_model_has_learnt_commands(tmp_path: Path) -> None:
    understanding = Understanding(config.load({"cache_dir": str(tmp_path)}))
    await understanding.recall(Model())
    assert understanding._interpreter is None


async def test_a_broken_catalogue_does_not_keep_a_model_from_loading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "readouts").mkdir()
    (tmp_path / "readouts" / "some.npz").touch()
    broken = tmp_path / "commands"
    broken.mkdir()
    (broken / "mine.yaml").write_text("version: 0")
    settings = config.load({"cache_dir": str(tmp_path), "commands_dirs": [str(broken)]})
    with caplog.at_level(logging.WARNING):
        await Understanding(settings).recall(Model())
    assert "not ready for commands" in caplog.text
