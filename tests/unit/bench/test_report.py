"""Tables say what the samples say, doubt included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import headlines, plots, report
from bench.case import Sample
from tests.unit.bench.conftest import MACHINE, key, record

PAGE = f"# Title\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter.\n"


def test_the_bars_table() -> None:
    table = report.tables(key(record([11.0] * 5, [10.0] * 5)))
    assert "### Some CPU @ 2.0, 2 cores, 8 GiB, Linux 6.6" in table
    assert (
        "| engine/fake | m.gguf | tokens 4 | decode: ours ÷ llama-server ≥ 1 | 1.10 (1.10 to 1.10) | met |"
        in table
    )
    assert "| engine/fake | m.gguf | tokens 4 | first_token: ours ≤ 300 ms | – | not measured |" in table


def test_a_missed_bar_is_said_plainly() -> None:
    table = report.tables(key(record([9.0] * 5, [10.0] * 5)))
    assert "| 0.900 (0.900 to 0.900) | **missed** |" in table


def test_the_figures_table() -> None:
    table = report.tables(key(record([100.0, 110.0, 120.0, 110.0, 110.0], [50.0] * 5)))
    assert "| m.gguf | tokens 4 | decode ↑ | ours | 110 | 100 | 120 | 7.07 | 5 |" in table
    assert "| m.gguf | tokens 4 | decode ↑ | llama-server | 50.0 | 50.0 | 50.0 | 0.000 | 5 |" in table
    assert "kylin-gguf-engine abc, llama.cpp 1; threads 2, tokens 4" in table
    assert "Caution" not in table


def test_cautions() -> None:
    busy = {**MACHINE, "busy_before": 0.25}
    found = record([10.0, None, 10.0, 10.0, 10.0, 30.0], [10.0] * 6, machine=busy)
    assert list(report.warnings(found)) == [
        "25% of the processors were in use before the run",
        "ours: 1 of 6 samples dropped: too short",
        "ours, decode: standard deviation 64% of the mean",
        "ours, decode: largest sample +114% off the mean",
    ]
    table = report.tables(key(found))
    assert all(f"  - Caution: {warning}." in table for warning in report.warnings(found))
    assert "WARNING: ours: 1 of 6 samples dropped: too short" in list(report.lines(found))


def test_lines_for_a_terminal() -> None:
    shown = list(report.lines(record([11.0] * 5, [10.0] * 5)))
    assert any("decode ours" in line and "11.0 tokens/s" in line for line in shown)
    assert "decode: ours ÷ llama-server ≥ 1: 1.10 (1.10 to 1.10) met" in shown


def test_the_newest_record_of_a_case_and_model_counts() -> None:
    old, new = record([1.0], [1.0]), record([2.0], [1.0], taken="2026-11-26T00:00:00Z")
    other = record([3.0], [1.0], model={"file": "a.gguf", "size": 1, "sha256": "11"})
    longer = record([1.0], [1.0], conditions={"least_rounds": 5, "parameters": {"tokens": 8}})
    found = report.latest([("x", new), ("x", old), ("x", other), ("x", longer), ("y", old)])
    assert found == {
        ("x", "engine/fake", "a.gguf", "tokens 4"): other,
        ("x", "engine/fake", "m.gguf", "tokens 4"): new,
        ("x", "engine/fake", "m.gguf", "tokens 8"): longer,
        ("y", "engine/fake", "m.gguf", "tokens 4"): old,
    }


def test_a_page_keeps_what_is_outside_its_markers() -> None:
    page = report.document(PAGE, report.tables(key(record([11.0] * 5, [10.0] * 5))))
    assert page.startswith("# Title\n\n") and page.endswith("\n\nAfter.\n")
    assert "old" not in page and "engine/fake" in page
    assert (
        report.document(page, report.tables({}))
        == f"# Title\n\n{report.BEGIN}\n\n{report.EMPTY}\n{report.END}\n\nAfter.\n"
    )


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="the page has no"):
        report.document("# Title\n", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.1234, "0.123"),
        (-2.5, "-2.50"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert report.number(value) == text


def test_plots_are_the_same_bytes_for_the_same_records(tmp_path: Path) -> None:
    series = {"requests": [0.0, 10.0], "worker_mib": [5.0, 6.0], "daemon_mib": [1.0, 1.0]}
    base = record([11.0] * 5, [10.0] * 5)
    soak = replace(base, case="engine/soak", rounds=({"ours": Sample({"decode": 1.0}, {}, series)},))
    found = {**key(base), **key(soak)}
    paths = plots.draw(found, tmp_path)
    assert [path.name for path in paths] == ["some-cpu-bars.svg", "some-cpu-memory-m.svg"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in plots.draw(found, tmp_path)] == before
    assert b"<svg" in before[0]


def test_the_readme_shows_what_is_recorded_and_nothing_else() -> None:
    recorded = record([11.0] * 5, [10.0] * 5)
    records = {("x", "engine/decode", "qwen2.5-coder-0.5b-q4_k_m.gguf", "tokens 4"): recorded}
    rows = headlines.table(records, "en").splitlines()
    assert rows[2:] == [
        "| Decode, one client | qwen2.5-coder-0.5b | **11.0 tokens/s** | 10.0 tokens/s (llama-server) |"
    ]
    assert "单个客户端" in headlines.table(records, "zh")
    assert len(headlines.table({}, "zh").splitlines()) == 2
