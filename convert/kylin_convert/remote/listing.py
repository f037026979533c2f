"""What a hub says is in a repository, and which of it a conversion reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from kylin_gguf.errors import SourceFailed

# A repository may hold the same weights in three more formats, and examples, and pictures.
_WEIGHTS = ("model*.safetensors", "adapter_model.safetensors")
_PICKLED = ("pytorch_model*.bin",)
_OTHERS = (
    "*.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "*.jinja",
    "README.md",
)
_BELOW = ("additional_chat_templates/*.jinja", "[0-9]_*/config.json")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its path in it, bytes or 0, SHA-256 or "", and where it is downloaded.

    ``local`` is where the user has it already, from another program of this hub.
    """

    name: str
    size: int
    sha256: str
    url: str
    local: Path | None = None

    @property
    def is_weights(self) -> bool:
        """Whether it holds tensors that the converter reads."""
        return self._matches((*_WEIGHTS, *_PICKLED))

    @property
    def is_pickled(self) -> bool:
        """Whether it is the older form of weights, which is read where there is no other."""
        return self._matches(_PICKLED)

    def _matches(self, patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(self.name, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Listing:
    """All files of one revision. ``headers`` are to be sent with each download."""

    revision: str
    files: tuple[RemoteFile, ...]
    headers: Mapping[str, str] = field(default_factory=dict)


def needed(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return the files that a conversion reads, small ones first."""
    chosen = [file for file in files if file.is_weights or _is_read(file.name)]
    if any(file.is_weights and not file.is_pickled for file in chosen):
        chosen = [file for file in chosen if not file.is_pickled]
    return tuple(sorted(chosen, key=lambda file: (file.is_weights, file.name)))


def _is_read(name: str) -> bool:
    patterns = _BELOW if "/" in name else _OTHERS
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_name(label: str, name: str) -> str:
    """Return ``name``, a path that a hub gave, if it stays inside a folder it is appended to.

    Raises:
        SourceFailed: it does not.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise SourceFailed(label, f"it lists a file named '{name}'")
    return name
