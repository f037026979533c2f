"""A finished file on the Hugging Face hub or a mirror of it (``HF_ENDPOINT``, ``HF_TOKEN``)."""

from __future__ import annotations

from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from kylin_convert import card, manifest
from kylin_convert.manifest import Manifest
from kylin_gguf.errors import UploadFailed
from kylin_gguf.gguf_info import shards


def upload(output: Path, made: Manifest, repository: str) -> str:
    """Put ``output``, its manifest and its card into ``repository`` in one commit; return its address.

    Of a model in several files, ``output`` is the first, and all are put there.
    A repository that is not there yet is made, private: who publishes a model should look at it first.

    Raises:
        UploadFailed: the hub cannot be reached, does not know the user, or refuses.
    """
    # HfApi reads HF_ENDPOINT and the user's token.
    hub = HfApi()
    text = card.write(made, shards.read(output))
    beside = manifest.path_for(output)
    operations = [
        CommitOperationAdd("README.md", text.encode()),
        CommitOperationAdd(beside.name, beside),
        *(CommitOperationAdd(path.name, path) for path in shards.files(output)),
    ]
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        message = f"Add {output.name}, made by kylin-gguf-engine"
        return str(hub.create_commit(repository, operations, commit_message=message).commit_url)
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise UploadFailed(str(output), repository, reason) from error
