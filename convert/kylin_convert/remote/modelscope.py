"""ModelScope, through the interface of its web pages: no account, no library.

The list of files is that of https://modelscope.cn/docs (repo/files), which needs no key for public models.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import httpx2

from kylin_convert.remote.listing import Listing, RemoteFile, check_name
from kylin_gguf.errors import SourceFailed
from kylin_gguf.sources import http, modelscope

_DEFAULT_REVISION = "master"
_STATE_CHARS = 12


def list_files(label: str, repository: str, revision: str) -> Listing:
    """Ask for names, sizes and hashes of the files of a branch or tag.

    Raises:
        SourceFailed: the hub cannot be reached, or has no such repository or revision.
    """
    revision = revision or _DEFAULT_REVISION
    url = f"{modelscope.ENDPOINT}/api/v1/models/{repository}/repo/files"
    try:
        answer = httpx2.get(
            url, params={"Revision": revision, "Recursive": "true"}, timeout=http.CONNECT_SECONDS
        )
        answer.raise_for_status()
        content = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise SourceFailed(label, http.reason(error)) from error
    match content:
        case {"Data": {"Files": list(entries)}}:
            files = tuple(_file(label, repository, revision, e) for e in entries if _is_blob(e))
            return Listing(f"{revision}-{_state(files)}", files)
        case {"Message": str(message)}:
            raise SourceFailed(label, message)
        case _:
            raise SourceFailed(label, "its answer lists no files")


def cached(repository: str, revision: str) -> None:
    """Return None: ModelScope's own cache is not read."""


def _state(files: tuple[RemoteFile, ...]) -> str:
    """Return a name of what a branch holds now; it has no commit here, and its files may change."""
    content = "\n".join(f"{file.name} {file.size} {file.sha256}" for file in files)
    return hashlib.sha256(content.encode()).hexdigest()[:_STATE_CHARS]


def _is_blob(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("Type") == "blob"


def _file(label: str, repository: str, revision: str, entry: dict[str, Any]) -> RemoteFile:
    match entry:
        case {"Path": str(path), "Size": int(size)}:
            name = check_name(label, path)
            place = f"{quote(revision, safe='')}/{quote(name)}"
            url = f"{modelscope.ENDPOINT}/models/{repository}/resolve/{place}"
            return RemoteFile(name, size, str(entry.get("Sha256") or ""), url)
        case _:
            raise SourceFailed(label, "its list of files lacks a path or a size")
