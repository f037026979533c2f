"""Hold the planner's memory estimate against what a worker reports.

    python -m bench.offload.accuracy [--model FILE ...] [--vulkan | --cuda] [--contexts 1024,4096,...]
    python -m bench.offload.accuracy --table RECORD ...

Loads each model in a real worker for each context: on the CPU, and with --vulkan or --cuda with all and with
half of the layers on the back end's first device. Mesa's software device will do for Vulkan, with
GGML_VK_VISIBLE_DEVICES=0. Without
--model it takes ``MEASURED`` of ``bench.offload.shapes``, for Vulkan with a small vocabulary and half the
experts, since lavapipe takes no tensor larger than 128 MiB. Writes
bench/results/MACHINE/offload-accuracy-*.json after each model and prints a line for each load.
Exit status 1 when an estimate is off by more than 5 % and more than 64 MB. With --table, prints what such
files hold as the table of docs/offload.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench import record
from bench.offload import shapes
from kylin_gguf import config, gguf_info
from kylin_gguf.engine.process import EngineProcess, Listeners
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.offload import machine
from kylin_gguf.offload.estimate import OVERHEAD, Estimator, Layout, Memory, Run
from kylin_gguf.records import InstalledModel, Placement, Settings, Share

SHARE, BYTES = 0.05, 64_000_000
"""How far off an estimate may be: the larger of the two."""
CONTEXTS = "1024,4096,16384,32768"
SMALL_VOCABULARY = 32768
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One load, in bytes. ``reported`` are llama.cpp's buffers: all but the mapped file. ``process`` is the
    worker's private memory before its first prompt, which touches what of the buffers it needs; those of a
    software device are in it, too. It is told and not judged."""

    model: str
    context: int
    layers: int
    estimated: int
    reported: int
    process: int

    @property
    def holds(self) -> bool:
        """Whether the estimate is within the bound."""
        return abs(self.estimated - self.reported) <= max(SHARE * self.reported, BYTES)


async def measure(
    info: GgufInfo, context: int, share: Share | None, found: machine.Machine, settings: Settings
) -> Row:
    """Load the file of ``info`` and compare."""
    path = info.path
    run = Run(context, Placement.batch_size, settings.sequences)
    layers = (share.layers,) if share else ()
    expected = Estimator(info, run, found.processor).memory(Layout(layers))
    placement = Placement(
        gpu_layers=sum(layers),
        context_length=context,
        threads=found.cores,
        sequences=settings.sequences,
        layers=info.layers,
        shares=(share,) if share else (),
    )
    listeners = Listeners(lambda _: None, lambda: None, lambda _: None)
    model = InstalledModel(path.stem, path, info.file_size, False)
    engine = await EngineProcess.start(model, placement, settings, listeners)
    private, buffers = engine.memory().private, engine.buffers
    await engine.stop()
    on_devices = sum(use.total for use in expected.devices)
    return Row(
        path.stem,
        context,
        sum(layers),
        _buffers(expected) + on_devices,
        sum(sum(sizes.values()) for name, sizes in buffers.items() if not name.endswith("_Mapped")),
        private,
    )


def _buffers(expected: Memory) -> int:
    """Return what should be in buffers of llama.cpp's own in RAM: not pages of the file, not the process."""
    return expected.private - OVERHEAD


def models(scratch: Path, *, small: bool) -> Iterator[Path]:
    """Write the shapes and yield them."""
    for name in shapes.MEASURED:
        shape = shapes.SHAPES[shapes.SMALL_TENSORS.get(name, name) if small else name]()
        if small:
            shape = replace(shape, vocabulary=SMALL_VOCABULARY)
        yield shapes.write(shape, scratch / f"{name}.gguf")


def table(records: Iterable[Path]) -> Iterator[str]:
    """Yield the lines of a Markdown table of what ``records`` hold."""
    differences: dict[tuple[str, str], dict[int, Row]] = {}
    for path in records:
        backend = path.stem.removeprefix("offload-accuracy-")
        for item in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            row = Row(**item)
            where = f"{backend}, {row.layers} layers" if row.layers else backend
            differences.setdefault((row.model, where), {})[row.context] = row
    contexts = sorted({context for rows in differences.values() for context in rows})
    yield f"| model | where | taken, MiB | {' | '.join(f'{context:,}' for context in contexts)} |"
    yield f"|---|---|--:|{'--:|' * len(contexts)}"
    for (model, where), rows in sorted(differences.items()):
        taken = [round(row.reported / MIB) for row in rows.values()]
        off = [f"{(rows[context].estimated - rows[context].reported) / MIB:+.1f}" for context in contexts]
        yield f"| {model} | {where} | {min(taken):,} to {max(taken):,} | {' | '.join(off)} |"


async def main() -> int:
    """Measure everything; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", action="append", type=Path, default=[])
    for backend in ("vulkan", "cuda"):
        parser.add_argument(
            f"--{backend}", dest="backend", action="store_const", const=backend, default="cpu"
        )
    parser.add_argument("--contexts", default=CONTEXTS)
    parser.add_argument("--table", nargs="+", type=Path)
    chosen = parser.parse_args()
    if chosen.table:
        print(*table(chosen.table), sep="\n")
        return 0
    settings = replace(config.load(), prefix_cache_mb=0, speculation="off")
    found = machine.probe(settings)
    device = next((d.name for d in found.devices if d.name.lower().startswith(chosen.backend)), None)
    if device is None:
        sys.exit(f"There is no {chosen.backend} device: see the top of this file.")
    rows = []
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-shapes-") as scratch:
        for path in chosen.model or models(Path(scratch), small=chosen.backend == "vulkan"):
            info = gguf_info.read(path)
            counts = [info.layers + 1, info.layers // 2] if chosen.backend != "cpu" else [0]
            for context in map(int, chosen.contexts.split(",")):
                for count in counts:
                    share = Share(str(device), count) if count else None
                    row = await measure(info, context, share, found, settings)
                    rows.append(row)
                    _print(row)
            _write(f"offload-accuracy-{chosen.backend}", rows)
    return 0 if all(row.holds for row in rows) else 1


def _write(name: str, rows: list[Row]) -> None:
    measured_on = record.machine()
    written = {"taken": record.now(), "machine": measured_on, "versions": record.versions()}
    content = written | {"rows": [asdict(row) for row in rows]}
    path = record.folder(measured_on) / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _print(row: Row) -> None:
    sizes = "".join(f"{size / MIB:10.1f}" for size in (row.estimated, row.reported, row.process))
    off = f"{(row.estimated - row.reported) / MIB:+8.1f}"
    print(
        f"{row.model:22} {row.context:6} {row.layers:3} {sizes} {off}{'' if row.holds else '  OFF'}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
