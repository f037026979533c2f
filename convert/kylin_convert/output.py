"""Where the result goes: under hidden names until all is well, then under those that were asked for."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from kylin_convert import manifest, work
from kylin_gguf.gguf_info import GgufInfo, shards


def taken(path: Path, *, several: bool) -> list[Path]:
    """Return the files that a conversion to ``path`` could replace; to ``several`` files: of any number."""
    found = [path] if path.exists() else []
    if several:
        beside = path.parent.glob(f"{glob.escape(_stem(path))}-*.gguf")
        found += sorted(other for other in beside if _stem(path) == shards.SUFFIX.sub("", other.stem))
    return found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gguf")


@dataclass(frozen=True)
class Output:
    """One result. ``path`` is its name while it is one file; ``key`` is no other running conversion's."""

    path: Path
    key: str

    @property
    def partial(self) -> Path:
        """Where it is made."""
        return self.path.with_name(f".{self.path.name}.{self.key}.part")

    def names(self, model: GgufInfo) -> list[str]:
        """Return what the files of ``model``, made at ``partial``, will be called."""
        count = len(shards.files(model.path))
        return [self.path.name] if count == 1 else shards.names(_stem(self.path), count)

    def place(self, model: GgufInfo) -> Path:
        """Give the files of ``model`` their names and return the first.

        Several cannot appear at once. But the first, without which none is opened, is the last to come, and
        an old one the first to go: there is never one that leads to files of two models.
        """
        made, named = shards.files(model.path), [self.path.with_name(name) for name in self.names(model)]
        for path in made:
            work.sync(path)
        # The manifest of a replaced file must not vouch for the new one, even if we are killed here.
        manifest.path_for(named[0]).unlink(missing_ok=True)
        if len(named) > 1:
            named[0].unlink(missing_ok=True)
            work.sync(self.path.parent)
            for path, final in zip(made[1:], named[1:], strict=True):
                path.replace(final)
            work.sync(self.path.parent)
        made[0].replace(named[0])
        return named[0]

    def clear(self) -> None:
        """Delete what was made and has not been placed."""
        for path in self.path.parent.glob(f"{glob.escape(self.partial.name)}*"):
            path.unlink(missing_ok=True)
