"""Checkpoints from the Hugging Face hub or a mirror of it (``HF_ENDPOINT``, ``HF_HUB_OFFLINE``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from kylin_gguf.errors import SourceFailed
from kylin_gguf.records import Progress, ProgressCallback

# What a conversion reads; a repository may hold the same weights in three more formats.
_FILES = (
    "*.json",
    "model*.safetensors",
    "pytorch_model*.bin",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "*.jinja",
    "additional_chat_templates/*",
    "README.md",
)
_TIMEOUT_SECONDS = 5.0
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Snapshot:
    """A downloaded revision of a repository."""

    folder: Path
    revision: str


def is_id(text: str) -> bool:
    """Return whether ``text`` has the form ``owner/name``."""
    return _ID.fullmatch(text) is not None


def fetch(repository: str, progress: ProgressCallback) -> Snapshot:
    """Download what a conversion needs into the hub's own cache, resuming what is there.

    Raises:
        SourceFailed: the hub cannot be reached, or has no such repository.
    """
    bar = _bar_class(progress)
    try:
        folder = snapshot_download(
            repository, allow_patterns=list(_FILES), etag_timeout=_TIMEOUT_SECONDS, tqdm_class=bar
        )
    except LocalEntryNotFoundError as error:
        reason = "it cannot be reached, and its files are not in the local cache"
        raise SourceFailed(f"Hugging Face {repository}", reason) from error
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise SourceFailed(f"Hugging Face {repository}", reason) from error
    # The cache's layout is documented: a snapshot's folder is named by its commit.
    return Snapshot(Path(folder), Path(folder).name)


def _bar_class(progress: ProgressCallback) -> type[tqdm]:
    """Return a progress bar that draws nothing and passes bytes on; the hub's bar of files is ignored."""

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._counts_bytes = options.get("unit") == "B"
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self._counts_bytes:
                progress(Progress("download", int(self.n), int(self.total or 0)))

    return Bar
