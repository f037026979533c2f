"""One step of the converter in a process of its own, so that its memory can be told from the others'.

    python -m bench.convert_steps write FOLDER TARGET QUANTISATION
    python -m bench.convert_steps imatrix MODEL DIRECTORY CHUNKS
    python -m bench.convert_steps quantise MODEL DIRECTORY QUANTISATION

``DIRECTORY`` gets ``imatrix.gguf``, the corpus as ``corpus.txt``, and ``ours.gguf``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kylin_convert import calibration, imatrix, quantise
from kylin_convert.plan import make_plan
from kylin_convert.quantise import Recipe
from kylin_convert.source import open_path
from kylin_convert.tools import Toolbox
from kylin_gguf import config, gguf_info
from kylin_gguf.records import no_progress


def run(step: str, source: Path, target: Path, how: str = "") -> None:
    """Carry out ``step``; ``how`` is its last argument."""
    if step == "write":
        opened = open_path(source)
        assert opened.family, "a checkpoint that only upstream's converter reads has nothing to compare"
        form = make_plan(opened, target, Recipe(how)).form
        opened.write_unquantised(target, form, config.load(), no_progress)
        return
    toolbox, model = Toolbox(config.load(), target), gguf_info.read(source)
    matrix = target / "imatrix.gguf"
    if step == "imatrix":
        corpus = calibration.shipped(model)
        (target / "corpus.txt").write_text(corpus.text, encoding="utf-8")
        imatrix.measure(toolbox, model, corpus, matrix, no_progress, int(how))
    else:
        recipe = Recipe(how)
        quantise.plan(toolbox, model, recipe, matrix)
        made = target / "ours.gguf"
        quantise.quantise(toolbox, model, made, recipe, imatrix=matrix, progress=no_progress)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
