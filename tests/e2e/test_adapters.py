"""llama.cpp adds an adapter to its base, and computes what the merged model computes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kylin_convert import lora
from kylin_convert.adapter import Adapter
from kylin_convert.arch import family_of
from kylin_convert.checkpoint import Checkpoint
from kylin_convert.writer import write_gguf
from kylin_gguf.records import no_progress
from tests.tiny_adapters import ADAPTERS, AdapterCase
from tests.tiny_families import CASES

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("known_pre_tokenizer")]

TOKENS = (4, 5, 6)
# What an adapter's file has no key for is in its matrices.
SCALED: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "by pattern": {"alpha_pattern": {"q_proj": 40, "down_proj": 3}},
}


def _logits(llama_cpp: Any, path: Path, adapter: Path | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
    params = llama_cpp.llama_model_default_params()
    with ExitStack() as stack:
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert model, "llama.cpp does not load it"
        stack.callback(llama_cpp.llama_model_free, model)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_threads, params.n_threads_batch = 32, 1, 1
        context = llama_cpp.llama_init_from_model(model, params)
        assert context
        stack.callback(llama_cpp.llama_free, context)
        if adapter:
            loaded = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
            assert loaded, "llama.cpp does not load the adapter"
            adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded)
            scales = (ctypes.c_float * 1)(1.0)
            assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) == 0
        tokens = (llama_cpp.llama_token * len(TOKENS))(*TOKENS)
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(TOKENS))) == 0
        count = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (count,)).copy()


@pytest.mark.parametrize("scaling", SCALED)
@pytest.mark.parametrize("name", ["lora-llama", "lora-smollm3", "lora-qwen2", "lora-gemma3-vision"])
def test_base_and_adapter_are_the_merged_model(
    llama_cpp: Any, tmp_path: Path, name: str, scaling: str
) -> None:
    case = ADAPTERS[name]
    case = AdapterCase(case.base, case.ranks, case.dtype, SCALED[scaling])
    CASES[case.base].write(tmp_path / "base")
    case.write(tmp_path / "adapter")
    base = Checkpoint.open(tmp_path / "base")
    for checkpoint, file in ((base, "base.gguf"), (lora.merge(base, tmp_path / "adapter"), "merged.gguf")):
        write_gguf(family_of(checkpoint), tmp_path / file, "F32", no_progress)
    Adapter.open(tmp_path / "adapter", base).write(tmp_path / "adapter.gguf", "F32", no_progress)
    plain, merged = (_logits(llama_cpp, tmp_path / file) for file in ("base.gguf", "merged.gguf"))
    both = _logits(llama_cpp, tmp_path / "base.gguf", tmp_path / "adapter.gguf")
    changed = np.abs(merged - plain).max()
    assert changed > 0.02 * plain.std()
    # The cache is F16: keys and values that differ in their last bit of F32 may be rounded apart.
    np.testing.assert_allclose(both, merged, rtol=0, atol=1e-3 * changed)
