"""Hugging Face, or the mirror that HF_ENDPOINT names, with the token that huggingface-hub finds."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from kylin_convert.remote.listing import Listing, RemoteFile, check_name
from kylin_gguf.sources.http import CONNECT_SECONDS
from kylin_gguf.sources.huggingface import reasons


def list_files(label: str, repository: str, revision: str) -> Listing:
    """Ask for the commit, and for names, sizes and hashes of its files.

    Raises:
        SourceFailed: the hub cannot be reached, has no such repository or revision, or wants a token.
    """
    with reasons(label):
        api = HfApi()
        info = api.model_info(
            repository, revision=revision or None, files_metadata=True, timeout=CONNECT_SECONDS
        )
        commit = str(info.sha)
        files = tuple(
            RemoteFile(
                name=check_name(label, file.rfilename),
                size=file.size or 0,
                sha256=file.lfs.sha256 if file.lfs else "",
                url=hf_hub_url(repository, file.rfilename, revision=commit),
                local=_local(repository, file.rfilename, commit),
            )
            for file in info.siblings or ()
        )
        return Listing(check_name(label, commit), files, build_hf_headers())


def cached(repository: str, revision: str) -> Path | None:
    """Return the revision's folder in huggingface-hub's own cache, named by its commit; None if none."""
    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def _local(repository: str, name: str, commit: str) -> Path | None:
    path = try_to_load_from_cache(repository, name, revision=commit)
    return Path(path) if isinstance(path, str) else None
