"""ModelScope, through the address that its pages link files with; no account needed."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

from kylin_gguf.catalogue import ModelScopeSource
from kylin_gguf.records import ProgressCallback
from kylin_gguf.sources import http
from kylin_gguf.sources.base import CancelCheck, Fetched, Wanted

ENDPOINT: Final = "https://modelscope.cn"


def fetch(
    source: ModelScopeSource,
    wanted: Wanted,
    directory: Path,
    progress: ProgressCallback,
    cancelled: CancelCheck,
) -> Fetched:
    """Download the file from ModelScope."""
    revision, file = quote(source.revision, safe=""), quote(source.file)
    request = http.Download(
        label=source.label,
        url=f"{ENDPOINT}/models/{source.model}/resolve/{revision}/{file}",
        target=directory / wanted.file,
        size=wanted.size,
        pinned=bool(wanted.sha256),
    )
    return Fetched(http.download(request, progress, cancelled), source.revision)
