"""How much each block changes what passes through it, measured by a program of the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kylin_convert import work
from kylin_convert.calibration import Corpus
from kylin_convert.imatrix import CONTEXT, context_of
from kylin_convert.tools import Toolbox
from kylin_gguf.errors import ToolFailed, from_wire
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Progress, ProgressCallback

PROGRAM = "kylin_gguf.engine.blocks"
"""Run by name: the converter does not import the engine."""
CHUNKS = 8
"""A quarter of what an importance matrix takes, spread evenly over the text."""


class Influence:
    """Mean cosines of the angles between the states of a token: before the first block, and behind each."""

    def __init__(self, measured: Mapping[str, Any]) -> None:
        self.tokens = int(measured["tokens"])
        self._cosines: list[list[float]] = measured["cosine"]

    @property
    def blocks(self) -> list[float]:
        """The influence of each block: 1 less the mean cosine between what enters and what leaves it."""
        return [self.of_run(block, 1) for block in range(len(self._cosines) - 1)]

    def of_run(self, start: int, count: int) -> float:
        """Return the influence that ``count`` blocks from ``start`` on have together."""
        return 1 - self._cosines[start][start + count]


def measure(toolbox: Toolbox, model: GgufInfo, corpus: Corpus, progress: ProgressCallback) -> Influence:
    """Run ``model`` over part of ``corpus``, unless that was done before; what came out is kept.

    Raises:
        LoadFailed, OutOfMemory, DecodeFailed: llama.cpp cannot run it.
        UnsupportedModel: its graph does not show what is between blocks.
        InvalidValue: the text has no token.
        ToolFailed: the program died.
    """
    context = context_of(model, CONTEXT)
    inputs = {"text": corpus.text, "context": context, "chunks": CHUNKS, "llama.cpp": toolbox.version()}
    kept = toolbox.directory / f"blocks-{work.key_of(inputs)}.json"
    if not kept.is_file():
        text = kept.with_suffix(".txt")
        work.write_atomically(text, corpus.text)
        arguments = [str(model.path), text.name, "--context", str(context), "--chunks", str(CHUNKS)]
        work.write_atomically(kept, json.dumps(_run(toolbox, arguments, progress)))
        text.unlink()
    return Influence(json.loads(kept.read_text(encoding="utf-8")))


def _run(toolbox: Toolbox, arguments: list[str], progress: ProgressCallback) -> dict[str, Any]:
    def heard(text: str) -> None:
        for event in _objects(text):
            if "total" in event:
                progress(Progress("influence", event["done"], event["total"], "chunks"))

    arguments = [*arguments, "--threads", str(toolbox.threads)]
    output = toolbox.run_program(PROGRAM, arguments, heard, accepted=(0, 1))
    for event in _objects(output):
        if "error" in event:
            raise from_wire(event["error"])
        if "cosine" in event:
            return event
    raise ToolFailed(PROGRAM, 1, " ".join(output.split())[-300:])


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects that are whole lines of ``text``; between them are lines of a log."""
    lines = [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in lines]
