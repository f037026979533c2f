"""A Hugging Face checkpoint folder: its configuration, and its tensors by name across all shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kylin_convert import pickled, safetensors
from kylin_convert.safetensors import StoredTensor
from kylin_gguf.errors import BadCheckpoint, FileMissing, NotACheckpoint

INDEX = "model.safetensors.index.json"
_LISTED = 8
"""How many missing names an error spells out."""
_MAX_JSON = 1 << 28
"""Bytes; the largest tokenizer.json known has 33 MB."""


@dataclass(frozen=True)
class _Format:
    """How weights are stored: the files' names where no index has them, the index, the reader of a file."""

    pattern: str
    index: str
    read: Callable[[Path], Mapping[str, StoredTensor]]

    def takes(self, name: object) -> bool:
        """Return whether ``name`` is a file of this format in the folder itself."""
        # The index is untrusted: a shard is a file of this folder and nothing else.
        return isinstance(name, str) and Path(name).name == name and fnmatchcase(name, self.suffix)

    @property
    def suffix(self) -> str:
        """The end of the files' names, as a pattern."""
        return "*" + self.pattern.rpartition("*")[2]


_SAFETENSORS = _Format("model*.safetensors", INDEX, safetensors.read_header)
_PICKLED = _Format("pytorch_model*.bin", "pytorch_model.bin.index.json", pickled.read_tensors)


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
            NotACheckpoint: no config.json, no weights, or weights that are already quantised.
            BadCheckpoint: a file is malformed, or shards or tensors that the index promises are missing.
        """
        if not folder.is_dir():
            raise FileMissing(str(folder), "no such folder")
        config = _config(folder)
        form = _SAFETENSORS if _has(folder, _SAFETENSORS) else _PICKLED
        index = _index(folder, form)
        files = _weight_files(folder, form, index)
        tensors: dict[str, StoredTensor] = {}
        for name in files:
            for tensor in form.read(folder / name).values():
                if tensor.name in tensors:
                    raise BadCheckpoint(str(folder / name), f"tensor {tensor.name} is in another file too")
                tensors[tensor.name] = tensor
        if index is not None:
            _cross_check(folder, form.index, index, tensors)
        return cls(folder, config, tensors, files)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        FileMissing: the file cannot be read.
        BadCheckpoint: the file is not JSON, or too large to be what it should be.
    """
    try:
        if (size := path.stat().st_size) > _MAX_JSON:
            raise BadCheckpoint(str(path), f"it has {size} bytes, more than such a file ever has")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileMissing(str(path), error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(str(path), f"it is not JSON ({error})") from error


def inside(folder: Path, name: str, origin: Path) -> Path:
    """Return the file ``name`` of ``folder``, which the untrusted file ``origin`` asks for.

    Raises:
        BadCheckpoint: the name leads out of the folder.
        FileMissing: there is no such file.
    """
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        raise BadCheckpoint(str(origin), f"it leads to '{name}', which is not below its folder")
    path = folder / name
    if not path.is_file():
        raise FileMissing(str(path), f"no such file, named by {origin.name}")
    return path


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


def _has(folder: Path, form: _Format) -> bool:
    return (folder / form.index).is_file() or any(path.is_file() for path in folder.glob(form.pattern))


def _index(folder: Path, form: _Format) -> dict[str, str] | None:
    path = folder / form.index
    if not path.is_file():
        return None
    match read_json(path):
        case {"weight_map": dict(weight_map)} if weight_map:
            pass
        case _:
            raise BadCheckpoint(str(path), "it has no weight_map")
    for tensor, file in weight_map.items():
        if not form.takes(file):
            raise BadCheckpoint(str(path), f"it puts tensor {tensor} into '{file}'")
    return dict(weight_map)


def _weight_files(folder: Path, form: _Format, index: Mapping[str, str] | None) -> tuple[str, ...]:
    if index is None:
        found = tuple(sorted(path.name for path in folder.glob(form.pattern) if path.is_file()))
        if not found:
            patterns = f"{_SAFETENSORS.pattern} nor {_PICKLED.pattern}"
            raise NotACheckpoint(str(folder), f"it has neither {patterns}")
        return found
    files = tuple(sorted(set(index.values())))
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise BadCheckpoint(str(folder), f"files named by {form.index} are missing: {listed(missing)}")
    return files


def _cross_check(
    folder: Path, name: str, index: Mapping[str, str], tensors: Mapping[str, StoredTensor]
) -> None:
    if missing := index.keys() - tensors.keys():
        files = {index[tensor] for tensor in missing}
        raise BadCheckpoint(str(folder), f"tensors missing from {listed(files)}: {listed(missing)}")
    if extra := tensors.keys() - index.keys():
        raise BadCheckpoint(str(folder), f"tensors that {name} does not list: {listed(extra)}")
    if moved := [tensor for tensor, file in index.items() if tensors[tensor].path.name != file]:
        raise BadCheckpoint(str(folder), f"tensors in another file than {name} says: {listed(moved)}")
