"""Runs a conversion: each step once, resumable, and nothing under the output's name until it is verified."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kylin_convert import importance, manifest, output, pruning, quantise, splitting, verify, work
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


@dataclass(frozen=True)
class Request:
    """One conversion. ``keep`` keeps the intermediate file.

    ``calibration`` is the user's own corpus, ``imatrix`` a matrix that is there already. ``limit`` is what
    goes into one file, None for all. ``prune`` is how many blocks to cut, None for none.
    """

    source: Source
    output: Path
    recipe: Recipe
    force: bool = False
    keep: bool = False
    calibration: Path | None = None
    imatrix: Path | None = None
    limit: splitting.Limit | None = None
    prune: pruning.Pruning | None = None


def plan(request: Request, settings: Settings) -> Plan:
    """Check the request and work out what it will do; nothing is written.

    Raises:
        UnknownQuantisation: llama.cpp has no such type.
        InvalidValue: the output exists and may not be replaced, or is the source; a pattern matches nothing.
        UnsupportedModel: it cannot lose so many blocks.
        NoSpace: the work directory or the output's would not hold the result.
        LibrariesMissing: llama.cpp's tools are not installed.
    """
    target = request.output.absolute()
    toolbox = Toolbox(settings, native.find(settings).directory)
    recipe = quantise.check_recipe(request.recipe, toolbox, _tensor_names(request.source))
    if request.calibration and request.imatrix:
        raise InvalidValue("--imatrix", str(request.imatrix), "either a matrix or --calibration")
    if request.prune and request.imatrix:
        raise InvalidValue(
            "--imatrix", str(request.imatrix), "none with --prune-layers: it is another model's"
        )
    there = output.taken(target, several=request.limit is not None)
    if {path.resolve() for path in there} & {path.resolve() for path in request.source.files}:
        raise InvalidValue("output", str(request.output), "another file than the source")
    if there and not request.force:
        raise InvalidValue("output", str(there[0]), "a file that does not exist yet, or --force")
    if request.prune:
        pruning.check_source(request.source, request.prune)
    cuts, prunes = request.limit is not None, request.prune is not None
    result = make_plan(request.source, target, recipe, cuts=cuts, prunes=prunes)
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
    pruning: Mapping[str, Any] | None = None
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
        with ExitStack() as stack:
            with self._unquantised() as whole:
                unquantised = stack.enter_context(self._pruned(whole))
                weights = self._importance(unquantised)
            result = self._make(whole, unquantised, weights)
        if self.plan.form and not self.request.keep:
            self._flushed.unlink()
            whole.path.unlink()
        return result

    def _make(self, whole: GgufInfo, unquantised: GgufInfo, weights: Path | None) -> Manifest:
        """Quantise ``unquantised``, check the result against the ``whole`` model and put it in place."""
        # The key is locked, so no other process writes to its names.
        target = Output(self.plan.output, self.toolbox.directory.name)
        try:
            types = self._quantise(unquantised, target.partial, weights)
            finished = self._cut(gguf_info.read(target.partial))
            with self._timed("verify"):
                verify.check_structure(unquantised, finished, types.types)
                measured = verify.check(self.toolbox, whole, finished, self.progress)
            result = self._manifest(finished, target.names(finished), types, measured)
            placed = target.place(finished)
        finally:
            target.clear()
        result.write(placed)
        work.sync(placed.parent)
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

    def _importance(self, model: GgufInfo) -> Path | None:
        if "imatrix" not in self.plan.steps or not model.has_cache:
            return None
        if self.request.imatrix:
            found = importance.given(self.toolbox, model, self.request.imatrix)
        else:
            made_from = {"llama.cpp": self.llama_cpp}
            if self.pruning:
                made_from["removed"] = self.pruning["removed"]
            own = self.request.calibration
            found = importance.measured(self.toolbox, model, made_from, own, self.progress, self._timed)
        self.calibration = found.about
        if found.notice:
            self._say(found.notice)
        return found.path

    @contextmanager
    def _pruned(self, model: GgufInfo) -> Iterator[GgufInfo]:
        """Have what is left of the unquantised ``model`` where blocks are to be cut, else itself."""
        if not self.request.prune:
            yield model
            return
        path = self.toolbox.directory / "model-pruned.gguf"
        try:
            with self._timed("prune"):
                own = self.request.calibration
                self.pruning = pruning.prune(
                    self.toolbox, model, path, self.request.prune, own, self.progress
                )
            yield gguf_info.read(path)
        finally:
            path.unlink(missing_ok=True)

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
            pruning=self.pruning,
            calibration=self.calibration,
            tensors=types.types,
            fallbacks=fallbacks,
            quality=measured,
            tools=manifest.tool_versions(self.llama_cpp),
            seconds=self.seconds,
            output=manifest.describe_output(names, finished),
            notices=tuple(self.notices),
        )
