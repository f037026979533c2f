"""A Hugging Face checkpoint folder: its configuration, and its tensors by name across all shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kylin_convert.safetensors import StoredTensor, read_header
from kylin_gguf.errors import BadCheckpoint, FileMissing, NotACheckpoint

INDEX = "model.safetensors.index.json"
_LISTED = 8
"""How many missing names an error spells out."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened folder. Nothing of the tensors' data has been read yet."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    weight_files: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """The first of the configuration's ``architectures``, e.g. ``LlamaForCausalLM``."""
        return str(self.config["architectures"][0])

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read the configuration, the index and every shard's header.

        Raises:
            FileMissing: no such folder.
            NotACheckpoint: no config.json, no safetensors, or weights that are already quantised.
            BadCheckpoint: a file is malformed, or shards or tensors that the index promises are missing.
        """
        if not folder.is_dir():
            raise FileMissing(str(folder), "no such folder")
        config = _config(folder)
        index = _index(folder)
        files = _weight_files(folder, index)
        tensors: dict[str, StoredTensor] = {}
        for name in files:
            for tensor in read_header(folder / name).values():
                if tensor.name in tensors:
                    raise BadCheckpoint(str(folder / name), f"tensor {tensor.name} is in another file too")
                tensors[tensor.name] = tensor
        if index is not None:
            _cross_check(folder, index, tensors)
        return cls(folder, config, tensors, files)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileMissing: the file cannot be read.
        BadCheckpoint: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileMissing(str(path), error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(str(path), f"it is not JSON ({error})") from error


def listed(names: Iterable[str]) -> str:
    """Return ``names`` as text, the first few spelt out."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return ", ".join(ordered[:_LISTED]) + more


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise NotACheckpoint(str(folder), "it has no config.json")
    config = read_json(path)
    match config:
        case {"architectures": [str(_), *_]}:
            pass
        case _:
            raise NotACheckpoint(str(folder), "its config.json names no architecture")
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method", "?") if isinstance(quantised, dict) else "?"
        raise NotACheckpoint(str(folder), f"its weights are already quantised ({method}); use the original")
    return dict(config)


def _index(folder: Path) -> dict[str, str] | None:
    path = folder / INDEX
    if not path.is_file():
        return None
    match read_json(path):
        case {"weight_map": dict(weight_map)} if weight_map:
            pass
        case _:
            raise BadCheckpoint(str(path), "it has no weight_map")
    for tensor, file in weight_map.items():
        # The index is untrusted: a shard is a file of this folder and nothing else.
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise BadCheckpoint(str(path), f"it puts tensor {tensor} into '{file}'")
    return dict(weight_map)


def _weight_files(folder: Path, index: Mapping[str, str] | None) -> tuple[str, ...]:
    if index is None:
        found = tuple(sorted(path.name for path in folder.glob("model*.safetensors")))
        if not found:
            pickled = any(folder.glob("*.bin"))
            hint = "; its .bin files are pickles, which can run code: convert them to safetensors first"
            raise NotACheckpoint(str(folder), "it has no safetensors files" + (hint if pickled else ""))
        return found
    files = tuple(sorted(set(index.values())))
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise BadCheckpoint(str(folder), f"files named by {INDEX} are missing: {listed(missing)}")
    return files


def _cross_check(folder: Path, index: Mapping[str, str], tensors: Mapping[str, StoredTensor]) -> None:
    if missing := index.keys() - tensors.keys():
        files = {index[name] for name in missing}
        raise BadCheckpoint(str(folder), f"tensors missing from {listed(files)}: {listed(missing)}")
    if extra := tensors.keys() - index.keys():
        raise BadCheckpoint(str(folder), f"tensors that {INDEX} does not list: {listed(extra)}")
    if moved := [name for name, file in index.items() if tensors[name].path.name != file]:
        raise BadCheckpoint(str(folder), f"tensors in another file than {INDEX} says: {listed(moved)}")
