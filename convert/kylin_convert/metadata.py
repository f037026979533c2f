"""The ``general.*`` keys: what a model is called, whose it is, and how it likes to be sampled.

gguf-py reads them from README.md's front matter, config.json and generation_config.json; its heuristics are
the reference that other tools expect, so they are used as they are.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import yaml

from kylin_convert.checkpoint import read_json
from kylin_gguf.errors import BadCheckpoint


def read_metadata(folder: Path, counts: tuple[int, int, int, int]) -> gguf.Metadata:
    """Return the metadata of a checkpoint, whose weights are counted as ``get_total_parameter_count`` does.

    Raises:
        BadCheckpoint: README.md's front matter or generation_config.json is malformed.
    """
    try:
        metadata = gguf.Metadata.load(None, folder, None, counts[0])
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = f"its front matter is not YAML ({error})".replace("\n", " ")
        raise BadCheckpoint(str(folder / "README.md"), reason) from error
    path = folder / "generation_config.json"
    generation = read_json(path) if path.is_file() else {}
    if metadata.sampling_penalty_repeat is None:
        # The pinned llama.cpp reads transformers' name too; gguf 0.19.0 on PyPI does not yet.
        metadata.sampling_penalty_repeat = generation.get("repetition_penalty")
    if metadata.name is None:
        metadata.name = folder.resolve().name
    if metadata.size_label is None and counts[0] > 0:
        metadata.size_label = gguf.size_label(*counts)
    return metadata
