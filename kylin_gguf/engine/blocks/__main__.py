"""Entry point: ``python -m kylin_gguf.engine.blocks MODEL TEXT --context N --chunks N --threads N``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kylin_gguf import config, native
from kylin_gguf.errors import InvalidValue, KylinError
from kylin_gguf.records import Placement


def main() -> int:
    """Run MODEL over chunks of the file TEXT, spread evenly over it, and print JSON objects, one a line:
    ``{"done", "total"}`` after each chunk, then what ``Similarity.to_json`` returns, or ``{"error": ...}``
    (KylinError.to_wire). All is computed by the processor."""
    parser = argparse.ArgumentParser(prog="kylin_gguf.engine.blocks", description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    for name in ("context", "chunks", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()
    try:
        native.load(config.load(), accelerators=False)
        print(json.dumps(_measure(arguments)), flush=True)
    except KylinError as error:
        print(json.dumps({"error": error.to_wire()}), flush=True)
        return 1
    return 0


def _measure(arguments: argparse.Namespace) -> dict[str, object]:
    # The bindings bind to the libraries when they are imported, so nothing that uses them comes earlier.
    from kylin_gguf.engine.blocks.similarity import Similarity  # noqa: PLC0415
    from kylin_gguf.engine.blocks.states import BlockStates  # noqa: PLC0415
    from kylin_gguf.engine.model import LogTail, Model  # noqa: PLC0415

    log = LogTail()
    native.capture_log(log)
    context = arguments.context
    placement = Placement(0, context, arguments.threads, mode="instant")
    model = Model(arguments.model, placement, log, lambda _: None)
    states = BlockStates(model, context, arguments.threads, log)
    text = arguments.text.read_text(encoding="utf-8")
    tokens = model.vocabulary.tokenize(text, special=True)
    if not tokens:
        raise InvalidValue("text", str(arguments.text), "text that has a token")
    chunks = _spread(tokens, context - 1, arguments.chunks)
    similarity = Similarity(states.places)
    for number, chunk in enumerate(chunks, 1):
        for part in states.of(model.vocabulary.with_bos(chunk)):
            similarity.add(part)
        print(json.dumps({"done": number, "total": len(chunks)}), flush=True)
    return similarity.to_json()


def _spread(tokens: list[int], size: int, count: int) -> list[list[int]]:
    """Return up to ``count`` pieces of ``size`` tokens, at equal distances; a short text is one piece."""
    whole = [tokens[start : start + size] for start in range(0, max(1, len(tokens) - size + 1), size)]
    return [whole[number * len(whole) // count] for number in range(count)] if len(whole) > count else whole


if __name__ == "__main__":
    sys.exit(main())
