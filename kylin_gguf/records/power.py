"""Where the machine's power comes from, and whether its processor is too warm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

PowerMode = Literal["auto", "speed", "saving"]
"""As the setting ``power``."""

SavingState = Literal["off", "unmeasured", "measuring", "found"]
"""Whether an answer's threads are chosen by energy: not asked for, nothing to measure it with, being found
out, or found."""


@dataclass(frozen=True)
class Power:
    """What the desktop tells."""

    on_battery: bool | None = None
    """UPower's word; None where there is none."""
    profile: str = ""
    """power-profiles-daemon's ``power-saver``, ``balanced`` or ``performance``; empty where it does not
    run."""
    hot: bool = False
    """Whether the processor is being slowed down because of its temperature."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; what is not known is left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}
