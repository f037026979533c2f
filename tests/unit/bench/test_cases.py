"""The cases are consistent, and names that do not exist are errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import cases, cli
from bench.case import Case
from bench.cases.engine.soak import growth


@pytest.mark.parametrize("case", cases.every().values(), ids=lambda case: case.name)
def test_bars_are_of_figures_the_case_has(case: Case) -> None:
    names = [figure.name for figure in case.figures]
    assert len(set(names)) == len(names)
    assert {bar.figure for bar in case.bars} <= set(names)
    assert case.rounds >= case.least_rounds


def test_every_module_holds_the_case_of_its_name() -> None:
    root = Path(cases.__file__).parent
    modules = {path.relative_to(root).with_suffix("") for path in root.glob("*/[a-z]*.py")}
    assert set(cases.every()) == {str(name).replace("_", "-") for name in modules}


def test_cases_are_chosen_by_name_or_pattern_once() -> None:
    assert [case.name for case in cases.named(["engine/decode", "engine/dec*"])] == ["engine/decode"]
    assert len(cases.named(["*"])) == len(cases.every())


def test_an_unknown_case_is_an_error_with_near_ones() -> None:
    with pytest.raises(SystemExit, match="did you mean engine/decode"):
        cases.named(["engine/decod"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "engine/decode", "--set", "token=3"], "no parameter token; did you mean tokens"),
        (["run", "engine/decode", "--set", "tokens=many"], "tokens=many: not a number"),
    ],
)
def test_parameters_are_checked_before_anything_starts(arguments: list[str], complaint: str) -> None:
    with pytest.raises(SystemExit, match=complaint):
        cli.main(arguments)


def test_the_list_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["list"])
    shown = capsys.readouterr().out
    assert all(f"{name}: " in shown for name in cases.every())


def test_growth_is_from_when_memory_settled() -> None:
    series = [10.0] * 3 + [100.0] * 5 + [101.0, 250.0, 103.0, 103.0, 103.0, 103.0]
    assert growth(series, 3) == pytest.approx(3.0)
