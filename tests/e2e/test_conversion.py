"""Conversions that a client of the service asks for, with the real converter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kylin_gguf.errors import InvalidValue, NotACheckpoint, UnknownQuantisation
from kylin_gguf.records import InstalledModel, Progress
from tests import tiny_checkpoint as tiny
from tests.e2e import daemon

pytestmark = pytest.mark.native


async def test_a_checkpoint_becomes_an_installed_model(tmp_path: Path, model: InstalledModel) -> None:
    checkpoint, models = tmp_path / "Tiny", tmp_path / "models"
    tiny.write(checkpoint)
    async with daemon.running(tmp_path, model, models_dir=models) as service, service.client() as client:
        seen: list[Progress] = []
        await client.convert(str(checkpoint), "Q4_0", seen.append)
        assert {event.stage for event in seen} >= {"imatrix", "check output"}
        assert seen[-1].stage == "Tiny-Q4_0"
        (made,) = (row for row in await client.list_models() if row["name"] == "Tiny-Q4_0")
        assert made["installed"] and Path(made["path"]) == models / "Tiny-Q4_0.gguf"
        manifest = json.loads((models / "Tiny-Q4_0.gguf.json").read_text(encoding="utf-8"))
        assert manifest["recipe"]["name"] == "Q4_0"
        await client.load("Tiny-Q4_0")
        with pytest.raises(InvalidValue, match="Tiny-Q4_0"):
            await client.convert(str(checkpoint), "Q4_0")
        await client.convert(str(checkpoint), "Q4_0", replace=True)
        with pytest.raises(UnknownQuantisation, match="Q4_9"):
            await client.convert(str(checkpoint), "Q4_9")
        with pytest.raises(NotACheckpoint):
            await client.convert(str(tmp_path))
        assert sorted(path.name for path in models.iterdir()) == ["Tiny-Q4_0.gguf", "Tiny-Q4_0.gguf.json"]
