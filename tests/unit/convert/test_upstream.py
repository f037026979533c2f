"""Our GGUFs are upstream's, key for key and tensor for tensor."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kylin_convert.adapter import Adapter
from kylin_convert.arch import ARCHITECTURES, family_of
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.vocab.fast import FastTokenizer
from kylin_convert.writer import write_gguf
from kylin_gguf.records import no_progress
from tests import upstream_reference as reference
from tests.tiny_adapters import ADAPTERS
from tests.tiny_families import CASES

SOURCES = sorted(Path(__file__).parents[3].glob("build/source/llama_cpp_python-*/vendor/llama.cpp"))


@pytest.fixture(scope="module")
def kept() -> Mapping[str, Any]:
    return reference.load()


@pytest.fixture(autouse=True)
def _known_pre_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    original = FastTokenizer.pre_tokenizer
    monkeypatch.setattr(
        FastTokenizer, "pre_tokenizer", lambda self: original(self) or reference.PRE_TOKENIZER
    )


@pytest.mark.parametrize(("name", "form"), reference.conversions())
def test_equal_to_upstream(tmp_path: Path, kept: Mapping[str, Any], name: str, form: str) -> None:
    folder, output = tmp_path / name, tmp_path / "out.gguf"
    CASES[name].write(folder)
    expected = kept[f"{name}/{form}"]
    assert reference.checkpoint_hash(folder) == expected["checkpoint"], (
        "the case changed: make its reference again"
    )
    write_gguf(family_of(Checkpoint.open(folder)), output, form.upper(), no_progress)
    ours = reference.describe(output)
    assert ours["keys"] == expected["keys"]
    assert ours["tensors"] == expected["tensors"]


@pytest.mark.parametrize(("name", "form"), reference.adapters())
def test_adapters_equal_to_upstream(tmp_path: Path, kept: Mapping[str, Any], name: str, form: str) -> None:
    case, expected = ADAPTERS[name], kept[f"{name}/{form}"]
    case.write(tmp_path / name)
    CASES[case.base].write(tmp_path / "base")
    assert reference.checkpoint_hash(tmp_path / name) == expected["checkpoint"]
    adapter = Adapter.open(tmp_path / name, Checkpoint.open(tmp_path / "base"))
    adapter.write(tmp_path / "out.gguf", form.upper(), no_progress)
    ours = reference.describe(tmp_path / "out.gguf")
    assert ours["keys"] == expected["keys"]
    assert ours["tensors"] == expected["tensors"]


def test_every_family_has_a_case() -> None:
    covered = {case.config["architectures"][0] for case in CASES.values()}
    same_module = {"LLaMAForCausalLM", "FM9GForCausalLM"}  # an older spelling, and the test below
    assert covered | same_module == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ["llama", "minicpm4", "minicpm3"])
def test_fm9g_is_the_family_that_its_configuration_shows(
    tmp_path: Path, kept: Mapping[str, Any], name: str
) -> None:
    case = CASES[name]
    case.write(tmp_path / name)
    checkpoint = Checkpoint.open(tmp_path / name)
    renamed = {**checkpoint.config, "architectures": ["FM9GForCausalLM"], "model_type": "fm9g"}
    family = family_of(Checkpoint(checkpoint.folder, renamed, checkpoint.tensors, checkpoint.weight_files))
    write_gguf(family, tmp_path / "out.gguf", "F16", no_progress)
    ours, expected = reference.describe(tmp_path / "out.gguf"), kept[f"{name}/f16"]
    assert ours["tensors"] == expected["tensors"]
    assert ours["keys"] == expected["keys"]


@pytest.mark.skipif(find_spec("torch") is None or not SOURCES, reason="the extra [upstream] is not installed")
def test_the_reference_is_upstreams(kept: Mapping[str, Any]) -> None:
    chosen = [*reference.conversions(), *reference.adapters()]
    assert reference.references(SOURCES[-1], chosen) == kept
