"""llama.cpp loads what the converter writes of every family, and computes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kylin_convert.arch import family_of
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.writer import write_gguf
from kylin_gguf.records import no_progress
from tests.tiny_families import CASES

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("known_pre_tokenizer")]

TOKENS = (4, 5, 6)


def _outputs(llama_cpp: Any, path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return what the model has to say after ``TOKENS``: logits, or the vector of an embedder."""
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    assert model, "llama.cpp does not load it"
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 32, 1, 1
    params.embeddings = embeds = _is_embedder(path)
    context = llama_cpp.llama_init_from_model(model, params)
    assert context
    tokens = (llama_cpp.llama_token * len(TOKENS))(*TOKENS)
    assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(TOKENS))) == 0
    if embeds:
        pooled = llama_cpp.llama_get_embeddings_seq(context, 0)
        values, count = (
            pooled or llama_cpp.llama_get_embeddings_ith(context, 0),
            llama_cpp.llama_model_n_embd(model),
        )
    else:
        values = llama_cpp.llama_get_logits_ith(context, -1)
        count = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    result = np.ctypeslib.as_array(values, (count,)).copy()
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return result


def _is_embedder(path: Path) -> bool:
    return any(name in path.name for name in ("bert", "embedding"))


@pytest.mark.parametrize("name", sorted(CASES))
def test_llama_cpp_computes_with_it(llama_cpp: Any, tmp_path: Path, name: str) -> None:
    CASES[name].write(tmp_path / name)
    family = family_of(Checkpoint.open(tmp_path / name))
    assert family is not None
    path = tmp_path / f"{name}.gguf"
    write_gguf(family, path, "F32", no_progress)
    outputs = _outputs(llama_cpp, path)
    assert np.isfinite(outputs).all()
    assert outputs.std() > 0
