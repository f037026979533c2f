"""Which blocks can go, and what is left of a file when they are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from kylin_convert.pruning import LIMIT_OPTION, Cost, Pruning, architectures, rewrite, step
from kylin_convert.pruning.architectures import Stack
from kylin_convert.pruning.choice import candidates
from kylin_convert.pruning.influence import Influence
from kylin_convert.quality import Quality
from kylin_gguf import gguf_info
from kylin_gguf.errors import InvalidValue, UnsupportedModel
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import no_progress


def _model(path: Path, architecture: str = "llama", blocks: int = 4, **own: Any) -> GgufInfo:
    """Write a model whose block N holds values of N, and read its header."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_size_label("9B")
    writer.add_block_count(blocks)
    writer.add_array("tokenizer.ggml.tokens", ["a", "龙", "<end>"])
    for key, value in own.items():
        add = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            list: writer.add_array,
        }
        add[type(value)](f"{architecture}.{key.replace('__', '.')}", value)
    writer.add_tensor("token_embd.weight", np.full((3, 32), -1, np.float16))
    for block in range(blocks):
        writer.add_tensor(f"blk.{block}.attn_norm.weight", np.full(32, block, np.float32))
        rows = gguf.quants.quantize(np.full((2, 32), block, np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"blk.{block}.ffn_up.weight", rows, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf_info.read(path)


def _without(model: GgufInfo, *removed: int) -> GgufInfo:
    target = model.path.with_name(f"{model.path.stem}-less.gguf")
    rewrite.write(model, removed, target, no_progress)
    assert not list(target.parent.glob("*.part"))
    return gguf_info.read(target)


def _influence(*cosines: tuple[float, ...]) -> Influence:
    return Influence({"tokens": 1, "cosine": cosines})


def test_blocks_go_and_the_others_move_up(tmp_path: Path) -> None:
    model = _model(tmp_path / "model.gguf")
    pruned = _without(model, 0, 2)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(pruned.path).tensors}
    assert list(tensors) == [
        "token_embd.weight",
        *("blk.0.attn_norm.weight", "blk.0.ffn_up.weight", "blk.1.attn_norm.weight", "blk.1.ffn_up.weight"),
    ]
    for new, old in enumerate((1, 3)):
        assert set(tensors[f"blk.{new}.attn_norm.weight"].data) == {old}
        rows = tensors[f"blk.{new}.ffn_up.weight"]
        assert np.allclose(gguf.quants.dequantize(rows.data, rows.tensor_type), old, atol=0.01)
    assert pruned.layers == 2
    assert pruned.metadata["tokenizer.ggml.tokens"] == ("a", "龙", "<end>")
    assert pruned.size_label == "0.29K"
    assert rewrite.pruned_bytes(model, (0, 2)) == pruned.tensor_bytes


def test_what_is_said_of_each_block_goes_with_it(tmp_path: Path) -> None:
    own = {
        "attention__head_count": 8,
        "attention__head_count_kv": [1, 2, 3, 4],
        "feed_forward_length": [10, 20, 30, 40],
        "leading_dense_block_count": 2,
    }
    pruned = _without(_model(tmp_path / "model.gguf", "deepseek", **own), 1)
    assert pruned.own("attention.head_count") == 8
    assert pruned.own("attention.head_count_kv") == (1, 3, 4)
    assert pruned.own("feed_forward_length") == (10, 30, 40)
    assert pruned.own("leading_dense_block_count") == 1
    windows = [True, False, True, True]
    pruned = _without(_model(tmp_path / "b.gguf", "gemma3", attention__sliding_window_pattern=windows), 0)
    assert pruned.own("attention.sliding_window_pattern") == (False, True, True)


def test_a_scale_that_depends_on_the_count_stays_the_first_ones(tmp_path: Path) -> None:
    pruned = _without(_model(tmp_path / "a.gguf", "minicpm"), 1)
    assert pruned.own("residual_scale") == pytest.approx(1.4 / 2)
    pruned = _without(_model(tmp_path / "b.gguf", "minicpm", residual_scale=0.25), 1)
    assert pruned.own("residual_scale") == 0.25


def test_a_model_that_has_lost_blocks_already_is_counted_from_the_first(tmp_path: Path) -> None:
    once = _without(_model(tmp_path / "model.gguf"), 1)
    twice = _without(once, 1)
    assert once.metadata[rewrite.REMOVED] == (1,)
    assert twice.metadata[rewrite.REMOVED] == (1, 2)
    assert twice.metadata[rewrite.BLOCKS] == 4


def test_a_record_that_cannot_be_is_refused(tmp_path: Path) -> None:
    once = _without(_model(tmp_path / "model.gguf"), 1)
    content = once.path.read_bytes()
    key = b"llama.block_count"
    place = content.index(key) + len(key) + 4
    once.path.write_bytes(content[:place] + b"\x02" + content[place + 1 :])
    with pytest.raises(UnsupportedModel, match="contradicts its 2 blocks"):
        _without(gguf_info.read(once.path), 0)


def test_an_interrupted_rewrite_leaves_nothing(tmp_path: Path) -> None:
    model = _model(tmp_path / "model.gguf")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rewrite.write(model, (1,), tmp_path / "out.gguf", interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(
    ("architecture", "own", "why"),
    [
        ("bert", {}, "no probabilities"),
        ("qwen3", {"pooling_type": 3}, "no probabilities"),
        ("mamba", {}, "'mamba' stand alone is not known"),
        ("minicpm3", {}, "'minicpm3' stand alone is not known"),
        ("llama", {"nextn_predict_layers": 1}, "predict further tokens"),
        ("llama", {"rope__sections": [1, 2, 3, 4]}, "'llama.rope.sections' may hold a value for each block"),
    ],
)
def test_what_cannot_lose_blocks_says_why(
    tmp_path: Path, architecture: str, own: dict[str, Any], why: str
) -> None:
    with pytest.raises(UnsupportedModel, match=why):
        architectures.check(_model(tmp_path / "model.gguf", architecture, **own), 0)


@pytest.mark.parametrize(
    ("architecture", "blocks", "count", "starts"),
    [
        ("llama", 4, 3, [0, 1]),
        ("llama", 4, 4, []),
        ("smollm3", 12, 4, list(range(9))),
        ("smollm3", 12, 3, [9]),  # of the end, nothing moves up
        ("gemma3", 18, 6, list(range(13))),
        ("gemma3", 18, 1, [17]),
        ("gemma3", 14, 1, [12, 13]),  # both windowed: so is what moves up
        ("gemma3", 62, 6, []),
        ("gemma3", 68, 6, []),
        ("gemma2", 48, 2, []),
    ],
)
def test_every_block_that_stays_is_of_its_place_s_kind(
    tmp_path: Path, architecture: str, blocks: int, count: int, starts: list[int]
) -> None:
    model = _model(tmp_path / "model.gguf", architecture, blocks)
    assert Stack.of(model).runs(count) == starts
    if not starts:
        with pytest.raises(UnsupportedModel, match="these numbers can: "):
            architectures.check(model, count)


def test_a_stated_pattern_counts_more_than_the_usual_one(tmp_path: Path) -> None:
    model = _model(tmp_path / "a.gguf", "gemma3", 6, attention__sliding_window_pattern=2)
    assert Stack.of(model).runs(2) == [0, 1, 2, 3, 4]
    model = _model(tmp_path / "b.gguf", "gemma3", 4, attention__sliding_window_pattern=[True, False] * 2)
    assert Stack.of(model).runs(1) == [0, 1, 2, 3]
    assert Stack.of(model).period == 1


def test_candidates_are_the_least_each_and_the_least_together(tmp_path: Path) -> None:
    # Blocks 0 and 2 turn the state by little; 2 and 3 turn it back.
    found = _influence(
        (1.0, 0.9, 0.2, 0.2, 0.2),
        (0.9, 1.0, 0.3, 0.3, 0.3),
        (0.2, 0.3, 1.0, 0.8, 0.99),
        (0.2, 0.3, 0.8, 1.0, 0.7),
        (0.2, 0.3, 0.99, 0.7, 1.0),
    )
    assert found.blocks == pytest.approx([0.1, 0.7, 0.2, 0.3])
    model = _model(tmp_path / "a.gguf")
    assert candidates(model, found, 1) == [(0,)]
    assert candidates(model, found, 2) == [(0, 2), (2, 3)]
    banded = _model(tmp_path / "b.gguf", "gemma2")
    assert candidates(banded, found, 2) == [(2, 3)]


def _cost(removed: tuple[int, ...], divergence: float) -> Cost:
    texts = {"zh": divergence, "en": divergence / 2}
    whole = {text: Quality(text, 9, (1.0,)) for text in texts}
    return Cost(removed, 1, whole, {t: Quality(t, 9, (1.1,), (d,), (0.9,)) for t, d in texts.items()})


class Meter:
    """Costs by heart: block N costs N tenths, and neighbours half of their sum."""

    def __init__(self, model: GgufInfo) -> None:
        self.model = model

    def measure(self, removed: tuple[int, ...], _: Path) -> Cost:
        run = len(removed) > 1 and removed[-1] - removed[0] == len(removed) - 1
        return _cost(removed, sum(removed) / 10 / (2 if run else 1))


@pytest.fixture
def tried(tmp_path: Path) -> Any:
    """Return what is tried, the kept one last, for a count and a limit."""
    model = _model(tmp_path / "model.gguf", blocks=5)
    cosines = np.full((6, 6), 0.5)
    for block, influence in enumerate((0.9, 0.1, 0.3, 0.2, 0.9)):
        cosines[block, block + 1] = 1 - influence
    found = Influence({"tokens": 1, "cosine": cosines.tolist()})

    def run(count: int, limit: float) -> list[tuple[int, ...]]:
        wanted = Pruning(count, limit, lambda _model, _cost: True)
        return [one.removed for one in step._try(Meter(model), wanted, found, tmp_path)]  # type: ignore[arg-type]

    return run


def test_a_number_keeps_the_cheaper_of_both_sets(tried: Any) -> None:
    assert tried(2, 0.0) == [(1, 3), (0, 1)]


def test_auto_goes_on_until_it_costs_too_much(tried: Any) -> None:
    assert tried(0, 0.1)[-1] == (0, 1)
    assert tried(0, 0.2)[-1] == (0, 1, 2)
    assert tried(0, 9.0)[-1] == (0, 1, 2, 3)
    with pytest.raises(
        InvalidValue, match=r"'0.05' .*at least 0\.100, which the loss of block 1 costs"
    ) as error:
        tried(0, 0.05)
    assert error.value.name == LIMIT_OPTION


@pytest.mark.parametrize("text", ["-1", "0", "2.5", "all", "²"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(InvalidValue, match="or auto"):
        Pruning.parse(text, 0.1, lambda _model, _cost: True)
