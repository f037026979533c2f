"""The one exception tree. Each class has a stable code, typed fields, a sentence and a remedy.

Front ends never match on text: D-Bus names and exit codes come from tables over these classes
(``bus/errors.py``, ``cli/errors.py``), and a test fails when a class is missing from one.
Templates are English sources for gettext; fields are filled in after translation.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from kylin_gguf.translation import N_, translate

_ALIKE = 0.6
"""Likeness, by difflib's measure, from which a name is worth suggesting."""


def near(name: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """Return up to ``limit`` of ``known`` that ``name`` may have been meant for, best first.

    Names are compared whole and, since people type the beginning of long ones, by as much of their beginning.
    """
    folded = name.casefold()
    if not folded:
        return ()

    def likeness(candidate: str) -> float:
        whole = candidate.casefold()
        if folded in whole:
            return 1.0
        pairs = ((folded, whole), (folded, whole[: len(folded)]))
        return max(difflib.SequenceMatcher(None, a, b).ratio() for a, b in pairs)

    ranked = sorted(
        ((likeness(candidate), candidate) for candidate in dict.fromkeys(known)), key=lambda pair: -pair[0]
    )
    return tuple(candidate for ratio, candidate in ranked[:limit] if ratio >= _ALIKE)


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

    def message(self) -> str:
        """Return the sentence and the remedy in the user's language, on one line."""
        if "_relayed" in self.__dict__:
            return str(self.__dict__["_relayed"])
        shown = {key: _shown(value) for key, value in self.fields().items()}
        sentence, remedy = (
            translate(part).format(**shown) if part else "" for part in (self.sentence, self.remedy)
        )
        if not remedy:
            return sentence
        # Chinese puts no space between sentences.
        return translate(N_("{sentence} {remedy}")).format(sentence=sentence, remedy=remedy)

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
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "—"
    return str(value)


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


# --- What the caller said -------------------------------------------------------------------------


class UsageError(KylinError):
    """The request itself is wrong."""

    code: ClassVar[str] = "usage"


@dataclass(eq=False)
class UnknownOption(UsageError):
    """An option that this call does not have."""

    code: ClassVar[str] = "usage.unknown-option"
    sentence: ClassVar[str] = N_("Unknown option '{option}'.")
    remedy: ClassVar[str] = N_("Known options: {known}.")
    option: str
    known: tuple[str, ...]


@dataclass(eq=False)
class InvalidValue(UsageError):
    """A known option or argument with a value it cannot have."""

    code: ClassVar[str] = "usage.invalid-value"
    sentence: ClassVar[str] = N_("'{value}' is not a valid value for {name}.")
    remedy: ClassVar[str] = N_("Expected {expected}.")
    name: str
    value: str
    expected: str


@dataclass(eq=False)
class ConfigError(UsageError):
    """A configuration file or environment variable that cannot be used."""

    code: ClassVar[str] = "usage.config"
    sentence: ClassVar[str] = N_("Configuration {origin}: {key}: {reason}.")
    remedy: ClassVar[str] = N_("Correct or remove that entry.")
    origin: str
    key: str
    reason: str


# --- Models and files -----------------------------------------------------------------------------


class ModelError(KylinError):
    """A model that cannot be found or used."""

    code: ClassVar[str] = "model"


@dataclass(eq=False)
class UnknownModel(ModelError):
    """A name that is neither in the catalogue nor a file."""

    code: ClassVar[str] = "model.unknown"
    sentence: ClassVar[str] = N_("There is no model named '{name}'.")
    remedy: ClassVar[str] = N_("Similar names: {near}. 'kylin-gguf models' lists all.")
    name: str
    near: tuple[str, ...]


@dataclass(eq=False)
class ModelNotInstalled(ModelError):
    """A catalogue model whose file is not on this machine."""

    code: ClassVar[str] = "model.not-installed"
    sentence: ClassVar[str] = N_("The model '{name}' is not installed.")
    remedy: ClassVar[str] = N_("Install it with 'kylin-gguf pull {name}'.")
    name: str


@dataclass(eq=False)
class FileMissing(ModelError):
    """A path that does not exist or cannot be read."""

    code: ClassVar[str] = "model.file-missing"
    sentence: ClassVar[str] = N_("{path} cannot be read: {reason}.")
    remedy: ClassVar[str] = N_("Check the path and its permissions.")
    path: str
    reason: str


@dataclass(eq=False)
class NotGguf(ModelError):
    """A file that is not GGUF, or whose header breaks the specification."""

    code: ClassVar[str] = "model.not-gguf"
    sentence: ClassVar[str] = N_("{path} is not a usable GGUF file: {reason}.")
    remedy: ClassVar[str] = N_("Convert a model with 'kylin-gguf convert' or pull one again.")
    path: str
    reason: str


@dataclass(eq=False)
class TruncatedGguf(ModelError):
    """A GGUF that ends before its tensors do. Sizes in bytes."""

    code: ClassVar[str] = "model.truncated"
    sentence: ClassVar[str] = N_("{path} is cut short: {actual} of at least {expected} bytes.")
    remedy: ClassVar[str] = N_("Download or convert it again.")
    path: str
    expected: int
    actual: int


@dataclass(eq=False)
class UnsupportedModel(ModelError):
    """A well-formed GGUF that this engine cannot run for the purpose asked."""

    code: ClassVar[str] = "model.unsupported"
    sentence: ClassVar[str] = N_("{path} cannot be used here: {reason}.")
    remedy: ClassVar[str] = N_("'kylin-gguf models' lists models that can.")
    path: str
    reason: str


@dataclass(eq=False)
class CatalogueInvalid(ModelError):
    """A models.yaml that breaks its schema."""

    code: ClassVar[str] = "model.catalogue-invalid"
    sentence: ClassVar[str] = N_("Model catalogue {path}: {where}: {reason}.")
    remedy: ClassVar[str] = N_("Correct that entry.")
    path: str
    where: str
    reason: str


@dataclass(eq=False)
class ModelReadOnly(ModelError):
    """Removal of a model that lies in a system-wide, read-only directory."""

    code: ClassVar[str] = "model.read-only"
    sentence: ClassVar[str] = N_("'{name}' is installed system-wide at {path} and cannot be removed here.")
    remedy: ClassVar[str] = N_("Remove the package that installed it.")
    name: str
    path: str


# --- Getting and storing --------------------------------------------------------------------------


class StoreError(KylinError):
    """A file that could not be fetched or put in place. Nothing half-written is left."""

    code: ClassVar[str] = "store"


@dataclass(eq=False)
class NoSpace(StoreError):
    """Too little free disk space. Sizes in bytes."""

    code: ClassVar[str] = "store.no-space"
    sentence: ClassVar[str] = N_("{path} needs {needed} bytes and has {free} free.")
    remedy: ClassVar[str] = N_("Free some space, or choose another directory.")
    path: str
    needed: int
    free: int


@dataclass(eq=False)
class NotWritable(StoreError):
    """A directory that files cannot be put into."""

    code: ClassVar[str] = "store.not-writable"
    sentence: ClassVar[str] = N_("{path} cannot be written: {reason}.")
    remedy: ClassVar[str] = N_("Check its owner and permissions, or choose another directory.")
    path: str
    reason: str


@dataclass(eq=False)
class ChecksumMismatch(StoreError):
    """A download whose bytes are not the pinned ones; it is deleted."""

    code: ClassVar[str] = "store.checksum"
    sentence: ClassVar[str] = N_("{name} has SHA-256 {actual}, expected {expected}.")
    remedy: ClassVar[str] = N_("The file was discarded; try another source.")
    name: str
    expected: str
    actual: str


@dataclass(eq=False)
class SourceFailed(StoreError):
    """One source of a model did not deliver."""

    code: ClassVar[str] = "store.source-failed"
    sentence: ClassVar[str] = N_("{source}: {reason}.")
    remedy: ClassVar[str] = ""
    source: str
    reason: str


@dataclass(eq=False)
class SourcesExhausted(StoreError):
    """Every source of a model failed; ``attempts`` says why, in the order tried."""

    code: ClassVar[str] = "store.sources-exhausted"
    sentence: ClassVar[str] = N_("'{name}' could not be fetched from any source: {attempts}.")
    remedy: ClassVar[str] = N_("Check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or name a local file.")
    name: str
    attempts: tuple[str, ...]


# --- Conversion -----------------------------------------------------------------------------------


class ConvertError(KylinError):
    """A model that could not be converted. No output file is left."""

    code: ClassVar[str] = "convert"


@dataclass(eq=False)
class ConverterMissing(ConvertError):
    """The converter package is not installed beside the runtime."""

    code: ClassVar[str] = "convert.missing"
    sentence: ClassVar[str] = N_("The converter is not installed.")
    remedy: ClassVar[str] = N_("Install it with 'apt install kylin-gguf-convert'.")


@dataclass(eq=False)
class NotACheckpoint(ConvertError):
    """A source that is neither a Hugging Face folder nor a GGUF."""

    code: ClassVar[str] = "convert.not-a-checkpoint"
    sentence: ClassVar[str] = N_("{path} is not a model to convert: {reason}.")
    remedy: ClassVar[str] = N_("Give a folder with config.json and safetensors files, or a GGUF file.")
    path: str
    reason: str


@dataclass(eq=False)
class UnknownArchitecture(ConvertError):
    """A checkpoint of a family this converter does not read."""

    code: ClassVar[str] = "convert.unknown-architecture"
    sentence: ClassVar[str] = N_("The architecture '{architecture}' is not supported.")
    remedy: ClassVar[str] = N_("Supported: {known}.")
    architecture: str
    known: tuple[str, ...]


@dataclass(eq=False)
class BadCheckpoint(ConvertError):
    """A checkpoint whose files contradict each other or break their format."""

    code: ClassVar[str] = "convert.bad-checkpoint"
    sentence: ClassVar[str] = N_("{path}: {reason}.")
    remedy: ClassVar[str] = N_("Download the checkpoint again.")
    path: str
    reason: str


@dataclass(eq=False)
class UnknownQuantisation(ConvertError):
    """A quantisation name that the pinned llama.cpp does not have."""

    code: ClassVar[str] = "convert.unknown-quantisation"
    sentence: ClassVar[str] = N_("There is no quantisation '{name}'.")
    remedy: ClassVar[str] = N_("Similar: {near}.")
    name: str
    near: tuple[str, ...]


@dataclass(eq=False)
class ToolFailed(ConvertError):
    """One of llama.cpp's tools ended with an error; ``output`` is its last words."""

    code: ClassVar[str] = "convert.tool-failed"
    sentence: ClassVar[str] = N_("{tool} failed (status {status}): {output}.")
    remedy: ClassVar[str] = N_("The steps finished so far are kept; run the command again to resume.")
    tool: str
    status: int
    output: str


@dataclass(eq=False)
class VerificationFailed(ConvertError):
    """The finished file did not pass its own check and was not put in place."""

    code: ClassVar[str] = "convert.verification-failed"
    sentence: ClassVar[str] = N_("The converted file failed verification: {reason}.")
    remedy: ClassVar[str] = N_("Nothing was written to the output path.")
    reason: str


# --- Native libraries and the engine --------------------------------------------------------------


class NativeError(KylinError):
    """llama.cpp's libraries or tools are missing or cannot be loaded."""

    code: ClassVar[str] = "native"


@dataclass(eq=False)
class LibrariesMissing(NativeError):
    """No build of llama.cpp was found; ``searched`` lists the directories."""

    code: ClassVar[str] = "native.missing"
    sentence: ClassVar[str] = N_("llama.cpp's libraries were not found in: {searched}.")
    remedy: ClassVar[str] = N_("In a checkout run 'make native'; otherwise reinstall kylin-gguf-engine.")
    searched: tuple[str, ...]


@dataclass(eq=False)
class LibraryLoadFailed(NativeError):
    """The libraries are there but do not load."""

    code: ClassVar[str] = "native.load-failed"
    sentence: ClassVar[str] = N_("{path} could not be loaded: {reason}.")
    remedy: ClassVar[str] = N_("'kylin-gguf doctor' shows what is missing.")
    path: str
    reason: str


class EngineError(KylinError):
    """A loaded model, or one being loaded, failed."""

    code: ClassVar[str] = "engine"


@dataclass(eq=False)
class LoadFailed(EngineError):
    """llama.cpp refused the model; ``reason`` is its own message."""

    code: ClassVar[str] = "engine.load-failed"
    sentence: ClassVar[str] = N_("{model} could not be loaded: {reason}.")
    remedy: ClassVar[str] = N_("'kylin-gguf info' checks the file; 'kylin-gguf doctor' the machine.")
    model: str
    reason: str


@dataclass(eq=False)
class WorkerDied(EngineError):
    """The process that held the model ended; the service goes on."""

    code: ClassVar[str] = "engine.worker-died"
    sentence: ClassVar[str] = N_("The process running {model} ended unexpectedly ({status}).")
    remedy: ClassVar[str] = N_("Ask again: it is started anew for the next request.")
    model: str
    status: str


@dataclass(eq=False)
class ContextFull(EngineError):
    """A prompt that does not fit. Counts in tokens."""

    code: ClassVar[str] = "engine.context-full"
    sentence: ClassVar[str] = N_("The prompt has {tokens} tokens and the context holds {limit}.")
    remedy: ClassVar[str] = N_("Shorten it, clear the conversation, or raise context_length.")
    tokens: int
    limit: int


@dataclass(eq=False)
class TemplateFailed(EngineError):
    """The model's chat template is missing, refused the messages, or broke the sandbox."""

    code: ClassVar[str] = "engine.template"
    sentence: ClassVar[str] = N_("The chat template of {model} failed: {reason}.")
    remedy: ClassVar[str] = N_("Send a plain prompt, or use another model.")
    model: str
    reason: str


@dataclass(eq=False)
class InvalidGrammar(EngineError):
    """A GBNF grammar that llama.cpp cannot parse."""

    code: ClassVar[str] = "engine.grammar"
    sentence: ClassVar[str] = N_("The grammar was refused: {reason}.")
    remedy: ClassVar[str] = N_("See the GBNF notes in docs/dbus-api.md.")
    reason: str


@dataclass(eq=False)
class DecodeFailed(EngineError):
    """llama_decode returned an error; ``status`` is its return value."""

    code: ClassVar[str] = "engine.decode"
    sentence: ClassVar[str] = N_("Decoding failed with status {status}.")
    remedy: ClassVar[str] = N_("Ask again; if it stays, lower context_length.")
    status: int


@dataclass(eq=False)
class Busy(EngineError):
    """A bounded resource is used up: requests, sessions, jobs."""

    code: ClassVar[str] = "engine.busy"
    sentence: ClassVar[str] = N_("Too many {what}: the limit is {limit}.")
    remedy: ClassVar[str] = N_("Wait for one to end, or cancel one.")
    what: str
    limit: int


# --- Commands, the bus, jobs ----------------------------------------------------------------------


class ActuatorError(KylinError):
    """The command catalogue or an interpretation failed."""

    code: ClassVar[str] = "actuator"


@dataclass(eq=False)
class CommandsInvalid(ActuatorError):
    """A command catalogue that breaks its schema."""

    code: ClassVar[str] = "actuator.catalogue-invalid"
    sentence: ClassVar[str] = N_("Command catalogue {name}: {where}: {reason}.")
    remedy: ClassVar[str] = N_("docs/command-catalogue.md describes the format.")
    name: str
    where: str
    reason: str


class BusError(KylinError):
    """The D-Bus side failed."""

    code: ClassVar[str] = "bus"


@dataclass(eq=False)
class ServiceUnavailable(BusError):
    """The service does not run and could not be started."""

    code: ClassVar[str] = "bus.service-unavailable"
    sentence: ClassVar[str] = N_("The kylin-gguf service is not available: {reason}.")
    remedy: ClassVar[str] = N_("Start it with 'kylin-gguf serve' to see why, or run 'kylin-gguf doctor'.")
    reason: str


@dataclass(eq=False)
class AccessDenied(BusError):
    """An object that belongs to another connection."""

    code: ClassVar[str] = "bus.access-denied"
    sentence: ClassVar[str] = N_("{path} belongs to another client.")
    remedy: ClassVar[str] = N_("Create an object of your own.")
    path: str


@dataclass(eq=False)
class UnknownObject(BusError):
    """An object path, interface or member that does not exist (any more)."""

    code: ClassVar[str] = "bus.unknown-object"
    sentence: ClassVar[str] = N_("There is no {what} on the bus.")
    remedy: ClassVar[str] = N_("It may have been closed; see docs/dbus-api.md.")
    what: str


@dataclass(eq=False)
class PropertyReadOnly(BusError):
    """An attempt to set a property that only this service changes."""

    code: ClassVar[str] = "bus.property-read-only"
    sentence: ClassVar[str] = N_("The property {name} is read-only.")
    remedy: ClassVar[str] = N_("See docs/dbus-api.md for the methods that change it.")
    name: str


@dataclass(eq=False)
class FdPassingMissing(BusError):
    """A client asked for a stream without having negotiated file-descriptor passing."""

    code: ClassVar[str] = "bus.no-fd-passing"
    sentence: ClassVar[str] = N_("Your connection cannot receive file descriptors.")
    remedy: ClassVar[str] = N_("Negotiate Unix fd passing, or call Complete.")


@dataclass(eq=False)
class Cancelled(KylinError):
    """The work was cancelled by its owner."""

    code: ClassVar[str] = "cancelled"
    sentence: ClassVar[str] = N_("Cancelled.")
