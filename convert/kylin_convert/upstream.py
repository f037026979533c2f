"""Every other architecture: llama.cpp's own converter, in a child process, from the pinned source.

It needs torch and transformers, the extra [upstream]. It sees the checkpoint without its Python files, so
that no code of a stranger can run, and it is told not to reach for the network.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from math import prod
from pathlib import Path

from kylin_convert.checkpoint import Checkpoint
from kylin_convert.tools import die_with_parent, listen, stop
from kylin_gguf.errors import ExtraMissing, LibrariesMissing, ToolFailed
from kylin_gguf.records import Progress, ProgressCallback, Settings

_PROGRAM = "convert_hf_to_gguf.py"
_PACKAGES = ("torch", "transformers", "sentencepiece")
_ELEMENT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_PERCENT = re.compile(r"(\d+)%\|")
_LAST_WORDS = 300
# What the folder's own code would be in, and pickles, which can hold code, too.
_HIDDEN = (".py", ".bin", ".pt", ".pth", ".pkl")


@cache
def architectures() -> tuple[str, ...]:
    """Return the names of transformers' architectures that upstream's converter reads."""
    return tuple(files(__package__).joinpath("upstream.txt").read_text(encoding="utf-8").split())


@dataclass(frozen=True)
class UpstreamCheckpoint:
    """A checkpoint that upstream's converter reads."""

    checkpoint: Checkpoint

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> UpstreamCheckpoint:
        """Check that the converter could run.

        Raises:
            ExtraMissing: a package that it needs is not installed.
        """
        for package in _PACKAGES:
            if find_spec(package) is None:
                raise ExtraMissing(checkpoint.architecture, package, "upstream")
        return cls(checkpoint)

    def output_bytes(self, form: str) -> int:
        """Return about how many bytes the GGUF takes in ``form``, a name of ``writer.FORMATS``."""
        elements = sum(prod(tensor.shape) for tensor in self.checkpoint.tensors.values())
        return elements * _ELEMENT_BYTES[form]

    def write(self, path: Path, form: str, settings: Settings, progress: ProgressCallback) -> None:
        """Write the GGUF to ``path``; it appears whole or not at all.

        Raises:
            LibrariesMissing: the pinned source is not on this machine.
            ToolFailed: the converter ended with an error.
        """
        source = find_source(settings)
        total = self.output_bytes(form)
        partial = path.with_name(f"{path.name}.part")
        try:
            with _without_code(self.checkpoint.folder, path.parent) as folder:
                _run(
                    source,
                    [str(folder), "--outfile", str(partial), "--outtype", form.lower()],
                    total,
                    progress,
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def find_source(settings: Settings) -> Path:
    """Return llama.cpp's source: beside the libraries as ``upstream/``, or where a checkout unpacks it.

    Raises:
        LibrariesMissing: it is in none of these places.
    """
    places = [directory / "upstream" for directory in settings.native_dirs]
    for directory in settings.native_dirs:
        places += sorted(directory.parent.parent.glob("source/llama_cpp_python-*/vendor/llama.cpp"))
    for place in places:
        if (place / _PROGRAM).is_file():
            return place.resolve()
    raise LibrariesMissing(tuple(str(place / _PROGRAM) for place in places))


@contextmanager
def _without_code(folder: Path, scratch: Path) -> Iterator[Path]:
    """A folder of the same name, which says what the model is called, with links to all but code."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="upstream-") as directory:
        copy = Path(directory) / folder.resolve().name
        for root, _, names in os.walk(folder):
            place = copy / Path(root).relative_to(folder)
            place.mkdir(parents=True)
            for name in names:
                if not name.endswith(_HIDDEN):
                    (place / name).symlink_to((Path(root) / name).resolve())
        yield copy


def _run(source: Path, arguments: list[str], total: int, progress: ProgressCallback) -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", str(source / _PROGRAM), *arguments],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that another thread could hold
    )

    def heard(text: str) -> None:
        for percent in _PERCENT.findall(text)[-1:]:
            progress(Progress("write", total * int(percent) // 100, total))

    try:
        output = listen(process, heard)
        status = process.wait()
    finally:
        stop(process)
    if status == -signal.SIGKILL:
        raise ToolFailed(_PROGRAM, status, "it was killed, perhaps for want of memory")
    if status:
        raise ToolFailed(_PROGRAM, status, " ".join(output.split())[-_LAST_WORDS:])
