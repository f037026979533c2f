"""All catalogues in force: the one that the service begins with, and those registered while it runs.

Clients register theirs with a service that nobody may ever ask what an utterance means. So what that takes,
numpy and the commands that come with the desktop, 19 MB together, is imported and read when it is asked.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from kylin_gguf.actuator import choices, quota, reader
from kylin_gguf.actuator.catalogue import CommandCatalogue
from kylin_gguf.actuator.choices import Choices
from kylin_gguf.actuator.node import MAX_TEXT
from kylin_gguf.actuator.quota import Size
from kylin_gguf.errors import AccessDenied, InvalidValue, UnknownCatalogue, near
from kylin_gguf.records import ExecutorAddress

if TYPE_CHECKING:
    from kylin_gguf.actuator.index import Index, Learner
    from kylin_gguf.actuator.offer import Offer

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Registered:
    """A catalogue, the client it belongs to, and where on the bus that carries its commands out.

    ``catalogue`` has its commands with the ids that they are given out by; ``index`` is None until its
    examples are learnt. ``keeps_alive``: the service does not end for want of use while it is there.
    ``unavailable`` are the commands, by those ids, that its executor cannot carry out.
    """

    executor: ExecutorAddress
    catalogue: CommandCatalogue
    index: Index | None
    keeps_alive: bool = True
    unavailable: frozenset[str] = frozenset()

    @property
    def owner(self) -> str:
        """The client's unique name on the bus."""
        return self.executor.name

    @property
    def size(self) -> Size:
        """What counts against the limits."""
        return quota.size(self.catalogue)

    def with_lists(self, lists: Mapping[str, Choices]) -> Registered:
        """Return it with the contents of ``lists`` replaced."""
        index = self.index and self.index.with_lists(lists)
        return replace(self, catalogue=self.catalogue.with_lists(lists), index=index)


class Collection:
    """The catalogues by name. Lives on one event loop; learning happens in threads, one at a time.

    Nothing is learnt before somebody asks what an utterance means: a service that is only chatted with
    stays small.
    """

    def __init__(self, first: CommandCatalogue, learn: Learner | None = None) -> None:
        """``learn`` is by default what learns an index anew."""
        self._name, self._learn = first.name, learn
        self._known: CommandCatalogue | None = first
        self._read: Callable[[], CommandCatalogue] = lambda: first
        self._reading = threading.Lock()
        self._index: Index | None = None
        self._registered: dict[str, Registered] = {}
        self._offer: Offer | None = None
        self._catalogue: CommandCatalogue | None = None
        self._learning = asyncio.Lock()

    @classmethod
    def reading_later(
        cls, name: str, read: Callable[[], CommandCatalogue], learn: Learner | None = None
    ) -> Self:
        """Return the catalogues when the first one, of that ``name``, has yet to be read.

        Errors of ``read`` come from whatever needs it first, and again from what needs it next.
        """
        made = cls(CommandCatalogue(name, ()), learn)
        made._known, made._read = None, read
        return made

    def read(self) -> CommandCatalogue:
        """Return the first catalogue, read now if it has not been: in a thread, then."""
        with self._reading:
            if self._known is None:
                self._known = self._read()
            return self._known

    # --- Use --------------------------------------------------------------------------------------

    async def ready(self) -> Offer:
        """Return what is on offer now. The first call learns the examples of all catalogues there are."""
        if self._index is None:
            async with self._learning:
                await self._catch_up()
        if self._offer is None:
            from kylin_gguf.actuator.offer import Offer  # noqa: PLC0415 - see above

            indexes = (self._index, *(registered.index for registered in self._registered.values()))
            self._offer = Offer(self.catalogue, tuple(filter(None, indexes)), self.unavailable)
        return self._offer

    async def _catch_up(self) -> None:
        """Learn the first catalogue, and what was registered before anybody asked for anything."""
        if self._index is not None:
            return
        index = await asyncio.to_thread(self._learn_first)
        for name, registered in list(self._registered.items()):
            learnt = await asyncio.to_thread(_learn, registered.catalogue, index, self._learn)
            if self._registered.get(name) is registered:  # not removed meanwhile
                self._registered[name] = replace(registered, index=learnt)
        self._index = index  # last: from now on there is nothing unlearnt
        self._changed()

    def _learn_first(self) -> Index:
        from kylin_gguf.actuator.index import Index  # noqa: PLC0415 - see above

        return Index.train(self.read(), learn=self._learn)

    @property
    def catalogue(self) -> CommandCatalogue:
        """Every command of every catalogue, offered or not."""
        if self._catalogue is None:
            others = (c for r in self._registered.values() for c in r.catalogue.commands)
            self._catalogue = replace(self.read(), commands=(*self.read().commands, *others))
        return self._catalogue

    def executor(self, command_id: str) -> tuple[ExecutorAddress | None, str]:
        """Return who carries a command out (None: the desktop's own way), and the id they know it by."""
        name, _, local = command_id.rpartition("/")
        return (self._registered[name].executor, local) if name in self._registered else (None, local)

    @property
    def keeps_alive(self) -> bool:
        """Whether a registered catalogue would be missed."""
        return any(registered.keeps_alive for registered in self._registered.values())

    @property
    def unavailable(self) -> frozenset[str]:
        """The commands that are never the answer, by the ids that they are given out by."""
        return frozenset().union(*(registered.unavailable for registered in self._registered.values()))

    def _changed(self) -> None:
        self._offer = self._catalogue = None

    # --- Registration -----------------------------------------------------------------------------

    async def register(
        self,
        executor: ExecutorAddress,
        name: str,
        text: str,
        *,
        keeps_alive: bool = True,
        unavailable: Sequence[str] = (),
    ) -> CommandCatalogue:
        """Put the catalogue that YAML ``text`` describes in force, under ids that begin ``NAME/``.

        One of the same owner and name is replaced. It is in force when this returns; its examples are learnt
        now, or with all others by the first ``ready``. ``unavailable``: ids in the text, of commands that are
        learnt like the others and are never the answer.

        Raises:
            InvalidValue: ``name`` is not one, or is that of the first catalogue; or ``unavailable`` has an id
                that no command of the text has.
            AccessDenied: another client has a catalogue of that name.
            CommandsInvalid: the text breaks the format.
            CatalogueLimit: ``EACH`` or ``ALL`` would be exceeded.
        """
        if not NAME.fullmatch(name) or name == self._name:
            raise InvalidValue("name", name[:80], "lower-case letters, digits and hyphens, not a name in use")
        async with self._learning:
            self._refuse_stranger(executor.name, name)
            catalogue = (await asyncio.to_thread(reader.parse, text, name)).namespaced()
            self._refuse_excess(executor.name, catalogue)
            missing = _missing(catalogue, unavailable)
            first, learn = self._index, self._learn
            index = await asyncio.to_thread(_learn, catalogue, first, learn) if first else None
            self._registered[name] = Registered(executor, catalogue, index, keeps_alive, missing)
            self._changed()
        return catalogue

    def remove(self, owner: str, name: str) -> None:
        """Take the catalogue ``name`` away.

        Raises:
            UnknownCatalogue: there is none.
            AccessDenied: it belongs to another client.
        """
        self._own(owner, name)
        del self._registered[name]
        self._changed()

    def remove_all(self, owner: str) -> None:
        """Take the catalogues of a client away."""
        self._registered = {name: r for name, r in self._registered.items() if r.owner != owner}
        self._changed()

    async def update_choices(
        self, owner: str, name: str, source: str, entries: Mapping[str, Sequence[str]]
    ) -> None:
        """Replace what the list ``source`` of the catalogue ``name`` holds.

        ``owner`` empty: of the first catalogue.

        Raises:
            UnknownCatalogue: there is no such catalogue.
            AccessDenied: it belongs to another client.
            InvalidValue: it has no such list, or the entries are too many or too long.
        """
        _check_entries(entries)
        async with self._learning:
            first = name == self._name and not owner
            catalogue = self.read() if first else self._own(owner, name).catalogue
            if source not in (catalogue.lists or {}):
                raise InvalidValue("list", source[:80], " or ".join(catalogue.lists or ("none",)))
            lists = {source: await asyncio.to_thread(choices.read, entries)}
            if first:
                self._known = catalogue.with_lists(lists)
                self._index = self._index and self._index.with_lists(lists)
            else:
                self._registered[name] = self._own(owner, name).with_lists(lists)
            self._changed()

    def listing(self) -> list[dict[str, Any]]:
        """Return the registered catalogues as JSON objects."""
        return [
            {
                "name": name,
                "owner": r.owner,
                "commands": r.size.commands,
                "examples": r.size.examples,
                "lists": list(r.catalogue.lists or ()),
            }
            for name, r in self._registered.items()
        ]

    def _find(self, name: str) -> Registered:
        if name not in self._registered:
            raise UnknownCatalogue(name[:80], near(name, self._registered))
        return self._registered[name]

    def _own(self, owner: str, name: str) -> Registered:
        found = self._find(name)
        self._refuse_stranger(owner, name)
        return found

    def _refuse_stranger(self, owner: str, name: str) -> None:
        if name in self._registered and self._registered[name].owner != owner:
            raise AccessDenied(f"command catalogue {name}")

    def _refuse_excess(self, owner: str, catalogue: CommandCatalogue) -> None:
        others = {name: r for name, r in self._registered.items() if name != catalogue.name}
        own = [r.size for r in others.values() if r.owner == owner]
        quota.check(quota.size(catalogue), own, [r.size for r in others.values()])


def _learn(catalogue: CommandCatalogue, first: Index, learn: Learner | None) -> Index:
    """Learn a later catalogue: in the terms of the first one as well, and what of that it is not."""
    terms = dict(first.catalogue.terms or {})
    for concept, phrases in (catalogue.terms or {}).items():
        terms[concept] = tuple(dict.fromkeys((*terms.get(concept, ()), *phrases)))
    return type(first).train(replace(catalogue, terms=terms), first.contrast(catalogue), learn)


def _missing(catalogue: CommandCatalogue, unavailable: Sequence[str]) -> frozenset[str]:
    known = {command.id.rpartition("/")[2]: command.id for command in catalogue.commands}
    for local in unavailable:
        if local not in known:
            raise InvalidValue("unavailable", local[:80], "ids of the catalogue's own commands")
    return frozenset(known[local] for local in unavailable)


def _check_entries(entries: Mapping[str, Sequence[str]]) -> None:
    if len(entries) > choices.MAX_CHOICES:
        raise InvalidValue("choices", f"{len(entries)} entries", f"at most {choices.MAX_CHOICES}")
    for entry, names in entries.items():
        if not 0 < len(names) <= choices.MAX_NAMES:
            raise InvalidValue("choices", entry[:80], f"1 to {choices.MAX_NAMES} names an entry")
        for text in (entry, *names):
            if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
                raise InvalidValue("choices", text[:80], f"printable text of 1 to {MAX_TEXT} characters")
