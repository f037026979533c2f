"""Prefixes on disk: what is kept, found, bounded, and never believed when damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kylin_gguf.engine.prefix_store import PrefixStore, fingerprint
from kylin_gguf.errors import FileMissing

STATE = np.arange(1000, dtype=np.uint8)
TOKENS = [1, 2, 3, 4]


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    PrefixStore(tmp_path, "key", 10_000).write(TOKENS, STATE)
    store = PrefixStore(tmp_path, "key", 10_000)
    assert store.has(TOKENS) and not store.has(TOKENS[:-1])
    path, shared = store.match([1, 2, 3, 9], whole=False)
    assert path and shared == 3 and store.tokens(path) == TOKENS
    read = store.read(path)
    assert read is not None and (read == STATE).all()
    assert store.match([1, 2, 3, 9], whole=True) == (None, 0)
    assert store.match([*TOKENS, 9], whole=True) == (path, 4)


def test_other_keys_do_not_see_it(tmp_path: Path) -> None:
    PrefixStore(tmp_path, "key", 10_000).write(TOKENS, STATE)
    assert PrefixStore(tmp_path, "other", 10_000).match(TOKENS, whole=False) == (None, 0)


def test_the_longest_unused_go_first_when_room_runs_out(tmp_path: Path) -> None:
    other = PrefixStore(tmp_path, "another model", 3500)
    other.write([0], STATE)
    store = PrefixStore(tmp_path, "key", 3500)
    for index in (1, 2):
        store.write([index], STATE)
    for age, path in enumerate([*tmp_path.glob("another*/*"), *sorted(tmp_path.glob("key/*"))]):
        os.utime(path, ns=(age, age))
    path, _ = store.match([1], whole=False)
    assert path and store.read(path) is not None, "which makes it the last used"
    store.write([3], STATE)
    assert [store.has([index]) for index in (1, 2, 3)] == [True, True, True]
    assert not (tmp_path / "another model").exists()
    store.write([4], STATE)
    assert not store.has([2]) and sum(f.stat().st_size for f in tmp_path.glob("*/*")) <= 3500


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_file_is_removed_and_never_returned(tmp_path: Path, data: st.DataObject) -> None:
    PrefixStore(tmp_path, "key", 1_000_000).write(TOKENS, STATE)
    (path,) = tmp_path.glob("key/*.prefix")
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "grow"]))
    flipped = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    path.write_bytes({"cut": good[:at], "grow": good + b"x", "flip": flipped}[kind])
    store = PrefixStore(tmp_path, "key", 1_000_000)
    found, _ = store.match(TOKENS, whole=False)
    if found is not None:
        assert store.read(found) is None
    assert not path.exists() or store.match(TOKENS, whole=False) == (None, 0)


def test_a_full_disk_costs_the_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    store = PrefixStore(tmp_path, "key", 10_000)
    monkeypatch.setattr(os, "fsync", refuse)
    store.write(TOKENS, STATE)
    assert not store.has(TOKENS) and list(tmp_path.glob("key/*")) == list(tmp_path.glob("key/.*")) == []


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / ".tmp123").write_bytes(b"half")
    PrefixStore(tmp_path, "key", 10_000)
    assert list((tmp_path / "key").iterdir()) == []


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(bytes(2_000_000))
    os.utime(model, ns=(1, 1))
    before = fingerprint(model)
    assert fingerprint(model) == before
    changed = bytearray(2_000_000)
    changed[1_000_000] = 1
    model.write_bytes(changed)
    os.utime(model, ns=(1, 1))
    assert fingerprint(model) != before


def test_a_model_file_that_is_gone_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"gone\.gguf"):
        fingerprint(tmp_path / "gone.gguf")
