"""What a conversion would do and need, before it does anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kylin_convert import calibration, cli, estimate, lora, processor, verify
from kylin_convert.plan import make_plan
from kylin_convert.quantise import Recipe, uses_imatrix
from kylin_convert.source import open_path, open_source
from kylin_gguf import config
from kylin_gguf.errors import InvalidValue
from kylin_gguf.records import no_progress
from tests import tiny_checkpoint as tiny


@pytest.mark.parametrize(
    ("recipe", "form", "steps"),
    [
        (Recipe("Q4_K_M"), "F16", ("write", "imatrix", "quantise", "verify")),
        (Recipe("Q8_0"), "F16", ("write", "quantise", "verify")),
        (Recipe("BF16"), "BF16", ("write", "place", "verify")),
        (Recipe("F16", (("ffn", "Q8_0"),)), "F16", ("write", "quantise", "verify")),
    ],
)
def test_plans(tmp_path: Path, recipe: Recipe, form: str, steps: tuple[str, ...]) -> None:
    tiny.write(tmp_path, dtype="F16")
    source = open_path(tmp_path)
    plan = make_plan(source, tmp_path / "out.gguf", recipe)
    assert (plan.form, plan.steps, plan.notices) == (form, steps, ())
    assert plan.output_bytes < source.size * 1.5
    # The cache holds what the source predicts on two texts, for a vocabulary of 265.
    assert plan.work_bytes > len(calibration.LANGUAGES) * verify.SAMPLING.logits_bytes(265)
    assert plan.memory_bytes > source.unquantised_bytes(form)
    assert json.loads(json.dumps(plan.to_json()))["output"] == str(tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("dtype", "fast", "form"), [("BF16", True, "BF16"), ("BF16", False, "F16"), ("F32", True, "F16")]
)
def test_a_checkpoint_of_bf16_stays_so_where_that_is_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, fast: bool, form: str
) -> None:
    tiny.write(tmp_path, dtype=dtype)
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: fast)
    assert make_plan(open_path(tmp_path), tmp_path / "out.gguf", Recipe("Q4_K_M")).form == form


def test_an_adapter_makes_more_of_bf16_than_bf16_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write(tmp_path / "base")
    prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    stored: tiny.Tensors = {
        f"{prefix}A.weight": ("F32", (1, 256), bytes(1024)),
        f"{prefix}B.weight": ("F32", (256, 1), bytes(1024)),
    }
    (tmp_path / lora.WEIGHTS).write_bytes(tiny.safetensors(stored))
    stated = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / lora.CONFIG).write_text(json.dumps(stated), encoding="utf-8")
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: True)
    source = open_source(str(tmp_path), config.load(), no_progress)
    assert make_plan(source, tmp_path / "out.gguf", Recipe("Q4_K_M")).form == "F16"


@pytest.mark.parametrize(
    ("line", "fast"),
    [
        ("flags\t\t: fpu avx avx2 avx512f avx512_bf16", True),
        ("flags\t\t: fpu avx avx512f", False),
        ("Features\t: fp asimd bf16", False),
    ],
)
def test_processors_that_multiply_bf16(tmp_path: Path, line: str, fast: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\nbogomips\t: 1\n", encoding="utf-8")
    assert processor.multiplies_bf16(tmp_path / "cpuinfo") is fast


def test_a_type_for_some_tensors_can_need_a_matrix() -> None:
    assert not uses_imatrix(Recipe("Q8_0"))
    assert uses_imatrix(Recipe("Q8_0", (("ffn", "Q4_K"),)))
    assert uses_imatrix(Recipe("F16", embedding_type="Q6_K"))


def test_times_grow_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "operations_a_second", lambda _: 1e11)  # other programs have a say in it
    steps = ("write", "imatrix", "quantise", "verify")
    small, large = (
        estimate.seconds(steps, 10**9 * size, 2 * 10**9 * size, config.load()) for size in (1, 30)
    )
    assert set(small) == set(steps)
    assert all(large[step] > 5 * small[step] > 0 for step in steps)


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("Qwen/Qwen3-1.7B", "Qwen3-1.7B"),
        ("/a/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("model-F16.gguf", "model"),
        ("model-IQ4_XS.gguf", "model"),
        ("mini-q.gguf", "mini-q"),
        ("/a/Qwen3-8B-Q8_0-00001-of-00003.gguf", "Qwen3-8B"),
    ],
)
def test_outputs_are_named_after_the_model(source: str, stem: str) -> None:
    assert cli._stem(source) == stem


def test_overrides_are_pairs() -> None:
    assert cli._override(r"blk\.(0|1)\.ffn=Q6_K") == (r"blk\.(0|1)\.ffn", "Q6_K")
    for text in ("ffn", "=Q6_K", "ffn="):
        with pytest.raises(InvalidValue):
            cli._override(text)


def test_a_checkpoint_of_the_catalogue_is_made_by_its_recipe() -> None:
    settings = config.load()
    assert cli._default_quantisation("Qwen/Qwen3-0.6B", settings) == "Q8_0"
    assert cli._default_quantisation("someone/else", settings) == "Q4_K_M"


def test_the_machine_is_asked_how_fast_it_is() -> None:
    assert estimate.operations_a_second(1) > 1e7
