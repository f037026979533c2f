"""A tiny model, and a web server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import tiny_model
from tests.file_server import FileServer, serve


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """A function that writes a small valid model and returns its path."""
    return tiny_model.write_model


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A server on this machine, for the duration of a test."""
    with serve() as server:
        yield server
