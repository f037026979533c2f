"""The secret that a server knows its users by. Only the process that talks to the server reads it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from kylin_gguf.errors import ConfigError
from kylin_gguf.records import RemoteModel

_MAX_BYTES = 16384


def read(model: RemoteModel, environ: Mapping[str, str] = os.environ) -> str:
    """Return the token for ``model``'s server; empty where it wants none.

    Raises:
        ConfigError: it is not where it should be, cannot be one, or lies open to others.
    """
    if model.token_file:
        return _checked(_in_file(model.token_file), str(model.token_file))
    if model.token_env:
        return _checked(environ.get(model.token_env, ""), f"${model.token_env}")
    return ""


def _in_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IRWXO:
                raise ConfigError(str(path), "token_file", "other users may read it; chmod o= helps")
            return file.read(_MAX_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(str(path), "token_file", error.strerror or str(error)) from error


def _checked(text: str, origin: str) -> str:
    token = text.strip()
    if not token:
        raise ConfigError(origin, "token", "there is no token")
    # It goes into a header: a line break would begin another one.
    if not all("!" <= character <= "~" for character in token):
        raise ConfigError(origin, "token", "a token has no spaces and only ASCII characters")
    return token
