"""How far is a graphics processor from the processor, and each of them from exact arithmetic?

    python -m bench.rounding [--from processor|exact] [--model NAME] [--pieces N]

The device is what llama.cpp offers by itself. With Mesa's software driver, which needs no graphics card,
set GGML_VK_VISIBLE_DEVICES=0. The yardstick is what the processor computes, or, for exact, what it computes
with the same weights in 32 bits: then it rounds no activations. Writes
bench/results/MACHINE/rounding-from-YARDSTICK.json and prints a table. Exit status 1 when the device strays
too far.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import record
from bench.divergence import POSITIONS, Probe, Way, divergence, write_base, write_exact
from kylin_convert import calibration
from kylin_gguf import catalogue, config, gguf_info, native
from kylin_gguf.offload import machine
from kylin_gguf.records import InstalledModel, Settings
from kylin_gguf.store import Store

BOUND = 0.01
"""Mean divergence (Kullback-Leibler, in nats) that still counts as rounding, as between CPU variants."""

# Without this the processor would hand large products to the device even when no layer is there.
_PROCESSOR = ("--device", "none")
_DEVICE = ("-ngl", "99")
_SINGLE = {"GGML_VK_DISABLE_F16": "1"}


def write_text(model: InstalledModel, target: Path) -> None:
    """Write the text to compute: what the converter holds out, and what it calibrates with."""
    shipped = calibration.shipped(gguf_info.read(model.path))
    target.write_text(calibration.held_out("en").text + shipped.text, encoding="utf-8")


def measure(libraries: Path, model: InstalledModel, yardstick: str, pieces: int) -> dict[str, Any]:
    """Return for each way how far it is from the ``yardstick``, with the seconds that it took."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as scratch:
        weights, base = Path(scratch, "exact.gguf"), Path(scratch, "base")
        probe = Probe(Path(scratch, "text"), pieces)
        write_text(model, probe.text)
        processor = Way(libraries, model.path, _PROCESSOR)
        ways = {"device": Way(libraries, model.path, _DEVICE)}
        if yardstick == "exact":
            write_exact(libraries, model.path, weights)
            ways["processor"] = processor
            ways["device, single precision"] = Way(libraries, model.path, _DEVICE, _SINGLE)
            ways["device, weights of 32 bits"] = Way(libraries, weights, _DEVICE)
        write_base(Way(libraries, weights, _PROCESSOR) if yardstick == "exact" else processor, probe, base)
        for name, way in ways.items():
            started = time.monotonic()
            found[name] = {**divergence(way, probe, base), "seconds": round(time.monotonic() - started, 1)}
            print(f"{name}: {found[name]}", file=sys.stderr)
    return {"from": yardstick, "positions": pieces * POSITIONS, "ways": found}


def table(ways: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    lines = ["| way | divergence, mean | largest | same top token |", "|---|--:|--:|--:|"]
    for name, figures in ways.items():
        lines.append(
            f"| {name} | {figures['mean']:.6f} | {figures['largest']:.6f} | {figures['same']:.1f} % |"
        )
    return "\n".join(lines)


def device_name(settings: Settings) -> str:
    """Return what the device is called.

    Raises:
        SystemExit: there is none, or there are several, whose shares nobody could tell apart.
    """
    names = [device.description for device in machine.probe(settings).devices if device.kind != "cpu"]
    if len(names) != 1:
        raise SystemExit(f"bench.rounding: one device is needed; found: {names}")
    return names[0]


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare a graphics processor with exact arithmetic.")
    parser.add_argument("--from", dest="yardstick", choices=["processor", "exact"], default="processor")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--pieces", type=int, default=32, help="of 128 tokens each; at least 2")
    chosen = parser.parse_args()
    settings = config.load()
    model = Store(settings, catalogue.load(settings.catalogue)).resolve(chosen.model)
    written: dict[str, Any] = {
        "taken": record.now(),
        "machine": record.machine(),
        "device": device_name(settings),
        "versions": record.versions(),
        "model": record.describe(model),
        **measure(native.find(settings).directory, model, chosen.yardstick, chosen.pieces),
    }
    path = record.folder(written["machine"]) / f"rounding-from-{chosen.yardstick}.json"
    path.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{table(written['ways'])}\n\nwritten to {path}")
    return 1 if written["ways"]["device"]["mean"] > BOUND else 0


if __name__ == "__main__":
    sys.exit(main())
