"""The commands that come with the desktop: ours, and those that other packages add."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.reader import load

SHIPPED_COMMANDS = Path(__file__).parent / "commands" / "openkylin"


def load_commands(directories: Iterable[Path]) -> CommandCatalogue:
    """Return the shipped commands and those that packages have put into ``directories``, as one catalogue.

    Raises:
        CommandsInvalid: a catalogue breaks the format, or has a command that another one has.
    """
    catalogue = load(SHIPPED_COMMANDS)
    for directory in directories:
        for path in sorted(directory.glob("*.yaml")):
            catalogue = catalogue.merge(load(path))
    return catalogue
