"""How a step can go wrong. Both become a result, never an error on the bus."""

from __future__ import annotations


class Unavailable(Exception):
    """This desktop has not got what the step needs; nothing was done. The text says what is missing."""


class Failed(Exception):
    """The step was tried and went wrong; the text says how."""
