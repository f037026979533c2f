"""Prefixes on disk: what a KV cache held of a token sequence, to be put back after a restart.

One file for each, in a directory that is named after everything its content depends on: the model file, the
type of the KV cache, how the context was made, the library build. A file is one line of JSON (``FORMAT``,
token count, state size, CRC-32 of what follows), then the tokens as int32, then the state as
llama_state_seq_get_data gave it. What does not match is removed: it costs time, never an answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from kylin_gguf.engine.radix_tree import RadixTree
from kylin_gguf.errors import FileMissing

log = logging.getLogger(__name__)

FORMAT = 1
_SUFFIX = ".prefix"
_MAX_HEADER = 512
_SAMPLES, _SAMPLE_BYTES = 64, 16384


class _Mismatch(Exception):
    """A file that is not what this version writes, or is damaged."""


@dataclass(frozen=True)
class _Header:
    tokens: int
    state_bytes: int
    crc32: int

    def to_line(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}).encode() + b"\n"

    @classmethod
    def read(cls, file: BinaryIO) -> _Header:
        try:
            line = file.readline(_MAX_HEADER)
            values = json.loads(line)
            if values.pop("format") != FORMAT:
                raise _Mismatch
            header = cls(**{name: int(value) for name, value in values.items()})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _Mismatch from error
        expected = file.tell() + 4 * header.tokens + header.state_bytes
        if (
            line != header.to_line()
            or min(header.tokens, header.state_bytes) < 1
            or os.fstat(file.fileno()).st_size != expected
        ):
            raise _Mismatch
        return header


class PrefixStore:
    """The files of one model and library build, up to ``limit`` bytes, the longest unused removed first."""

    def __init__(self, root: Path, key: str, limit: int) -> None:
        """Look at what is there. ``root`` is private to the user; other keys' directories below it are
        counted and cleared by ``trim``, not read."""
        self._root, self._directory, self._limit = root, root / key, limit
        self._tree: RadixTree[Path] = RadixTree()
        for path in self._directory.glob(".*"):  # left behind by a worker that was killed while it wrote
            _remove(path)
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                with path.open("rb") as file:
                    header = _Header.read(file)
                    tokens = np.fromfile(file, np.int32, header.tokens)
                self._tree.insert(path, tokens.tolist())
            except (OSError, _Mismatch):
                _remove(path)

    def match(self, prompt: Sequence[int], *, whole: bool) -> tuple[Path | None, int]:
        """Return the file that shares most tokens with ``prompt``, and how many that are.

        Args:
            prompt: Token ids.
            whole: Whether only files count whose tokens ``prompt`` begins with.
        """
        paths, length = self._tree.match_whole(prompt) if whole else self._tree.match(prompt)
        # Of several that share as much, the smallest is read soonest.
        return min(paths, key=lambda path: len(self._tree.tokens(path)), default=None), length

    def tokens(self, path: Path) -> list[int]:
        """Return the tokens of a file that ``match`` named."""
        return self._tree.tokens(path)

    def read(self, path: Path) -> npt.NDArray[np.uint8] | None:
        """Return the state in a file that ``match`` named, shape (bytes,); None if it is damaged."""
        try:
            with path.open("rb") as file:
                header = _Header.read(file)
                # Mapped: its pages go into the KV cache, and no memory has to be found for a copy of them.
                pages = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | mmap.MAP_POPULATE, mmap.PROT_READ)
                body = np.frombuffer(pages, np.uint8, offset=file.tell())
            if zlib.crc32(body.data) != header.crc32:
                raise _Mismatch
            os.utime(path)  # when it was last of use
        except (OSError, _Mismatch):
            log.warning("removed a damaged prefix file: %s", path.name)
            self.remove(path)
            return None
        return body[4 * header.tokens :]

    def write(self, tokens: Sequence[int], state: npt.NDArray[np.uint8]) -> None:
        """Keep ``state`` under ``tokens``; a full disk costs the file and nothing else."""
        ids = np.asarray(tokens, np.int32)
        path = self._path(ids)
        header = _Header(len(ids), state.size, zlib.crc32(state.data, zlib.crc32(ids.data)))
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix=".", delete=False) as file:
                try:
                    for part in (header.to_line(), ids.tobytes(), state.data):
                        file.write(part)
                    file.flush()
                    os.fsync(file.fileno())
                    os.rename(file.name, path)
                except OSError:
                    _remove(Path(file.name))
                    raise
        except OSError as error:
            log.warning("a prefix of %d tokens was not kept: %s", len(ids), error)
            return
        self._tree.insert(path, ids.tolist())
        self.trim()

    def _path(self, ids: npt.NDArray[np.int32]) -> Path:
        return self._directory / (hashlib.blake2b(ids.tobytes(), digest_size=16).hexdigest() + _SUFFIX)

    def has(self, tokens: Sequence[int]) -> bool:
        """Return whether exactly these tokens are kept; if so, they count as just used."""
        path = self._path(np.asarray(tokens, np.int32))
        if path not in self._tree:
            return False
        with contextlib.suppress(OSError):
            os.utime(path)
        return True

    def remove(self, path: Path) -> None:
        """Delete a file."""
        self._tree.remove(path)
        _remove(path)

    def trim(self) -> None:
        """Delete the longest unused files, of all keys, until all together have at most ``limit`` bytes."""
        found = []
        for path in self._root.glob(f"*/*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # another worker may trim as well
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                break
            self.remove(path)
            total -= size
        for directory in self._root.iterdir():
            with contextlib.suppress(OSError):  # not empty, as a rule
                directory.rmdir()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def fingerprint(path: Path) -> str:
    """Return a hash that changes with the content of a model file, without reading all of it.

    Size, modification time, the beginning, and blocks spread evenly over the rest: two models with the same
    header have different weights everywhere.

    Raises:
        FileMissing: the file cannot be read, or is no longer there.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.blake2b(f"{status.st_size} {status.st_mtime_ns}".encode(), digest_size=16)
            for index in range(_SAMPLES):
                file.seek(index * status.st_size // _SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise FileMissing(str(path), error.strerror or str(error)) from error
    return digest.hexdigest()
