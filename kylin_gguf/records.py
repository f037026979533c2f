"""Plain records that cross module borders. Standard library only; all frozen.

Sizes are bytes, durations seconds, rates tokens per second unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from kylin_gguf.errors import InvalidValue, UnknownOption

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True)
class Progress:
    """How far a piece of long work has come. ``total`` is 0 while it is not known."""

    stage: str
    done: int
    total: int = 0
    unit: str = "bytes"

    @property
    def fraction(self) -> float:
        """Share done, 0 to 1."""
        return self.done / self.total if self.total else 0.0


ProgressCallback = Callable[[Progress], None]


def no_progress(_: Progress) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read ``{"role", "content"}``; raises InvalidValue for anything else."""
        role, content = value.get("role"), value.get("content")
        if role not in ROLES or not isinstance(content, str) or len(value) != 2:  # noqa: PLR2004
            raise InvalidValue(
                "message", str(dict(value))[:80], "role (system, user or assistant) and content"
            )
        return cls(role, content)

    def to_json(self) -> dict[str, str]:
        """Return the JSON object that ``from_json`` reads."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn; names and ranges as in llama.cpp's samplers.

    ``temperature`` 0 is greedy and exact. ``seed`` -1 draws a fresh one. ``grammar`` is GBNF.
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.1
    repeat_last_n: int = 64
    seed: int = -1
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    grammar: str = ""

    _RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {
        "temperature": (0.0, 5.0),
        "top_k": (0, 1_000_000),
        "top_p": (0.0, 1.0),
        "min_p": (0.0, 1.0),
        "repeat_penalty": (0.1, 10.0),
        "repeat_last_n": (0, 65_536),
        "seed": (-1, 2**32 - 1),
        "max_tokens": (1, 1_000_000),
    }

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the option names, in order."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from untrusted ``options``.

        Raises:
            UnknownOption: a name is not one of ours.
            InvalidValue: a value has the wrong type or range.
        """
        values = {name: cls._checked(name, value) for name, value in options.items()}
        return cls(**values)

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        if name not in cls.names():
            raise UnknownOption(name, cls.names())
        if name == "grammar":
            if not isinstance(value, str):
                raise InvalidValue(name, repr(value), "a GBNF grammar as text")
            return value
        if name == "stop":
            if not isinstance(value, list | tuple) or not all(isinstance(s, str) and s for s in value):
                raise InvalidValue(name, repr(value), "a list of non-empty strings")
            return tuple(value)
        low, high = cls._RANGES[name]
        wanted = float if isinstance(low, float) else int
        if isinstance(value, bool) or not isinstance(value, int | wanted) or not low <= value <= high:
            raise InvalidValue(name, repr(value), f"a number from {low} to {high}")
        return wanted(value)

    def to_json(self) -> dict[str, Any]:
        """Return the options as a JSON object that ``from_options`` reads."""
        return asdict(self)


@dataclass(frozen=True)
class Usage:
    """What one request cost. Times are seconds from the request's arrival in the worker."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_s: float
    total_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; rates and times rounded to what is meaningful."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


DeviceKind = Literal["cpu", "gpu", "igpu", "accel"]


@dataclass(frozen=True)
class Device:
    """One device of a ggml back end (ggml_backend_dev_get_props); memory in bytes, 0 where unknown."""

    name: str
    description: str
    kind: DeviceKind
    memory_total: int
    memory_free: int


@dataclass(frozen=True)
class FailedPlugin:
    """A back end whose library is there but does not load, e.g. ``vulkan``; ``reason`` is llama.cpp's."""

    name: str
    reason: str


@dataclass(frozen=True)
class Placement:
    """What the offload planner decided for one model; the worker obeys it.

    ``reasons`` are sentences a user can read. ``batch_size`` is llama.cpp's n_batch (tokens per call).
    """

    gpu_layers: int
    context_length: int
    threads: int
    batch_size: int = 512
    sequences: int = 4
    mmap: bool = True
    repack: bool = True
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that ``from_json`` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``."""
        return cls(**{**value, "reasons": tuple(value.get("reasons", ()))})


@dataclass(frozen=True)
class InstalledModel:
    """A GGUF that is ready to load."""

    name: str
    path: Path
    size: int
    writable: bool
    """Whether ``rm`` may delete it: False for system-wide models and plain paths."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that a worker process holds right now. ``memory`` is the worker's resident set."""

    name: str
    path: Path
    pid: int
    load_s: float
    memory: int
    placement: Placement


@dataclass(frozen=True)
class ScoreRequest:
    """Ask a model how well each of ``continuations`` follows ``messages`` as the assistant's turn.

    The KV cache of whatever prefix two consecutive requests share is kept, so put what stays the same
    first. Used by the actuator, which turns scores into a command.
    """

    messages: tuple[Message, ...]
    continuations: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """The answer to a ScoreRequest.

    ``logprobs[i]`` is the natural logarithm of the probability of ``continuations[i]`` among the given
    continuations only: at each branching node of their token trie the softmax is restricted to that
    node's children, and forced tokens cost nothing. So ``sum(exp(logprobs)) == 1``.
    """

    logprobs: tuple[float, ...]
    prefill_ms: float
    score_ms: float


@dataclass(frozen=True)
class Settings:
    """Every setting of the runtime. Built by ``config.load``; see docs/configuration.md.

    ``origins`` names, for each field, where its value came from: ``default``, a file, or a variable.
    """

    models_dir: Path
    system_model_dirs: tuple[Path, ...]
    cache_dir: Path
    state_dir: Path
    runtime_dir: Path
    catalogue: Path
    commands_dirs: tuple[Path, ...]
    native_dirs: tuple[Path, ...]
    default_model: str = ""
    """Empty: the first installed model of the catalogue's default list."""
    context_length: int = 4096
    threads: int = 0
    """0: one a physical core within the cgroup's quota."""
    gpu_layers: int = -1
    """-1: as the planner decides; 0: CPU only."""
    sequences: int = 4
    idle_unload_s: float = 300.0
    idle_exit_s: float = 600.0
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
