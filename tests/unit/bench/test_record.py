"""Records are kept whole, and a wrong one is an error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import record as records
from bench.case import Sample
from bench.record import Record
from kylin_gguf.records import InstalledModel
from tests.unit.bench.conftest import record


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    first = record([1.0, None], [2.0, 3.0])
    sample = Sample({"decode": 4.0}, {"tokens": [1, 2]}, {"requests": [0, 10], "worker_mib": [1.5, 1.5]})
    second = replace(first, rounds=({"ours": sample},))
    path = records.append(first, tmp_path)
    assert records.append(second, tmp_path) == path
    assert path.relative_to(tmp_path) == Path("some-cpu-2-0-2-cores/engine-fake.jsonl")
    assert list(records.read(tmp_path)) == [("some-cpu-2-0-2-cores", first), ("some-cpu-2-0-2-cores", second)]


def test_no_sample_is_rounded(tmp_path: Path) -> None:
    path = records.append(record([1 / 3], [2 / 3]), tmp_path)
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["rounds"][0]["ours"]["figures"] == {"decode": 1 / 3}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("{", "1: "), ('{"format": 1}', "record of format 1"), ('{"format": 2}', "'figures'")],
)
def test_what_is_no_record_is_an_error_that_names_the_line(line: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "machine" / "case.jsonl"
    path.parent.mkdir()
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=complaint) as raised:
        list(records.read(tmp_path))
    assert f"{path}:1" in str(raised.value)


def test_the_models_hash_is_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"abc")
    found = records.describe(InstalledModel("m", path, 3, writable=False))
    assert found["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_machine_is_described_but_not_identified() -> None:
    assert records.machine().keys() == {
        "processor",
        "cores",
        "memory_bytes",
        "kernel",
        "load_average_before",
    }


async def test_the_busy_share_is_a_share() -> None:
    assert 0.0 <= await records.busy_share(0.05) <= 1.0


def test_contenders_keep_their_order() -> None:
    assert record([1.0], [2.0]).contenders == ("ours", "llama-server")
    assert Record.from_json(record([], []).to_json()).contenders == ()
