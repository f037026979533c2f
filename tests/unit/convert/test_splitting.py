"""GGUFs cut into several files: the bytes of llama-gguf-split, and names that never lead to two models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from kylin_convert import manifest, output, splitting
from kylin_convert.output import Output
from kylin_convert.splitting import Limit
from kylin_gguf import gguf_info
from kylin_gguf.errors import FileMissing, InvalidValue
from kylin_gguf.gguf_info import shards
from kylin_gguf.records import Progress, no_progress

SHAPES = ((128, 2049), (7,), (256, 1024), (33, 3), (64, 2048), (5, 2), (512, 512))


def _write(path: Path, alignment: int = 32, shapes: Sequence[tuple[int, ...]] = SHAPES) -> gguf_info.GgufInfo:
    writer = gguf.GGUFWriter(path, "llama")
    if alignment != gguf.GGUF_DEFAULT_ALIGNMENT:
        writer.add_custom_alignment(alignment)
    writer.add_name("切分")
    writer.add_block_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list([b"\xff\xfe", b"\xe4\xbd\xa0", b"a"])  # a token need not be text
    writer.add_token_scores([0.0, -1.5, 2.0])
    for number, shape in enumerate(shapes):
        values = np.arange(int(np.prod(shape)), dtype="<f4").reshape(shape) + number
        writer.add_tensor(f"blk.{number}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf_info.read(path)


def _hashes(model: gguf_info.GgufInfo) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in shards.files(model.path)]


# SHA-256 of what llama-gguf-split of the pinned llama.cpp makes of the file above, whose own is the first.
WHOLE = "c02e0989bcffbd68"
THEIRS = {
    Limit(tensors=3): ["93436d499a780f60", "23af71e4f013d305", "f98877d37617266f"],
    Limit(tensors=1): [
        *("076d5b64bb015393", "069c2f020165371c", "885bae4c355d71c9", "a8cca0388558d653"),
        *("4b2487d0ba075b1f", "12603956da889e8d", "65459af4ff3310a8"),
    ],
    Limit(size=2_000_000): ["93f260658d5c771e", "7bcda1f93892e1ad", "f98877d37617266f"],
}


@pytest.mark.parametrize("limit", THEIRS, ids=str)
def test_the_files_are_those_of_llama_gguf_split(tmp_path: Path, limit: Limit) -> None:
    model, events = _write(tmp_path / "m"), list[Progress]()
    assert _hashes(model) == [WHOLE], "the case changed: have llama-gguf-split cut it again"
    made = splitting.cut(model, limit, events.append)
    assert _hashes(made) == THEIRS[limit]
    assert events[-1].done == events[-1].total == model.tensor_bytes
    assert not model.path.exists()


@pytest.mark.parametrize("alignment", [32, 64])
def test_no_tensor_changes(tmp_path: Path, alignment: int) -> None:
    model = _write(tmp_path / "m", alignment)
    before = {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(model.path).tensors}
    made = splitting.cut(model, Limit(tensors=2), no_progress)
    after = {
        tensor.name: tensor.data.tobytes()
        for path in shards.files(made.path)
        for tensor in gguf.GGUFReader(path).tensors
    }
    assert after == before
    assert (made.parameters, made.tensor_bytes) == (model.parameters, model.tensor_bytes)


def test_a_tensor_larger_than_a_file_has_one_of_its_own(tmp_path: Path) -> None:
    made = splitting.cut(_write(tmp_path / "m"), Limit(size=1_000_000), no_progress)
    found = [[tensor.name for tensor in gguf_info.read(path).tensors] for path in shards.files(made.path)]
    assert [names[0] for names in found] == [f"blk.{number}.weight" for number in (0, 1, 2, 3, 6)]


@pytest.mark.parametrize("limit", [Limit(size=10**9), Limit(tensors=len(SHAPES))], ids=str)
def test_what_fits_into_one_file_stays_whole(tmp_path: Path, limit: Limit) -> None:
    model = _write(tmp_path / "m")
    assert splitting.cut(model, limit, no_progress) is model
    assert _hashes(model) == [WHOLE]


def test_limits() -> None:
    assert Limit.parse("", 0) is None
    assert Limit.parse("2G", 0) == Limit(size=2 * 10**9)
    assert Limit.parse("500m", 0) == Limit(size=500 * 10**6)
    assert Limit.parse("", 128) == Limit(tensors=128)
    for size, tensors in (("2G", 128), ("0M", 0), ("2", 0), ("-1G", 0), ("2GB", 0), ("9999999999G", 0)):
        with pytest.raises(InvalidValue, match="--split-max-size"):
            Limit.parse(size, tensors)


def _placed(folder: Path, tensors: int, block_count: int) -> Path:
    """Make a model in several files in the place of what is there."""
    target = Output(folder / "m.gguf", "key")
    model = splitting.cut(
        _write(target.partial, shapes=SHAPES[:block_count]), Limit(tensors=tensors), no_progress
    )
    try:
        return target.place(model)
    finally:
        target.clear()


def test_the_files_appear_and_replace_others(tmp_path: Path) -> None:
    first = _placed(tmp_path, 3, 7)
    manifest.path_for(first).write_text("of the old model")
    assert _placed(tmp_path, 2, 6) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == shards.names("m", 3)
    assert len(shards.read(first).tensors) == 6


@pytest.mark.parametrize("step", range(6))
def test_no_name_leads_to_files_of_two_models(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after any of its steps, a replacement leaves the old model, the new one, or none that opens."""
    old = _placed(tmp_path, 3, 7)
    steps = [0]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def do(path: Path, *arguments: Any, **options: Any) -> Any:
            if path.parent == tmp_path and steps[0] > step:
                raise KeyboardInterrupt
            steps[0] += 1
            return original(path, *arguments, **options)

        return do

    target = Output(tmp_path / "m.gguf", "key")
    model = splitting.cut(_write(target.partial, shapes=SHAPES[:6]), Limit(tensors=2), no_progress)
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    with suppress(KeyboardInterrupt):
        target.place(model)
    monkeypatch.undo()
    try:
        found = shards.read(old)
    except FileMissing:
        return
    assert len(found.tensors) in (7, 6)
    assert _hashes(found) == THEIRS[Limit(tensors=3)] or _hashes(found) == _hashes(_again(tmp_path / "again"))


def _again(folder: Path) -> gguf_info.GgufInfo:
    folder.mkdir()
    return shards.read(_placed(folder, 2, 6))


def test_what_a_result_could_replace(tmp_path: Path) -> None:
    names = [
        *shards.names("m", 2),
        "m.gguf",
        "m-Q4.gguf",
        "m-00001-of-00002.gguf.json",
        "mm-00001-of-00001.gguf",
    ]
    for name in names:
        (tmp_path / name).touch()
    several = output.taken(tmp_path / "m.gguf", several=True)
    assert {path.name for path in several} == {"m.gguf", *shards.names("m", 2)}
    assert output.taken(tmp_path / "m.gguf", several=False) == [tmp_path / "m.gguf"]
    assert output.taken(tmp_path / "m[1].gguf", several=True) == []
