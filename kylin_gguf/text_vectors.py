"""Vectors of texts, for search by meaning: what the bus gives out of an embedding model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from kylin_gguf.errors import InvalidValue, UnsupportedModel
from kylin_gguf.gguf_info import shards
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import InstalledModel, Model
from kylin_gguf.store import Store

MAX_TEXTS = 256
"""Texts of one call."""
MAX_CHARS = 4_000_000
"""Characters of these texts together."""


async def make(pool: EnginePool, store: Store, model: str, texts: Sequence[str]) -> list[list[float]]:
    """Return one vector for each of ``texts``, in order: float32, of Euclidean length 1.

    ``model`` empty: the default among the embedding models.

    Raises:
        InvalidValue: no texts, too many, too long, or one that is blank.
        ModelNotInstalled: ``model`` is empty, and no embedding model is installed.
        UnsupportedModel: the model makes no vectors. It is not loaded to find out; a server has to be asked.
        TextTooLong: one has more tokens than the model takes.
    """
    _check(texts)
    find: Callable[[], Model] = partial(store.find, model) if model else store.default_embedder
    found = await asyncio.to_thread(find)
    if isinstance(found, InstalledModel):
        info = await asyncio.to_thread(shards.read, found.path)
        if not info.embeds:
            raise UnsupportedModel(str(found.path), "it states no pooling, so it makes no vectors")
    return await pool.ask(found, lambda engine: engine.embed(texts))


def _check(texts: Sequence[str]) -> None:
    """Keep one call small enough for a message of the bus, and for the worker's control channel."""
    if not 0 < len(texts) <= MAX_TEXTS:
        raise InvalidValue("texts", f"{len(texts)} texts", f"1 to {MAX_TEXTS} texts a call")
    length = sum(map(len, texts))
    if length > MAX_CHARS:
        raise InvalidValue("texts", f"{length} characters", f"at most {MAX_CHARS} characters a call")
    for text in texts:
        if not text.strip():
            raise InvalidValue("texts", text, "texts that are not blank")
