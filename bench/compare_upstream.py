"""Compare our checkpoint-to-GGUF step with upstream's convert_hf_to_gguf.py, key for key and byte for byte.

    python bench/compare_upstream.py FOLDER --llama-cpp DIR [--python PYTHON] [--format F16]

DIR is llama.cpp's source tree as unpacked by ``make native``; PYTHON an interpreter that has torch,
transformers and sentencepiece, which upstream's converter needs and ours does not. Exit status 0 when all
differences are intended, 1 when one is not, 77 when the comparison cannot be made (the reason is printed).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf

from kylin_convert.arch import family_of
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.writer import FORMATS, write_gguf
from kylin_gguf.records import no_progress

SKIPPED = 77
"""Exit status that automake and others read as "skipped"."""

INTENDED: dict[str, str] = {}
"""Keys and tensors that may differ, each with the reason. None does."""


def differences(theirs: Path, ours: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and a description of each key and tensor that is not the same in both files."""
    left, right = gguf.GGUFReader(theirs), gguf.GGUFReader(ours)
    for key in sorted(left.fields.keys() | right.fields.keys()):
        if key.startswith("GGUF."):
            continue
        pair = [_field(reader, key) for reader in (left, right)]
        if pair[0] != pair[1]:
            yield key, " -> ".join(text[:120] for text in map(repr, pair))
    tensors = [{tensor.name: tensor for tensor in reader.tensors} for reader in (left, right)]
    for name in sorted(tensors[0].keys() | tensors[1].keys()):
        if name not in tensors[0] or name not in tensors[1]:
            yield name, f"only in {'ours' if name in tensors[1] else 'theirs'}"
            continue
        a, b = tensors[0][name], tensors[1][name]
        if (a.tensor_type, a.shape.tolist()) != (b.tensor_type, b.shape.tolist()):
            shapes = [f"{t.tensor_type.name} {t.shape.tolist()}" for t in (a, b)]
            yield name, " -> ".join(shapes)
        elif a.data.tobytes() != b.data.tobytes():
            yield name, "other bytes"


def _field(reader: gguf.GGUFReader, key: str) -> tuple[list[str], object] | str:
    field = reader.fields.get(key)
    return "absent" if field is None else ([kind.name for kind in field.types], field.contents())


def upstream_fails(python: str, script: Path, folder: Path, form: str, target: Path) -> str:
    """Run upstream's converter; return why it failed, or nothing."""
    command = [python, str(script), str(folder), "--outtype", form.lower(), "--outfile", str(target)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def main() -> int:
    """Convert twice, compare, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--format", choices=sorted(FORMATS), default="F16")
    options = parser.parse_args()
    script = options.llama_cpp / "convert_hf_to_gguf.py"
    probe = [options.python, "-c", "import torch, transformers"]
    if not script.is_file():
        print(f"skipped: there is no {script}")
        return SKIPPED
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        print(f"skipped: {options.python} has no torch and transformers")
        return SKIPPED
    family = family_of(Checkpoint.open(options.folder))
    if family is None:
        print("skipped: only upstream's converter reads this architecture")
        return SKIPPED
    with tempfile.TemporaryDirectory() as scratch:
        theirs, ours = Path(scratch, "theirs.gguf"), Path(scratch, "ours.gguf")
        if reason := upstream_fails(options.python, script, options.folder, options.format, theirs):
            print(f"skipped: upstream's converter failed: {reason}")
            return SKIPPED
        write_gguf(family, ours, options.format, no_progress)
        found = list(differences(theirs, ours))
        result = gguf.GGUFReader(ours)
    for name, what in found:
        print(f"{name}: {what}" + (f" (intended: {INTENDED[name]})" if name in INTENDED else ""))
    unintended = [name for name, _ in found if name not in INTENDED]
    compared = f"{len(result.fields)} keys, {len(result.tensors)} tensors"
    print(f"{compared}: {len(unintended)} unintended differences")
    return 1 if unintended else 0


if __name__ == "__main__":
    sys.exit(main())
