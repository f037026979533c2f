"""The context of an embedding model: whole texts in, one vector for each out, through llama.cpp's C API.

Nothing here is thread-safe: one worker, one thread. Names in parentheses are functions of ``llama.h``.
"""

from __future__ import annotations

from collections.abc import Sequence

import llama_cpp
import numpy as np
import numpy.typing as npt

from kylin_gguf.engine import decode_status
from kylin_gguf.engine.batch import Batch
from kylin_gguf.engine.embedding import packing
from kylin_gguf.engine.model import LogTail, Model
from kylin_gguf.engine.placing import flash_attention
from kylin_gguf.errors import UnsupportedModel
from kylin_gguf.records import Placement

PACKED_TOKENS = 512
"""Texts are put together up to so many tokens. An encoder computes attention over the whole batch and masks
what is another text's, so larger batches cost more than they save, and take longer to cancel."""

MAX_TEXTS = 64
"""Texts of one batch: each is a sequence, and llama.cpp keeps room for the logits of one token of each."""

Vectors = npt.NDArray[np.float32]


class EmbeddingContext:
    """Compute buffers over one embedding model, and a KV cache where its architecture has one."""

    def __init__(self, model: Model, placement: Placement, log: LogTail) -> None:
        """Allocate (llama_init_from_model); the pooling is the one that the file states.

        Raises:
            LoadFailed: not enough memory, or the model cannot run so.
        """
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = placement.context_length
        params.n_batch = params.n_ubatch = placement.batch_size
        # llama_context aborts where it could not have an output for each sequence in one batch.
        self._most_texts = params.n_seq_max = min(MAX_TEXTS, placement.batch_size, placement.context_length)
        # Otherwise each sequence would get its own share of n_ctx, and no text could be as long as that.
        params.kv_unified = True
        params.embeddings = True
        params.flash_attn_type = flash_attention(placement)
        params.n_threads = params.n_threads_batch = placement.threads
        params.no_perf = True
        self._handle = llama_cpp.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise log.failure(model.path)
        self._path = str(model.path)
        self._memory = llama_cpp.llama_get_memory(self._handle)
        # Where there is no memory, as for BERT, llama_decode calls llama_encode itself; T5's encoder has one.
        self._run = llama_cpp.llama_encode if model.has_encoder else llama_cpp.llama_decode
        longest = llama_cpp.llama_n_ubatch(self._handle)
        self._batch = Batch(longest, longest)
        self.dimensions: int = llama_cpp.llama_model_n_embd_out(model.handle)
        self.longest: int = (
            placement.context_length
            if model.embeds_in_parts
            else min(placement.context_length, self._batch.capacity)
        )
        """Tokens of the longest text that can be embedded."""

    def fitting(self, lengths: Sequence[int]) -> int:
        """Return how many of the next texts, at least one, go into one batch, given their ``lengths``."""
        tokens = min(PACKED_TOKENS, self._batch.capacity)
        return packing.fitting(lengths, texts=self._most_texts, tokens=tokens)

    def embed(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """Return one vector a text, shape (len(texts), dimensions), each of Euclidean length 1.

        Args:
            texts: Tokens of at least one text; as many as ``fitting`` allows, none longer than ``longest``.

        Raises:
            MemoryError, DecodeFailed: as ``decode_status.check``.
            UnsupportedModel: the model's numbers make no vectors.
        """
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, False)
        self._batch.clear()
        for sequence, tokens in enumerate(texts):
            for position, token in enumerate(tokens):
                if not self._batch.room:  # only a text that is alone, of a model that takes it in parts
                    self._compute()
                self._batch.add(token, position, sequence, logits=True)
        self._compute()
        return self._normalised(len(texts))

    def _compute(self) -> None:
        decode_status.check(self._run(self._handle, self._batch.as_struct()))
        self._batch.clear()

    def _normalised(self, count: int) -> Vectors:
        rows = np.empty((count, self.dimensions), np.float32)
        for sequence in range(count):
            pointer = llama_cpp.llama_get_embeddings_seq(self._handle, sequence)
            rows[sequence] = np.ctypeslib.as_array(pointer, shape=(self.dimensions,))
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise UnsupportedModel(self._path, "it gave a vector that is zero or not finite")
        result: Vectors = (rows / lengths).astype(np.float32)
        return result
