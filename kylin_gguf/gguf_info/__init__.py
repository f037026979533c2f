"""Read the header of a GGUF file that nobody vouches for.

Format: docs/gguf.md of ggml; the checks mirror ``gguf_init_from_reader`` in ggml/src/gguf.cpp, so what
passes here is not refused there for its form. Every count and length is held against a limit and against
the file's size before anything is allocated or read; long arrays (vocabularies) are walked, not kept.
"""

from kylin_gguf.gguf_info.header import MAGIC, read
from kylin_gguf.gguf_info.records import GgufInfo, MetadataValue, Scalar, Skipped, TensorInfo, has_cache

__all__ = ["MAGIC", "GgufInfo", "MetadataValue", "Scalar", "Skipped", "TensorInfo", "has_cache", "read"]
