"""A worker inherits what its libraries read, and no secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kylin_gguf.engine.environment import for_worker


def test_what_libraries_read_is_kept_and_the_rest_is_not() -> None:
    kept = {
        "HOME": "/home/ada",
        "LANG": "zh_CN.UTF-8",
        "LC_MESSAGES": "zh_CN.UTF-8",
        "LD_LIBRARY_PATH": "/opt/driver",
        "OMP_NUM_THREADS": "2",
        "GGML_VK_VISIBLE_DEVICES": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "VK_ICD_FILENAMES": "/etc/icd.json",
        "XDG_CACHE_HOME": "/home/ada/.cache",
        "KYLIN_GGUF_THREADS": "2",
    }
    left = {
        "HF_TOKEN": "secret",
        "https_proxy": "http://user:secret@proxy",
        "SSH_AUTH_SOCK": "/run/agent",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus",
        "LD_PRELOAD": "/tmp/x.so",
        "PYTHONSTARTUP": "/tmp/x.py",
    }
    own = {"KYLIN_GGUF_NATIVE_DIRS": "/lib/native", "GGML_NO_BACKTRACE": "1"}
    own["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    assert for_worker(kept | left, [Path("/lib/native")]) == kept | own


def test_paths_survive_the_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = for_worker({"PYTHONPATH": f"src{os.pathsep}{os.pathsep}/abs"}, [Path("a"), Path("/b")])
    assert found["PYTHONPATH"] == f"{tmp_path}/src{os.pathsep}/abs", "an empty entry is the current directory"
    assert found["KYLIN_GGUF_NATIVE_DIRS"] == f"{tmp_path}/a{os.pathsep}/b"


def test_who_wants_ggmls_backtrace_can_have_it() -> None:
    assert for_worker({"GGML_NO_BACKTRACE": ""}, [])["GGML_NO_BACKTRACE"] == ""
