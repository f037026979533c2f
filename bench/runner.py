"""Takes samples in turns: A, B, then B, A, so that a machine that slows down slows everyone down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from bench.case import Case, Contender, Dropped, Prepared, Round, Sample, Unfair

Say = Callable[[str], None]

SETTLING_S = 0.3
"""What a contender has after a sample before it is stopped: idle moments are when caches are tidied, and
whoever reads an answer leaves more of them."""

STANDING = "TtZX"
"""States of a process that takes no processor time: stopped, traced, a zombie, gone."""


async def take(case: Case, prepared: Prepared, rounds: int, say: Say) -> tuple[Round, ...]:
    """Measure every contender once a round, after a round that does not count.

    Whoever is not measured stands still meanwhile, but is there with all its memory. A sample that raises
    ``Unfair`` is said aloud and kept as dropped.
    """
    contenders = prepared.contenders
    with _all_running_afterwards(contenders):
        if case.warm_up:
            await _round(contenders, 0, say)
        return tuple([await _round(contenders, number, say) for number in range(1, rounds + 1)])


async def _round(contenders: Mapping[str, Contender], number: int, say: Say) -> Round:
    order = list(contenders)
    if number % 2 == 0:
        order.reverse()
    given = {name: await _sample(contenders, name, number) for name in order}
    for name in contenders:
        say(f"  {f'round {number}' if number else 'warm-up'}, {name}: {_shown(given[name])}")
    return {name: given[name] for name in contenders}


async def _sample(contenders: Mapping[str, Contender], name: str, number: int) -> Sample | Dropped:
    mine = set(contenders[name].processes())
    await asyncio.sleep(SETTLING_S)
    await _stop(_processes(contenders) - mine)
    send(mine, signal.SIGCONT)
    try:
        return await contenders[name].sample(number)
    except Unfair as reason:
        return Dropped(str(reason))


def _processes(contenders: Mapping[str, Contender]) -> set[int]:
    return {pid for contender in contenders.values() for pid in contender.processes()}


async def _stop(processes: Iterable[int]) -> None:
    """Stop ``processes``; return when they stand still, which a busy one does not do at once."""
    send(processes, signal.SIGSTOP)
    while any(_state(pid) not in STANDING for pid in processes):
        await asyncio.sleep(0.001)


def _state(pid: int) -> str:
    """Return the letter of a process's state (proc(5), stat); X for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def send(processes: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those of ``processes`` that are still there."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def _all_running_afterwards(contenders: Mapping[str, Contender]) -> Iterator[None]:
    """A stopped process cannot end in good order."""
    try:
        yield
    finally:
        send(_processes(contenders), signal.SIGCONT)


def _shown(outcome: Sample | Dropped) -> str:
    if isinstance(outcome, Dropped):
        return f"DROPPED: {outcome.reason}"
    return ", ".join(f"{name} {value:.4g}" for name, value in outcome.figures.items())
