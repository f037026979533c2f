"""What is left to upstream's converter: recognised by name, run in a child without the checkpoint's code."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from kylin_convert import upstream
from kylin_convert.arch import ARCHITECTURES, family_of
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.source import open_path
from kylin_gguf import config
from kylin_gguf.errors import ExtraMissing, LibrariesMissing, ToolFailed
from kylin_gguf.records import Progress, Settings, no_progress
from tests import tiny_checkpoint as tiny
from tests.tiny_families import CASES

SOURCES = sorted(Path(__file__).parents[3].glob("build/source/llama_cpp_python-*/vendor/llama.cpp"))


@pytest.fixture
def mamba(tmp_path: Path) -> Path:
    folder = tmp_path / "Mamba-1B"
    tiny.write(folder, {**tiny.LLAMA, "architectures": ["MambaForCausalLM"]})
    (folder / "modeling_mamba.py").write_text("raise SystemExit('code of a stranger')", encoding="utf-8")
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all packages of the extra found."""
    monkeypatch.setattr(upstream, "find_spec", lambda name: object())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load({"native_dirs": (tmp_path / "native",)})


def _program(settings: Settings, code: str) -> None:
    folder = settings.native_dirs[0] / "upstream"
    folder.mkdir(parents=True)
    (folder / "convert_hf_to_gguf.py").write_text(f"import os, sys\n{code}\n", encoding="utf-8")


@pytest.mark.skipif(not SOURCES, reason="the pinned source is not unpacked: make native")
def test_the_names_are_upstreams() -> None:
    tree = ast.parse((SOURCES[-1] / "conversion" / "__init__.py").read_text(encoding="utf-8"))
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TEXT_MODEL_MAP"
    )
    assert upstream.architectures() == tuple(sorted(ast.literal_eval(table)))


def test_our_families_are_upstreams_but_one() -> None:
    assert set(ARCHITECTURES) - set(upstream.architectures()) == {"FM9GForCausalLM"}


@pytest.mark.parametrize("package", ["torch", "transformers", "sentencepiece"])
def test_the_missing_extra_is_named(mamba: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(upstream, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(ExtraMissing) as caught:
        open_path(mamba)
    assert (caught.value.feature, caught.value.package) == ("MambaForCausalLM", package)
    assert caught.value.extra == "upstream"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("qwen3", {"_name_or_path": "Qwen/Qwen3-Reranker-0.6B"}),
        ("nomic-bert", {"moe_every_n_layers": 2}),
        ("xlm-roberta", {"lora_adaptations": ["retrieval.query"]}),
    ],
)
def test_variations_that_only_upstream_reads(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    CASES[name].write(tmp_path / name)
    assert family_of(Checkpoint.open(tmp_path / name)) is not None
    path = tmp_path / name / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    assert family_of(Checkpoint.open(tmp_path / name)) is None


@pytest.mark.usefixtures("installed")
def test_without_the_source_it_is_said_where_it_was_looked_for(mamba: Path, settings: Settings) -> None:
    source = open_path(mamba)
    with pytest.raises(LibrariesMissing, match=r"upstream/convert_hf_to_gguf\.py"):
        source.write_unquantised(mamba.parent / "out.gguf", "F16", settings, no_progress)


@pytest.mark.usefixtures("installed")
def test_the_child_gets_the_folder_without_code(mamba: Path, settings: Settings) -> None:
    _program(
        settings,
        "folder, _, out, _, form = sys.argv[1:]\n"
        "print('Writing:  50%|#####     | 1/2', flush=True)\n"
        "found = [os.path.basename(folder), form, os.environ['HF_HUB_OFFLINE']]\n"
        "found += sorted(os.listdir(folder))\n"
        "open(out, 'w').write('\\n'.join(found))",
    )
    source, output = open_path(mamba), mamba.parent / "out.gguf"
    seen: list[Progress] = []
    source.write_unquantised(output, "BF16", settings, seen.append)
    assert output.read_text(encoding="utf-8").splitlines() == [
        "Mamba-1B",
        "bf16",
        "1",
        "config.json",
        "model.safetensors",
        "tokenizer.model",
        "tokenizer_config.json",
    ]
    assert [event.fraction for event in seen] == [0.5]
    assert source.unquantised_bytes("BF16") == 2 * source.unquantised_bytes("F32") // 4
    assert {path.name for path in mamba.parent.iterdir()} == {"Mamba-1B", "native", "out.gguf"}


@pytest.mark.usefixtures("installed")
def test_a_failure_leaves_nothing_and_tells_the_last_words(mamba: Path, settings: Settings) -> None:
    _program(settings, "open(sys.argv[3], 'w').write('half')\nsys.exit('ValueError: no such tensor')")
    with pytest.raises(ToolFailed, match="no such tensor"):
        open_path(mamba).write_unquantised(mamba.parent / "out.gguf", "F16", settings, no_progress)
    assert {path.name for path in mamba.parent.iterdir()} == {"Mamba-1B", "native"}


@pytest.mark.skipif(
    not SOURCES
    or any(upstream.find_spec(name) is None for name in ("torch", "transformers", "sentencepiece")),
    reason="the extra [upstream] is not installed",
)
def test_upstream_itself(tmp_path: Path) -> None:
    """A family of ours, called by a name that only upstream knows for it."""
    folder = tmp_path / "Tiny"
    tiny.write(folder, {**tiny.LLAMA, "architectures": ["IQuestCoderForCausalLM"]})
    settings = config.load({"native_dirs": (SOURCES[-1].parents[3] / "native" / "cpu",)})
    open_path(folder).write_unquantised(tmp_path / "out.gguf", "F16", settings, no_progress)
    assert (tmp_path / "out.gguf").read_bytes()[:4] == b"GGUF"
