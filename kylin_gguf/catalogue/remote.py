"""Entries of ``models.yaml`` for models that a server elsewhere runs."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kylin_gguf.catalogue.fields import LINE, NAME, Fields
from kylin_gguf.records import RemoteModel

_URL: Final = r"https?://[!-~]{1,500}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"


def entry(fields: Fields) -> RemoteModel:
    """Read an entry that has the key ``remote``; raises CatalogueInvalid."""
    name, title = fields.text("name", NAME), fields.text("title", LINE)
    server = fields.child("remote")
    fields.finish()
    url, model = _url(server), server.text("model", LINE)
    token_file = server.text("token_file", LINE, None, or_null=True)
    token_env = server.text("token_env", _VARIABLE, None, or_null=True)
    server.finish()
    if token_file and token_env:
        raise server.refuse("there is a token_file already", "token_env")
    path = fields.path.parent / Path(token_file).expanduser() if token_file else None
    return RemoteModel(name, title, url, model, path, token_env)


def _url(server: Fields) -> str:
    """Return where the API begins, without a slash at its end.

    A token, and what the user says, must not cross a network in the clear.
    """
    text = server.text("url", _URL)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise server.refuse(str(error), "url") from error
    if not host:
        raise server.refuse("it names no server", "url")
    if "@" in parts.netloc:
        raise server.refuse("a user or password does not belong here; token_file names a file for it", "url")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise server.refuse("it has more than a server and a path", "url")
    if parts.scheme == "http" and not _is_loopback(host):
        raise server.refuse("http:// is for this machine only; elsewhere it must be https://", "url")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
