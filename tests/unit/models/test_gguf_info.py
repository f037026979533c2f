"""The GGUF header reader: what it reads, and that no input makes it fail in any way but its own."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kylin_gguf import gguf_info
from kylin_gguf.errors import FileMissing, KylinError, NotGguf, TruncatedGguf
from kylin_gguf.gguf_info import Skipped
from kylin_gguf.gguf_info import header as header_module
from tests import tiny_embedder

Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def model(write_model: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf", vocabulary=2000)


@pytest.fixture(scope="module")
def small(write_model: Writer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a model whose header is most of the file, for mutations."""
    return write_model(tmp_path_factory.mktemp("gguf") / "small.gguf").read_bytes()


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def header(tensors: int, keys: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def key(name: bytes, code: int, value: bytes) -> bytes:
    return string(name) + struct.pack("<I", code) + value


def tensor(name: bytes, shape: tuple[int, ...], code: int, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return string(name) + sizes + struct.pack("<IQ", code, offset)


ARCHITECTURE = key(b"general.architecture", 8, string(b"llama"))


def read_bytes(tmp_path: Path, content: bytes) -> gguf_info.GgufInfo:
    path = tmp_path / "file.gguf"
    path.write_bytes(content)
    return gguf_info.read(path)


@pytest.mark.parametrize(
    ("value", "pooling", "embeds"),
    [
        ((4, 0), "", False),
        ((4, 1), "mean", True),
        ((4, 2), "cls", True),
        ((4, 3), "last", True),
        ((4, 4), "rank", False),
        ((4, 77), "", False),
        ((5, -1), "", False),
    ],
)
def test_pooling_says_whether_a_model_embeds(
    tmp_path: Path, value: tuple[int, int], pooling: str, embeds: bool
) -> None:
    code, number = value
    stated = key(b"llama.pooling_type", code, struct.pack("<i", number))
    info = read_bytes(tmp_path, header(0, 2, ARCHITECTURE + stated))
    assert (info.pooling, info.embeds, info.has_cache) == (pooling, embeds, True)
    assert not gguf_info.read(_bert(tmp_path)).has_cache


def _bert(folder: Path) -> Path:
    tiny_embedder.bert(folder / "bert.gguf")
    return folder / "bert.gguf"


def test_reads_what_the_writer_wrote(model: Path) -> None:
    info = gguf_info.read(model)
    assert (info.version, info.kind, info.architecture, info.name) == (3, "model", "llama", "Tiny")
    assert (info.size_label, info.licence, info.languages) == ("3K", "apache-2.0", ("zh", "en"))
    assert (info.file_type, info.layers, info.context_length, info.embedding_length) == ("Q8_0", 2, 512, 64)
    assert (info.head_count, info.head_count_kv) == (4, (2, 1))
    assert (info.tokenizer_model, info.tokenizer_pre, info.bos_id, info.eos_id) == ("gpt2", "smollm", 1, 2)
    assert info.has_chat_template
    assert "messages" in info.chat_template
    assert info.vocab_size == 2000
    assert info.metadata["tokenizer.ggml.tokens"] == Skipped("string", 2000)
    assert info.own("context_length") == 512
    assert info.file_size == model.stat().st_size


def test_tensors_agree_with_upstreams_reader(model: Path) -> None:
    info = gguf_info.read(model)
    theirs = gguf.GGUFReader(model).tensors
    assert [(t.name, t.shape, t.type_name, t.nbytes, t.offset) for t in info.tensors] == [
        (t.name, tuple(int(n) for n in t.shape), t.tensor_type.name, t.n_bytes, t.data_offset) for t in theirs
    ]
    assert info.parameters == 32 * 64 + 7
    assert info.bits_per_weight == pytest.approx(8 * (32 * 64 // 32 * 34 + 28) / (32 * 64 + 7))


def test_a_file_without_tensors_or_architecture_is_read(tmp_path: Path) -> None:
    info = read_bytes(tmp_path, header(0, 1, key(b"general.type", 8, string(b"imatrix"))))
    assert (info.kind, info.architecture, info.parameters, info.bits_per_weight) == ("imatrix", "", 0, 0.0)
    assert (info.bos_id, info.eos_id, info.has_chat_template, info.file_type) == (None, None, False, "")


def test_version_2_is_read(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, header(0, 1, ARCHITECTURE, version=2)).version == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "letters GGUF"),
        (b"GG", "letters GGUF"),
        (b"PK\x03\x04" + bytes(40), "letters GGUF"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header(0, 0, version=1), "version 1"),
        (header(0, 0, version=4), "version 4"),
        (header(1 << 40, 0), "tensors"),
        (header(0, 1 << 40), "metadata keys"),
        (header(0, 1, key(b"", 4, bytes(4))), "empty or given twice"),
        (header(0, 2, key(b"a", 4, bytes(4)) * 2), "empty or given twice"),
        (header(0, 1, key(b"a", 99, bytes(4))), "unknown type 99"),
        (header(0, 1, key(b"a", 9, struct.pack("<IQ", 9, 1) + bytes(64))), "nested"),
        (header(0, 1, key(b"a", 9, struct.pack("<IQ", 4, 1 << 50))), "elements"),
        (header(0, 1, key(b"a", 8, struct.pack("<Q", 1 << 62))), "bytes"),
        (header(0, 1, string(b"\xff\xfe") + bytes(8)), "not UTF-8"),
        (header(0, 1, key(b"general.alignment", 4, struct.pack("<I", 24))), "power of two"),
        (header(0, 1, key(b"general.architecture", 4, bytes(4))), "not a text"),
        (header(0, 2, ARCHITECTURE + key(b"llama.block_count", 8, string(b"x"))), "not a count"),
        (header(0, 2, ARCHITECTURE + key(b"llama.block_count", 5, struct.pack("<i", -1))), "not a count"),
        (header(1, 0, tensor(b"t" * 64, (1,), 0, 0) + bytes(64)), "tensor name"),
        (header(1, 0, tensor(b"t", (1, 1, 1, 1, 1), 0, 0) + bytes(64)), "5 dimensions"),
        (header(1, 0, tensor(b"t", (1 << 40, 1 << 40), 0, 0) + bytes(64)), "impossible shape"),
        (header(1, 0, tensor(b"t", (32,), 4, 0) + bytes(64)), "unknown type 4"),
        (header(1, 0, tensor(b"t", (31,), 8, 0) + bytes(64)), "whole Q8_0 blocks"),
        (header(1, 0, tensor(b"t", (1,), 0, 32) + bytes(96)), "not at 0"),
        (header(2, 0, tensor(b"t", (1,), 0, 0) + tensor(b"t", (1,), 0, 32) + bytes(96)), "given twice"),
        (header(2, 0, tensor(b"t", (8,), 0, 0) + tensor(b"u", (8,), 0, 16) + bytes(96)), "not at 32"),
        (header(1, 0, tensor(b"t", (1 << 62,), 0, 0)), "no file can have"),
    ],
)
def test_refuses_what_breaks_the_format(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(NotGguf) as caught:
        read_bytes(tmp_path, content)
    assert reason in caught.value.reason


def test_reasons_are_short_and_printable_whatever_the_names_are(tmp_path: Path) -> None:
    name = b"\x1b[31m\n" + b"x" * 60_000
    with pytest.raises(NotGguf) as caught:
        read_bytes(tmp_path, header(0, 1, key(name, 99, bytes(4))))
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) < 200


def test_every_truncation_of_a_model_is_noticed(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(small)
    last = gguf_info.read(path).tensors[-1]
    needed = last.offset + last.nbytes
    for length in [*range(0, 300, 7), *range(300, needed, 61), needed - 1]:
        path.write_bytes(small[:length])
        with pytest.raises((TruncatedGguf, NotGguf)) as caught:
            gguf_info.read(path)
        if length >= len(b"GGUF"):
            assert isinstance(caught.value, TruncatedGguf)
            assert caught.value.actual == length
            assert length < caught.value.expected <= needed
    path.write_bytes(small[:needed])
    assert gguf_info.read(path).parameters == 32 * 64 + 7


def test_a_vocabulary_that_ends_early_is_truncated(tmp_path: Path) -> None:
    tokens = key(b"t", 9, struct.pack("<IQ", 8, 5000) + string(b"ab") * 4999)
    with pytest.raises(TruncatedGguf):
        read_bytes(tmp_path, header(0, 1, tokens))


def test_long_strings_and_invalid_text_are_kept_apart(tmp_path: Path) -> None:
    long = key(b"long", 8, string(b"x" * (1 << 21)))
    odd = key(b"odd", 8, string(b"a\xffb"))
    mixed = key(b"mixed", 9, struct.pack("<IQ", 8, 2) + string(b"a") + string(b"x" * (1 << 21)))
    info = read_bytes(tmp_path, header(0, 3, long + odd + mixed))
    assert info.metadata == {
        "long": Skipped("string", 1 << 21),
        "odd": "a�b",
        "mixed": Skipped("string", 2),
    }


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_what_is_not_a_file_is_missing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.gguf"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(FileMissing):
        gguf_info.read(path)


def test_a_path_with_a_nul_is_missing() -> None:
    with pytest.raises(FileMissing):
        gguf_info.read("a\0b")


RELAXED = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check_bounded(path: Path, content: bytes) -> None:
    """Read ``content``: it must succeed or fail with one of our errors, in little memory."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        gguf_info.read(path)
    except KylinError as error:
        assert isinstance(error, NotGguf | TruncatedGguf)
        assert str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 << 20


@RELAXED
@given(body=st.binary(max_size=600), magic=st.booleans())
def test_random_bytes_fail_in_our_way(tmp_path: Path, body: bytes, magic: bool) -> None:
    check_bounded(tmp_path / "random.gguf", (b"GGUF\x03\0\0\0" if magic else b"") + body)


@RELAXED
@given(data=st.data())
def test_mutated_models_fail_in_our_way(tmp_path: Path, small: bytes, data: st.DataObject) -> None:
    content = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 1200))
        patch = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from([b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 1 << 33), struct.pack("<I", 9)]),
            )
        )
        content[at : at + len(patch)] = patch
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    check_bounded(tmp_path / "mutated.gguf", bytes(content[:end]))


def test_a_file_that_has_not_changed_is_read_once(
    small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(small)
    first = gguf_info.read(path)
    monkeypatch.setattr(header_module, "_read_open", lambda *_: pytest.fail("it was known"))
    assert gguf_info.read(path) is first


def test_a_file_that_was_replaced_or_damaged_is_read_anew(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(small)
    gguf_info.read(path)
    path.write_bytes(small[: len(small) // 2])
    with pytest.raises(TruncatedGguf):
        gguf_info.read(path)
    (tmp_path / "other").write_bytes(small)
    (tmp_path / "other").rename(path)
    assert gguf_info.read(path).tensors
    times = path.stat()
    with path.open("r+b") as file:  # same size, and the old times put back
        file.write(b"nope")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(NotGguf):
        gguf_info.read(path)


def test_few_headers_are_kept(small: bytes, tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(small)
        gguf_info.read(path)
    assert len(header_module._headers) <= 16
