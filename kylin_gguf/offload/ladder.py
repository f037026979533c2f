"""What to try when a placement does not work: ever less of the GPU, then none, then as little RAM as can be.

Free memory is a driver's word, other programs take some meanwhile, and drivers have faults. Whether to step
down at all depends on what went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kylin_gguf.errors import DeviceMissing, KylinError, LoadFailed, OutOfMemory, WorkerDied, WorkerHung
from kylin_gguf.offload.plan import CPU, Request
from kylin_gguf.records import KvType, Placement

_KILLED = "SIGKILL"
"""How the kernel's out-of-memory killer ends a process."""
_SMALL_BATCH, _SMALLEST_BATCH = 256, 128


@dataclass(frozen=True)
class _Rung:
    """The share of the GPU memory that the first placement counted on, and what else is smaller."""

    share: float
    batch_size: int
    kv_type: KvType | None = None


_ON_GPU = (
    _Rung(0.75, Placement.batch_size),
    _Rung(0.5, _SMALL_BATCH),
    _Rung(0.25, _SMALL_BATCH, "q8_0"),
)


def ladder(request: Request, first: Placement) -> Iterator[Request]:
    """Yield ``request``, which gave ``first``, and then ever more modest ones."""
    yield request
    if first.shares:
        most = max(share.memory for share in first.shares)
        for rung in _ON_GPU:
            yield replace(
                request,
                gpu_memory=int(most * rung.share),
                gpu_layers=_scaled(request.gpu_layers, rung.share),
                batch_size=min(request.batch_size, rung.batch_size),
                kv_type=rung.kv_type or request.kv_type,
            )
    without = replace(request, device=CPU, gpu_layers=0)
    if first.shares:
        yield without
    yield replace(without, mode="instant")
    yield replace(without, mode="instant", batch_size=_SMALLEST_BATCH, kv_type="q8_0")


def worth_stepping_down(error: KylinError, placement: Placement) -> bool:
    """Return whether less may work where ``placement`` failed with ``error`` while it was loaded.

    With a GPU in use, anything but a missing file can be its driver's fault, or its lender's. On the CPU a
    model that is refused or crashes does so on every rung; only want of memory passes.
    """
    if isinstance(error, OutOfMemory):
        return True
    if isinstance(error, WorkerDied) and (error.no_memory or error.status == _KILLED):
        return True
    return bool(placement.shares) and isinstance(error, DeviceMissing | LoadFailed | WorkerDied | WorkerHung)


def _scaled(layers: int, share: float) -> int:
    """Return fewer layers than were asked for, at least one; a negative number leaves it to the planner."""
    return max(1, int(layers * share)) if layers > 0 else layers
