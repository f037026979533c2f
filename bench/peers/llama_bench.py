"""llama.cpp's ``llama-bench``: the bare decode loop, without sampling, text or anyone to send it to."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench import processes
from kylin_gguf import config, native
from kylin_gguf.records import InstalledModel


async def decode_tokens_per_s(
    model: InstalledModel,
    threads: int,
    tokens: int,
    depth: int,
    environment: Mapping[str, str] | None = None,
) -> float:
    """Return the speed of decoding ``tokens`` tokens after ``depth`` tokens of context."""
    tool = native.find(config.load()).tool("llama-bench")
    options = f"-p 0 -n {tokens} -d {depth} -t {threads} -r 1 -o json".split()
    with tempfile.TemporaryDirectory(prefix="kylin-gguf-bench-") as empty:
        log = Path(empty, "log")
        async with processes.child(
            [tool, "-m", model.path, *options], log=log, cwd=empty, environment=environment, pipes=True
        ) as process:
            output, _ = await process.communicate()
        if process.returncode:
            raise SystemExit(f"llama-bench failed: {processes.tail(log)}")
    (result,) = json.loads(output)
    return float(result["avg_ts"])
