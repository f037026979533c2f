"""Conversions that are killed at random moments, or whose disk fills up: resumed, they give the same bytes.

    python -m tests.e2e.crash_safety [--kills 50] [--full-disks 20] [--seed 1] [--several]

With ``--several`` the result is cut into several files.

Needs ``unshare`` for the disk, which is a file system of its own, in memory. Prints what happened where, and
raises when a file differs, half a one is seen, or the old output was touched.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kylin_gguf.gguf_info import shards
from tests import tiny_checkpoint as tiny

COMMAND = "from kylin_gguf.cli.app import main; main()"
OLD = b"the file that was there before"
_DISK_BYTES = 192 << 20
_LEFT_BYTES = 1 << 17
"""At most so much is left free when the disk fills up."""
_FILL_BYTES = 1 << 16
_ISOLATED = "KYLIN_GGUF_TEST_ISOLATED"


class Broken(AssertionError):
    """A promise that was not kept; says which."""


@dataclass
class Bench:
    """One place to convert in: a checkpoint, a cache, an output that exists already."""

    scratch: Path
    checkpoint: Path
    several: bool = False
    seen: Counter[str] = field(default_factory=Counter)
    """The stages in which runs ended, and how."""

    @property
    def output(self) -> Path:
        """Where the result goes, or the first of its files."""
        return self.scratch / "out" / self.names[0]

    @property
    def names(self) -> list[str]:
        """What the files of the result are called."""
        return shards.names("model", 3) if self.several else ["model.gguf"]

    def hash(self) -> str:
        """Return a hash over all files of the result; missing ones are empty."""
        paths = [self.output.with_name(name) for name in self.names]
        return hashlib.sha256(b"".join(path.read_bytes() for path in paths if path.exists())).hexdigest()

    def clear(self) -> None:
        """Forget all earlier work, and put an old file in the output's place."""
        subprocess.run(["rm", "-rf", self.scratch / "cache", self.scratch / "out"], check=True)
        self.output.parent.mkdir(parents=True)
        self.output.write_bytes(OLD)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """Run the conversion; its events come on stdout."""
        environment = {**os.environ, "KYLIN_GGUF_CACHE_DIR": str(self.scratch / "cache")}
        command = [sys.executable, "-c", COMMAND, "convert", str(self.checkpoint), "--quant", "Q3_K_M"]
        command += ["--output", str(self.output.with_name("model.gguf")), "--force", "--json"]
        command += ["--split-max-tensors", "8"] if self.several else []
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            yield process

    def finish(self) -> str:
        """Run to the end and return the hash of the result.

        Raises:
            Broken: it fails, or leaves more than the file and its manifest.
        """
        with self.running() as process:
            _, said = process.communicate()
        if process.returncode:
            raise Broken(f"a resumed run failed: {said}")
        names = sorted(path.name for path in self.output.parent.iterdir())
        if names != sorted([*self.names, f"{self.output.name}.json"]):
            raise Broken(f"beside the output: {names}")
        vouched = json.loads(self.output.with_name(f"{self.output.name}.json").read_text())["output"]["files"]
        for name in self.names:
            if vouched[name] != hashlib.sha256(self.output.with_name(name).read_bytes()).hexdigest():
                raise Broken(f"the manifest vouches for another {name}")
        return self.hash()

    def check_output(self, wanted: str) -> None:
        """The output is the old file or the whole new one. Of several files, the first may be missing.

        Raises:
            Broken: it is neither.
        """
        if self.several and not self.output.exists():
            return
        content = self.output.read_bytes() if self.output.exists() else b""
        if content != OLD and self.hash() != wanted:
            raise Broken(f"the output holds {len(content)} bytes that are neither the old file nor the new")


def kill(bench: Bench, wanted: str, seconds: float) -> None:
    """Kill a conversion after a random part of ``seconds``, up to three times over; then let it finish.

    One that has ended by then was not killed, and is not counted as if it were.

    Raises:
        Broken: see ``Bench``; or the result is another.
    """
    for _ in range(random.randint(1, 3)):
        with bench.running() as process:
            time.sleep(random.uniform(0, seconds))
            process.kill()
            events, _ = process.communicate()
        bench.check_output(wanted)
        if process.returncode == -signal.SIGKILL:
            bench.seen[f"killed in: {_last_stage(events)}"] += 1
    _expect(bench.finish(), wanted)


def fill_disk(bench: Bench, wanted: str, events: int) -> None:
    """Fill the disk at a random moment of a conversion; then make room and let it finish.

    Raises:
        Broken: see ``Bench``; or half a file is left, or the result is another.
    """
    filler = bench.scratch / "filler"
    at, stage = random.randrange(events), "start"
    with bench.running() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for number, line in enumerate(process.stdout):
            if number == at:
                stage = json.loads(line).get("stage", "end")
                _fill(filler, random.randint(0, _LEFT_BYTES))
        said = process.stderr.read()
    ended = f"status {process.returncode}" if process.returncode else "finished"
    bench.seen[f"disk full in: {stage}, {ended}"] += 1
    bench.check_output(wanted)
    if process.returncode and (halves := sorted(bench.output.parent.glob(".*"))):
        raise Broken(f"half a file was left: {halves[0].name}")
    if process.returncode and "space" not in said:
        raise Broken(f"the error does not say that the disk is full: {said}")
    filler.unlink(missing_ok=True)
    _expect(bench.finish(), wanted)


def _fill(filler: Path, left: int) -> None:
    """Take all room but ``left`` bytes, while the conversion may take some of it at the same time.

    By little steps: what does not fit is given back, and the disk would be full for a moment only.
    """
    taken, step = 0, _FILL_BYTES
    with filler.open("wb") as file:
        while step and (room := _free(filler.parent) - left) > 0:
            try:
                os.posix_fallocate(file.fileno(), taken, min(step, room))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
            else:
                taken += min(step, room)


def _free(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _expect(found: str, wanted: str) -> None:
    if found != wanted:
        raise Broken(f"the resumed file has the hash {found}, not {wanted}")


def _last_stage(events: str) -> str:
    lines = events.splitlines()
    for line in reversed(lines):
        try:
            return str(json.loads(line).get("stage", "end"))
        except ValueError:  # killed in the middle of a line
            continue
    return "start"


def prepare(scratch: Path, *, several: bool = False) -> tuple[Bench, str, float, int]:
    """Return a bench, the hash that every run must give, how long one takes, and how many events it has."""
    checkpoint = scratch / "checkpoint"
    tiny.write(checkpoint, shards=2)
    bench = Bench(scratch, checkpoint, several)
    bench.clear()
    started = time.monotonic()
    with bench.running() as process:
        events, _ = process.communicate()
    seconds = time.monotonic() - started
    return bench, bench.hash(), seconds, len(events.splitlines())


def main() -> int:
    """Run both series."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--full-disks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--several", action="store_true")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        if options.full_disks and _ISOLATED not in os.environ:
            return subprocess.call(
                isolated(Path(folder), [sys.executable, "-m", __spec__.name, *sys.argv[1:]])
            )
        scratch = Path(os.environ.get(_ISOLATED, folder))
        bench, wanted, seconds, events = prepare(scratch, several=options.several)
        while sum(bench.seen.values()) < options.kills:
            bench.clear()
            kill(bench, wanted, seconds)
        for _ in range(options.full_disks):
            bench.clear()
            fill_disk(bench, wanted, events)
    for what, count in sorted(bench.seen.items()):
        print(f"{count:4} {what}")
    print(f"all {sum(bench.seen.values())} resumed to {wanted}")
    return 0


def isolated(folder: Path, command: list[str]) -> list[str]:
    """Return ``command`` to be run with a small file system of its own at ``folder``."""
    script = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
    variables = ["env", f"{_ISOLATED}={folder}", *command]
    return ["unshare", "-rm", "sh", "-c", script, "sh", str(_DISK_BYTES), str(folder), *variables]


if __name__ == "__main__":
    sys.exit(main())
