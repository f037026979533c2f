"""Runs a conversion: each step once, resumable, and nothing under the output's name until it is verified."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kylin_convert import calibration, imatrix, manifest, matrix, output, quantise, splitting, verify, work
from kylin_convert.manifest import Manifest
from kylin_convert.output import Output
from kylin_convert.plan import Plan, make_plan
from kylin_convert.quantise import QuantisePlan, Recipe
from kylin_convert.source import Source
from kylin_convert.tools import Toolbox
from kylin_gguf import gguf_info, native
from kylin_gguf.errors import InvalidValue
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import ProgressCallback, Settings
from kylin_gguf.translation import N_, translate

_WRITER_VERSION = 1
"""Raise when the intermediate GGUF of the same checkpoint changes: results kept under the old one expire."""

_NOT_SMALLER = N_("The result is no smaller than its source; a lower quantisation would be.")
_FALLBACKS = N_(
    "{share} of the file ({count} of {total} tensors) has rows that do not divide into the blocks of "
    "{quantisation} and was given other types: {bits} bits a weight in all."
)

_UNSEEN = N_(
    "{unseen} of {experts} experts met no token of the calibration text; they are weighed by what the others "
    "of their layer met."
)


@dataclass(frozen=True)
class Request:
    """One conversion. ``keep`` keeps the intermediate file.

    ``calibration`` is the user's own corpus, ``imatrix`` a matrix that is there already. ``limit`` is what
    goes into one file, None for all.
    """

    source: Source
    output: Path
    recipe: Recipe
    force: bool = False
    keep: bool = False
    calibration: Path | None = None
    imatrix: Path | None = None
    limit: splitting.Limit | None = None


def plan(request: Request, settings: Settings) -> Plan:
    """Check the request and work out what it will do; nothing is written.

    Raises:
        UnknownQuantisation: llama.cpp has no such type.
        InvalidValue: the output exists and may not be replaced, or is the source; a pattern matches nothing.
        NoSpace: the work directory or the output's would not hold the result.
        LibrariesMissing: llama.cpp's tools are not installed.
    """
    target = request.output.absolute()
    toolbox = Toolbox(settings, native.find(settings).directory)
    recipe = quantise.check_recipe(request.recipe, toolbox, _tensor_names(request.source))
    if request.calibration and request.imatrix:
        raise InvalidValue("--imatrix", str(request.imatrix), "either a matrix or --calibration")
    there = output.taken(target, several=request.limit is not None)
    if {path.resolve() for path in there} & {path.resolve() for path in request.source.files}:
        raise InvalidValue("output", str(request.output), "another file than the source")
    if there and not request.force:
        raise InvalidValue("output", str(there[0]), "a file that does not exist yet, or --force")
    result = make_plan(request.source, target, recipe, cuts=request.limit is not None)
    work.require_space(settings.cache_dir, result.work_bytes)
    work.require_space(target.parent, result.output_bytes)
    return result


def _tensor_names(source: Source) -> list[str]:
    tensors = source.family.tensors() if source.family else source.model.tensors if source.model else ()
    return [tensor.name for tensor in tensors]


def convert(
    request: Request,
    settings: Settings,
    progress: ProgressCallback,
    notice: Callable[[str], None],
) -> Manifest:
    """Carry out ``request`` and return the manifest that was written beside the output.

    Raises:
        KylinError: as ``plan``, and whatever a step fails with. The output is then as it was before.
    """
    made = plan(request, settings)
    hashes = request.source.hashes(progress)
    key = work.key_of({"files": hashes, "form": made.form, "writer": _WRITER_VERSION})
    root = settings.cache_dir / "convert"
    with work.locked_directory(root, key) as directory:
        toolbox = Toolbox(settings, directory)
        run = _Run(request, made, toolbox, progress, notice, hashes, toolbox.version())
        with work.blaming_full_disk(made.output, made.output_bytes):
            result = run.carry_out()
    work.prune(root)
    return result


@dataclass
class _Run:
    request: Request
    plan: Plan
    toolbox: Toolbox
    progress: ProgressCallback
    notice: Callable[[str], None]
    hashes: Mapping[str, str]
    llama_cpp: str
    calibration: Mapping[str, Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - started, 3)

    def _say(self, text: str) -> None:
        self.notices.append(text)
        self.notice(text)

    def carry_out(self) -> Manifest:
        for text in self.plan.notices:
            self._say(text)
        with self._unquantised() as unquantised:
            weights = self._matrix(unquantised)
        # The key is locked, so no other process writes to its names.
        target = Output(self.plan.output, self.toolbox.directory.name)
        try:
            types = self._quantise(unquantised, target.partial, weights)
            finished = self._cut(gguf_info.read(target.partial))
            measured = self._verify(unquantised, finished, types)
            result = self._manifest(finished, target.names(finished), types, measured)
            placed = target.place(finished)
        finally:
            target.clear()
        result.write(placed)
        work.sync(placed.parent)
        if self.plan.form and not self.request.keep:
            self._flushed.unlink()
            unquantised.path.unlink()
        return result

    @property
    def _flushed(self) -> Path:
        """What says that the intermediate file is whole on the disk, whatever happens to the machine."""
        return self.toolbox.directory / f"model-{self.plan.form}.flushed"

    @contextmanager
    def _unquantised(self) -> Iterator[GgufInfo]:
        """Have the unquantised model; what was written for it reaches the disk while the block runs."""
        if self.request.source.model:
            yield self.request.source.model
            return
        path = self._flushed.with_suffix(".gguf")
        if path.is_file() and self._flushed.is_file():
            yield gguf_info.read(path)
            return
        with work.blaming_full_disk(path, self.plan.work_bytes):
            self._flushed.unlink(missing_ok=True)
            with self._timed("write"):
                self.request.source.write_unquantised(
                    path, self.plan.form, self.toolbox.settings, self.progress
                )
            with work.flushing(path, self._flushed):
                yield gguf_info.read(path)

    def _matrix(self, model: GgufInfo) -> Path | None:
        if "imatrix" not in self.plan.steps or not model.has_cache:
            return None
        if given := self.request.imatrix:
            return self._given_matrix(given, model)
        own = self.request.calibration
        corpus = calibration.from_file(own, model) if own else calibration.shipped(model)
        inputs = {
            "text": corpus.text,
            "llama.cpp": self.llama_cpp,
            "context": imatrix.context_of(model, imatrix.CONTEXT),
            "chunks": (imatrix.MAX_CHUNKS, imatrix.piece_of(model)),
        }
        path = self.toolbox.directory / f"imatrix-{work.key_of(inputs)}.gguf"
        if not path.is_file():
            with self._timed("imatrix"):
                imatrix.measure(self.toolbox, model, corpus, path, self.progress)
        self._describe_matrix(corpus.name, corpus.sha256, path, model)
        return path

    def _given_matrix(self, given: Path, model: GgufInfo) -> Path:
        matrix.check(given, model)
        path = self.toolbox.directory / f"imatrix-given-{work.sha256_of(given)[:16]}.gguf"
        matrix.fill_unseen(given, path)
        self._describe_matrix(given.name, "", path, model)
        return path

    def _describe_matrix(self, corpus: str, sha256: str, path: Path, model: GgufInfo) -> None:
        found = matrix.check(path, model)
        coverage = found.coverage
        self.calibration = {
            "corpus": corpus,
            "corpus_sha256": sha256,
            "imatrix_sha256": work.sha256_of(path),
            "chunks": found.chunks,
            "entries": found.entries,
            "experts": coverage.to_json() if coverage else None,
        }
        if coverage and coverage.unseen:
            text = translate(_UNSEEN)
            self._say(text.format(unseen=coverage.unseen, experts=coverage.experts))

    def _quantise(self, source: GgufInfo, target: Path, weights: Path | None) -> QuantisePlan:
        with self._timed("quantise"), work.blaming_full_disk(target, self.plan.output_bytes):
            if "place" in self.plan.steps:
                shutil.copyfile(source.path, target)
                return QuantisePlan({tensor.name: tensor.type_name for tensor in source.tensors}, {})
            types = quantise.plan(self.toolbox, source, self.plan.recipe, weights)
            progress = self.progress
            quantise.quantise(
                self.toolbox, source, target, self.plan.recipe, imatrix=weights, progress=progress
            )
        return types

    def _cut(self, finished: GgufInfo) -> GgufInfo:
        if not self.request.limit:
            return finished
        with self._timed("split"), work.blaming_full_disk(finished.path, self.plan.output_bytes):
            return splitting.cut(finished, self.request.limit, self.progress)

    def _verify(self, source: GgufInfo, finished: GgufInfo, types: QuantisePlan) -> Mapping[str, object]:
        with self._timed("verify"):
            verify.check_structure(source, finished, types.types)
            if not finished.has_cache:  # it computes no probabilities
                verify.check_values(finished)
                return {}
            verify.check_generation(self.toolbox, finished)
            return verify.measure(self.toolbox, source, finished, self.progress)

    def _manifest(
        self, finished: GgufInfo, names: list[str], types: QuantisePlan, measured: Mapping[str, object]
    ) -> Manifest:
        fallbacks = manifest.describe_fallbacks(finished, types.fallbacks)
        if types.fallbacks:
            text = translate(_FALLBACKS).format(
                share=f"{fallbacks['share']:.0%}",
                count=len(types.fallbacks),
                total=len(finished.tensors),
                quantisation=self.plan.recipe.name,
                bits=f"{finished.bits_per_weight:.2f}",
            )
            self._say(text)
        source = self.request.source
        if finished.file_size >= source.size:
            self._say(translate(_NOT_SMALLER))
        return Manifest(
            source={
                "name": source.name,
                "kind": source.kind,
                "revision": source.revision,
                "bytes": source.size,
                "files": self.hashes,
            },
            intermediate=self.plan.form,
            recipe=self.plan.recipe.to_json(),
            calibration=self.calibration,
            tensors=types.types,
            fallbacks=fallbacks,
            quality=measured,
            tools=manifest.tool_versions(self.llama_cpp),
            seconds=self.seconds,
            output=manifest.describe_output(names, finished),
            notices=tuple(self.notices),
        )
