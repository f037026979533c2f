"""The model card: what a hub shows of a converted file, in English and Chinese, with what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from kylin_convert.manifest import Manifest
from kylin_convert.view import percent, plus_minus, size
from kylin_gguf.gguf_info import GgufInfo

_TEXTS = {
    "en": {
        "intro": "{name} as GGUF, made by kylin-gguf-engine from {source}{revision}.",
        "file": "| file | quantisation | size | bits a weight |",
        "pruned": "{count} of its {all} blocks were cut (from 0: {blocks}). This is not the whole model.",
        "calibration": "Calibrated on {corpus}: {chunks} chunks of text (SHA-256 of the matrix {sha256}).",
        "measured": "Measured against the whole, unquantised model, on text that no calibration used:",
        "table": "| text | perplexity before | after | KL divergence, nats | same likeliest token |",
        "errors": "After ± is a standard error. The manifest has each tensor's type, and all hashes.",
        "use": "Use it:",
    },
    "zh": {
        "intro": "{name} 的 GGUF 文件，由 kylin-gguf-engine 用 {source}{revision} 转换而成。",
        "file": "| 文件 | 量化类型 | 大小 | 每权重位数 |",
        "pruned": "已剪去 {all} 个块中的 {count} 个（从 0 起编号：{blocks}），并非完整模型。",
        "calibration": "校准语料：{corpus}，{chunks} 段文本（重要性矩阵的 SHA-256：{sha256}）。",
        "measured": "在未用于校准的文本上与未量化的完整模型比较：",
        "table": "| 文本 | 量化前困惑度 | 量化后 | KL 散度（奈特） | 首选词元相同 |",
        "errors": "± 之后是标准误差。清单文件中有每个张量的类型和全部哈希值。",
        "use": "使用方法：",
    },
}
_LANGUAGE_NAMES = {"en": {"zh": "Chinese", "en": "English"}, "zh": {"zh": "中文", "en": "英文"}}


def write(manifest: Manifest, model: GgufInfo) -> str:
    """Return the card of ``model``, whose manifest is ``manifest``, in Markdown with a YAML head."""
    source = str(manifest.source["name"])
    head = ModelCardData(
        base_model=source if not Path(source).is_absolute() and source.count("/") == 1 else None,
        license=model.licence or None,
        language=list(model.languages) or None,
        library_name="gguf",
        tags=["gguf", "kylin-gguf-engine"],
    )
    title = model.name or Path(source).name
    parts = [f"---\n{head.to_yaml()}\n---", f"# {title} {manifest.recipe['name']}"]
    for language in _TEXTS:
        parts += _section(language, title, manifest)
    return "\n\n".join(parts) + "\n"


def _section(language: str, title: str, manifest: Manifest) -> list[str]:
    text, source, made = _TEXTS[language], manifest.source, manifest.output
    revision = f" ({source['revision'][:12]})" if source["revision"] else ""
    # A local path says nothing to others, and may say too much.
    name = Path(source["name"]).name if Path(source["name"]).is_absolute() else source["name"]
    file = (made["name"], manifest.recipe["name"], size(made["bytes"]), str(made["bits_per_weight"]))
    parts = [text["intro"].format(name=title, source=name, revision=revision), _table(text["file"], [file])]
    if cut := manifest.pruning:
        blocks = ", ".join(map(str, cut["removed"]))
        parts.append(text["pruned"].format(count=len(cut["removed"]), all=cut["blocks"], blocks=blocks))
    if known := manifest.calibration:
        shown = {"corpus": known["corpus"], "chunks": known["chunks"], "sha256": known["imatrix_sha256"][:12]}
        parts.append(text["calibration"].format(**shown))
    if manifest.quality:
        rows = [_measured(_LANGUAGE_NAMES[language][name], known) for name, known in manifest.quality.items()]
        parts += [text["measured"], _table(text["table"], rows), text["errors"]]
    return [*parts, text["use"], f"```sh\nkylin-gguf chat -m {made['name']}\n```"]


def _measured(name: str, known: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = known["source"], known["output"]
    return (
        name,
        plus_minus(before["perplexity"], 2),
        plus_minus(after["perplexity"], 2),
        plus_minus(after["kl_divergence"], 4),
        percent(after["same_top"], 1),
    )


def _table(head: str, rows: Sequence[Sequence[str]]) -> str:
    rule = "|" + "---|" * (head.count("|") - 1)
    return "\n".join([head, rule, *(f"| {' | '.join(row)} |" for row in rows)])
