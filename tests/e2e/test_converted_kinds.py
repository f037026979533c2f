"""Whole conversions of models that are not the usual kind: of experts, and encoders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kylin_convert import pipeline
from kylin_convert.manifest import Manifest
from kylin_convert.quantise import Recipe
from kylin_convert.source import open_path
from kylin_convert.vocab.fast import FastTokenizer
from kylin_gguf.records import Progress, Settings
from tests.tiny_families import CASES

pytestmark = pytest.mark.native


@pytest.fixture(autouse=True)
def _known_pre_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    original = FastTokenizer.pre_tokenizer
    monkeypatch.setattr(FastTokenizer, "pre_tokenizer", lambda self: original(self) or "qwen2")


def _convert(name: str, quantisation: str, settings: Settings, folder: Path) -> tuple[Manifest, list[str]]:
    CASES[name].write(folder / name)
    stages: list[str] = []

    def progress(event: Progress) -> None:
        if event.stage not in stages:
            stages.append(event.stage)

    request = pipeline.Request(open_path(folder / name), folder / "out.gguf", Recipe(quantisation))
    own = replace(settings, cache_dir=folder / "cache")
    return pipeline.convert(request, own, progress, lambda _: None), stages


def test_experts_are_counted(settings: Settings, tmp_path: Path) -> None:
    made, stages = _convert("qwen3-moe", "Q4_0", settings, tmp_path)
    assert "imatrix" in stages
    assert made.calibration is not None
    experts = made.calibration["experts"]
    layers = sum(name.endswith("ffn_up_exps.weight") for name in made.tensors)
    assert experts["experts"] == 4 * layers
    # Each token goes to two of four.
    assert experts["unseen"] == 0
    assert 0 < experts["fewest"] <= 512 * made.calibration["chunks"] / 2
    assert set(made.quality) == {"zh", "en"}


@pytest.mark.parametrize("quantisation", ["Q8_0", "Q4_0"])
def test_an_encoder_has_no_probabilities_to_weigh_or_compare(
    settings: Settings, tmp_path: Path, quantisation: str
) -> None:
    made, stages = _convert("bert", quantisation, settings, tmp_path)
    assert "imatrix" not in stages
    assert (made.calibration, made.quality) == (None, {})
    assert made.output["types"][quantisation] > 0
