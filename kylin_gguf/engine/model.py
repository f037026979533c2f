"""The weights of one GGUF, through llama.cpp's low-level C API.

Handles are freed by ``close``. Nothing here is thread-safe: one worker, one thread.
Names in parentheses are functions of ``llama.h`` in the pinned source.
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from kylin_gguf.engine.placing import ModelParams
from kylin_gguf.engine.vocabulary import Vocabulary
from kylin_gguf.engine.worker_log import NO_MEMORY
from kylin_gguf.errors import LoadFailed, OutOfMemory
from kylin_gguf.records import Placement

log = logging.getLogger(__name__)

_WARNING = 3  # ggml_log_level: warnings and errors explain why a load failed
_META_BYTES = 256
_POOLINGS = tuple(
    str(kind)
    for kind in (
        llama_cpp.LLAMA_POOLING_TYPE_MEAN,
        llama_cpp.LLAMA_POOLING_TYPE_CLS,
        llama_cpp.LLAMA_POOLING_TYPE_LAST,
    )
)
"""As metadata has them. LLAMA_POOLING_TYPE_RANK gives a score and no vector."""


class LogTail:
    """Logs llama.cpp's warnings and keeps the last, to explain a failure in its own words."""

    def __init__(self, lines: int = 4) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._held: list[tuple[int, str]] | None = None
        self._short_of_memory = False

    def __call__(self, level: int, text: str) -> None:
        if level < _WARNING or not text.strip():
            return
        if self._held is not None:
            self._held.append((level, text))
            return
        self._lines.append(text.strip())
        self._short_of_memory = self._short_of_memory or bool(NO_MEMORY.search(text))
        log.log(logging.WARNING if level == _WARNING else logging.ERROR, "llama.cpp: %s", text.strip())

    def hold(self) -> None:
        """Say nothing until ``release``: to llama.cpp a decode that is given up on purpose is an error. Not
        before it is given up: what is held when the process dies is lost."""
        self._held = []

    def release(self, *, forget: bool) -> None:
        """Say what has come meanwhile, or forget it."""
        held, self._held = self._held or [], None
        for level, text in held if not forget else ():
            self(level, text)

    def failure(self, model: Path) -> LoadFailed:
        """Return the error for a function that returned nothing: llama.cpp says why in its log alone."""
        reason = "; ".join(self._lines) or "llama.cpp gave no reason"
        return (OutOfMemory if self._short_of_memory else LoadFailed)(str(model), reason)


class Model:
    """Weights of one GGUF, with its vocabulary."""

    def __init__(
        self, path: Path, placement: Placement, log: LogTail, progress: Callable[[float], None]
    ) -> None:
        """Load the file (llama_model_load_from_file).

        Raises:
            DeviceMissing: the placement's device is gone.
            LoadFailed: llama.cpp refused it.
        """
        self._params = ModelParams(placement)
        params = self._params.struct

        def report(fraction: float, _: object) -> bool:
            progress(fraction)
            return True

        self._report = llama_cpp.llama_progress_callback(report)  # C keeps the pointer while it loads
        params.progress_callback = self._report
        handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not handle:
            raise log.failure(path)
        self.path = path
        self.handle = handle
        self.vocabulary = Vocabulary(llama_cpp.llama_model_get_vocab(handle))
        self.has_decoder: bool = llama_cpp.llama_model_has_decoder(handle)
        self.has_encoder: bool = llama_cpp.llama_model_has_encoder(handle)

    def close(self) -> None:
        """Free the weights (llama_model_free)."""
        llama_cpp.llama_model_free(self.handle)

    def chat_template(self) -> str:
        """Return the default template's source, empty if the file has none."""
        source = llama_cpp.llama_model_chat_template(self.handle, None)
        return source.decode("utf-8", "replace") if source else ""

    def _own(self, key: str) -> str:
        """Return the architecture's own value of the file, as text; empty if it states none
        (llama_model_meta_val_str)."""
        buffer = ctypes.create_string_buffer(_META_BYTES)

        def value(name: str) -> str:
            found = llama_cpp.llama_model_meta_val_str(self.handle, name.encode(), buffer, _META_BYTES)
            return buffer.value.decode("utf-8", "replace") if found >= 0 else ""

        return value(f"{value('general.architecture')}.{key}")

    @property
    def embeds(self) -> bool:
        """Whether the file states how the vectors of a text's tokens become one vector."""
        return self._own("pooling_type") in _POOLINGS

    @property
    def embeds_in_parts(self) -> bool:
        """Whether a text may be decoded in several calls: where each token sees only earlier ones, and the
        last one's vector is the text's. Other poolings are taken over the tokens of one call."""
        causal = self._own("attention.causal") != "false"
        return causal and self._own("pooling_type") == str(llama_cpp.LLAMA_POOLING_TYPE_LAST)
