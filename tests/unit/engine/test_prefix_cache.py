"""The prefix cache: what is shared, taken over, kept and evicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kylin_gguf.engine.context import State
from kylin_gguf.engine.parking import Parking
from kylin_gguf.engine.prefix_cache import LONG_PROMPT, WORTH_KEEPING, PrefixCache, Slot
from kylin_gguf.engine.prefix_store import PrefixStore

from .fakes import SEQUENCES, FakeContext


def fill(context: FakeContext, cache: PrefixCache, tokens: list[int]) -> tuple[Slot, int]:
    """Acquire a slot and compute ``tokens`` in it."""
    slot, cached = cache.acquire(tokens)
    rest = tokens[cached:]
    batch = context.new_batch()
    for at in range(0, len(rest), context.batch_size):
        batch.clear()
        batch.extend(rest[at : at + context.batch_size], cached + at, slot.sequence)
        assert context.decode(batch)
    slot.tokens = list(tokens)
    cache.computed(slot)
    assert context.holds(slot.sequence) == tokens
    return slot, cached


def test_a_busy_slots_prefix_is_shared_not_taken() -> None:
    context = FakeContext()
    cache = PrefixCache(context)  # type: ignore[arg-type]
    first, _ = fill(context, cache, [1, 2, 3, 4])
    second, cached = fill(context, cache, [1, 2, 3, 9])
    assert second is not first and cached == 3 and len(context.cells) == 5


def test_a_continuation_takes_the_slot_over_in_place() -> None:
    context = FakeContext()
    cache = PrefixCache(context)  # type: ignore[arg-type]
    first, _ = fill(context, cache, [1, 2, 3])
    cache.release(first)
    second, cached = fill(context, cache, [1, 2, 3, 4, 5])
    assert second is first and cached == 3


def test_a_retry_keeps_the_first_ending() -> None:
    context = FakeContext()
    cache = PrefixCache(context)  # type: ignore[arg-type]
    first, _ = fill(context, cache, [1, 2, 3, 4])
    cache.release(first)
    second, cached = fill(context, cache, [1, 2, 3, 5])
    cache.release(second)
    assert cached == 3 and cache.known([1, 2, 3, 4, 0]) == 4


def test_memory_that_cannot_be_cut_goes_back_to_the_end_of_a_prompt() -> None:
    context = FakeContext(cuttable=False)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    slot, _ = fill(context, cache, [1, 2, 3])
    batch = context.new_batch()
    batch.extend([7, 8], 3, slot.sequence)  # an answer that the next turn tells otherwise
    assert context.decode(batch)
    slot.tokens += [7, 8]
    cache.release(slot)
    again, cached = fill(context, cache, [1, 2, 3, 9])
    assert cached == 3 and again is not slot
    _, cached = fill(context, cache, [1, 2, 4])
    assert cached == 0, "a part of a prompt is of no use"
    _, cached = fill(context, cache, [1, 2, 3, 7, 8, 6])
    assert cached == 5


def test_equal_sequences_are_kept_once() -> None:
    context = FakeContext()
    cache = PrefixCache(context)  # type: ignore[arg-type]
    slots = [fill(context, cache, [1, 2, 3])[0] for _ in range(3)]
    for slot in slots:
        cache.release(slot)
    assert len(context.cells) <= 3 + 2, "each computed the last token, whose logits it needed"
    cache.evict()
    assert context.cells == [] and not cache.evict()


def test_what_is_used_often_stays_longest() -> None:
    context = FakeContext(length=4096)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    popular, _ = fill(context, cache, [5] * 8)
    cache.release(popular)
    for index in range(4 * SEQUENCES):
        slot, cached = fill(context, cache, [5] * 8 + [100 + index])
        assert cached == 8
        cache.release(slot)
        other, _ = fill(context, cache, [1000 + index, 1])
        cache.release(other)


def test_only_cells_that_come_free_count_when_cells_are_wanted() -> None:
    context = FakeContext()
    cache = PrefixCache(context)  # type: ignore[arg-type]
    long, _ = fill(context, cache, [1, 2, 3, 4])
    short, _ = fill(context, cache, [1, 2, 3])
    cache.release(short)
    cache.release(long)
    before = len(context.cells)
    assert cache.evict(cells=True) and len(context.cells) < before


def store(root: Path) -> PrefixStore:
    return PrefixStore(root, "key", 1_000_000)


def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    tokens = list(range(WORTH_KEEPING + 8))
    context = FakeContext(length=256)
    cache = PrefixCache(context, store(tmp_path))  # type: ignore[arg-type]
    for entry in (tokens, tokens[:-4]):  # the shorter is part of the longer
        cache.release(fill(context, cache, entry)[0])
    cache.save()
    assert len(list(tmp_path.glob("*/*"))) == 1

    fresh = FakeContext(length=256)
    again = PrefixCache(fresh, store(tmp_path))  # type: ignore[arg-type]
    slot, cached = again.acquire([*tokens[:-2], 500, 501])
    assert cached == len(tokens) - 2 and fresh.holds(slot.sequence) == tokens[:-2]


def test_memory_is_preferred_to_disk_and_little_is_not_read(tmp_path: Path) -> None:
    tokens = list(range(WORTH_KEEPING + 8))
    context = FakeContext(length=256)
    cache = PrefixCache(context, store(tmp_path))  # type: ignore[arg-type]
    cache.release(fill(context, cache, tokens)[0])
    cache.save()
    fresh = FakeContext(length=256)
    again = PrefixCache(fresh, store(tmp_path))  # type: ignore[arg-type]
    _, cached = again.acquire([*tokens[:4], 500])
    assert cached == 0 and fresh.cells == []


def test_a_state_that_does_not_fit_makes_room_or_is_left(tmp_path: Path) -> None:
    tokens = list(range(60))
    context = FakeContext(length=256)
    cache = PrefixCache(context, store(tmp_path))  # type: ignore[arg-type]
    cache.release(fill(context, cache, tokens)[0])
    cache.save()
    small = FakeContext(length=64)
    again = PrefixCache(small, store(tmp_path))  # type: ignore[arg-type]
    again.release(fill(small, again, [7] * 10)[0])
    slot, cached = again.acquire([*tokens, 1])
    assert cached == 60, "an idle prefix gave way"
    again.release(slot)
    tiny = FakeContext(length=32)
    none, cached = PrefixCache(tiny, store(tmp_path)).acquire([*tokens, 1])  # type: ignore[arg-type]
    assert cached == 0 and none.tokens == [] and tiny.cells == []


def test_what_was_used_before_is_parked_and_put_back() -> None:
    context = FakeContext(length=400)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    conversations = [[base + k for k in range(60)] for base in (100, 200, 300)]
    for tokens in conversations:
        slot, cached = fill(context, cache, tokens)
        cache.release(slot)
        assert cached == 0
    assert len(context.cells) == 120, "who goes on at once need not wait for a copy of another"
    assert cache.cluttered
    cache.tidy()
    assert len(context.cells) == 60, "one waits in the KV cache: the last"
    assert not cache.cluttered
    for tokens in conversations:
        _, cached = fill(context, cache, [*tokens, 1, 2])
        assert cached == 60


def test_a_conversation_is_not_lost_to_another_that_begins_like_it() -> None:
    context = FakeContext(length=400)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    first, other = [*range(40), *range(100, 160)], list(range(300, 380))
    for tokens in (first, other):
        cache.release(fill(context, cache, tokens)[0])
    cache.tidy()
    slot, cached = fill(context, cache, [*range(40), 7, 8])
    assert cached == 40
    cache.release(slot)
    _, cached = fill(context, cache, [*first, 9])
    assert cached == 100


def test_short_prefixes_stay_while_they_are_few() -> None:
    context = FakeContext(length=400)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    for base in (100, 200, 300):
        slot, _ = fill(context, cache, [base + k for k in range(20)])
        cache.release(slot)
    assert len(context.cells) == 60 and not cache.cluttered


def test_what_waits_makes_way_for_a_long_prompt() -> None:
    context = FakeContext(length=1600)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    first = list(range(1000, 1100))
    cache.release(fill(context, cache, first)[0])
    cache.release(fill(context, cache, list(range(2000, 2000 + LONG_PROMPT - 1)))[0])
    assert len(context.cells) == 100 + LONG_PROMPT - 1, "a short one is computed beside it"
    fill(context, cache, list(range(3000, 3000 + LONG_PROMPT)))
    assert len(context.cells) == LONG_PROMPT
    assert fill(context, cache, [*first, 7])[1] == 100


def test_nothing_makes_way_while_somebody_streams() -> None:
    context = FakeContext(length=1600)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    fill(context, cache, list(range(1000, 1100)))  # busy
    cache.release(fill(context, cache, list(range(2000, 2100)))[0])
    fill(context, cache, list(range(3000, 3000 + LONG_PROMPT)))
    assert len(context.cells) == 200 + LONG_PROMPT


def test_nothing_that_cannot_be_parked_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    context = FakeContext(length=1600)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    monkeypatch.setattr(cache, "_parking", Parking(room=100))
    cache.release(fill(context, cache, list(range(1000, 1100)))[0])
    fill(context, cache, list(range(3000, 3000 + LONG_PROMPT)))
    assert len(context.cells) == 100 + LONG_PROMPT


def test_what_is_evicted_is_parked() -> None:
    context = FakeContext(length=90)
    cache = PrefixCache(context)  # type: ignore[arg-type]
    first = list(range(100, 150))
    slot, _ = fill(context, cache, first)
    cache.release(slot)
    assert cache.evict(cells=True) and not context.cells
    _, cached = fill(context, cache, [*first, 7])
    assert cached == 50


def test_parked_prefixes_are_kept_on_disk_at_the_end(tmp_path: Path) -> None:
    context = FakeContext(length=400)
    cache = PrefixCache(context, PrefixStore(tmp_path, "key", 1 << 20))  # type: ignore[arg-type]
    for base in (100, 200):
        slot, _ = fill(context, cache, [base + k for k in range(60)])
        cache.release(slot)
    cache.save()
    assert len(list(tmp_path.glob("key/*.prefix"))) == 2


def test_parking_has_room_for_so_many_bytes() -> None:
    parking = Parking(room=100)

    def state(size: int) -> State:
        return np.zeros(size, np.uint8)

    parking.put([1, 2, 3], state(40))
    parking.put([4, 5], state(40))
    parking.put([1, 2, 3, 4], state(50))
    assert [tokens for tokens, _ in parking] == [(4, 5), (1, 2, 3, 4)], "a beginning is in what it begins"
    parking.put([6], state(101))
    parking.put([7], state(60))
    assert [tokens for tokens, _ in parking] == [(7,)]
    assert parking.match([1, 2], whole=False) == (None, 0)
    assert parking.match([7, 8], whole=True) == ((7,), 1)
    assert parking.take((7,)).size == 60 and not list(parking)
