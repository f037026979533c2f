"""A small valid model file, without the tensors that it would take to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def write_model(
    path: Path, vocabulary: int = 4, name: str = "Tiny", template: str = TEMPLATE, tensors_a_file: int = 0
) -> Path:
    """Write the model and return its path; it is cut where ``tensors_a_file`` says how."""
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=tensors_a_file)
    writer.add_name(name)
    writer.add_size_label("3K")
    writer.add_license("apache-2.0")
    writer.add_languages(["zh", "en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_block_count(2)
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv([2, 1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([f"token{i}" for i in range(vocabulary)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if template:
        writer.add_chat_template(template)
    weights = np.ones((32, 64), dtype=np.float32)
    quantised = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(7, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_vocabulary(
    path: Path,
    vectors: Mapping[str, Sequence[float]],
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F16,
    tokenizer: str = "gpt2",
    tensors_a_file: int = 0,
) -> Path:
    """Write a model that is all tokens and their vectors, and return its path. A token is given as it is
    written in the file."""
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=tensors_a_file)
    writer.add_tokenizer_model(tokenizer)
    writer.add_token_list(list(vectors))
    rows = np.array(list(vectors.values()), np.float32)
    writer.add_tensor("output_norm.weight", np.ones(7, dtype=np.float32))
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_projector(path: Path, kind: str = "mmproj") -> Path:
    """Write what a vision model's images go through, as convert_hf_to_gguf.py --mmproj states it; without
    ``kind`` as llama.cpp's legacy converters did. Return its path."""
    writer = gguf.GGUFWriter(path, "clip")
    if kind:
        writer.add_type(kind)
    writer.add_clip_has_vision_encoder(True)
    writer.add_tensor("mm.0.weight", np.ones((8, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
