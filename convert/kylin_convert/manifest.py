"""The manifest beside a converted file: where it came from, how it was made, what was measured."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kylin_convert.work import sha256_of, write_atomically
from kylin_gguf.gguf_info import GgufInfo, shards

FORMAT_VERSION = 3


def path_for(output: Path) -> Path:
    """Return where the manifest of ``output`` lies."""
    return output.with_name(output.name + ".json")


@dataclass(frozen=True)
class Manifest:
    """All that is needed to make the same file again, and to judge it. Sizes in bytes, times in seconds.

    ``intermediate`` is the format that was quantised, empty where the source is a GGUF. ``pruning`` is what
    ``pruning.prune`` returns, None where no blocks were cut. ``quality`` has for each held-out text what
    ``verify.measure`` returns, against the whole model; it is empty for an embedder.
    """

    source: Mapping[str, Any]
    intermediate: str
    recipe: Mapping[str, Any]
    pruning: Mapping[str, Any] | None
    calibration: Mapping[str, Any] | None
    tensors: Mapping[str, str]
    fallbacks: Mapping[str, Any]
    quality: Mapping[str, Any]
    tools: Mapping[str, str]
    seconds: Mapping[str, float]
    output: Mapping[str, Any]
    notices: tuple[str, ...]
    format: int = field(default=FORMAT_VERSION)

    def write(self, output: Path) -> None:
        """Put the manifest beside ``output``."""
        write_atomically(path_for(output), json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n")


def describe_output(names: Sequence[str], model: GgufInfo) -> dict[str, Any]:
    """Return what the manifest says about the finished file, or the files that ``names`` are for.

    Name and hash are those of the first; ``files`` has them of all.
    """
    hashes = [sha256_of(path) for path in shards.files(model.path)]
    return {
        "name": names[0],
        "bytes": model.file_size,
        "sha256": hashes[0],
        "files": dict(zip(names, hashes, strict=True)),
        "parameters": model.parameters,
        "bits_per_weight": round(model.bits_per_weight, 3),
        "types": dict(Counter(tensor.type_name for tensor in model.tensors).most_common()),
    }


def describe_fallbacks(model: GgufInfo, fallbacks: Mapping[str, str]) -> dict[str, Any]:
    """Return which tensors could not have their type, and what share of the file they are."""
    affected = sum(tensor.nbytes for tensor in model.tensors if tensor.name in fallbacks)
    return {"share": round(affected / model.tensor_bytes, 4), "wanted": dict(fallbacks)}


def tool_versions(llama_cpp: str) -> dict[str, str]:
    """Return the versions of everything that has a hand in the result."""
    packages = ("kylin-gguf-engine", "gguf", "tokenizers", "numpy", "jinja2")
    return {
        "llama.cpp": llama_cpp,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
