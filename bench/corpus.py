"""Quality of a quantisation with the shipped corpus beside one with other text, on text that neither holds.

``KYLIN_BENCH_TEXTS`` names a folder with ``other.txt`` (the other calibration text: wikitext for instance),
``zh.txt`` and ``en.txt`` (held out). None of them comes with this project. The model must be unquantised.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Wanted
from kylin_convert import calibration, compare, imatrix, quantise, work
from kylin_convert.calibration import LANGUAGES, Corpus
from kylin_convert.divergence import Sampling
from kylin_convert.quality import Quality
from kylin_convert.quantise import Recipe
from kylin_convert.tools import Toolbox
from kylin_gguf import config, gguf_info
from kylin_gguf.errors import InvalidValue
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import no_progress

OTHER = "other text"
VARIABLE = "KYLIN_BENCH_TEXTS"
_CONTEXT = 512


def corpus_case(quantisation: str) -> Case:
    """Return the case of one quantisation."""
    figures = [
        Figure(
            f"kl_{language}", "nats", "lower", f"KL divergence from the model, {language}: mean over chunks"
        )
        for language in LANGUAGES
    ]
    figures += [
        Figure(f"top_{language}", "%", "higher", f"tokens with the same likeliest one, {language}")
        for language in LANGUAGES
    ]

    @contextlib.asynccontextmanager
    async def prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
        bench = _Bench(wanted, quantisation)
        contenders = {name: Contender(partial(bench.sample, name)) for name in (OURS, OTHER)}
        conditions = {
            "threads": bench.toolbox.threads,
            "sampling": "none",
            "quantisation": quantisation,
            "calibration": {"context": imatrix.CONTEXT, "chunks": imatrix.MAX_CHUNKS},
            "texts": {name: bench.text(name).sha256 for name in ("other", *LANGUAGES)},
        }
        yield Prepared(contenders, conditions)

    return Case(
        name=f"convert/corpus-{quantisation.lower().replace('_', '-')}",
        measures=f"{quantisation} weighed by the shipped corpus and by as much other text",
        figures=tuple(figures),
        bars=tuple(Bar(f"kl_{language}", 1.0, OTHER) for language in LANGUAGES),
        prepare=prepare,
        parameters={"chunks": 24},
        rounds=1,
        least_rounds=1,
        warm_up=False,
    )


class _Bench:
    """Makes what a sample needs, and keeps it in the cache, so that a run can be interrupted."""

    def __init__(self, wanted: Wanted, quantisation: str) -> None:
        self._settings = config.load({"threads": wanted.threads} if wanted.threads else {})
        self._texts = _folder()
        self._model = gguf_info.read(wanted.model.path)
        self._recipe = Recipe(quantisation)
        self._sampling = Sampling(_CONTEXT, wanted.parameters["chunks"])
        root = self._settings.cache_dir / "bench-corpus" / work.sha256_of(wanted.model.path)[:16]
        root.mkdir(parents=True, exist_ok=True)
        self.toolbox = Toolbox(self._settings, root)

    def text(self, name: str) -> Corpus:
        """Return one of the folder's texts."""
        return calibration.read_text(self._texts / f"{name}.txt")

    async def sample(self, contender: str, _: int) -> Sample:
        """Return the figures of a file that was weighed by the text of ``contender``.

        Nothing else runs meanwhile, so this may block; chat templates are stopped by a signal, which only
        the main thread can have.
        """
        corpus = calibration.shipped(self._model) if contender == OURS else self.text("other")
        made = self._made(corpus)
        found = {language: self._quality(made, self.text(language)) for language in LANGUAGES}
        figures = {f"kl_{language}": quality.divergence.value for language, quality in found.items()}
        figures |= {f"top_{language}": 100 * quality.agreement.value for language, quality in found.items()}
        facts = {
            "corpus_sha256": corpus.sha256,
            "bytes": made.file_size,
            "tokens": {language: quality.tokens for language, quality in found.items()},
            "errors": {language: quality.divergence.error for language, quality in found.items()},
        }
        series = {f"kl_{language}": quality.divergences for language, quality in found.items()}
        return Sample(figures, facts, series)

    def _made(self, corpus: Corpus) -> GgufInfo:
        key = work.key_of(
            {"text": corpus.text, "chunks": (imatrix.MAX_CHUNKS, imatrix.piece_of(self._model))}
        )
        matrix = self.toolbox.directory / f"imatrix-{key}.gguf"
        if not matrix.is_file():
            imatrix.measure(self.toolbox, self._model, corpus, matrix, no_progress)
        made = self.toolbox.directory / f"{self._recipe.name}-{key}.gguf"
        if not made.is_file():
            partial = made.with_suffix(".part")
            how = (self.toolbox, self._model, partial, self._recipe)
            quantise.quantise(*how, imatrix=matrix, progress=no_progress)
            partial.replace(made)
        return gguf_info.read(made)

    def _quality(self, made: GgufInfo, text: Corpus) -> Quality:
        inputs = {"model": made.path.name, "text": text.text, "sampling": asdict(self._sampling)}
        kept = self.toolbox.directory / f"quality-{work.key_of(inputs)}.json"
        if not kept.is_file():
            compared = compare.compare(
                self._settings, self._model, [made], [text], self._sampling, no_progress
            )
            _, one = compared
            work.write_atomically(kept, json.dumps(asdict(one.quality)))
        return Quality.from_json(json.loads(kept.read_text(encoding="utf-8")))


def _folder() -> Path:
    folder = Path(os.environ.get(VARIABLE, ""))
    if not os.environ.get(VARIABLE) or not (folder / "other.txt").is_file():
        raise InvalidValue(VARIABLE, str(folder), "a folder with other.txt, zh.txt and en.txt")
    return folder
