"""One KV cache over one model, and what goes through it, through llama.cpp's low-level C API.

Nothing here is thread-safe: one worker, one thread. Names in parentheses are functions of ``llama.h``.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import time
from collections.abc import Callable

import llama_cpp
import numpy as np
import numpy.typing as npt

from kylin_gguf.energy import Meter
from kylin_gguf.engine import decode_status
from kylin_gguf.engine.batch import Batch
from kylin_gguf.engine.model import LogTail, Model
from kylin_gguf.engine.placing import flash_attention
from kylin_gguf.engine.threads import Threads
from kylin_gguf.errors import ContextFull, DecodeFailed
from kylin_gguf.records import SPARE_SEQUENCES, KvType, Placement, SavingState

LONG_SECONDS = 0.1
"""A batch that is over sooner is not asked to stop: that costs each of some hundred graph nodes a call into
Python, a millisecond in all."""

INTERRUPT_SECONDS = 0.01
"""How often a long decode asks whether to go on."""

_TELLING_TOKENS = 16
"""Smaller batches take longer a token than larger ones, and say nothing of them."""

_KV_TYPES: dict[KvType, int] = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
_NEVER = llama_cpp.ggml_abort_callback()

Logits = npt.NDArray[np.float32]
State = npt.NDArray[np.uint8]


class Context:
    """One KV cache over one model, shared by all sequences."""

    def __init__(self, model: Model, placement: Placement, log: LogTail) -> None:
        """Allocate the cache and compute buffers (llama_init_from_model).

        Raises:
            LoadFailed: not enough memory, or the model cannot run so.
        """
        # No more than outputs fit a batch, which llama_init_from_model insists on.
        outputs = min(placement.batch_size, placement.context_length)
        self.sequences = min(placement.sequences + SPARE_SEQUENCES, outputs)
        """Sequence ids are 0 to one less than this."""
        self.handle = llama_cpp.llama_init_from_model(model.handle, self._params(placement))
        if not self.handle:
            raise log.failure(model.path)
        self._log, self._path = log, model.path
        self._threads, self.threads = Threads(placement.threads), placement.threads
        self._token_seconds = math.inf
        """What a token took in the last batch that tells."""
        self._memory = llama_cpp.llama_get_memory(self.handle)
        self.has_cache = bool(self._memory)
        """Whether what was decoded is kept for later tokens: encoders and diffusion models have no memory."""
        self._row = ctypes.c_float * model.vocabulary.size
        self._rows: dict[int, Logits] = {}
        """Views of the output buffer by address. Making one costs more than finding its largest value."""
        self.length: int = llama_cpp.llama_n_ctx(self.handle)
        self.batch_size: int = llama_cpp.llama_n_batch(self.handle)
        self.cuttable = not (
            llama_cpp.llama_model_is_recurrent(model.handle)
            or llama_cpp.llama_model_is_hybrid(model.handle)
            or llama_cpp.llama_model_n_swa(model.handle) > 0
        )
        """Whether a sequence can be shortened. A recurrent state has no past to go back to, and of what a
        sliding window has left behind, llama.cpp may give the cells to others (llama_kv_cache::find_slot)."""

    def _params(self, placement: Placement) -> llama_cpp.llama_context_params:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = placement.context_length
        params.n_batch = params.n_ubatch = placement.batch_size
        params.n_seq_max = params.n_outputs_max = self.sequences
        # One buffer for all sequences: a prefix is shared by copying cell marks, not cells.
        params.kv_unified = True
        params.type_k = params.type_v = _KV_TYPES[placement.kv_type]
        params.flash_attn_type = flash_attention(placement)
        params.n_threads = params.n_threads_batch = placement.threads
        params.no_perf = True
        return params

    def close(self) -> None:
        """Free the cache (llama_free)."""
        llama_cpp.llama_free(self.handle)

    def try_out(self, token: int) -> None:
        """Decode ``token`` and forget it.

        What a driver cannot do shows in its first step, which also makes the threads. Those that are made
        while somebody waits may begin on one core, and need a tenth of a second to be moved apart; afterwards
        ``engine.apart`` sees to that.

        Raises:
            LoadFailed: it cannot.
            MemoryError: as ``decode``.
        """
        batch = self.new_batch()
        batch.add(token, 0, 0, logits=True)
        try:
            self.decode(batch)
        except DecodeFailed as error:
            raise self._log.failure(self._path) from error
        llama_cpp.llama_memory_clear(self._memory, True)

    def new_batch(self) -> Batch:
        """Return an empty batch of the size that ``decode`` takes."""
        return Batch(self.batch_size, self.sequences)

    def decode(self, batch: Batch, interrupted: Callable[[], bool] | None = None) -> bool:
        """Run ``batch`` through the model (llama_decode).

        Args:
            batch: At most ``batch_size`` tokens, positions consecutive in each sequence.
            interrupted: Asked every few milliseconds of a long batch (``LONG_SECONDS``) whether to stop. The
                CPU back end asks after each node of the graph; others run a batch to its end.

        Returns:
            False if it was interrupted; the cache is then as before the call.

        Raises:
            ContextFull: no free KV cells; the cache is as before the call.
            MemoryError, DecodeFailed: as ``decode_status.check``.
        """
        self._choose_threads(batch.size)
        began = time.perf_counter()
        if interrupted is None or batch.size * self._token_seconds < LONG_SECONDS:
            status = llama_cpp.llama_decode(self.handle, batch.as_struct())
        else:
            status = self._decode_interruptibly(batch, interrupted)
        if status == 0:
            self._observe(batch.size, time.perf_counter() - began)
        if status == decode_status.NO_KV_SLOT:
            raise ContextFull(batch.size, self.length)
        if status == decode_status.ABORTED:
            return False
        decode_status.check(status)
        return True

    def _observe(self, tokens: int, seconds: float) -> None:
        self._threads.observe(tokens, seconds)
        if tokens >= _TELLING_TOKENS:
            self._token_seconds = seconds / tokens

    def save_energy(self, meter: Meter | None) -> None:
        """Choose threads by what ``meter`` tells, as ``Threads.save_energy``."""
        self._threads.save_energy(meter)

    def save_time(self) -> None:
        """Choose threads by time."""
        self._threads.save_time()

    @property
    def saving(self) -> SavingState:
        """As ``Threads.saving``."""
        return self._threads.saving

    def _choose_threads(self, tokens: int) -> None:
        count = self._threads.next(tokens)
        if count != self.threads:
            self.threads = count
            llama_cpp.llama_set_n_threads(self.handle, count, count)

    def _decode_interruptibly(self, batch: Batch, interrupted: Callable[[], bool]) -> int:
        failure: list[BaseException] = []
        due = time.monotonic() + INTERRUPT_SECONDS

        def ask(_: object) -> bool:
            nonlocal due
            now = time.monotonic()
            if now < due:
                return False
            due = now + INTERRUPT_SECONDS
            try:
                stop = interrupted()
            except BaseException as error:  # ctypes would print and forget it
                failure.append(error)
                stop = True
            if stop:
                self._log.hold()
            return stop

        callback = llama_cpp.ggml_abort_callback(ask)
        llama_cpp.llama_set_abort_callback(self.handle, callback, None)
        status = int(llama_cpp.llama_decode(self.handle, batch.as_struct()))
        llama_cpp.llama_set_abort_callback(self.handle, _NEVER, None)
        self._log.release(forget=status == decode_status.ABORTED)
        if failure:
            raise failure[0]
        return status

    def logits(self, index: int) -> Logits:
        """Return the logits of the batch's token ``index``, shape (vocab_size,), a view that the next decode
        overwrites (llama_get_logits_ith)."""
        address = ctypes.addressof(llama_cpp.llama_get_logits_ith(self.handle, index).contents)
        row = self._rows.get(address)
        if row is None:
            row = self._rows[address] = np.ctypeslib.as_array(self._row.from_address(address))
        return row

    # --- sequences ----------------------------------------------------------------------------------

    def truncate(self, sequence: int, length: int) -> bool:
        """Keep the first ``length`` positions of ``sequence``; False where the model's memory cannot be cut
        (llama_memory_seq_rm), in which case nothing changed."""
        if length and not self.cuttable:
            return False
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def share(self, source: int, target: int, length: int) -> None:
        """Make ``target`` begin with the first ``length`` positions of ``source`` (llama_memory_seq_cp).

        Where memory cannot be cut, ``length`` must be all that ``source`` holds.
        """
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, length if self.cuttable else -1)

    def save(self, sequence: int) -> State:
        """Return what the cache holds of ``sequence``, shape (bytes,) (llama_state_seq_get_data)."""
        size = self.state_size(sequence)
        # Pages of its own go back to the system when the state is dropped; in the heap they leave holes.
        state = np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)
        written = llama_cpp.llama_state_seq_get_data(self.handle, _bytes(state), size, sequence)
        return state[:written]

    def state_size(self, sequence: int) -> int:
        """Return the bytes of what ``save`` would return (llama_state_seq_get_size)."""
        return int(llama_cpp.llama_state_seq_get_size(self.handle, sequence))

    def restore(self, sequence: int, state: State) -> bool:
        """Put back what ``save`` returned, into an empty ``sequence`` (llama_state_seq_set_data).

        Returns:
            False if there are not enough free KV cells or the state is of another kind; the sequence is
            then empty.
        """
        if llama_cpp.llama_state_seq_set_data(self.handle, _bytes(state), state.size, sequence):
            return True
        self.truncate(sequence, 0)
        return False


def _bytes(state: State) -> ctypes._Pointer[ctypes.c_uint8]:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
