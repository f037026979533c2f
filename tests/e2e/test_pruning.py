"""Blocks are cut out of real files: nothing changes where they did nothing, and what it costs is measured."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kylin_convert import manifest, pipeline
from kylin_convert.pruning import Cost, Pruning
from kylin_convert.pruning.influence import PROGRAM
from kylin_convert.quantise import Recipe
from kylin_convert.source import open_path
from kylin_gguf import config, gguf_info, native
from kylin_gguf.errors import Cancelled, InvalidValue, UnsupportedModel
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Progress, Settings
from tests import tiny_checkpoint as tiny

pytestmark = pytest.mark.native

BLOCKS, IDLE = 5, (1, 3)
COMMAND = "from kylin_gguf.cli.app import main; main()"


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """The settings with a cache of the test's own."""
    return replace(settings, cache_dir=tmp_path / "cache")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A model of ``BLOCKS`` blocks, of which those in ``IDLE`` add nothing to what passes through them."""
    folder = tmp_path / "tiny"
    full = tiny.write(folder, {**tiny.LLAMA, "num_hidden_layers": BLOCKS}, dtype="F16")
    tensors = tiny.random_tensors(full, "F16")
    for block in range(BLOCKS):
        for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            key = f"model.layers.{block}.{name}"
            dtype, shape, data = tensors[key]
            strong = (np.frombuffer(data, "<f2") * np.float16(block not in IDLE) * np.float16(20)).tobytes()
            tensors[key] = (dtype, shape, strong)
    (folder / "model.safetensors").write_bytes(tiny.safetensors(tensors))
    return folder


def _convert(
    source: Path, output: Path, settings: Settings, prune: Pruning, quantisation: str = "F16"
) -> tuple[list[str], Any]:
    stages: list[str] = []

    def progress(event: Progress) -> None:
        if event.stage not in stages:
            stages.append(event.stage)

    request = pipeline.Request(open_path(source), output, Recipe(quantisation), prune=prune)
    return stages, pipeline.convert(request, settings, progress, lambda _: None)


def _yes(_model: GgufInfo, _cost: Cost) -> bool:
    return True


def _logits(path: Path) -> Any:
    native.load(config.load())
    llama_cpp: Any = importlib.import_module("llama_cpp")
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    context = llama_cpp.llama_init_from_model(model, llama_cpp.llama_context_default_params())
    tokens = (llama_cpp.llama_token * 3)(4, 5, 6)
    assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 3)) == 0
    count = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    result = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=(count,)).copy()
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return result


def test_blocks_that_do_nothing_are_found_and_not_missed(
    own: Settings, checkpoint: Path, tmp_path: Path
) -> None:
    whole, less = tmp_path / "whole.gguf", tmp_path / "less.gguf"
    request = pipeline.Request(open_path(checkpoint), whole, Recipe("F16"))
    pipeline.convert(request, own, lambda _: None, lambda _: None)
    stages, made = _convert(checkpoint, less, own, Pruning(2, 0.0, _yes))
    assert stages == ["hash", "write", "influence", "prune", "check output"]
    info = gguf_info.read(less)
    assert (info.layers, info.metadata["kylin.pruning.removed"]) == (BLOCKS - 2, IDLE)
    assert np.array_equal(_logits(less), _logits(whole))
    cut = json.loads(manifest.path_for(less).read_text(encoding="utf-8"))["pruning"]
    assert (cut["removed"], cut["blocks"]) == (list(IDLE), BLOCKS)
    influence = np.array(cut["influence"])
    assert np.abs(influence[list(IDLE)]).max() < 1e-6
    assert influence[[0, 2, 4]].min() > 0.01
    for measured in made.quality.values():
        assert measured["output"]["kl_divergence"]["value"] < 1e-5
        assert measured["output"]["perplexity"]["value"] == measured["source"]["perplexity"]["value"]


def test_auto_cuts_what_costs_nothing_and_no_more(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    shown: list[Cost] = []

    def accept(_model: GgufInfo, cost: Cost) -> bool:
        shown.append(cost)
        return True

    output = tmp_path / "less.gguf"
    stages, made = _convert(checkpoint, output, own, Pruning(0, 1e-4, accept), "Q4_K_M")
    assert [cost.removed for cost in shown] == [IDLE]
    assert made.pruning["limit"] == 1e-4
    assert {len(one["removed"]) for one in made.pruning["tried"]} == {1, 2, 3}
    assert "imatrix" in stages
    assert gguf_info.read(output).layers == BLOCKS - 2
    assert not list(own.cache_dir.glob("convert/*/model-*"))
    # Asked again, nothing of it is measured again.
    stages, _ = _convert(checkpoint, tmp_path / "again.gguf", own, Pruning(0, 1e-4, _yes), "Q4_K_M")
    assert stages == ["hash", "write", "prune", "quantise", "check output"]
    assert (tmp_path / "again.gguf").read_bytes() == output.read_bytes()


def test_a_limit_below_what_a_block_costs_is_refused(own: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny.write(folder, {**tiny.LLAMA, "num_hidden_layers": 3})
    with pytest.raises(InvalidValue, match=r"at least 0\.\d+, which the loss of block \d costs"):
        _convert(folder, tmp_path / "less.gguf", own, Pruning(0, 0.0, _yes))
    assert not (tmp_path / "less.gguf").exists()


def test_a_cost_that_is_not_accepted_leaves_no_file(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        _convert(checkpoint, tmp_path / "less.gguf", own, Pruning(1, 0.0, lambda _model, _cost: False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "tiny"]
    assert [path.name for path in own.cache_dir.glob("convert/*/*.gguf")] == ["model-F16.gguf"]


def test_what_cannot_be_cut_is_refused_before_anything_is_written(own: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny.write(folder)
    source = open_path(folder)
    request = pipeline.Request(source, tmp_path / "a.gguf", Recipe("F16"), prune=Pruning(2, 0.0, _yes))
    with pytest.raises(UnsupportedModel, match="of its 2 blocks, 2 cannot be cut; these numbers can: 1"):
        pipeline.convert(request, own, lambda _: None, lambda _: None)
    assert not own.cache_dir.exists()


def test_a_matrix_of_the_whole_model_is_refused(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    request = pipeline.Request(
        *(open_path(checkpoint), tmp_path / "a.gguf", Recipe("Q4_K_M")),
        imatrix=tmp_path / "matrix.gguf",
        prune=Pruning(1, 0.0, _yes),
    )
    with pytest.raises(InvalidValue, match="it is another model's"):
        pipeline.plan(request, own)


def _run(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "KYLIN_GGUF_CACHE_DIR": str(settings.cache_dir)}
    command = [sys.executable, "-c", COMMAND, "convert", *arguments]
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_nobody_to_ask_means_no(own: Settings, checkpoint: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "less.gguf")
    process = _run(own, str(checkpoint), "-o", output, "--quant", "F16", "--prune-layers", "2")
    _, said = process.communicate()
    assert process.returncode == 2
    assert "--yes" in said
    assert not own.cache_dir.exists()
    process = _run(own, str(checkpoint), "-o", output, "--prune-layers", "2", "--dry-run", "--json")
    plan = json.loads(process.communicate()[0])
    assert plan["steps"] == ["write", "prune", "imatrix", "quantise", "verify"]
    assert plan["seconds"]["prune"] >= 1


def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    own: Settings, checkpoint: Path, tmp_path: Path
) -> None:
    arguments = [str(checkpoint), "--quant", "Q3_K_M", "--prune-layers", "auto", "--prune-limit", "0.01"]
    arguments += ["--yes", "--json", "-o"]
    first = replace(own, cache_dir=tmp_path / "first")
    made = _run(first, *arguments, str(tmp_path / "a.gguf"))
    events = [json.loads(line) for line in made.communicate()[0].splitlines()]
    (shown,) = [event for event in events if event["type"] == "pruning"]
    assert shown["removed"] == list(IDLE)
    for stage in ("influence", "prune", "check output"):
        process = _run(own, *arguments, str(tmp_path / "b.gguf"))
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("stage") == stage:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
        assert not (tmp_path / "b.gguf").exists()
    assert _run(own, *arguments, str(tmp_path / "b.gguf")).communicate()[1] == ""
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    assert not list(own.cache_dir.glob("convert/*/model-*"))


def test_a_file_that_llama_cpp_refuses_ends_the_program_only(own: Settings, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text", encoding="utf-8")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    command = [sys.executable, "-P", "-m", PROGRAM, str(broken), "text.txt"]
    command += ["--context", "64", "--chunks", "1", "--threads", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["error"]["code"] == "engine.load-failed"
