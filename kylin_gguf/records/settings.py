"""The settings of the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kylin_gguf.records.models import KvType, LoadMode, Use
from kylin_gguf.records.power import PowerMode


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
    context_fit: Literal["keep", "shrink"] = "keep"
    """shrink: where there is no memory for the context, it is halved until there is."""
    use: Use = "chat"
    """The request that placements are weighed by."""
    threads: int = 0
    """0: one a physical core within the cgroup's quota."""
    gpu_layers: int = -1
    """-1: as the planner decides; 0: CPU only."""
    device: str = ""
    """The only devices to use, by name, separated by commas, or ``cpu``; empty: as the planner decides."""
    gpu_memory_mb: int = 0
    """Most megabytes of each GPU to use; 0: what is free, less a margin."""
    rpc_workers: tuple[str, ...] = ()
    """Other machines that lend devices, each HOST:PORT."""
    sequences: int = 8
    load_mode: LoadMode | Literal["auto"] = "auto"
    kv_type: KvType = "f16"
    speculation: Literal["auto", "off"] = "auto"
    """auto: tokens are guessed where a trial has shown that answers come faster so."""
    power: PowerMode = "auto"
    """auto: on battery, and where the desktop or heat asks for it, threads are chosen by the joules of a
    token."""
    prefix_cache_mb: int = 512
    """Megabytes of prefixes kept on disk for the next start; 0: none."""
    idle_unload_s: float = 300.0
    idle_exit_s: float = 600.0
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
