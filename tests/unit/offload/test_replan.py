"""When a loaded model is placed anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.offload.machine import GPU_MARGIN, Machine
from kylin_gguf.offload.plan import Request, plan
from kylin_gguf.offload.replan import EVERY_S, GAIN, IDLE_S, LOOKS, SHORT, TAKEN, Watch, without, worthwhile
from kylin_gguf.records import Device, Placement, Share

from .headers import dense

MIB, GIB = 1 << 20, 1 << 30
AMPLE = {"CUDA0": GPU_MARGIN}
FULL = {"CUDA0": SHORT - 1}


def looks(watch: Watch, free: dict[str, int], count: int = LOOKS, now: float = 10.0) -> list[str | None]:
    return [watch.look(free, now + number, idle_s=5.0) for number in range(count)]


def test_a_shortage_has_to_last_for_two_looks() -> None:
    watch = Watch(0.0)
    assert looks(watch, AMPLE) == [None, None]
    assert looks(watch, FULL) == [None, "less"]
    watch = Watch(0.0)
    for _ in range(5):
        assert looks(watch, AMPLE, 1) == looks(watch, FULL, 1) == [None]


def test_a_gpu_that_was_full_from_the_start_has_not_changed() -> None:
    """Where the settings put more on it than a plan would."""
    watch = Watch(0.0)
    assert looks(watch, FULL, 20) == [None] * 20
    assert looks(watch, {"CUDA0": SHORT - 1 - TAKEN}) == [None, "less"]


def test_one_of_two_gpus_is_enough() -> None:
    watch = Watch(0.0)
    looks(watch, AMPLE | {"CUDA1": GIB})
    assert looks(watch, AMPLE | {"CUDA1": 0}) == [None, "less"]


def test_a_shortage_that_stays_is_looked_into_every_ten_minutes() -> None:
    watch = Watch(0.0)
    looks(watch, AMPLE)
    found = [watch.look(FULL, 100.0 + 5 * number, 5.0) for number in range(2 * int(EVERY_S) // 5)]
    assert found.count("less") == 2


def test_more_is_sought_when_idle_and_not_before_ten_minutes() -> None:
    watch = Watch(0.0)
    assert watch.look(AMPLE, EVERY_S - 1, IDLE_S) is None
    assert watch.look(AMPLE, EVERY_S, IDLE_S - 1) is None
    assert watch.look(AMPLE, EVERY_S, IDLE_S) == "more"
    assert watch.look(AMPLE, EVERY_S + 5, IDLE_S + 5) is None
    assert watch.look(AMPLE, 2 * EVERY_S, IDLE_S) == "more"


def test_a_model_on_the_processor_may_find_room_on_a_gpu_too() -> None:
    assert Watch(0.0).look({}, EVERY_S, IDLE_S) == "more"


@given(
    readings=st.lists(
        st.tuples(st.integers(0, 2 * GIB), st.floats(0, 60), st.floats(0, 300)), min_size=1, max_size=200
    )
)
def test_a_model_is_never_moved_for_the_same_reason_twice_within_ten_minutes(
    readings: list[tuple[int, float, float]],
) -> None:
    watch, now = Watch(0.0), 0.0
    last: dict[str, float] = {"more": 0.0}
    for free, passed, idle in readings:
        now += passed
        reason = watch.look({"CUDA0": free}, now, idle)
        if reason:
            assert now - last.get(reason, float("-inf")) >= EVERY_S
            assert reason != "more" or (idle >= IDLE_S and free >= 0)
            assert reason != "less" or free < SHORT
            last[reason] = now


CARD = Device("CUDA0", "card", "gpu", 8 * GIB, 8 * GIB)
MACHINE = Machine(4, 32 * GIB, (CARD,))
MODEL = dense(24, layer_bytes=5 * GIB // 24)


def loaded(machine: Machine, placement: Placement) -> tuple[Machine, dict[str, dict[str, int]]]:
    """Return the machine with ``placement`` on it, and what that takes of its devices."""
    taken = {share.device: share.memory for share in placement.shares}
    devices = tuple(replace(d, memory_free=d.memory_free - taken.get(d.name, 0)) for d in machine.devices)
    buffers = {name: {"model": memory // 2, "kv": memory - memory // 2} for name, memory in taken.items()}
    return replace(machine, memory=machine.memory - placement.memory, devices=devices), buffers


def again(machine: Machine, present: Placement, others: int = 0, request: Request | None = None) -> Placement:
    """Return the plan for a loaded model when other programs have taken ``others`` bytes of the card."""
    now, buffers = loaded(machine, present)
    now = replace(
        now, devices=tuple(replace(d, memory_free=max(d.memory_free - others, 0)) for d in now.devices)
    )
    return plan(MODEL, without(now, buffers, present.memory), request or Request(4096))


def test_nothing_has_changed_for_a_machine_without_the_model() -> None:
    present = plan(MODEL, MACHINE, Request(4096))
    assert present.shares
    assert again(MACHINE, present) == present
    for reason in ("less", "more"):
        assert not worthwhile(reason, present, again(MACHINE, present), named=False)


def test_a_game_that_takes_the_card_leaves_it_less_and_gives_it_back() -> None:
    present = plan(MODEL, MACHINE, Request(4096))
    beside = again(MACHINE, present, others=5 * GIB)
    assert beside.gpu_layers < present.gpu_layers
    assert worthwhile("less", present, beside, named=False)
    after = again(replace(MACHINE, devices=(CARD,)), beside)
    assert after.gpu_layers == present.gpu_layers
    assert worthwhile("more", beside, after, named=False)


def test_a_little_faster_is_not_worth_a_reload() -> None:
    present = Placement(10, 4096, 4, layers=24, shares=(Share("CUDA0", 10, GIB),), decode=20.0)
    for decode, expected in ((20.0 * GAIN, True), (20.0 * GAIN - 0.1, False)):
        assert worthwhile("more", present, replace(present, decode=decode), named=False) is expected


@pytest.mark.parametrize(
    ("layers", "expected"), [(10, False), (12, False), (13, True), (25, True), (5, False)]
)
def test_on_a_gpu_that_is_named_more_layers_are_the_gain(layers: int, expected: bool) -> None:
    present = Placement(10, 4096, 4, layers=24, shares=(Share("Vulkan0", 10, GIB),), decode=20.0)
    wanted = replace(present, gpu_layers=layers, decode=1.0)
    assert worthwhile("more", present, wanted, named=True) is expected


def test_the_last_layer_is_worth_it_too() -> None:
    present = Placement(24, 4096, 4, layers=24, shares=(Share("Vulkan0", 24, GIB),))
    assert worthwhile("more", present, replace(present, gpu_layers=25), named=True)


def test_memory_of_rpc_workers_is_not_given_back_twice() -> None:
    """They lend to one at a time, and are not there while they do."""
    lent = Device("RPC0[10.0.0.2:50052]", "lent", "remote", GIB, GIB)
    found = without(Machine(1, GIB, (lent, CARD)), {lent.name: {"model": 5}, "CUDA0": {"kv": 7}}, 11)
    assert [device.memory_free for device in found.devices] == [GIB, 8 * GIB + 7]
    assert found.memory == GIB + 11
