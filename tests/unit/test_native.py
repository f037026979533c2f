"""Finding llama.cpp, and its log. Loading it is tests/e2e/test_native_tools.py's."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from kylin_gguf import config, native
from kylin_gguf.errors import LibrariesMissing
from kylin_gguf.library_log import LogLines
from kylin_gguf.native import registration
from kylin_gguf.records import Settings


def settings(*directories: Path) -> Settings:
    return config.load({"native_dirs": directories}, {"HOME": "/nonexistent"})


def build_in(directory: Path) -> Path:
    directory.mkdir()
    (directory / "libllama.so").touch()
    return directory


def test_the_first_directory_with_libraries_is_used(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    first, second = build_in(tmp_path / "first"), build_in(tmp_path / "second")
    assert native.find(settings(tmp_path / "absent", empty, first, second)).directory == first


def test_a_missing_build_names_every_directory_searched(tmp_path: Path) -> None:
    searched = (tmp_path / "one", tmp_path / "two")
    with pytest.raises(LibrariesMissing) as caught:
        native.find(settings(*searched))
    assert caught.value.searched == tuple(map(str, searched))


def test_a_relative_directory_does_not_follow_later_changes_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_in(tmp_path / "libraries")
    monkeypatch.chdir(tmp_path)
    assert native.find(settings(Path("libraries"))).directory == tmp_path / "libraries"


def test_a_tool_is_an_executable_file(tmp_path: Path) -> None:
    libraries = native.NativeLibraries(tmp_path)
    tool = tmp_path / "llama-quantize"
    tool.touch(mode=0o755)
    assert libraries.tool("llama-quantize") == tool
    tool.chmod(0o644)
    with pytest.raises(LibrariesMissing, match="llama-quantize"):
        libraries.tool("llama-quantize")


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([(2, b"whole\n")], [(2, "whole")]),
        ([(3, b"two\nlines\n")], [(3, "two"), (3, "lines")]),
        ([(3, b"first half, "), (5, b"second half\n")], [(3, "first half, second half")]),
        ([(2, b"loading "), (5, b"."), (5, b"."), (5, b"\n")], [(2, "loading ..")]),
        ([(2, b"unfinished"), (4, b"error\n")], [(2, "unfinished"), (4, "error")]),
        ([(4, b"not \xff UTF-8\n")], [(4, "not � UTF-8")]),
        ([(2, b"still going")], []),
    ],
)
def test_log_pieces_become_lines(pieces: list[tuple[int, bytes]], lines: list[tuple[int, str]]) -> None:
    heard: list[tuple[int, str]] = []
    joiner = LogLines()
    joiner.sink = lambda level, line: heard.append((level, line))
    for level, piece in pieces:
        joiner(level, piece, None)
    assert heard == lines


class Feature(ctypes.Structure):
    """ggml_backend_feature of ggml-backend.h."""

    _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_char_p))


def test_features_end_at_the_one_without_a_name_and_show_values_other_than_one() -> None:
    listed = (Feature * 4)((b"RISCV_V", b"1"), (b"RVV_VLEN", b"256"), (None, None), (b"BEYOND", b"1"))
    told = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(
        lambda registered: ctypes.addressof(listed) if registered == 7 else None
    )
    functions = {b"ggml_backend_get_features": ctypes.cast(told, ctypes.c_void_p).value}
    library = SimpleNamespace(ggml_backend_reg_get_proc_address=lambda _, name: functions.get(name))
    assert tuple(registration.features(library, 7)) == ("RISCV_V", "RVV_VLEN=256")
    functions.clear()
    assert not tuple(registration.features(library, 7)), "Vulkan's back end has no such function"
