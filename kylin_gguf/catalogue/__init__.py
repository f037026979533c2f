"""The model catalogue: ``models.yaml`` read, validated strictly, and offered as records.

The format is described in docs/models-yaml.md.
"""

from kylin_gguf.catalogue.reader import load
from kylin_gguf.catalogue.records import (
    Catalogue,
    HuggingFaceSource,
    Licence,
    LocalSource,
    ModelEntry,
    ModelScopeSource,
    PypiSource,
    Recipe,
    Source,
    notice,
)

__all__ = [
    "Catalogue",
    "HuggingFaceSource",
    "Licence",
    "LocalSource",
    "ModelEntry",
    "ModelScopeSource",
    "PypiSource",
    "Recipe",
    "Source",
    "load",
    "notice",
]
