"""The estimate's record is within its bound, and the docs show it as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.offload.accuracy import Row, table
from bench.record import RESULTS

DOCS = Path(__file__).parents[3] / "docs" / "offload.md"
RECORDS = [RESULTS / "amd-epyc-2-cores" / f"offload-accuracy-{backend}.json" for backend in ("cpu", "vulkan")]


def test_the_docs_have_the_records_table() -> None:
    assert "\n".join(table(RECORDS)) in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(("path", "loads"), [(RECORDS[0], 24), (RECORDS[1], 48)], ids=["cpu", "vulkan"])
def test_six_models_with_four_contexts_are_within_the_bound(path: Path, loads: int) -> None:
    rows = [Row(**item) for item in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    assert len({(row.model, row.context, row.layers) for row in rows}) == loads
    assert len({row.model for row in rows}) == 6 and len({row.context for row in rows}) == 4
    assert all(row.holds for row in rows)


def test_the_bound_is_64_mb_or_five_percent() -> None:
    assert Row("m", 1, 0, 164_000_000, 100_000_000, 0).holds
    assert not Row("m", 1, 0, 164_000_001, 100_000_000, 0).holds
    assert Row("m", 1, 0, 2_100_000_000, 2_000_000_000, 0).holds
    assert not Row("m", 1, 0, 2_100_000_001, 2_000_000_000, 0).holds
