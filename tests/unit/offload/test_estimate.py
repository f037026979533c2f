"""What a model takes where. The expected figures follow llama.cpp's own rules, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload.cache import cache
from kylin_gguf.offload.estimate import Estimator, Layout, Run
from kylin_gguf.offload.weights import weights

from .headers import Tensor, dense, header, mixture

RUN = Run(context_length=1000, batch_size=512, sequences=8)


def estimator(info: GgufInfo, processor: str = "") -> Estimator:
    return Estimator(info, RUN, processor)


def test_keys_and_values_of_every_layer_are_counted_for_whole_blocks_of_cells() -> None:
    found = cache(dense(3), 1000, "f16", 72)
    assert found.layers == (1024 * (32 + 32) * 2,) * 3
    assert cache(dense(3), 1024, "q8_0", 72).layers == (1024 * 64 * 34 // 32,) * 3


def test_one_tensor_of_queries_keys_and_values_goes_by_the_stated_heads() -> None:
    fused: list[Tensor] = [("blk.0.attn_qkv.weight", (64, 128), "F16", 1)]
    info = header("phi3", fused, 1, attention__head_count_kv=2)
    assert cache(info, 256, "f16", 72).layers == (256 * 2 * (16 + 16) * 2,)


def test_latent_attention_keeps_one_vector_a_token() -> None:
    tensors: list[Tensor] = [("blk.0.attn_kv_a_mqa.weight", (64, 40), "F16", 1)]
    lengths = {"attention__key_length": 40, "attention__value_length": 32, "attention__key_length_mla": 24}
    info = header("deepseek2", tensors, 1, **lengths)
    assert cache(info, 256, "f16", 72).layers == (256 * 40 * 2,)


def test_layers_that_share_the_cache_of_others_have_none() -> None:
    info = replace(dense(4), architecture="gemma4", metadata={"gemma4.attention.shared_kv_layers": 3})
    assert cache(info, 256, "f16", 72).layers == (256 * 64 * 2, 0, 0, 0)


def test_a_recurrent_layer_keeps_a_state_for_every_sequence_and_nothing_a_token() -> None:
    tensors: list[Tensor] = [
        ("blk.0.ssm_conv1d.weight", (4, 96), "F32", 1),
        ("blk.0.attn_qkv.weight", (64, 96), "F16", 1),
        ("blk.1.attn_k.weight", (64, 32), "F16", 1),
        ("blk.1.attn_v.weight", (64, 32), "F16", 1),
    ]
    sizes = {"ssm__conv_kernel": 4, "ssm__inner_size": 32, "ssm__state_size": 16, "ssm__group_count": 2}
    state = 3 * (32 + 2 * 2 * 16) + 16 * 32
    assert cache(header("qwen35", tensors, 2, **sizes), 256, "f16", 72).layers == (
        state * 4 * 72,
        256 * 64 * 2,
    )


def test_an_encoder_has_no_cache() -> None:
    info = replace(dense(), architecture="bert", metadata={"bert.pooling_type": 1})
    assert cache(info, 512, "f16", 64).layers == (0, 0)


def test_on_the_cpu_each_weight_counts_once_and_copies_are_told_apart() -> None:
    found = estimator(dense(2), "cpu-haswell").memory(Layout())
    assert found.ram.weights == 500 + 2 * 1000 + 10 + 700
    assert found.repacked == 2 * 1000, "Q6_K is not repacked on x86, and embeddings never are"
    assert estimator(dense(2), "cpu-haswell").memory(Layout(repack=False)).repacked == 0
    assert estimator(dense(2), "cpu-x64").memory(Layout()).repacked == 0


@pytest.mark.parametrize(("rows", "repacked"), [(256, True), (252, False)])
def test_rows_that_do_not_interleave_are_not_repacked(rows: int, repacked: bool) -> None:
    tensors: list[Tensor] = [("blk.0.ffn_up.weight", (64, rows), "Q4_0", 100)]
    assert bool(weights(header("llama", tensors, 1), "cpu-zen4").dense[0].repacked) is repacked


def test_embeddings_that_are_also_the_output_count_once_in_ram_and_again_on_a_device() -> None:
    tied = estimator(dense(2, tied=True))
    assert tied.memory(Layout()).ram.weights == 500 + 2 * 1000 + 10
    whole = tied.memory(Layout((3,)))
    assert (whole.ram.weights, whole.devices[0].weights) == (500, 2 * 1000 + 10 + 500)


def test_layers_go_from_the_last_and_the_output_first() -> None:
    for count, there in ((1, 710), (2, 1710), (3, 2710)):
        found = estimator(dense(2)).memory(Layout((count,)))
        assert found.devices[0].weights == there
        assert found.ram.weights == 500 + 2 * 1000 + 710 - there
        assert found.devices[0].cache == (count - 1) * 1024 * 64 * 2


def test_several_devices_that_run_all_layers_have_four_copies_of_what_they_are_given() -> None:
    """Of two devices of RPC workers with half of SmolLM2 each, 4,096 and 8,192 cells: 38.8 and 57.7 MB, so 9
    bytes a cell and token, which is four times what one device has."""
    info = dense(4)
    growth = {}
    for layers in ((5,), (2, 3), (2, 2)):
        short, long = (
            Estimator(info, Run(context, 512, 8)).memory(Layout(layers)) for context in (4096, 8192)
        )
        after, before = long.devices[-1].compute, short.devices[-1].compute
        growth[layers] = (after - before) / (512 * 4096)
    assert growth == {(5,): pytest.approx(2.25), (2, 3): pytest.approx(9), (2, 2): pytest.approx(2.25)}
    one, two = (Estimator(info, RUN).memory(Layout(layers)).ram.compute for layers in ((5,), (2, 3)))
    assert two - one == pytest.approx(3 * 2.25 * 512 * 1024)


def test_two_devices_get_one_stretch_each() -> None:
    first, second = estimator(dense(4)).memory(Layout((2, 2))).devices
    assert (first.weights, second.weights) == (2000, 1710)


def test_experts_can_stay_in_ram_while_their_layer_is_elsewhere() -> None:
    found = estimator(mixture(3)).memory(Layout((4,), ram_experts=2))
    assert found.devices[0].weights == 3 * 100 + 900 + 700
    assert found.ram.weights == 500 + 2 * 900
    assert found.ram.cache == 0


def test_beside_an_accelerator_nothing_is_repacked() -> None:
    assert estimator(dense(4), "cpu-zen4").memory(Layout((1,))).repacked == 0


def test_a_longer_context_and_a_larger_batch_need_more_room_to_compute() -> None:
    def whole(run: Run) -> int:
        return Estimator(dense(2), run).compute.whole

    assert whole(RUN) < whole(replace(RUN, context_length=8000))
    assert whole(replace(RUN, batch_size=128)) < whole(RUN)
