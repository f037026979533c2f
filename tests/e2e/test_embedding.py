"""Vectors from tiny random models in real workers: order, batching, limits, refusals, cancelling."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from kylin_gguf import catalogue
from kylin_gguf.engine.process import EngineProcess, Listeners
from kylin_gguf.errors import InvalidValue, TextTooLong, UnsupportedModel
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Settings
from kylin_gguf.service import Service
from kylin_gguf.sessions import Session
from kylin_gguf.store import Store
from tests import tiny_embedder
from tests.tiny_embedder import CONTEXT, HEADS, LAYERS, SPECIAL, WIDTH, WORDS, Tensors

from .conftest import read_frames

pytestmark = pytest.mark.native

Array = npt.NDArray[np.float64]
TEXTS = [
    "the house stands on the hill",
    "the cat sleeps under the table",
    "天气",
    "rain",
    "the house stands on the hill on the hill on the hill",
]


def installed(path: Path) -> InstalledModel:
    return InstalledModel(path.stem, path, path.stat().st_size, writable=False)


@pytest.fixture
def bert(tmp_path: Path) -> InstalledModel:
    tiny_embedder.bert(tmp_path / "bert.gguf")
    return installed(tmp_path / "bert.gguf")


async def vectors(engine: EngineProcess, texts: list[str]) -> Array:
    return np.array(await engine.embed(texts))


async def test_a_batch_gives_what_each_text_gives_alone_in_order(
    pool: EnginePool, bert: InstalledModel
) -> None:
    engine = await pool.acquire(bert)
    together = await vectors(engine, TEXTS)
    alone = np.concatenate([await vectors(engine, [text]) for text in TEXTS])
    assert together.shape == (len(TEXTS), WIDTH)
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-6
    assert np.abs(together - alone).max() < 1e-4
    assert np.abs(together[0] - together[1]).max() > 0.01, "different texts have different vectors"
    assert np.abs(await vectors(engine, TEXTS[::-1]) - together[::-1]).max() < 1e-4


async def test_more_texts_than_a_batch_holds(pool: EnginePool, bert: InstalledModel) -> None:
    """Some hundred sequences and some thousand tokens: several batches by either limit."""
    engine = await pool.acquire(bert)
    many = await vectors(engine, TEXTS * 60)
    few = await vectors(engine, TEXTS)
    assert np.abs(many - np.tile(few, (60, 1))).max() < 1e-4


async def test_two_requests_take_turns_and_get_their_own(pool: EnginePool, bert: InstalledModel) -> None:
    engine = await pool.acquire(bert)
    long, short = await asyncio.gather(vectors(engine, TEXTS * 40), vectors(engine, TEXTS[:1]))
    assert np.abs(long[0] - short[0]).max() < 1e-4


@pytest.mark.parametrize("pooling", [gguf.PoolingType.MEAN, gguf.PoolingType.CLS])
async def test_the_numbers_are_those_of_the_published_model(
    pool: EnginePool, tmp_path: Path, pooling: gguf.PoolingType
) -> None:
    tensors = tiny_embedder.bert(tmp_path / "bert.gguf", pooling=pooling)
    engine = await pool.acquire(installed(tmp_path / "bert.gguf"))
    for text in ("the cat sleeps", "the 天 wind"):
        (found,) = await vectors(engine, [text])
        expected = bert_in_numpy(tensors, text.split(), mean=pooling == gguf.PoolingType.MEAN)
        assert np.abs(found - expected).max() < 1e-3


async def test_a_text_as_long_as_the_context_fits_and_one_token_more_is_refused(
    pool: EnginePool, bert: InstalledModel
) -> None:
    engine = await pool.acquire(bert)
    fitting = "rain " * (CONTEXT - 2)  # [CLS] and [SEP] are around it
    assert (await vectors(engine, [fitting, "cat"])).shape == (2, WIDTH)
    with pytest.raises(TextTooLong) as caught:
        await engine.embed(["cat", fitting + "rain"])
    assert (caught.value.tokens, caught.value.limit) == (CONTEXT + 1, CONTEXT)
    assert caught.value.beginning in fitting
    assert (await vectors(engine, ["cat"])).shape == (1, WIDTH), "the worker goes on"


async def test_text_cannot_pretend_to_be_a_control_token(pool: EnginePool, bert: InstalledModel) -> None:
    engine = await pool.acquire(bert)
    with pytest.raises(TextTooLong):  # three characters or more each, not one token
        await engine.embed(["[SEP]" * (CONTEXT // 3)])


async def test_a_decoder_that_states_a_pooling_embeds_long_texts_in_parts(
    pool: EnginePool, tmp_path: Path
) -> None:
    """A text of more tokens than a batch, next to short ones; what stands at its beginning still counts."""
    tiny_embedder.decoder(tmp_path / "decoder.gguf")
    engine = await pool.acquire(installed(tmp_path / "decoder.gguf"))
    assert engine.placement.batch_size < 900 < engine.placement.context_length
    long = "x" * 900
    found = await vectors(engine, ["short", long, "y" + long[1:], "short"])
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    assert np.abs(found[0] - found[3]).max() < 1e-4
    assert np.abs(found[1] - found[2]).max() > 1e-6
    with pytest.raises(TextTooLong):
        await engine.embed(["x" * 2000])


async def test_in_parts_or_whole_gives_the_same(settings: Settings, tmp_path: Path) -> None:
    tiny_embedder.decoder(tmp_path / "decoder.gguf")
    model, text = installed(tmp_path / "decoder.gguf"), "the cat sleeps under the table"
    found = []
    listeners = Listeners(lambda _: None, lambda: None, lambda _: None)
    planned = await EnginePool(settings).plan(model, {})
    for batch_size in (8, 512):
        placement = replace(planned, batch_size=batch_size)
        engine = await EngineProcess.start(model, placement, settings, listeners)
        found.append(await vectors(engine, [text]))
        await engine.stop()
    assert np.abs(found[0] - found[1]).max() < 1e-3


async def test_each_kind_of_model_refuses_the_others_work(
    pool: EnginePool, model: InstalledModel, bert: InstalledModel, tmp_path: Path
) -> None:
    frames = await read_frames(await Session(bert, pool.acquire).generate({"prompt": "Hello"}))
    assert [frame.get("code") for frame in frames[-2:]] == [UnsupportedModel.code, None]
    engine = await pool.acquire(model)
    with pytest.raises(UnsupportedModel, match="pooling"):
        await engine.embed(["Hello"])
    tiny_embedder.bert(tmp_path / "none.gguf", pooling=None)
    with pytest.raises(UnsupportedModel, match="pooling"):
        await pool.acquire(installed(tmp_path / "none.gguf"))


async def test_an_empty_text_has_the_vector_of_what_stands_around_texts(
    pool: EnginePool, bert: InstalledModel
) -> None:
    engine = await pool.acquire(bert)
    empty, blank, word = await vectors(engine, ["", " \n", "cat"])
    assert np.abs(empty - blank).max() < 1e-6 < np.abs(empty - word).max()


async def test_the_service_refuses_before_it_loads(
    settings: Settings, model: InstalledModel, bert: InstalledModel
) -> None:
    service = Service(settings, Store(settings, catalogue.load(settings.catalogue)))
    try:
        for texts in ([], ["rain", " \n"], ["rain"] * 300, ["x" * 5_000_000]):
            with pytest.raises(InvalidValue, match="texts"):
                await service.embed(str(bert.path), texts)
        with pytest.raises(UnsupportedModel, match="pooling"):
            await service.embed(model.name, ["rain"])
        assert service.loaded() == ()
        (found,) = await service.embed(str(bert.path), ["rain"])
        assert math.isclose(math.hypot(*found), 1, abs_tol=1e-6)
    finally:
        await service.close()


async def test_a_cancelled_call_stops_the_work(pool: EnginePool, bert: InstalledModel) -> None:
    engine = await pool.acquire(bert)
    call = asyncio.ensure_future(engine.embed(TEXTS * 2000))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await vectors(engine, TEXTS[:1])).shape == (1, WIDTH)
    assert not pool.busy, "the worker has confirmed that nothing of the cancelled call is left"


# --- what the tiny model should give, step by step ----------------------------------------------------


def bert_in_numpy(tensors: Tensors, words: list[str], *, mean: bool) -> Array:
    """Return the vector of a text whose words are pieces of the vocabulary, or unknown."""
    known = {word: len(SPECIAL) + index for index, word in enumerate(WORDS)}
    tokens = [2, *(known.get(word, 1) for word in words), 3]
    values = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def linear(name: str, rows: Array) -> Array:
        result: Array = rows @ values[f"{name}.weight"].T + values[f"{name}.bias"]
        return result

    def norm(name: str, rows: Array) -> Array:
        centred = rows - rows.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        result: Array = scaled * values[f"{name}.weight"] + values[f"{name}.bias"]
        return result

    rows = values["token_embd.weight"][tokens] + values["position_embd.weight"][: len(tokens)]
    rows = norm("token_embd_norm", rows + values["token_types.weight"][0])
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        query, key, value = (linear(f"{block}.attn_{part}", rows) for part in "qkv")
        mixed = np.concatenate(
            [
                _softmax(query[:, head] @ key[:, head].T / math.sqrt(WIDTH // HEADS)) @ value[:, head]
                for head in (slice(at, at + WIDTH // HEADS) for at in range(0, WIDTH, WIDTH // HEADS))
            ],
            axis=1,
        )
        rows = norm(f"{block}.attn_output_norm", rows + linear(f"{block}.attn_output", mixed))
        inner = linear(f"{block}.ffn_up", rows)
        gelu = inner * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        rows = norm(f"{block}.layer_output_norm", rows + linear(f"{block}.ffn_down", gelu))
    pooled = rows.mean(axis=0) if mean else rows[0]
    result: Array = pooled / np.linalg.norm(pooled)
    return result


def _softmax(scores: Array) -> Array:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return result
