"""A loaded model's speculation: whether it pays, found out once and kept, and what requests get of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from kylin_gguf.engine.speculation import choice
from kylin_gguf.engine.speculation.speculator import Speculator
from kylin_gguf.engine.speculation.trial import Trial
from kylin_gguf.errors import KylinError
from kylin_gguf.records import Speculation as State

log = logging.getLogger(__name__)


class Speculation:
    """Gives requests a speculator where a trial has shown that guesses make answers come faster."""

    def __init__(self, path: Path, begin_trial: Callable[[], Trial], report: Callable[[State], None]) -> None:
        """Read what is known from ``path``; if nothing is, ``begin_trial`` will be called while nobody waits,
        and ``report`` with what it has shown."""
        self._path, self._begin_trial, self._report = path, begin_trial, report
        self._trial: Trial | None = None
        self._choice = choice.read(path)
        self._failed = False

    @property
    def state(self) -> State:
        """What is known now."""
        if self._choice:
            return State(self._choice.way, round(self._choice.gain, 3))
        return State("off" if self._failed else "measuring")

    def speculator(self) -> Speculator | None:
        """Return what guesses for a new request; None if that does not pay, or is not known yet."""
        if self._choice is None or self._choice.way == "off":
            return None
        return Speculator(self._choice.costs)

    def step(self) -> bool:
        """Go on with the trial by one decode, while nobody waits; False if there is none to go on with."""
        if self._choice or self._failed:
            return False
        try:
            self._trial = self._trial or self._begin_trial()
            self._choice = self._trial.step()
        except KylinError as error:
            log.warning("no speculation: its trial failed: %s", error.statement())
            self._failed = True
            self.give_way()
            self._report(self.state)
            return False
        if self._choice:
            log.info("speculation: %s, answers come %.2f times as fast", self._choice.way, self._choice.gain)
            choice.write(self._path, self._choice)
            self._report(self.state)
        return True

    def give_way(self) -> None:
        """Let go of what a request may need."""
        if self._trial:
            self._trial.give_way()
