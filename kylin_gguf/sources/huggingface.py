"""Hugging Face, or the mirror that HF_ENDPOINT names.

huggingface-hub resolves the file and knows the endpoint, the token, HF_HUB_OFFLINE and the local cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import HfFileMetadata
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from kylin_gguf.catalogue import HuggingFaceSource
from kylin_gguf.errors import SourceFailed
from kylin_gguf.records import ProgressCallback
from kylin_gguf.sources import http
from kylin_gguf.sources.base import CancelCheck, Fetched, Wanted, check
from kylin_gguf.sources.local import copy

# A desktop's model manager reports nothing about its user; this also spares a request to a dead network.
constants.HF_HUB_DISABLE_TELEMETRY = True

# Subclasses before their bases: the first that fits gives the reason.
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (OfflineModeIsEnabled, "HF_HUB_OFFLINE is set, and the file is not in the Hugging Face cache"),
    (GatedRepoError, "its licence must be accepted on the model's page first, and HF_TOKEN set"),
    (RepositoryNotFoundError, "there is no such repository, or it is private and HF_TOKEN is not set"),
    (RevisionNotFoundError, "the repository has no such revision"),
    (EntryNotFoundError, "the repository has no such file"),
    (HFValidationError, "that is not a valid repository name"),
)


def fetch(
    source: HuggingFaceSource,
    wanted: Wanted,
    directory: Path,
    progress: ProgressCallback,
    cancelled: CancelCheck,
) -> Fetched:
    """Take the file from the user's Hugging Face cache, else download it from the hub."""
    check(cancelled)
    target = directory / wanted.file
    with reasons(source.label):
        cached = try_to_load_from_cache(source.repo, source.file, revision=source.revision)
        metadata = None if isinstance(cached, str) else _metadata(source)
    if isinstance(cached, str):
        path = copy(Path(cached), target, source.label, progress, cancelled)
        # A snapshot's folder is named by its commit: <cache>/models--…/snapshots/<commit>/<file>.
        return Fetched(path, Path(cached).parents[source.file.count("/")].name)
    commit = (metadata and metadata.commit_hash) or source.revision
    request = http.Download(
        label=source.label,
        url=hf_hub_url(source.repo, source.file, revision=commit),
        target=target,
        size=wanted.size or (metadata and metadata.size) or 0,
        pinned=bool(wanted.sha256),
        headers=build_hf_headers(),
    )
    return Fetched(http.download(request, progress, cancelled), commit)


def _metadata(source: HuggingFaceSource) -> HfFileMetadata:
    """Ask the hub, once and briefly, for the commit and size of the file."""
    url = hf_hub_url(source.repo, source.file, revision=source.revision)
    return get_hf_file_metadata(url, timeout=http.CONNECT_SECONDS)


@contextmanager
def reasons(label: str) -> Iterator[None]:
    """Turn what huggingface-hub raises into SourceFailed for ``label``, with a reason in a few words."""
    try:
        yield
    except (HfHubHTTPError, OfflineModeIsEnabled, HFValidationError, httpx2.HTTPError, OSError) as error:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                raise SourceFailed(label, reason) from error
        if isinstance(error, HfHubHTTPError):
            raise SourceFailed(label, http.refusal(error.response)) from error
        raise SourceFailed(label, http.reason(error)) from error
