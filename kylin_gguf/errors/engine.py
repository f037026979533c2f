"""Native libraries and loaded models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kylin_gguf.errors.base import KylinError
from kylin_gguf.translation import N_


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


@dataclass(eq=False)
class DeviceMissing(NativeError):
    """A device that no back end has; ``known`` are those that there are."""

    code: ClassVar[str] = "native.device-missing"
    sentence: ClassVar[str] = N_("There is no device {name}; there are: {known}.")
    remedy: ClassVar[str] = N_("'kylin-gguf devices' lists them, and those that failed with the reason.")
    name: str
    known: tuple[str, ...]


@dataclass(eq=False)
class PluginMissing(NativeError):
    """A back end that was asked for, and that a package of its own brings."""

    code: ClassVar[str] = "native.plugin-missing"
    sentence: ClassVar[str] = N_("The back end {name} is not installed.")
    remedy: ClassVar[str] = N_(
        "Install the package kylin-gguf-engine-{name}; in a checkout run 'make native PRESET={name}'."
    )
    name: str


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
class OutOfMemory(LoadFailed):
    """There was not enough memory, on the machine or on a device, for the model or its context."""

    code: ClassVar[str] = "engine.out-of-memory"
    sentence: ClassVar[str] = N_("There is not enough memory for {model}: {reason}.")
    remedy: ClassVar[str] = N_("Close other programs, lower context_length, or use a smaller model.")


@dataclass(eq=False)
class WorkerDied(EngineError):
    """The process that held the model ended; the service goes on.

    ``status`` is the signal's name or the exit status; ``last_words`` what it wrote on standard error just
    before, such as an abort message of ggml, and empty if it wrote nothing; ``no_memory`` whether that says
    that memory ran out.
    """

    code: ClassVar[str] = "engine.worker-died"
    sentence: ClassVar[str] = N_("The process running {model} ended unexpectedly ({status}).")
    quoting: ClassVar[str] = N_(
        "The process running {model} ended unexpectedly ({status}); it last said: {last_words}."
    )
    remedy: ClassVar[str] = N_("Ask again: it is started anew for the next request.")
    model: str
    status: str
    last_words: str = ""
    no_memory: bool = False

    def wording(self) -> str:
        """Return the sentence with the last words, if there are any."""
        return self.quoting if self.last_words else self.sentence


@dataclass(eq=False)
class WorkerHung(EngineError):
    """The process that holds the model answered nothing for ``seconds``, and was killed."""

    code: ClassVar[str] = "engine.worker-hung"
    sentence: ClassVar[str] = N_(
        "The process running {model} gave no sign of life for {seconds} seconds and was ended."
    )
    remedy: ClassVar[str] = N_("Ask again: it is started anew. If it stays, suspect the graphics driver.")
    model: str
    seconds: int


@dataclass(eq=False)
class RestartDelayed(EngineError):
    """A model whose process died while loading ``failures`` times in a row and is left alone for a while.

    ``retry_s`` is how many seconds more; ``reason`` is the last death's message.
    """

    code: ClassVar[str] = "engine.restart-delayed"
    sentence: ClassVar[str] = N_(
        "{model} is not started again yet (failed starts in a row: {failures}). {reason}"
    )
    remedy: ClassVar[str] = N_("Try again in {retry_s} seconds; the service's log says more.")
    model: str
    failures: int
    retry_s: int
    reason: str


@dataclass(eq=False)
class ContextFull(EngineError):
    """A prompt that does not fit. Counts in tokens."""

    code: ClassVar[str] = "engine.context-full"
    sentence: ClassVar[str] = N_("The prompt has {tokens} tokens and the context has room for {limit}.")
    remedy: ClassVar[str] = N_("Shorten it, clear the conversation, or raise context_length.")
    tokens: int
    limit: int


@dataclass(eq=False)
class ConversationTooLong(EngineError):
    """A conversation beyond what a session keeps, whether the model could read it or not."""

    code: ClassVar[str] = "engine.conversation-too-long"
    sentence: ClassVar[str] = N_(
        "The conversation would have {messages} messages with {characters} characters; "
        "the limits are {max_messages} and {max_characters}."
    )
    remedy: ClassVar[str] = N_("Clear the conversation, or begin another one.")
    messages: int
    characters: int
    max_messages: int
    max_characters: int


@dataclass(eq=False)
class TextTooLong(EngineError):
    """A text to embed that the model does not take whole. Counts in tokens."""

    code: ClassVar[str] = "engine.text-too-long"
    sentence: ClassVar[str] = N_("The text “{beginning}…” has {tokens} tokens and the model takes {limit}.")
    remedy: ClassVar[str] = N_("Shorten it, or embed it in parts.")
    beginning: str
    tokens: int
    limit: int


@dataclass(eq=False)
class TemplateFailed(EngineError):
    """The model's chat template refused the messages, broke the sandbox, or took too much time or memory."""

    code: ClassVar[str] = "engine.template"
    sentence: ClassVar[str] = N_("The chat template of {model} failed: {reason}.")
    remedy: ClassVar[str] = N_("Use another model.")
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


@dataclass(eq=False)
class RemoteUnreachable(EngineError):
    """A server that should answer for a model cannot be reached, proves not to be it, or says nothing."""

    code: ClassVar[str] = "engine.remote-unreachable"
    sentence: ClassVar[str] = N_("{host}, which should answer for {model}, cannot be reached: {reason}.")
    remedy: ClassVar[str] = N_("Check the network and the entry in models.yaml, or use a local model.")
    model: str
    host: str
    reason: str


@dataclass(eq=False)
class RemoteFailed(EngineError):
    """A server that should answer for a model refused to, or gave no answer that can be used."""

    code: ClassVar[str] = "engine.remote-failed"
    sentence: ClassVar[str] = N_("{host} gave no usable answer for {model}: {reason}.")
    remedy: ClassVar[str] = N_("Check its token and model in models.yaml, or ask who runs it.")
    model: str
    host: str
    reason: str
