"""What was found out about a model's speculation, and where it is kept for the next start."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kylin_gguf.engine.speculation.payoff import Costs
from kylin_gguf.records import SpeculationWay

log = logging.getLogger(__name__)

FORMAT = 1

LEAST_GAIN = 1.03
"""How much faster answers must come with speculation for it to be used: less is within a trial's error."""


@dataclass(frozen=True)
class Choice:
    """How a model's tokens come fastest on this machine.

    ``gain`` is how many times faster the trial's answers came with prompt lookup than without.
    """

    gain: float
    costs: Costs

    @property
    def way(self) -> SpeculationWay:
        """What to do."""
        return "lookup" if self.gain >= LEAST_GAIN else "off"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that ``from_json`` reads."""
        return {"format": FORMAT, "gain": round(self.gain, 4), "costs": self.costs.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Choice:
        """Rebuild from ``to_json``.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is none of this format.
        """
        if value["format"] != FORMAT:
            raise ValueError("another format")
        return cls(float(value["gain"]), Costs.from_json(value["costs"]))


def read(path: Path) -> Choice | None:
    """Return the choice that ``path`` holds; None if there is none that this version can use."""
    try:
        return Choice.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is measured anew: %s", path, error)
        return None


def write(path: Path, choice: Choice) -> None:
    """Keep ``choice``; if that fails it is measured again at the next start."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False) as file:
            json.dump(choice.to_json(), file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        log.warning("%s could not be written: %s", path, error)
