"""How long the converter's steps take and how much memory, beside the same of llama.cpp's own tools.

With a Hugging Face folder in ``KYLIN_BENCH_CHECKPOINT``, llama.cpp's source in ``KYLIN_BENCH_UPSTREAM`` and a
Python that has torch in ``KYLIN_BENCH_TORCH_PYTHON``, the step from the checkpoint to an unquantised file is
measured, too, and the others read that file. ``KYLIN_BENCH_TOOLS`` is a directory with llama.cpp's tools as
upstream has them; without it they are those that we use, our patches included. They run as upstream's
documentation runs them, so that llama-imatrix computes the perplexity, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from bench.case import OURS, Bar, Case, Contender, Figure, Prepared, Sample, Unfair, Wanted
from kylin_convert import imatrix
from kylin_convert.tools import Toolbox
from kylin_gguf import config, native

UPSTREAM = "llama.cpp's tools"
_QUANTISATION = "Q4_K_M"
_STEPS = ("write", "imatrix", "quantise")
_MEBI = 1 << 20


@contextlib.asynccontextmanager
async def _prepare(wanted: Wanted) -> AsyncIterator[Prepared]:
    settings = config.load({"threads": wanted.threads} if wanted.threads else {})
    with tempfile.TemporaryDirectory(dir=settings.cache_dir) as folder:
        chunks = wanted.parameters["chunks"]
        bench = _Bench(wanted.model.path, Path(folder), Toolbox(settings, Path(folder)), chunks)
        # Ours goes first: upstream's tools read the text that it leaves.
        contenders = {
            OURS: Contender(lambda _: asyncio.to_thread(bench.sample, bench.ours())),
            UPSTREAM: Contender(lambda _: asyncio.to_thread(bench.sample, bench.upstream())),
        }
        conditions = {
            "threads": bench.toolbox.threads,
            "sampling": "none",
            "quantisation": _QUANTISATION,
            "upstream_tools": "a build of their own" if os.environ.get("KYLIN_BENCH_TOOLS") else "ours",
        }
        yield Prepared(contenders, conditions)


class _Bench:
    def __init__(self, model: Path, folder: Path, toolbox: Toolbox, chunks: int) -> None:
        self._model, self._folder, self.toolbox, self._chunks = model, folder, toolbox, str(chunks)

    def sample(self, commands: Mapping[str, Sequence[str]]) -> Sample:
        """Run the steps one after the other; return the seconds and the peak memory of each."""
        figures: dict[str, float] = {}
        for step, command in commands.items():
            seconds, peak = self._measured(command)
            figures |= {f"{step}_s": seconds, f"{step}_rss": peak / _MEBI}
        figures["total_s"] = sum(figures[f"{step}_s"] for step in commands)
        return Sample(figures)

    def ours(self) -> dict[str, Sequence[str]]:
        """Return the commands of our steps."""
        module, folder = (sys.executable, "-m", "bench.convert_steps"), str(self._folder)
        steps: dict[str, Sequence[str]] = {}
        model = str(self._model)
        if checkpoint := os.environ.get("KYLIN_BENCH_CHECKPOINT"):
            model = str(self._folder / "ours-unquantised.gguf")
            steps["write"] = (*module, "write", checkpoint, model, _QUANTISATION)
        steps["imatrix"] = (*module, "imatrix", model, folder, self._chunks)
        steps["quantise"] = (*module, "quantise", model, folder, _QUANTISATION)
        return steps

    def upstream(self) -> dict[str, Sequence[str]]:
        """Return the commands of upstream's: the same text, as many chunks, the same mix."""
        tools = Path(os.environ.get("KYLIN_BENCH_TOOLS") or native.find(self.toolbox.settings).directory)
        threads, size = str(self.toolbox.threads), str(imatrix.CONTEXT)
        steps: dict[str, Sequence[str]] = {}
        model = str(self._model)
        checkpoint, python = (
            os.environ.get(f"KYLIN_BENCH_{name}") for name in ("CHECKPOINT", "TORCH_PYTHON")
        )
        if checkpoint and python:
            script = str(Path(os.environ["KYLIN_BENCH_UPSTREAM"]) / "convert_hf_to_gguf.py")
            model = str(self._folder / "theirs-unquantised.gguf")
            steps["write"] = (python, script, checkpoint, "--outfile", model)
        matrix, text = str(self._folder / "theirs-imatrix.gguf"), str(self._folder / "corpus.txt")
        steps["imatrix"] = (
            *(str(tools / "llama-imatrix"), "-m", model, "-f", text, "-o", matrix, "-t", threads),
            *("-c", size, "-b", size, "--chunks", self._chunks, "--parse-special", "--no-escape"),
        )
        files = (model, str(self._folder / "theirs.gguf"))
        steps["quantise"] = (
            *(str(tools / "llama-quantize"), "--imatrix", matrix, *files, _QUANTISATION, threads),
        )
        return steps

    def _measured(self, command: Sequence[str]) -> tuple[float, int]:
        """Return how long ``command`` ran and the largest resident set among it and its children, in bytes.

        Raises:
            Unfair: it failed.
        """
        log = self._folder / "log"
        with log.open("wb") as output:
            started = time.monotonic()
            child = os.posix_spawn(
                command[0],
                list(command),
                {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
                file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), number) for number in (1, 2)],
            )
            _, status, usage = os.wait4(child, 0)
        if status:
            raise Unfair(f"{command[0]} failed: {log.read_text(errors='replace')[-300:]}")
        return time.monotonic() - started, usage.ru_maxrss * 1024  # getrusage(2): kilobytes


CASE = Case(
    name="convert/steps",
    measures=f"from a checkpoint to {_QUANTISATION}: each step's time and peak memory, mapped files included",
    figures=(
        *(Figure(f"{step}_s", "s", "lower", f"{step}: wall time") for step in _STEPS),
        *(Figure(f"{step}_rss", "MiB", "lower", f"{step}: peak resident set") for step in _STEPS),
        Figure("total_s", "s", "lower", "all steps, without our verification, which upstream's have not"),
    ),
    bars=(Bar("total_s", 1.0, UPSTREAM), Bar("write_rss", 0.5, UPSTREAM)),
    prepare=_prepare,
    parameters={"chunks": imatrix.MAX_CHUNKS},
    rounds=1,
    least_rounds=1,
    warm_up=False,
)
