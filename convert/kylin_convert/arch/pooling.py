"""How an embedder makes one vector of many, from sentence-transformers' files beside the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

from kylin_convert.checkpoint import inside, read_json
from kylin_gguf.errors import BadCheckpoint

_FLAGS = {
    "pooling_mode_mean_tokens": gguf.PoolingType.MEAN,
    "pooling_mode_cls_token": gguf.PoolingType.CLS,
    "pooling_mode_lasttoken": gguf.PoolingType.LAST,
}
_MODES = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS, "lasttoken": gguf.PoolingType.LAST}


def write_pooling(folder: Path, writer: gguf.GGUFWriter) -> None:
    """Add the kind of pooling if ``folder`` states one.

    Raises:
        BadCheckpoint: a file is malformed, or the kind is one that llama.cpp does not have.
    """
    if (path := pooling_file(folder)) is None:
        return
    match read_json(path):
        case dict(settings):
            writer.add_pooling_type(_kind(path, settings))
        case _:
            raise BadCheckpoint(str(path), "it is not a JSON object")


def pooling_file(folder: Path) -> Path | None:
    """Return the file that states the pooling, None where there is none.

    Raises:
        BadCheckpoint: modules.json is malformed or leads out of ``folder``.
    """
    path = folder / "modules.json"
    for module in read_json(path) if path.is_file() else ():
        match module:
            case {"type": str(kind), "path": str(subfolder)}:
                if kind.endswith("Pooling"):
                    return inside(folder, f"{subfolder}/config.json", path)
            case _:
                raise BadCheckpoint(str(path), "its entries lack a type or a path")
    return None


def _kind(path: Path, settings: dict[str, Any]) -> gguf.PoolingType:
    for flag, kind in _FLAGS.items():
        if settings.get(flag):
            return kind
    if (mode := settings.get("pooling_mode")) in _MODES:
        return _MODES[mode]
    raise BadCheckpoint(str(path), f"llama.cpp pools by {', '.join(_MODES)} only")
