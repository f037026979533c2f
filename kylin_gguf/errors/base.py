"""The root of the error tree, and how errors travel between processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from kylin_gguf.translation import N_, translate

MAX_QUOTED = 4096
"""Characters of a field in a sentence: as long as a path may be. What a client has said may be far longer,
and a message that no bus takes would cost the service its connection."""


@dataclass(eq=False)
class KylinError(Exception):
    """Root of every error that a user or a client can be shown."""

    code: ClassVar[str] = "error"
    sentence: ClassVar[str] = N_("Something went wrong.")
    remedy: ClassVar[str] = ""

    @classmethod
    def relayed(cls, message: str) -> Self:
        """Return an instance that another process described: its message is known, its fields are not."""
        failure = cls.__new__(cls)
        failure.__dict__["_relayed"] = message
        return failure

    def fields(self) -> dict[str, Any]:
        """Return the typed fields, as JSON-able values; none for a relayed error."""
        return {} if "_relayed" in self.__dict__ else asdict(self)

    def wording(self) -> str:
        """Return the template of the sentence; classes whose fields may be empty choose among several."""
        return self.sentence

    def message(self) -> str:
        """Return the sentence and the remedy in the user's language, on one line."""
        sentence = self.statement()
        if "_relayed" in self.__dict__ or not self.remedy:
            return sentence
        # Chinese puts no space between sentences.
        return translate(N_("{sentence} {remedy}")).format(
            sentence=sentence, remedy=self._filled(self.remedy)
        )

    def statement(self) -> str:
        """Return the sentence alone in the user's language; a relayed error's whole message."""
        if "_relayed" in self.__dict__:
            return str(self.__dict__["_relayed"])
        return self._filled(self.wording())

    def _filled(self, template: str) -> str:
        return translate(template).format(**{key: _shown(value) for key, value in self.fields().items()})

    def __str__(self) -> str:
        return self.message()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message()!r})"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Otherwise @dataclass makes one that reads the fields, which a relayed error does not have.
        type.__setattr__(cls, "__repr__", KylinError.__repr__)

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object that ``from_wire`` turns back into this error."""
        return {"code": self.code, "fields": self.fields()}


def _shown(value: object) -> str:
    text = ", ".join(str(item) for item in value) or "—" if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def all_errors(root: type[KylinError] = KylinError) -> Iterator[type[KylinError]]:
    """Yield ``root`` and every class below it."""
    yield root
    for child in root.__subclasses__():
        yield from all_errors(child)


def from_wire(wire: dict[str, Any]) -> KylinError:
    """Rebuild an error from ``KylinError.to_wire``; an unknown code becomes InternalError."""
    for cls in all_errors():
        if cls.code == wire.get("code"):
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in wire["fields"].items()}
            return cls(**values)
    return InternalError(detail=str(wire))


def of_code(code: str, message: str) -> KylinError:
    """Return the error that an ``error`` frame describes; an unknown code gives the root class."""
    known = {cls.code: cls for cls in all_errors()}
    return known.get(code, KylinError).relayed(message)


@dataclass(eq=False)
class InternalError(KylinError):
    """A defect of ours: anything that no other class describes."""

    code: ClassVar[str] = "internal"
    sentence: ClassVar[str] = N_("Internal error: {detail}.")
    remedy: ClassVar[str] = N_("Run again with --debug and report the traceback.")
    detail: str


@dataclass(eq=False)
class Cancelled(KylinError):
    """The work was cancelled by its owner."""

    code: ClassVar[str] = "cancelled"
    sentence: ClassVar[str] = N_("Cancelled.")
