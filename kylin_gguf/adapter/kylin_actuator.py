"""The program kylin-actuator of openKylin, by its instructions in braces.

It gives what it does not know to a shell, and exits with 0 whatever happens. So it gets nothing but the
instructions of ``effects.INSTRUCTIONS``, and its output says how it went: a line with ``[已完成]`` for
each instruction that was carried out, ``<AI>`` before what it has to tell, and ``<end>`` at the end, after
which it may stay to wait for its windows.
"""

from __future__ import annotations

import re

from kylin_gguf.actuator.effects import INSTRUCTIONS
from kylin_gguf.adapter import processes
from kylin_gguf.adapter.outcome import Failed

PROGRAM = "kylin-actuator"
TIMEOUT_S = 20.0
DONE, TOLD, END = "[已完成]", "<AI>", "<end>"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MAX_TOLD = 500


async def run(instruction: str) -> None:
    """Carry out one of ``INSTRUCTIONS``.

    Raises:
        Unavailable: the program is not installed.
        Failed: it does not say that the instruction was carried out, or takes too long.
    """
    if instruction not in INSTRUCTIONS:  # the catalogue's reader has refused others; this is the last fence
        raise Failed(f"'{instruction}' is not an instruction that is safe")
    printed = await processes.listen(PROGRAM, f"{{{instruction}}}", last=END, seconds=TIMEOUT_S)
    lines = _COLOUR.sub("", printed).splitlines()
    if not any(DONE in line for line in lines):
        told = " ".join(line.split(TOLD, 1)[1] for line in lines if TOLD in line) or " ".join(lines[-1:])
        raise Failed(f"{PROGRAM} does not say that it is done: {told.replace(END, '').strip()[:_MAX_TOLD]}")
