"""How long an answer would take: a model of memory and arithmetic, not a measurement.

A token that is generated reads every weight it uses and the keys and values of all before it; tokens of a
prompt share the reading and cost arithmetic. Either way each operation of a layer, some twenty of them, has
to be started and waited for, which on a fast card can take longer than the reading. What is known of a
device's speeds is used; else a guess of its kind, which is good enough to prefer a GPU to the CPU and says
little about seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kylin_gguf.records import Device, Use

if TYPE_CHECKING:  # the service looks at devices long before it plans
    import numpy as np
    import numpy.typing as npt

Amount = TypeVar("Amount", float, "npt.NDArray[np.float64]")

READ = 0.65
"""Share of its bandwidth that a device reaches when it multiplies with one vector: 0.55 to 0.8 is usual."""
_REPACKED = 1.5
"""How much faster prompts are with repacked weights, at least, on processors that have kernels for them."""
_STEP_S = 0.0003
"""What a token costs for each device that it passes through: copies, and waiting for the driver."""
_LAYER_S, _PROCESSOR_LAYER_S = 85e-6, 15e-6
"""What starting a layer's operations costs on a card and on a processor. A card's is the median of what three
models of 0.1 to 4.6 GB took on an H100 beside the reading, 67 to 104 microseconds (docs/native.md); a
processor's was measured on two cores of an EPYC."""
_DISK = 1e9
"""Bytes a second from a cheap SSD, page by page."""
_GIGABIT, _ROUND_TRIP_S = 100e6, 0.001
"""A second and an answer of a network that nobody has measured."""
_LINK = 10e9
"""Bytes a second into a card's memory: PCI Express 3.0 with 16 lanes, less overhead."""


@dataclass(frozen=True)
class Workload:
    """A typical request: new tokens of the prompt, tokens that are remembered meanwhile, tokens generated."""

    prompt: int
    remembered: int
    answer: int


WORKLOADS: dict[Use, Workload] = {
    "chat": Workload(300, 2000, 250),
    "command": Workload(40, 1000, 30),
    "document": Workload(6000, 6000, 300),
}


@dataclass(frozen=True)
class Speed:
    """Bytes read and operations done in a second; the seconds that starting a layer's operations takes."""

    bandwidth: float
    compute: float
    layer: float


def of_processor(cores: int, bandwidth: float = 0.0, compute: float = 0.0, layer: float = 0.0) -> Speed:
    """Return the speed of ``cores`` cores; guessed: two channels of DDR4, vectors of 256 bits."""
    return Speed(bandwidth or min(cores * 12e9, 40e9), compute or cores * 40e9, layer or _PROCESSOR_LAYER_S)


def of_device(device: Device, processor: Speed) -> Speed:
    """Return the speed of a GPU. One in the processor shares its memory; guesses are of the low end. What
    software pretends is far slower than the same processor's own back end."""
    if device.software:
        return Speed(processor.bandwidth / 10, processor.compute / 10, processor.layer * 10)
    if device.kind == "remote":
        guess = processor
    elif device.kind == "igpu":
        guess = Speed(processor.bandwidth, 8e11, _LAYER_S)
    else:
        guess = Speed(200e9, 5e12, _LAYER_S)
    return Speed(
        device.bandwidth or guess.bandwidth, device.compute or guess.compute, device.layer or guess.layer
    )


def reading_s(size: Amount, speed: Speed) -> Amount:
    """Return the seconds that one token takes to read ``size`` bytes."""
    return size / (READ * speed.bandwidth)


def computing_s(parameters: Amount, tokens: int, speed: Speed, *, repacked: bool = False) -> Amount:
    """Return the seconds that ``tokens`` of a prompt take to go through ``parameters``."""
    return 2 * parameters * tokens / (speed.compute * (_REPACKED if repacked else 1.0))


def lent_s(size: Amount, parameters: Amount, tokens: int, batch: int, speed: Speed) -> Amount:
    """Return the seconds for the same on a card whose memory does not hold the weights: it gets their
    ``size`` bytes once for each batch."""
    return -(-tokens // batch) * size / _LINK + computing_s(parameters, tokens, speed)


def rereading_s(size: float) -> float:
    """Return the seconds that ``size`` bytes take from the disk, which a token needs and RAM did not keep."""
    return size / _DISK


def crossing_s(device: Device, width: int) -> float:
    """Return the seconds that ``width`` numbers of a token take to ``device`` and back, over a network."""
    if device.kind != "remote":
        return 0.0
    return 2 * 4 * width / (device.link or _GIGABIT)


def passing_s(device: Device, width: int) -> float:
    """Return the seconds that a token of an answer loses on its way through ``device``."""
    delay = (device.delay or _ROUND_TRIP_S) if device.kind == "remote" else 0.0
    return _STEP_S + delay + crossing_s(device, width)
