"""How many threads the next step gets: as many as pay, beside whatever else runs on this machine.

The threads of a decode wait for each other at some hundred points. If another program takes the core of one,
all wait for it: on two cores, one busy program makes two threads slower than one. So the engine watches how
much others compute, leaves them that many cores, and sees from its own steps whether one thread more or less
would be better. That others compute shows at once in who wants a core (``engine.alarm``), and more surely,
also when they stop, in what they used. Where the engine is alone and is to save energy, ``engine.thrift``
chooses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

from kylin_gguf.energy import Meter
from kylin_gguf.engine.alarm import Alarm
from kylin_gguf.engine.company import Company, OtherPrograms
from kylin_gguf.engine.thrift import Thrift
from kylin_gguf.records import SavingState

CROWDED = 0.4
"""Cores in use by others from which on steps are compared. One busy program beside a decode on all of two
cores gets two thirds of one."""

GLANCE_S = 0.25
"""How often the use of the cores is looked at; it is counted in hundredths of a second."""

FIRST_GLANCE_S = 0.1
"""After a pause it is looked at sooner: until then steps may have a thread too many, and take five times as
long."""

FORGET_S = 5.0
"""A pause after which the others may have ended, too: steps begin with all threads again."""

PROBE_STEPS = 5
"""Steps of one size that a count is judged by."""

FIRST_WAIT, LONGEST_WAIT = 64, 1024
"""Steps between two probes of another count. A probe that finds nothing better doubles the wait."""

_BETTER = 0.92
"""What part of the present time a step must take for its count to be preferred: steps beside other programs
differ a lot among themselves."""

_HOPELESS = 2.0
"""A step that takes so many times the present one ends its probe: threads that spin while one of them waits
for a core can take five times as long."""


class Threads:
    """Chooses a count for each step, and learns from how long it took."""

    def __init__(
        self,
        most: int,
        cores: int | None = None,
        company: Company | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with all threads.

        Args:
            most: How many threads a step may have at all.
            cores: Processors of this machine that all programs share; None: as many as there are.
            company: Who else uses them; None: ``OtherPrograms``.
            clock: Seconds, of any beginning.
        """
        self._most = most
        self._cores = cores or os.cpu_count() or most
        self._company = company or OtherPrograms()
        self._alarm = Alarm(self._company)
        self._clock = clock
        self._glanced, self._look_after = clock(), GLANCE_S
        self._worked = 0.0
        """Seconds of steps since."""
        self._use = 0.0
        """What others used when looked at last."""
        self._use_known = 0.0
        """The same when steps were first compared, or began to be compared more often again."""
        self._crowded = False
        self._count = self._probed = self._given = most
        self._size = 0
        self._times: list[float] = []
        """Seconds of steps of ``_size`` tokens with ``_probed`` threads."""
        self._present = 0.0
        """Median of them with ``_count`` threads, when a probe began."""
        self._upward = True
        self._wait = self._due = FIRST_WAIT
        self._saving = False
        self._thrift: Thrift | None = None

    @property
    def saving(self) -> SavingState:
        """Whether threads are chosen by energy, and how far that is."""
        if not self._saving:
            return "off"
        return self._thrift.state if self._thrift else "unmeasured"

    def save_energy(self, meter: Meter | None) -> None:
        """Choose by energy from now on, where others leave the cores alone; without a ``meter``, nothing
        changes."""
        self._saving = True
        self._thrift = Thrift(self._most, meter, self._clock) if meter and self._most > 1 else None

    def save_time(self) -> None:
        """Choose by time from now on, as in the beginning."""
        self._saving, self._thrift = False, None

    def next(self, tokens: int) -> int:
        """Return how many threads to use for a step of ``tokens`` that begins now."""
        if self._most > 1 and self._clock() - self._glanced >= self._look_after:
            self._glance()
        self._given = self._thrift.next(tokens) if self._thrift and not self._crowded else self._probed
        return self._given

    def _glance(self) -> None:
        """Look at what others used during the last steps. Only what two glances agree on is believed, and
        nothing that was seen only while we paused: it may be over."""
        now = self._clock()
        seconds, worked = now - self._glanced, self._worked
        self._glanced, self._worked, self._look_after = now, 0.0, GLANCE_S
        use = self._company.used()
        if worked >= seconds / 2:
            before, self._use = self._use, use
            self._believe(min(before, use), max(before, use))
        elif seconds - worked > FORGET_S:
            self._use, self._look_after = use, FIRST_GLANCE_S
            self._use_all()

    def _believe(self, least: float, most: float) -> None:
        """Take others to use something between the two."""
        if most < CROWDED:
            self._use_all()
        elif least >= CROWDED and not self._crowded:
            self._make_room()
        elif self._crowded and not least - CROWDED < self._use_known < most + CROWDED:
            self._begin_anew()

    def _make_room(self) -> None:
        """Leave others what they use, and compare steps from now on."""
        self._crowded = True
        if self._thrift:
            self._thrift.disturbed()
        self._count = max(min(round(self._cores - self._use), self._most), 1)
        self._begin_anew()

    def _use_all(self) -> None:
        """Give every core a thread."""
        self._crowded = False
        self._count = self._probed = self._most

    def _begin_anew(self) -> None:
        self._use_known, self._wait = self._use, FIRST_WAIT
        self._return()

    def _return(self) -> None:
        """Go back to the chosen count, and forget what steps took."""
        self._probed, self._due = self._count, self._wait
        self._times = []

    def observe(self, tokens: int, seconds: float) -> None:
        """Note how long a step of ``tokens`` took with the count that ``next`` returned."""
        self._worked += seconds
        if not self._crowded:
            if self._thrift:
                self._thrift.observe(seconds)
            if self._most > 1 and (wanted := self._alarm.heard(self._given, tokens, seconds)):
                self._use = float(wanted)
                self._make_room()
            return
        if tokens != self._size:
            self._size = tokens
            self._return()
        self._times = [*self._times[1 - PROBE_STEPS :], seconds]
        full = len(self._times) == PROBE_STEPS
        if self._probed != self._count:
            if full or seconds > _HOPELESS * self._present:
                self._judge()
            return
        self._due -= 1
        if self._due <= 0 and full and (neighbour := self._neighbour()) != self._count:
            self._present = median(self._times)
            self._probed, self._times = neighbour, []

    def _neighbour(self) -> int:
        """Return the count to try: one more and one less in turn, where there are such; else the present one.

        One more takes a core that nobody wants at this moment. Threads that share theirs with others wait for
        each other's turns: one step of 20 ms took 2.7 seconds so.
        """
        free = self._company.running(self._given) + self._count < self._cores
        more, less = self._count < self._most and free, self._count > 1
        if more and less:
            self._upward = not self._upward
            more = self._upward
        if more:
            return self._count + 1
        return self._count - 1 if less else self._count

    def _judge(self) -> None:
        if median(self._times) < _BETTER * self._present:
            self._count, self._wait = self._probed, FIRST_WAIT
        else:
            self._wait = min(2 * self._wait, LONGEST_WAIT)
        self._return()
