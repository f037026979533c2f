"""Where a conversion's input may come from, and what is said about the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kylin_convert.metadata import read_metadata
from kylin_convert.source import open_path, open_source
from kylin_gguf import config
from kylin_gguf.errors import BadCheckpoint, FileMissing, NotACheckpoint, UnknownModel
from kylin_gguf.records import no_progress
from tests import tiny_checkpoint as tiny


def test_names_that_are_nothing(tmp_path: Path) -> None:
    settings = config.load({"models_dir": tmp_path, "system_model_dirs": ()})
    with pytest.raises(UnknownModel):
        open_source("qwen-99", settings, no_progress)
    with pytest.raises(FileMissing):
        open_source("nothing.gguf", settings, no_progress)
    (tmp_path / "notes.txt").write_text("not a model", encoding="utf-8")
    with pytest.raises(NotACheckpoint, match="not a GGUF"):
        open_path(tmp_path / "notes.txt")


def test_hashes_cover_everything_the_result_depends_on(tmp_path: Path) -> None:
    tiny.write(tmp_path, shards=2)
    before = open_path(tmp_path).hashes(no_progress)
    assert before.keys() == {
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
        "tokenizer_config.json",
    }
    (tmp_path / "chat_template.jinja").write_text("new", encoding="utf-8")
    after = open_path(tmp_path).hashes(no_progress)
    assert after.keys() - before.keys() == {"chat_template.jinja"}


def test_metadata_follows_the_model_card(tmp_path: Path) -> None:
    folder = tmp_path / "Tiny-Model-2M-Instruct"
    tiny.write(folder)
    card = "---\nlicense: apache-2.0\nlanguage: [zh, en]\nbase_model: owner/Tiny-Model\n---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    generation = {"temperature": 0.6, "repetition_penalty": 1.05}
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    metadata = read_metadata(folder, (2_000_000, 2_000_000, 0, 0))
    assert (metadata.name, metadata.finetune, metadata.size_label) == (
        "Tiny Model 2M Instruct",
        "Instruct",
        "2M",
    )
    assert (metadata.license, metadata.languages) == ("apache-2.0", ["zh", "en"])
    assert metadata.base_models[0]["repo_url"] == "https://huggingface.co/owner/Tiny-Model"
    assert (metadata.sampling_temp, metadata.sampling_penalty_repeat) == (0.6, 1.05)


def test_a_broken_model_card_is_named(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    (tmp_path / "README.md").write_text("---\ntags: [a\n---\n", encoding="utf-8")
    with pytest.raises(BadCheckpoint, match=r"README\.md"):
        read_metadata(tmp_path, (1, 1, 0, 0))
