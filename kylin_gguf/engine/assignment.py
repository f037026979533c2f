"""What a worker process is started for: a model that it holds, or one that it asks a server for."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kylin_gguf.engine import environment
from kylin_gguf.engine.channel import Payload
from kylin_gguf.engine.child import Program
from kylin_gguf.records import InstalledModel, Model, Placement, RemoteModel, Settings


@dataclass(frozen=True)
class Assignment:
    """``load`` is the first message that the worker gets; a model that is not here has no ``placement``."""

    model: Model
    placement: Placement | None
    program: Program
    load: Payload


def held(model: InstalledModel, placement: Placement, settings: Settings) -> Assignment:
    """Have ``model`` loaded as ``placement`` says, without other back ends if it is all on the processor."""
    options = () if placement.shares else ("--processor-only",)
    program = Program("kylin_gguf.engine", options, environment.for_worker(os.environ, settings.native_dirs))
    load = {
        "op": "load",
        "path": str(model.path),
        "placement": placement.to_json(),
        "cache_dir": str(settings.cache_dir),
        "prefix_bytes": settings.prefix_cache_mb * 1_000_000,
        "speculate": settings.speculation == "auto",
    }
    return Assignment(model, placement, program, load)


def asked_for(model: RemoteModel) -> Assignment:
    """Have ``model``'s server asked."""
    program = Program("kylin_gguf.engine.remote", (), environment.for_remote(os.environ, model.token_env))
    return Assignment(model, None, program, {"op": "load", "model": model.to_json()})
