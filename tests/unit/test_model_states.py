"""The model as the actuator sees it."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from kylin_gguf.errors import FileMissing
from kylin_gguf.model_states import ModelStates
from kylin_gguf.records import InstalledModel


async def test_a_model_has_an_identity_as_long_as_its_file_is_there(tmp_path: Path) -> None:
    model = InstalledModel("one", tmp_path / "one.gguf", 5, writable=True)
    model.path.write_bytes(b"first")

    async def find() -> InstalledModel:
        return model

    states = ModelStates(Mock(), find)
    assert await states.identity() == await states.identity()
    model.path.unlink()
    with pytest.raises(FileMissing, match=r"one\.gguf"):
        await states.identity()
