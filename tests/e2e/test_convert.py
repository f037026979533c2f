"""Whole conversions with the real tools: a random checkpoint for speed, the default model for truth."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFWriter

from kylin_convert import manifest, pipeline, quantise, verify
from kylin_convert.quantise import Recipe
from kylin_convert.source import open_path, open_source
from kylin_convert.splitting import Limit
from kylin_convert.tools import Toolbox
from kylin_convert.work import sha256_of
from kylin_gguf import gguf_info
from kylin_gguf.errors import (
    BadMatrix,
    InvalidValue,
    NotACheckpoint,
    NotGguf,
    ToolFailed,
    TruncatedGguf,
    UnknownQuantisation,
    VerificationFailed,
)
from kylin_gguf.gguf_info import shards
from kylin_gguf.records import InstalledModel, Progress, Settings, no_progress
from tests import tiny_checkpoint as tiny

pytestmark = pytest.mark.native

COMMAND = (
    "import typer; from kylin_convert.cli import register; a = typer.Typer(); a.callback()(lambda: None);"
)


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """The settings with a cache of the test's own."""
    return replace(settings, cache_dir=tmp_path / "cache")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-llama"
    tiny.write(folder, shards=2)
    return folder


class _Notes:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.stages: list[str] = []

    def progress(self, event: Progress) -> None:
        if event.stage not in self.stages:
            self.stages.append(event.stage)


def _recipe(quantisation: str | Recipe) -> Recipe:
    return Recipe(quantisation) if isinstance(quantisation, str) else quantisation


def _convert(
    source: Path, output: Path, quantisation: str | Recipe, settings: Settings, **how: Any
) -> tuple[_Notes, Any]:
    notes = _Notes()
    request = pipeline.Request(open_path(source), output, _recipe(quantisation), **how)
    return notes, pipeline.convert(request, settings, notes.progress, notes.texts.append)


def _listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _work_files(settings: Settings) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in settings.cache_dir.glob("convert/*/*"))


def test_a_checkpoint_becomes_a_small_file_with_its_manifest(
    own: Settings, checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "tiny.gguf"
    output.parent.mkdir()
    notes, made = _convert(checkpoint, output, "q4_k_m", own)
    assert notes.stages == ["hash", "write", "imatrix", "quantise", "check source", "check output"]
    assert _listing(output.parent) == ["tiny.gguf", "tiny.gguf.json"]
    assert _work_files(own) == ["imatrix", "lock"]
    info = gguf_info.read(output)
    assert info.architecture == "llama"
    types = {tensor.name: tensor.type_name for tensor in info.tensors}
    assert types["blk.0.attn_q.weight"] == "Q4_K"
    assert info.metadata["quantize.imatrix.file"] == made_matrix(own)
    written = json.loads(manifest.path_for(output).read_text(encoding="utf-8"))
    assert written["recipe"]["name"] == made.recipe["name"] == "Q4_K_M"
    assert written["output"]["bytes"] == output.stat().st_size
    assert written["source"]["files"].keys() >= {
        "config.json",
        "tokenizer.model",
        "model-00001-of-00002.safetensors",
    }
    assert written["calibration"]["corpus"] == "built-in"
    assert written["tensors"].keys() == types.keys()
    for measured in written["quality"].values():
        # A model that knows nothing spreads its bets over the vocabulary, before and after.
        before, after = (measured[which]["perplexity"]["value"] for which in ("source", "output"))
        assert after == pytest.approx(before, rel=0.05)
        assert 0 < measured["output"]["kl_divergence"]["value"] < 0.1
        assert 0.3 < measured["output"]["same_top"]["value"] <= 1


def made_matrix(settings: Settings) -> str:
    (matrix,) = settings.cache_dir.glob("convert/*/imatrix-*.gguf")
    return matrix.name


def test_what_is_done_is_not_done_again(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    _convert(checkpoint, tmp_path / "a.gguf", "Q4_K_M", own, keep=True)
    notes, _ = _convert(checkpoint, tmp_path / "b.gguf", "Q5_K_M", own)
    assert notes.stages == ["hash", "quantise", "check output"]
    own_text = tmp_path / "own.txt"
    own_text.write_text("the house stands on the hill. " * 200, encoding="utf-8")
    notes, made = _convert(checkpoint, tmp_path / "c.gguf", "Q4_K_M", own, calibration=own_text)
    assert "imatrix" in notes.stages
    assert made.calibration["corpus"] == "own.txt"


@pytest.mark.parametrize("quantisation", ["F16", "BF16"])
def test_an_unquantised_output_needs_no_matrix(
    own: Settings, checkpoint: Path, tmp_path: Path, quantisation: str
) -> None:
    notes, made = _convert(checkpoint, tmp_path / "out.gguf", quantisation, own)
    assert "imatrix" not in notes.stages
    assert made.calibration is None
    assert set(made.output["types"]) == {"F32", quantisation}


def test_the_default_model_is_requantised_and_its_losses_said_aloud(
    own: Settings, model: InstalledModel, tmp_path: Path
) -> None:
    output = tmp_path / "small.gguf"
    text = tmp_path / "little.txt"
    text.write_text(
        "The town council voted on Monday to keep the library open on Sundays. " * 90, encoding="utf-8"
    )
    notes, made = _convert(model.path, output, "Q4_K_M", own, calibration=text)
    assert "Q4_1" in notes.texts[0]
    assert "already quantised" in notes.texts[0]
    # Rows of 576 do not divide into k-quants' blocks of 256; the user is told how much of the file that is.
    assert made.fallbacks["share"] > 0.3
    assert f"{made.fallbacks['share']:.0%} of the file" in notes.texts[1]
    english = made.quality["en"]
    assert english["output"]["perplexity"]["value"] < 1.2 * english["source"]["perplexity"]["value"] < 100
    assert english["output"]["same_top"]["value"] > 0.8
    assert {tensor.name for tensor in gguf_info.read(output).tensors} == set(made.tensors)


def test_a_failed_run_leaves_nothing_under_the_output(
    own: Settings, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out" / "tiny.gguf"
    output.parent.mkdir()
    output.write_bytes(b"the old file")
    planned = quantise.plan

    def wrong(*arguments: Any) -> quantise.QuantisePlan:
        plan = planned(*arguments)
        return replace(plan, types={**plan.types, "output_norm.weight": "q8_0"})

    monkeypatch.setattr(quantise, "plan", wrong)
    with pytest.raises(VerificationFailed, match=r"output_norm.weight is F32, not q8_0"):
        _convert(checkpoint, output, "Q4_K_M", own, force=True)
    assert _listing(output.parent) == ["tiny.gguf"]
    assert output.read_bytes() == b"the old file"
    assert _work_files(own) == ["imatrix", "lock", "model", "model"]


@pytest.mark.parametrize("flushed", [True, False])
def test_a_killed_run_is_resumed(own: Settings, checkpoint: Path, tmp_path: Path, *, flushed: bool) -> None:
    """What was written is used again if it had reached the disk."""
    output = tmp_path / "out" / "tiny.gguf"
    output.parent.mkdir()
    with _command(own, "convert", str(checkpoint), "-o", str(output), "--json") as process:
        for event in _events(process):
            if event.get("stage") == "imatrix":
                while not (marks := list(own.cache_dir.glob("convert/*/model-*.flushed"))):
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                break
    assert _listing(output.parent) == []
    if not flushed:
        marks[0].unlink()
    notes, _ = _convert(checkpoint, output, "Q4_K_M", own)
    assert ("write" in notes.stages) is not flushed
    assert _listing(output.parent) == ["tiny.gguf", "tiny.gguf.json"]


def test_a_terminated_run_cleans_up(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "tiny.gguf"
    output.parent.mkdir()
    with _command(own, "convert", str(checkpoint), "-o", str(output), "--json") as process:
        for event in _events(process):
            if event.get("stage") == "quantise":
                process.terminate()
                break
    assert process.returncode != 0
    assert _listing(output.parent) == []


def _command(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "KYLIN_GGUF_CACHE_DIR": str(settings.cache_dir),
        "KYLIN_GGUF_NATIVE_DIRS": os.pathsep.join(map(str, settings.native_dirs)),
    }
    command = [sys.executable, "-c", COMMAND + " register(a); a()", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    yield from map(json.loads, process.stdout)


def test_the_plan_is_shown_and_nothing_written(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "tiny.gguf"
    with _command(own, "convert", str(checkpoint), "-o", str(output), "--dry-run", "--json") as process:
        (plan,) = list(_events(process))
    assert process.returncode == 0
    assert (plan["type"], plan["steps"]) == ("plan", ["write", "imatrix", "quantise", "verify"])
    assert not output.exists()
    assert not own.cache_dir.exists()


def test_bad_requests(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "there.gguf"
    output.touch()
    with pytest.raises(InvalidValue, match="--force"):
        _convert(checkpoint, output, "Q4_K_M", own)
    with pytest.raises(InvalidValue, match="than the source"):
        _convert(checkpoint, checkpoint / "config.json", "Q4_K_M", own, force=True)
    with pytest.raises(UnknownQuantisation) as caught:
        _convert(checkpoint, tmp_path / "new.gguf", "Q4_KM", own)
    assert "Q4_K_M" in caught.value.near
    with pytest.raises(UnknownQuantisation) as caught:
        _convert(checkpoint, tmp_path / "new.gguf", Recipe("Q4_K_M", (("attn_v", "Q6_KK"),)), own)
    assert "Q6_K" in caught.value.near
    for pattern in ("attn_z", "("):
        with pytest.raises(InvalidValue, match="--tensor-type"):
            _convert(checkpoint, tmp_path / "new.gguf", Recipe("Q4_K_M", ((pattern, "Q6_K"),)), own)
    with pytest.raises(NotACheckpoint):
        open_path(checkpoint / "config.json")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(b"GGUF")
    with pytest.raises((NotGguf, TruncatedGguf), match="cut"):
        open_path(cut)
    assert not own.cache_dir.exists()


def test_an_installed_model_is_a_source_by_name(settings: Settings, model: InstalledModel) -> None:
    source = open_source(model.name, settings, no_progress)
    assert (source.kind, source.path) == ("gguf", model.path)


def test_a_corpus_too_short_is_the_tools_error(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("too short", encoding="utf-8")
    with pytest.raises(ToolFailed, match="llama-imatrix"):
        _convert(checkpoint, tmp_path / "out.gguf", "Q4_K_M", own, calibration=text)


def test_files_are_compared_in_json_and_in_a_plot(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    for quantisation in ("F16", "Q8_0", "Q2_K"):
        _convert(checkpoint, tmp_path / f"{quantisation}.gguf", quantisation, own)
    files = [str(tmp_path / f"{name}.gguf") for name in ("F16", "Q8_0", "Q2_K")]
    plotted = tmp_path / "out.png"
    with _command(own, "compare", *files, "--json", "--plot", str(plotted), "--context", "64") as process:
        found = [event for event in _events(process) if event["type"] == "compared"]
    assert process.returncode == 0
    assert plotted.read_bytes().startswith(b"\x89PNG")
    assert [(one["text"], one["model"]) for one in found] == [
        (language, f"{name}.gguf") for language in ("zh", "en") for name in ("F16", "Q8_0", "Q2_K")
    ]
    for reference, large, small in (found[:3], found[3:]):
        assert reference["reference"]
        assert large["kl_divergence"]["value"] < small["kl_divergence"]["value"]
        beside = small["kl_divergence_beside_first"]
        assert beside["value"] > 3 * beside["error"] > 0


def test_tensors_get_the_types_that_were_asked_for(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    overrides = (("ffn_down", "Q8_0"), (r"blk\.0\.attn_[qk]", "q6_k"), ("attn_q", "Q5_K"))
    wanted = Recipe("Q3_K_M", overrides, output_type="Q5_K", embedding_type="F16")
    _, made = _convert(checkpoint, tmp_path / "out.gguf", wanted, own)
    types = {tensor.name: tensor.type_name for tensor in gguf_info.read(tmp_path / "out.gguf").tensors}
    assert types["output.weight"] == "Q5_K"
    assert types["token_embd.weight"] == "F16"
    assert types["blk.1.ffn_down.weight"] == "Q8_0"
    assert (types["blk.0.attn_q.weight"], types["blk.1.attn_q.weight"]) == ("Q6_K", "Q5_K")
    assert made.recipe["tensor_types"]["attn_q"] == "Q5_K"


def test_every_quantisation_of_this_llama_cpp_can_be_made(
    own: Settings, checkpoint: Path, tmp_path: Path
) -> None:
    """All names that llama-quantize lists are planned, and made where that takes no search over lattices."""
    _convert(checkpoint, tmp_path / "first.gguf", "Q4_K_M", own, keep=True)
    (unquantised,) = own.cache_dir.glob("convert/*/model-*.gguf")
    (weights,) = own.cache_dir.glob("convert/*/imatrix-*.gguf")
    source, toolbox = gguf_info.read(unquantised), Toolbox(own, weights.parent)
    names = quantise.known_names(toolbox)
    assert {"Q4_K_M", "IQ1_S", "TQ2_0", "MXFP4_MOE", "Q8_0", "BF16"} <= set(names)
    for name in names:
        made, recipe = tmp_path / "made.gguf", Recipe(name)
        planned = quantise.plan(toolbox, source, recipe, weights)
        if re.match("IQ[123]", name):
            continue
        quantise.quantise(toolbox, source, made, recipe, imatrix=weights, progress=no_progress)
        verify.check_structure(source, gguf_info.read(made), planned.types)


def test_a_model_in_several_files_gives_what_it_gives_in_one(
    own: Settings, checkpoint: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.gguf", tmp_path / "cut.gguf"
    _convert(checkpoint, whole, "F16", own)
    _cut(whole, cut, 8)
    second = tmp_path / "cut-00002-of-00003.gguf"
    for source, output in ((whole, "a.gguf"), (second, "b.gguf")):
        notes, made = _convert(source, tmp_path / output, "Q4_K_M", own)
        assert notes.stages[:3] == ["hash", "imatrix", "quantise"]
    assert made.source["files"].keys() == {f"cut-0000{number}-of-00003.gguf" for number in (1, 2, 3)}
    tensors = [
        [(tensor.name, tensor.data.tobytes()) for tensor in GGUFReader(tmp_path / name).tensors]
        for name in ("a.gguf", "b.gguf")
    ]
    assert tensors[0] == tensors[1]
    assert not any(key.startswith("split.") for key in gguf_info.read(tmp_path / "b.gguf").metadata)


def test_a_result_in_several_files_is_verified_and_loads(
    own: Settings, checkpoint: Path, tmp_path: Path
) -> None:
    _convert(checkpoint, tmp_path / "whole.gguf", "Q4_K_M", own)
    output = tmp_path / "out" / "cut.gguf"
    output.parent.mkdir()
    limit = Limit(tensors=8)
    notes, made = _convert(checkpoint, output, "Q4_K_M", own, limit=limit)
    assert notes.stages[-3:] == ["quantise", "split", "check output"]
    names = shards.names("cut", 3)
    assert _listing(output.parent) == sorted([*names, f"{names[0]}.json"])
    assert list(made.output["files"]) == names
    for name, sha256 in made.output["files"].items():
        assert sha256_of(output.with_name(name)) == sha256
    first, whole = (shards.read(path) for path in (output.with_name(names[0]), tmp_path / "whole.gguf"))
    assert [(t.name, t.type_name) for t in first.tensors] == [(t.name, t.type_name) for t in whole.tensors]
    assert made.quality == json.loads(manifest.path_for(whole.path).read_text(encoding="utf-8"))["quality"]
    with pytest.raises(InvalidValue, match="--force"):
        _convert(checkpoint, output, "Q4_K_M", own, limit=limit)
    _convert(checkpoint, output, "Q4_K_M", own, limit=limit, force=True)
    assert _listing(output.parent) == sorted([*names, f"{names[0]}.json"])
    with pytest.raises(InvalidValue, match="another file than the source"):
        _convert(output.with_name(names[1]), output, "Q2_K", own, limit=limit, force=True)


def _cut(whole: Path, target: Path, tensors_a_file: int) -> None:
    """Write a GGUF again, in several files."""
    reader = GGUFReader(whole)
    writer = GGUFWriter(target, "llama", split_max_tensors=tensors_a_file)
    writer.kv_data[0].clear()
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            writer.add_key_value(name, field.contents(), field.types[0], field.types[-1])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_matrix_is_taken_from_elsewhere_if_it_fits(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    _, first = _convert(checkpoint, tmp_path / "first.gguf", "Q4_K_M", own)
    (weights,) = own.cache_dir.glob("convert/*/imatrix-*.gguf")
    given = Path(shutil.copyfile(weights, tmp_path / "given.gguf"))
    notes, second = _convert(checkpoint, tmp_path / "second.gguf", "Q4_K_M", own, imatrix=given)
    assert "imatrix" not in notes.stages
    assert second.calibration["corpus"] == "given.gguf"
    assert second.calibration["imatrix_sha256"] == first.calibration["imatrix_sha256"]
    other = tmp_path / "other"
    tiny.write(other, {**tiny.LLAMA, "num_hidden_layers": 3})
    with pytest.raises(BadMatrix, match="nothing of layer 2"):
        _convert(other, tmp_path / "third.gguf", "Q4_K_M", own, imatrix=given)
    assert not (tmp_path / "third.gguf").exists()


def test_a_measurement_goes_on_where_it_was_stopped(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    """Pieces that are done are not computed again, and the sums come out as if nothing had happened."""
    whole = tmp_path / "whole"
    _convert(checkpoint, tmp_path / "a.gguf", "Q4_K_M", replace(own, cache_dir=whole))
    with _command(own, "convert", str(checkpoint), "-o", str(tmp_path / "b.gguf"), "--json") as process:
        for event in _events(process):
            if event.get("stage") == "imatrix" and event["done"] > 16:  # in the second piece
                process.send_signal(signal.SIGKILL)
                break
    assert len(list(own.cache_dir.glob("convert/*/*.piece-*.gguf"))) == 1
    _convert(checkpoint, tmp_path / "b.gguf", "Q4_K_M", own)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    assert _work_files(own) == ["imatrix", "lock"]


def test_a_text_of_few_chunks_is_read_to_its_end(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("the house stands on the hill. " * 205, encoding="utf-8")
    _, made = _convert(checkpoint, tmp_path / "out.gguf", "Q4_K_M", own, calibration=text)
    # Between 16 and 18 chunks. What is left when fewer than two are is not read: llama-imatrix refuses.
    assert made.calibration["chunks"] == 16
