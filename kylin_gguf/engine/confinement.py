"""What a worker gives up before it touches a model.

Done by the worker itself, first thing: code between fork and exec (``preexec_fn``) can deadlock in a parent
that has threads. What is a matter of starting it (working directory, umask, environment, descriptors) is in
``engine.child``. Names in parentheses are of prctl(2) and setrlimit(2).
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path

from kylin_gguf import native
from kylin_gguf.records import Placement

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)

_MARGIN = 1 << 30
"""Bytes beyond the planner's figure: a large vocabulary's logits, the interpreter, states being saved."""

_THREAD_MARGIN = 16 << 20
"""Bytes for each thread: its stack counts in full from the start, its malloc arena as it grows."""


def confine(control: socket.socket) -> None:
    """Tie this process to the service at the other end of ``control``, and give up what no worker needs.

    - It dies with the service, even if it hangs (PR_SET_PDEATHSIG). The kernel means the service's thread
      that started it, which is the one with the event loop. If the service went before that, so does this.
    - No program that a driver starts gets the channel, which would stay open after this process's end, or
      gains privileges (PR_SET_NO_NEW_PRIVS). NVIDIA's setuid nvidia-modprobe is one; udev makes the device
      nodes where it may not, as under our systemd unit, which forbids it, too.
    - It leaves no core (RLIMIT_CORE): a core would hold conversations.
    - Only the service ends it: systemd signals all processes of a unit that stops, but streams are ended and
      states saved in an order that the service knows.
    - When memory runs out, one request should go, not the desktop.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    service, _, _ = _UCRED.unpack(control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if os.getppid() != service:
        sys.exit("the service has gone")
    control.set_inheritable(False)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    except OSError as error:
        log.info("cannot volunteer for the out-of-memory killer: %s", error)


def limit_memory(placement: Placement) -> None:
    """Let what this process allocates from now on grow to the planner's figure and half as much again, plus
    a fixed margin (RLIMIT_DATA), so that a leak or a crafted file fails here and not on the whole desktop.

    RLIMIT_DATA counts private writable memory: repacked weights, KV cache, buffers; not the mapped file.
    RLIMIT_AS would count that and every reservation. A cgroup of its own would need systemd's user manager
    with the memory controller delegated, and would end the process instead of failing one allocation, which
    llama.cpp and Python report. Where a back end other than the CPU's is loaded there is no limit: drivers
    map host memory as they please, and fail badly when they cannot.
    """
    if not placement.memory or any(device.kind != "cpu" for device in native.devices()):
        return
    margin = _MARGIN + _THREAD_MARGIN * placement.threads
    limit_data(placement.memory + placement.memory // 2 + margin)


def limit_data(more: int) -> None:
    """Let this process have so many bytes of private memory more, and no others (RLIMIT_DATA)."""
    limit = _data_size() + more
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _data_size() -> int:
    """Return the bytes that RLIMIT_DATA counts now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # A variadic function: what is not given is garbage to the kernel, which refuses it.
    arguments = [ctypes.c_ulong(item) for item in (value, 0, 0, 0)]
    if libc.prctl(ctypes.c_int(option), *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
