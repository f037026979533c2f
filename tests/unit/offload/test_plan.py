"""The planner: properties over random machines and models, and what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kylin_gguf import config
from kylin_gguf.errors import DeviceMissing, InvalidValue
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.estimate import Estimator, Layout, Run
from kylin_gguf.offload.machine import GPU_MARGIN, Machine
from kylin_gguf.offload.plan import RAM_SHARE, Request, for_use, plan
from kylin_gguf.offload.search import Room, Search
from kylin_gguf.offload.speed import WORKLOADS, of_processor
from kylin_gguf.records import Device, Placement

from .headers import dense
from .random_pairs import machines, models, requests

GIB = 1 << 30
MODEL = dense(24, layer_bytes=GIB // 24)
CARD = Device("CUDA0", "card", "gpu", 24 * GIB, 24 * GIB)
AMPLE = Machine(2, 64 * GIB, ())


def seconds(placement: Placement, request: Request) -> float:
    work = WORKLOADS[request.use]
    return work.prompt / max(placement.prompt, 1e-3) + work.answer / max(placement.decode, 1e-3)


@given(models, machines, requests)
def test_never_over_the_budget_of_any_device_and_deterministic(
    model: GgufInfo, machine: Machine, request: Request
) -> None:
    placement = plan(model, machine, request)
    assert placement == plan(model, machine, request)
    free = {device.name: device.memory_free for device in machine.accelerators}
    assert all(share.memory <= free[share.device] - GPU_MARGIN for share in placement.shares)
    if placement.fits:
        shared = {device.name for device in machine.accelerators if device.kind == "igpu"}
        in_ram = sum(share.memory for share in placement.shares if share.device in shared)
        assert placement.memory + in_ram <= RAM_SHARE * machine.memory
    assert placement.gpu_layers == sum(share.layers for share in placement.shares) <= model.layers + 1
    assert placement.context_length <= request.context_length
    assert placement.reasons


@given(models, machines, requests, st.integers(0, 64 * GIB), st.integers(0, 64 * GIB))
def test_more_memory_never_gives_a_slower_plan(
    model: GgufInfo, machine: Machine, request: Request, on_cards: int, in_ram: int
) -> None:
    grown = replace(
        machine,
        memory=machine.memory + in_ram,
        devices=tuple(replace(d, memory_free=d.memory_free + on_cards) for d in machine.devices),
    )
    before, after = plan(model, machine, request), plan(model, grown, request)
    assert after.fits >= before.fits
    if before.fits:  # else how fast a disk is decides
        assert seconds(after, request) <= seconds(before, request) * 1.001 + 0.01  # speeds are rounded


@settings(max_examples=30)
@given(models, st.integers(1, 3), st.integers(0, 100), st.data())
def test_what_is_searched_at_once_is_what_the_estimate_says(
    model: GgufInfo, count: int, tight: int, data: st.DataObject
) -> None:
    """A way that is found fits by the estimate; one byte less on its first device, and it is another way."""
    estimator = Estimator(model, Run(4096, 512, 8))
    search = Search(model, estimator, of_processor(4), WORKLOADS["chat"], 512)
    device = replace(CARD, memory_free=0)
    for way in search.with_devices(Room(1 << 60, ((device, data.draw(st.integers(0, 64 * GIB))),))):
        needed = estimator.memory(way.layout).devices[0].total
        (exact,) = search.with_devices(Room(1 << 60, ((device, needed),)))
        assert estimator.memory(exact.layout).devices[0].total <= needed
        for less in search.with_devices(Room(1 << 60, ((device, needed - 1),))):
            assert less.layout != exact.layout


def test_what_the_user_fixed_is_kept() -> None:
    placement = plan(MODEL, replace(AMPLE, devices=(CARD,)), Request(4096, threads=3, gpu_layers=5))
    assert (placement.threads, placement.gpu_layers) == (3, 5)


def test_a_gpu_in_the_processor_takes_no_more_than_ram_has_even_where_nothing_fits() -> None:
    shared = replace(CARD, kind="igpu")
    for memory in (GIB // 2, GIB, 2 * GIB):
        machine = Machine(4, memory, (shared,))
        placement = plan(MODEL, machine, Request(16_384))
        taken = placement.memory + sum(share.memory for share in placement.shares)
        assert placement.fits == (taken <= RAM_SHARE * memory)
        assert placement.fits or not placement.shares


def test_layers_that_were_asked_for_and_do_not_fit_are_placed_and_said() -> None:
    tiny = replace(CARD, memory_free=GIB)
    placement = plan(MODEL, replace(AMPLE, devices=(tiny,)), Request(4096, gpu_layers=25))
    assert placement.gpu_layers == 25
    assert any("as the settings want it" in reason for reason in placement.reasons)


def test_a_model_that_fits_goes_to_the_card_whole() -> None:
    placement = plan(MODEL, replace(AMPLE, devices=(CARD,)), Request(4096))
    assert placement.gpu_layers == 25 and not placement.is_partial
    assert placement.shares[0].device == "CUDA0"


def test_the_faster_of_two_cards_is_used_where_one_is_enough() -> None:
    slow, fast = (replace(CARD, name=name, bandwidth=speed) for name, speed in (("A", 1e11), ("B", 9e11)))
    placement = plan(MODEL, replace(AMPLE, devices=(slow, fast)), Request(4096))
    assert [share.device for share in placement.shares] == ["B"]


def test_two_cards_share_what_one_cannot_hold() -> None:
    cards = tuple(replace(CARD, name=name, memory_free=GIB * 5 // 4) for name in ("A", "B"))
    placement = plan(MODEL, replace(AMPLE, devices=cards), Request(512))
    assert len(placement.shares) == 2 and placement.gpu_layers == 25


def test_software_that_pretends_to_be_a_gpu_is_used_only_when_asked_for() -> None:
    pretended = replace(CARD, name="Vulkan0", description="llvmpipe (LLVM 15.0.6, 256 bits)")
    machine = replace(AMPLE, devices=(pretended,))
    assert plan(MODEL, machine, Request(4096)).shares == ()
    assert plan(MODEL, machine, Request(4096, gpu_layers=3)).gpu_layers == 3
    assert plan(MODEL, machine, Request(4096, device="Vulkan0")).gpu_layers == 25


def test_a_device_can_be_chosen_and_an_unknown_one_is_an_error() -> None:
    machine = replace(AMPLE, devices=(CARD,))
    assert plan(MODEL, machine, Request(4096, device="cpu")).shares == ()
    with pytest.raises(DeviceMissing) as caught:
        plan(MODEL, machine, Request(4096, device="CUDA1"))
    assert caught.value.known == ("cpu", "CUDA0")


def test_of_devices_that_are_named_as_much_is_used_as_has_room_the_faster_one_first() -> None:
    slow, fast, other = (
        replace(CARD, name=name, bandwidth=speed, memory_free=GIB // 2 + GPU_MARGIN)
        for name, speed in (("A", 1e10), ("B", 9e11), ("C", 9e12))
    )
    machine = replace(AMPLE, devices=(slow, fast, other))
    tight = plan(MODEL, machine, Request(512, device="A, B"))
    assert {share.device for share in tight.shares} == {"A", "B"}
    assert tight.gpu_layers > plan(MODEL, machine, Request(512, device="B")).gpu_layers
    roomy = tuple(replace(card, memory_free=8 * GIB) for card in machine.devices)
    whole = plan(MODEL, replace(machine, devices=roomy), Request(512, device="A,B"))
    assert [(share.device, share.layers) for share in whole.shares] == [("B", 25)]


def test_a_name_of_several_that_is_unknown_is_an_error_and_cpu_is_none_of_them() -> None:
    machine = replace(AMPLE, devices=(CARD,))
    for wrong in ("CUDA1", "cpu"):
        with pytest.raises(DeviceMissing) as caught:
            plan(MODEL, machine, Request(4096, device=f"CUDA0,{wrong}"))
        assert (caught.value.name, caught.value.known) == (wrong, ("CUDA0",))


def test_no_more_of_a_card_is_used_than_the_settings_allow() -> None:
    machine = replace(AMPLE, devices=(CARD,))
    (share,) = plan(MODEL, machine, Request(4096, gpu_memory=GIB // 2)).shares
    assert 0 < share.layers < 25 and share.memory <= GIB // 2


def test_why_a_gpu_is_not_used_is_said() -> None:
    def reason(machine: Machine, request: Request) -> str:
        placement = plan(MODEL, machine, request)
        assert not placement.shares
        return placement.reasons[0]

    crowded = replace(AMPLE, devices=(replace(CARD, memory_free=GPU_MARGIN + 1),))
    slow = replace(AMPLE, devices=(replace(CARD, bandwidth=1e9, compute=1e9),))
    reasons = [
        reason(crowded, Request(4096)),
        reason(slow, Request(4096)),
        reason(slow, Request(4096, gpu_layers=0)),
        reason(AMPLE, Request(4096)),
    ]
    assert len(set(reasons)) == 4


def test_a_context_longer_than_the_model_knows_is_shortened_and_said() -> None:
    placement = plan(replace(MODEL, context_length=8192), AMPLE, Request(100_000))
    assert placement.context_length == 8192
    assert any("8192" in reason for reason in placement.reasons)


def test_the_context_shrinks_only_when_that_is_allowed() -> None:
    needed = Estimator(MODEL, Run(16_384, 512, 4)).memory(Layout(repack=False)).ram.total
    scarce = Machine(2, int(needed / RAM_SHARE) + 1, ())
    kept = plan(MODEL, scarce, Request(65_536))
    assert kept.context_length == 65_536 and not kept.fits
    shrunk = plan(MODEL, scarce, Request(65_536, shrink=True))
    assert shrunk.context_length == 16_384 and any("no memory" in reason for reason in shrunk.reasons)


def test_the_settings_allow_it_and_say_what_a_model_is_for() -> None:
    wanted = Request.of(config.load({"context_fit": "shrink", "use": "document"}, {}))
    assert wanted.shrink and wanted.use == "document"
    plain = Request.of(config.load({}, {}))
    assert not plain.shrink and plain.use == "chat"
    assert for_use(plain, "command").use == "command"
    with pytest.raises(InvalidValue, match="chat or command or document"):
        for_use(plain, "novel")


def test_what_a_model_is_for_decides_where_it_goes() -> None:
    """A card that reads about as fast as the processor, and computes far faster, is for long prompts."""
    card = replace(CARD, bandwidth=70e9, compute=40e12, layer=300e-6)
    machine = Machine(8, 64 * GIB, (card,), bandwidth=60e9, compute=0.6e12, layer=15e-6)
    few, many = (plan(MODEL, machine, Request(8192, use=use)).gpu_layers for use in ("chat", "document"))
    assert few < many


ENCODER = replace(
    MODEL,
    architecture="bert",
    context_length=512,
    metadata={"bert.pooling_type": 1, "bert.attention.causal": False},
)
DECODER = replace(MODEL, metadata={"llama.pooling_type": 3}, context_length=8192)


def test_an_encoder_takes_whole_texts() -> None:
    placement = plan(ENCODER, AMPLE, Request(4096))
    assert placement.batch_size == placement.context_length == 512
    assert plan(DECODER, AMPLE, Request(4096)).batch_size == Placement.batch_size


@given(st.sampled_from([1, 2]), st.booleans())
def test_a_pooling_over_all_tokens_needs_them_in_one_batch(pooling: int, causal: bool) -> None:
    info = replace(DECODER, metadata={"llama.pooling_type": pooling, "llama.attention.causal": causal})
    assert plan(info, AMPLE, Request(4096)).batch_size == 4096
    both_ways = replace(info, metadata={"llama.pooling_type": 3, "llama.attention.causal": False})
    assert plan(both_ways, AMPLE, Request(4096)).batch_size == 4096


def test_how_to_load_can_be_chosen_and_is_chosen_by_memory() -> None:
    ample, scarce = replace(AMPLE, processor="cpu-haswell"), Machine(2, GIB // 2, ())
    assert plan(MODEL, ample, Request(4096)).mode == "throughput"
    assert plan(MODEL, scarce, Request(4096)).mode == "instant"
    assert plan(MODEL, ample, Request(4096, mode="instant")).mode == "instant"
    assert plan(MODEL, scarce, Request(4096, mode="throughput")).mode == "throughput"


def test_a_device_of_another_machine_is_used_where_its_link_is_worth_it() -> None:
    """A fast card far away beats the processor; behind a slow network it does not."""
    lent = Device("RPC0[10.0.0.2:50052]", "lent", "remote", 8 * GIB, 8 * GIB, 400e9, 5e12, 110e6, 0.0005)
    near = plan(MODEL, replace(AMPLE, devices=(lent,)), Request(4096))
    assert [(share.device, share.layers) for share in near.shares] == [(lent.name, MODEL.layers + 1)]
    far = plan(MODEL, replace(AMPLE, devices=(replace(lent, delay=0.5),)), Request(4096))
    assert not far.shares


def test_what_is_lent_is_used_whole_because_the_lender_keeps_its_margin() -> None:
    lent = Device("RPC0[10.0.0.2:50052]", "lent", "remote", 8 * GIB, 2 * GIB)
    tight = plan(MODEL, replace(AMPLE, devices=(lent,)), Request(4096, device=lent.name))
    assert 2 * GIB - GPU_MARGIN < tight.shares[0].memory <= 2 * GIB or tight.gpu_layers == MODEL.layers + 1
