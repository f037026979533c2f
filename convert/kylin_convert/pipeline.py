"""Runs a conversion: each step once, resumable, and nothing under the output's name until it is verified."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kylin_convert import calibration, imatrix, manifest, quantise, verify, work
from kylin_convert.manifest import Manifest
from kylin_convert.plan import Plan, make_plan
from kylin_convert.quantise import QuantisePlan
from kylin_convert.source import Source
from kylin_convert.tools import Toolbox
from kylin_convert.writer import write_gguf
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
    """One conversion. ``calibration`` is the user's own corpus; ``keep`` keeps the intermediate file."""

    source: Source
    output: Path
    quantisation: str
    force: bool = False
    keep: bool = False
    calibration: Path | None = None


def plan(request: Request, settings: Settings) -> Plan:
    """Check the request and work out what it will do; nothing is written.

    Raises:
        UnknownQuantisation: llama.cpp has no such type.
        InvalidValue: the output exists and may not be replaced, or is the source.
        NoSpace: the work directory or the output's would not hold the result.
        LibrariesMissing: llama.cpp's tools are not installed.
    """
    output = request.output.absolute()
    name = quantise.check_name(request.quantisation, Toolbox(settings, native.find(settings).directory))
    if output.resolve() in {path.resolve() for path in request.source.files}:
        raise InvalidValue("output", str(request.output), "another file than the source")
    if output.exists() and not request.force:
        raise InvalidValue("output", str(request.output), "a file that does not exist yet, or --force")
    result = make_plan(request.source, output, name)
    work.require_space(settings.cache_dir, result.work_bytes)
    work.require_space(output.parent, result.output_bytes)
    return result


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
    calibration: Mapping[str, str] | None = None
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
        unquantised = self._unquantised()
        matrix = self._matrix(unquantised)
        output = self.plan.output
        # The key is locked, so no other process writes to this name.
        partial = output.with_name(f".{output.name}.{self.toolbox.directory.name}.part")
        try:
            types = self._quantise(unquantised, partial, matrix)
            finished = gguf_info.read(partial)
            measured = self._verify(unquantised, finished, types)
            result = self._manifest(finished, types, measured)
            work.sync(partial)
            # The manifest of a replaced file must not vouch for the new one, even if we are killed here.
            manifest.path_for(output).unlink(missing_ok=True)
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
        result.write(output)
        work.sync(output.parent)
        if self.plan.form and not self.request.keep:
            unquantised.path.unlink()
        return result

    def _unquantised(self) -> GgufInfo:
        if self.request.source.model:
            return self.request.source.model
        assert self.request.source.family is not None
        path = self.toolbox.directory / f"model-{self.plan.form}.gguf"
        if not path.is_file():
            with self._timed("write"):
                write_gguf(self.request.source.family, path, self.plan.form, self.progress)
        return gguf_info.read(path)

    def _matrix(self, model: GgufInfo) -> Path | None:
        if "imatrix" not in self.plan.steps:
            return None
        own = self.request.calibration
        corpus = calibration.from_file(own, model) if own else calibration.shipped(model)
        inputs = {
            "text": corpus.text,
            "llama.cpp": self.llama_cpp,
            "context": imatrix.context_of(model, imatrix.CONTEXT),
            "chunks": imatrix.MAX_CHUNKS,
        }
        path = self.toolbox.directory / f"imatrix-{work.key_of(inputs)}.gguf"
        if not path.is_file():
            with self._timed("imatrix"):
                imatrix.measure(self.toolbox, model, corpus, path, self.progress)
        self.calibration = {
            "corpus": corpus.name,
            "corpus_sha256": corpus.sha256,
            "imatrix_sha256": work.sha256_of(path),
        }
        return path

    def _quantise(self, source: GgufInfo, target: Path, matrix: Path | None) -> QuantisePlan:
        with self._timed("quantise"):
            if self.plan.quantisation == self.plan.form:
                shutil.copyfile(source.path, target)
                return QuantisePlan({tensor.name: tensor.type_name for tensor in source.tensors}, {})
            types = quantise.plan(self.toolbox, source, self.plan.quantisation)
            name, progress = self.plan.quantisation, self.progress
            quantise.quantise(self.toolbox, source, target, name, imatrix=matrix, progress=progress)
        return types

    def _verify(self, source: GgufInfo, finished: GgufInfo, types: QuantisePlan) -> Mapping[str, object]:
        with self._timed("verify"):
            verify.check_structure(source, finished, types.types)
            if not finished.has_cache:  # it computes no probabilities
                verify.check_values(finished)
                return {}
            verify.check_generation(self.toolbox, finished)
            return verify.measure(self.toolbox, source, finished, self.progress)

    def _manifest(self, finished: GgufInfo, types: QuantisePlan, measured: Mapping[str, object]) -> Manifest:
        fallbacks = manifest.describe_fallbacks(finished, types.fallbacks)
        if types.fallbacks:
            text = translate(_FALLBACKS).format(
                share=f"{fallbacks['share']:.0%}",
                count=len(types.fallbacks),
                total=len(finished.tensors),
                quantisation=self.plan.quantisation,
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
            quantisation=self.plan.quantisation,
            calibration=self.calibration,
            tensors=types.types,
            fallbacks=fallbacks,
            quality=measured,
            tools=manifest.tool_versions(self.llama_cpp),
            seconds=self.seconds,
            output=manifest.describe_output(self.plan.output.name, finished),
            notices=tuple(self.notices),
        )
