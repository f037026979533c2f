"""Machines described in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kylin_gguf.errors import ConfigError
from kylin_gguf.offload.machine_file import parse, read

GIB = 1 << 30
CARD = {"name": "CUDA0", "kind": "gpu", "memory": 8, "bandwidth": 272, "tflops": 10}
LAPTOP: dict[str, Any] = {"cores": 6, "memory": 16, "processor": "haswell", "devices": [CARD]}


def test_sizes_are_as_hardware_is_sold(tmp_path: Path) -> None:
    path = tmp_path / "laptop.yaml"
    path.write_text(yaml.safe_dump(LAPTOP), encoding="utf-8")
    found = read(path)
    assert (found.cores, found.processor, found.memory) == (6, "cpu-haswell", int(16 * GIB * 0.8))
    (card,) = found.devices
    assert (card.memory_total, card.bandwidth, card.compute) == (8 * GIB, 272e9, 4e12)
    assert card.memory_free == pytest.approx(0.9 * 8 * GIB, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"memery": 3}, "did you mean memory"),
        ({"memory": "much"}, "'much' is not a number"),
        ({"memory": float("nan")}, "not a number"),
        ({"devices": {}}, "not a list"),
        ({"devices": [CARD | {"kind": "npu"}]}, "'npu' is not one of gpu, igpu"),
        ({"devices": [{"name": "X", "kind": "gpu"}]}, "'memory' is missing"),
        ({"devices": [CARD | {"bandwith": 1}]}, "did you mean bandwidth"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(LAPTOP | changes, "laptop.yaml")
    assert says in str(caught.value) and "laptop.yaml" in str(caught.value)


def test_a_file_that_is_no_mapping_or_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    for name in ("list.yaml", "missing.yaml"):
        with pytest.raises(ConfigError):
            read(tmp_path / name)
