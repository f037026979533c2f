"""Models on disk and models loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

KvType = Literal["f16", "q8_0"]
"""How keys and values are stored: q8_0 takes half the memory for a divergence hardly measurable."""

SpeculationWay = Literal["measuring", "lookup", "off"]

SPARE_SEQUENCES = 64
"""Sequence ids beyond those of running requests, for prefixes that are kept.
llama.cpp allows 256 in all (LLAMA_MAX_SEQ) and keeps room for the logits of one token of each."""

LoadMode = Literal["instant", "throughput"]
"""``instant``: weights are mapped and used as they lie in the file. ``throughput``: they are read into memory
of the process, where pages are large, and repacked for this processor's kernels."""


Use = Literal["chat", "command", "document"]
"""What a model is mostly asked: questions and answers, short commands, or long texts."""


@dataclass(frozen=True)
class Share:
    """What one device gets of a model: ``layers``, and the bytes that the planner counts on there."""

    device: str
    layers: int
    memory: int = 0


@dataclass(frozen=True)
class Placement:
    """What the offload planner decided for one model; the worker obeys it.

    ``shares`` are the devices beside the processor, each with the layers that follow the ones before;
    ``gpu_layers`` is their sum, of ``layers`` and the output, which counts as one. The experts of the first
    ``ram_experts`` layers stay in RAM. ``reasons`` are sentences a user can read. ``batch_size`` is
    llama.cpp's n_batch (tokens per call).
    ``memory`` is the RAM that the planner counts on: weights, their repacked copy, KV cache, compute buffers;
    0 where that is not known. ``decode`` and ``prompt`` are the tokens a second that it expects of an answer
    and of a prompt, from what is known or guessed of the hardware; ``fits`` is False where RAM does not
    suffice and parts of the file will be read again and again.
    """

    gpu_layers: int
    context_length: int
    threads: int
    batch_size: int = 512
    sequences: int = 4
    mode: LoadMode = "throughput"
    kv_type: KvType = "f16"
    memory: int = 0
    layers: int = 0
    shares: tuple[Share, ...] = ()
    ram_experts: int = 0
    decode: float = 0.0
    prompt: float = 0.0
    fits: bool = True
    reasons: tuple[str, ...] = ()

    @property
    def in_memory(self) -> bool:
        """Whether all weights are read into memory of the worker's own, and none are used in the pages of the
        file, which can be dropped and read again."""
        return self.mode == "throughput" and self.fits and not self.shares

    @property
    def is_partial(self) -> bool:
        """Whether some of the model's layers, or experts, are computed from RAM."""
        return self.gpu_layers <= self.layers or self.ram_experts > 0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that ``from_json`` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``."""
        shares = tuple(Share(**share) for share in value.get("shares", ()))
        return cls(**{**value, "shares": shares, "reasons": tuple(value.get("reasons", ()))})


@dataclass(frozen=True)
class InstalledModel:
    """A GGUF that is ready to load."""

    name: str
    path: Path
    size: int
    writable: bool
    """Whether ``rm`` may delete it: False for system-wide models and plain paths."""

    @property
    def reference(self) -> str:
        """What finds this model again."""
        return str(self.path)


@dataclass(frozen=True)
class RemoteModel:
    """A model that a server elsewhere runs. It is used only where it is named.

    ``url`` is where the server's API begins, such as ``https://llm.example.org/v1``; ``model`` what the
    server calls the model. The server wants a token if one of ``token_file`` and ``token_env``, the name of
    an environment variable, says where that is; the token itself is in no record.
    """

    name: str
    title: str
    url: str
    model: str
    token_file: Path | None = None
    token_env: str = ""

    @property
    def reference(self) -> str:
        """What finds this model again."""
        return self.name

    @property
    def host(self) -> str:
        """The server, for people: its name, and its port if that is not the usual one."""
        return urlsplit(self.url).netloc

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that ``from_json`` reads."""
        return asdict(self) | {"token_file": str(self.token_file) if self.token_file else None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``."""
        token_file = value["token_file"]
        return cls(**{**value, "token_file": Path(token_file) if token_file else None})


Model = InstalledModel | RemoteModel


@dataclass(frozen=True)
class Speculation:
    """Whether a loaded model's tokens are guessed from the text before them and checked several at a time.

    ``gain`` is how many times faster the answers of a trial came with guesses; None until that is known.
    """

    way: SpeculationWay = "off"
    gain: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; what is not known is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class LoadedModel:
    """A model that a worker process holds right now, or that it asks a server for.

    ``memory`` is the worker's resident set, ``memory_private`` what of it is anonymous and goes with the
    worker, ``memory_mapped`` the pages of files, which other processes and the page cache share. One that is
    not on this machine has no ``path`` and no ``placement``.
    """

    name: str
    path: Path | None
    pid: int
    load_s: float
    memory: int
    memory_private: int
    memory_mapped: int
    placement: Placement | None
    speculation: Speculation
    buffers: Mapping[str, Mapping[str, int]]
    """By llama.cpp's buffer type, such as ``Vulkan0`` or ``CPU_REPACK``: bytes of ``model``, ``kv``, ``rs``
    (recurrent states), ``compute`` and ``output``."""
    remote: str = ""
    """The server that answers, for people; empty for a model on this machine."""

    @property
    def reference(self) -> str:
        """As the model's."""
        return str(self.path) if self.path else self.name
