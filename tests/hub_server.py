"""What Hugging Face answers about a repository, by a file server in its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.file_server import FileServer

COMMIT = "c0ffee" * 6 + "beef"
REVISIONS = ("main", "v1.0")
"""What stands for that commit."""


def publish(server: FileServer, name: str, files: Mapping[str, bytes]) -> None:
    """Serve the repository ``name``; its weights lie elsewhere and are redirected to, as the hub has it."""
    siblings: list[dict[str, Any]] = []
    for file, content in files.items():
        entry: dict[str, Any] = {"rfilename": file, "size": len(content), "blobId": "0"}
        path = f"/{name}/resolve/{COMMIT}/{file}"
        if file.endswith(".safetensors"):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
            server.redirects[path] = f"{server.url}/blobs/{sha256}"
            server.files[f"/blobs/{sha256}"] = content
        else:
            server.files[path] = content
        siblings.append(entry)
    announce(server, name, siblings)


def announce(server: FileServer, name: str, siblings: Sequence[Mapping[str, Any]]) -> None:
    """Say which files the repository ``name`` has."""
    answer = json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
    about = f"/api/models/{name}"
    for path in (about, *(f"{about}/revision/{revision}" for revision in REVISIONS)):
        server.files[f"{path}?blobs=true"] = server.files[f"{path}?blobs=True"] = answer
