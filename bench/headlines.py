"""The figures that the readme shows: a few medians out of the records, in two languages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.record import Record
from bench.report import Key, number
from bench.spread import spread, values_of

Language = Literal["en", "zh"]

_TITLES: dict[Language, str] = {
    "en": "| | model | here | beside it |",
    "zh": "| | 模型 | 本项目 | 对照 |",
}


@dataclass(frozen=True)
class Headline:
    """One row: a figure of a case, ``ours`` and what was measured in turns with it."""

    case: str
    figure: str
    words: Mapping[Language, str]
    model: str = "qwen2.5-coder-0.5b"
    parameters: str = ""
    """Only with these (as ``report.parameters``); empty: whatever they were."""
    ours: str = "ours"
    peer: str = "llama-server"
    peer_words: Mapping[Language, str] | None = None
    """What the peer is called; None: by its name."""


_SMALL = "SmolLM2-135M"
_CACHED: dict[Language, str] = {
    "en": "llama-server, JSON schema, commands in a cached prompt",
    "zh": "llama-server，JSON schema，命令表在缓存的提示中",
}
_ORDER = (
    Headline(
        "actuator/latency",
        "p50",
        {"en": "From words to one of 80 commands, median", "zh": "从话语到 80 条命令之一，中位数"},
        parameters="utterances 40",
        peer_words=_CACHED,
    ),
    Headline(
        "actuator/latency",
        "right",
        {"en": "Right, rightly silent included", "zh": "正确率，含该沉默时沉默"},
        parameters="utterances 40",
        peer_words=_CACHED,
    ),
    Headline(
        "engine/steady-stream",
        "seen_gap",
        {
            "en": "An answer's longest pause while another's 2,000 tokens are read",
            "zh": "读入他人 2000 个词元时，回答的最长停顿",
        },
    ),
    Headline(
        "engine/company",
        "decode",
        {"en": "Decode beside one busy program", "zh": "另有一个繁忙程序时的生成速度"},
        parameters="tokens 128, busy 1",
        peer="llama-bench",
    ),
    Headline(
        "engine/decode",
        "decode",
        {"en": "Decode, one client", "zh": "单个客户端的生成速度"},
    ),
    Headline(
        "engine/eight-clients",
        "throughput",
        {"en": "Decode, eight clients together", "zh": "八个客户端合计的生成速度"},
    ),
    Headline(
        "engine/first-token",
        "first_token",
        {"en": "Time to the first token", "zh": "首个词元的时间"},
    ),
    Headline(
        "engine/restart-prefix",
        "first_token",
        {
            "en": "First token behind 500 known ones, after a restart",
            "zh": "重启后，500 个已知词元之后的首词元",
        },
        model=_SMALL,
        ours="restored",
        peer="cold",
        peer_words={"en": "computed anew", "zh": "重新计算"},
    ),
    Headline(
        "convert/steps",
        "total_s",
        {
            "en": "A checkpoint of 1.5B weights to Q4_K_M, with an importance matrix of 8 chunks",
            "zh": "1.5B 检查点转为 Q4_K_M，含 8 块的重要性矩阵",
        },
        model="f16",
        parameters="chunks 8",
        peer="llama.cpp's tools",
        peer_words={"en": "llama.cpp's converter and tools", "zh": "llama.cpp 的转换脚本与工具"},
    ),
    Headline(
        "convert/steps",
        "write_rss",
        {
            "en": "Memory to write the unquantised GGUF of a 1.5B model",
            "zh": "写出 1.5B 模型未量化 GGUF 的内存",
        },
        model="f16",
        peer="llama.cpp's tools",
        peer_words={"en": "convert_hf_to_gguf.py", "zh": "convert_hf_to_gguf.py"},
    ),
)


def table(records: Mapping[Key, Record], language: Language) -> str:
    """Return the rows whose cases have been recorded, as Markdown."""
    return "\n".join((_TITLES[language], "|---|---|--:|--:|", *_rows(records, language), ""))


def _rows(records: Mapping[Key, Record], language: Language) -> Iterator[str]:
    for headline in _ORDER:
        record = _newest(records, headline)
        if record is None:
            continue
        unit = next(figure.unit for figure in record.figures if figure.name == headline.figure)
        ours, theirs = (
            f"{number(spread(values_of(record.rounds, name, headline.figure)).median)} {unit}"
            for name in (headline.ours, headline.peer)
        )
        peer = (headline.peer_words or {language: headline.peer})[language]
        yield f"| {headline.words[language]} | {headline.model} | **{ours}** | {theirs} ({peer}) |"


def _newest(records: Mapping[Key, Record], headline: Headline) -> Record | None:
    found = [
        record
        for (_, case, model, parameters), record in records.items()
        if case == headline.case
        and model.startswith(headline.model)
        and headline.parameters in ("", parameters)
    ]
    return max(found, key=lambda record: record.taken, default=None)
