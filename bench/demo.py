"""``make demo``: the whole product on a real model, as a user would use it, and what it costs.

Everything goes through the command line and a bus of the demo's own, so nothing that runs already is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kylin_gguf import catalogue, config
from kylin_gguf.store import Store

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "demo"
CHATS = ("Why is the sky blue? Answer in two sentences.", "你好,请用一句话介绍一下你自己。")
REQUESTS = ("把音量调到百分之四十", "turn off bluetooth", "今天上班好累啊")
START_SECONDS = 30

console = Console()


@dataclass
class Figures:
    """What the demo measured; times in seconds."""

    convert_s: float
    first_token_s: list[float]
    decode_tokens_per_s: list[float]
    act_ms: list[float]


def say(text: str) -> None:
    """Print a headline."""
    console.print(f"\n[bold]{text}[/]")


def show_command(arguments: Sequence[str]) -> list[str]:
    """Print the command as a user would type it; return what to run."""
    typed = " ".join(f'"{a}"' if " " in a or not a.isascii() else a for a in arguments)
    console.print(f"[dim]$ kylin-gguf {typed}[/]", highlight=False, soft_wrap=True)
    return [str(Path(sys.executable).parent / "kylin-gguf"), *arguments]


def run(*arguments: str) -> None:
    """Run a command of ours and show what it shows; end the demo if it fails."""
    subprocess.run(show_command(arguments), check=True)


def lines(*arguments: str) -> Iterator[dict[str, Any]]:
    """Run a command of ours with ``--json`` and yield its objects as they come."""
    with subprocess.Popen(show_command(arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)


def convert() -> tuple[Path, float]:
    """Pull the default model and quantise it; return the file and the seconds that took."""
    say("1. A model: pulled, converted with an importance matrix, verified")
    run("pull")
    settings = config.load()
    known = catalogue.load(settings.catalogue)
    store = Store(settings, known)
    model = store.default()
    manifest = store.manifest(model)
    source = str(model.path)
    if manifest and manifest.source.startswith(("huggingface", "modelscope")):
        source = known.get(model.name).recipe.original
    else:
        console.print(
            "No model hub was reachable: the packaged file is converted again, from its own precision."
        )
    target = OUTPUT / f"{model.name}-Q4_K_M.gguf"
    if target.exists():
        console.print(f"Converted before: {target}")
        return target, 0.0
    OUTPUT.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    run("convert", source, "--quant", "Q4_K_M", "-o", str(target))
    return target, time.perf_counter() - began


@contextmanager
def service() -> Iterator[None]:
    """Run the service on a bus of its own; both write their log to build/demo/service.log."""
    runtime = Path(tempfile.mkdtemp(prefix="kylin-gguf-demo-"))
    log = (OUTPUT / "service.log").open("wb")
    command = [
        "dbus-daemon",
        "--session",
        "--nofork",
        "--print-address",
        f"--address=unix:path={runtime}/bus",
    ]
    bus = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert bus.stdout is not None
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
    os.environ["KYLIN_GGUF_RUNTIME_DIR"] = str(runtime)
    daemon = subprocess.Popen(show_command(["serve"]), stderr=log)
    try:
        wait_for_service(daemon)
        yield
    finally:
        for process in (daemon, bus):
            process.terminate()
            process.wait()
        log.close()
        shutil.rmtree(runtime)


def wait_for_service(daemon: subprocess.Popen[bytes]) -> None:
    """Return once the service has its name on the bus."""
    name = "org.openkylin.GgufEngine1"
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(["gdbus", "wait", "--session", "--timeout", "1", name], check=False).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the service did not start; {OUTPUT / 'service.log'} says why")


def chat(model: Path, figures: Figures) -> None:
    """Ask once in English and once in Chinese, streaming."""
    say("3. Chat, streamed over a file descriptor")
    for question in CHATS:
        for frame in lines("chat", question, "-m", str(model), "--max-tokens", "96", "--seed", "7", "--json"):
            if frame["type"] == "text":
                console.print(frame["text"], end="", markup=False, highlight=False, soft_wrap=True)
            elif frame["type"] == "usage":
                figures.first_token_s.append(frame["first_token_s"])
                figures.decode_tokens_per_s.append(frame["decode_tokens_per_s"])
        console.print()


def act(model: Path, figures: Figures) -> None:
    """Interpret two requests and one sentence that asks for nothing."""
    say("4. System commands: always one of the catalogue, or null")
    for utterance in REQUESTS:
        for answer in lines("act", "--json", utterance, "-m", str(model)):
            shown = {key: answer[key] for key in ("command", "arguments", "kylin", "confidence")}
            console.print_json(json.dumps(shown, ensure_ascii=False), indent=None)
            figures.act_ms.append(answer["ms"]["total"])
            if (answer["command"] is None) != (utterance == REQUESTS[-1]):
                raise SystemExit(f"unexpected answer to {utterance}: {answer}")


def table(model: Path, figures: Figures) -> None:
    """Print the figures."""
    (status,) = lines("status", "--json")
    (loaded,) = status["LoadedModels"]
    say("5. What it cost")
    grid = Table("figure", "value")
    size = model.stat().st_size / 1e6
    grid.add_row("model file", f"{model.name}, {size:.1f} MB")
    converted = f"{figures.convert_s:.1f} s" if figures.convert_s else "done before"
    grid.add_row("conversion", converted)
    grid.add_row("load time", f"{loaded['load_s']:.2f} s")
    for language, first, rate in zip(
        ("English", "Chinese"), figures.first_token_s, figures.decode_tokens_per_s, strict=True
    ):
        grid.add_row(f"{language}: time to first token", f"{first * 1000:.0f} ms")
        grid.add_row(f"{language}: decode", f"{rate:.1f} tokens/s")
    grid.add_row("command, slowest of three", f"{max(figures.act_ms):.0f} ms")
    grid.add_row("memory of the worker", f"{loaded['memory'] / 1e6:.0f} MB resident")
    console.print(grid)


def main() -> None:
    """Run the demo from beginning to end."""
    target, seconds = convert()
    figures = Figures(seconds, [], [], [])
    say("2. The service, on a bus")
    with service():
        chat(target, figures)
        act(target, figures)
        table(target, figures)


if __name__ == "__main__":
    main()
