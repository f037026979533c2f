"""What upstream's converter makes of the tiny checkpoints, kept in tests/data/upstream.json.

    python -m tests.upstream_reference LLAMA.CPP [CASE ...]     write the file again

LLAMA.CPP is the pinned source, build/source/llama_cpp_python-*/vendor/llama.cpp after 'make native'. It needs
the extra [upstream]. tests/unit/convert/test_upstream.py compares our converter with the file everywhere, and
the file with upstream where torch is installed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np

from tests.tiny_adapters import ADAPTERS
from tests.tiny_families import CASES

DATA = Path(__file__).parent / "data" / "upstream.json"
PRE_TOKENIZER = "tiny"
"""The name both converters are made to give to a pre-tokeniser they do not know."""
OTHER_FORMATS = {
    "llama": ("bf16", "f32"),
    "gemma3-f16": ("bf16", "f32"),
    "bert": ("bf16",),
    "qwen3-moe": ("bf16",),
}
"""Cases that are converted to more than f16."""

_INLINE = 16


def conversions() -> list[tuple[str, str]]:
    """Return case and format of every conversion that is compared."""
    return [(name, form) for name in CASES for form in ("f16", *OTHER_FORMATS.get(name, ()))]


def adapters() -> list[tuple[str, str]]:
    """Return case and format of every adapter that is compared."""
    return [(name, form) for name, case in ADAPTERS.items() for form in case.forms]


def checkpoint_hash(folder: Path) -> str:
    """Return a hash over all files of a checkpoint: another one needs another reference."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def describe(path: Path) -> dict[str, Any]:
    """Return a GGUF's keys with types and values, and its tensors with types, shapes and hashes.

    The keys that the writing library adds of itself are left out; long arrays are hashes.
    """
    reader = gguf.GGUFReader(path)
    keys = {
        name: [field.types[0].name, _value(field)]
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    tensors = {
        tensor.name: [tensor.tensor_type.name, [int(n) for n in tensor.shape], _hash(tensor.data.tobytes())]
        for tensor in reader.tensors
    }
    return {"keys": dict(sorted(keys.items())), "tensors": dict(sorted(tensors.items()))}


def _value(field: gguf.ReaderField) -> Any:
    value = field.contents()
    if not isinstance(value, list):
        return value.item() if isinstance(value, np.generic) else value
    if len(value) <= _INLINE:
        return [field.types[-1].name, *value]
    return [field.types[-1].name, len(value), _hash(json.dumps(value).encode())]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def references(source: Path, chosen: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return what ``describe`` and ``checkpoint_hash`` say of upstream's conversions, by ``CASE/FORMAT``.

    Cases are of ``CASES`` or of ``ADAPTERS``.
    """
    result: dict[str, Any] = {}
    with TemporaryDirectory() as scratch:
        jobs = []
        for name, form in chosen:
            folder = Path(scratch) / form / name
            base, adapter = folder, ""
            if name in ADAPTERS:
                base, adapter = folder.with_name(f"base-{name}"), str(folder)
                ADAPTERS[name].write(folder)
            CASES[ADAPTERS[name].base if adapter else name].write(base)
            jobs.append([str(base), f"{folder}.gguf", form, adapter])
            result[f"{name}/{form}"] = folder
        driver = Path(__file__).with_name("upstream_driver.py")
        subprocess.run([sys.executable, "-P", driver, source, json.dumps(jobs)], check=True)
        for key, folder in result.items():
            made = describe(folder.with_name(f"{folder.name}.gguf"))
            result[key] = {"checkpoint": checkpoint_hash(folder), **made}
    return result


def load() -> Mapping[str, Any]:
    """Return the kept results by ``CASE/FORMAT``."""
    content: Mapping[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return content


def main() -> None:
    """Write the file again, or the named cases of it."""
    source, *names = sys.argv[1:]
    kept = dict(load()) if names else {}
    known = [*conversions(), *adapters()]
    chosen = [(name, form) for name, form in known if not names or name in names]
    kept.update(references(Path(source).resolve(), chosen))
    lines = (
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(kept.items())
    )
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
