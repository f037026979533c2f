"""What the tools print, and what happens to them."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kylin_convert import calibration, quantise
from kylin_convert.divergence import ProgressParser
from kylin_convert.tools import Toolbox
from kylin_gguf import config
from kylin_gguf.errors import LibrariesMissing, ToolFailed, UnknownQuantisation
from kylin_gguf.records import Progress

IMATRIX_LOG = (
    "0.00.408.502 I compute_imatrix: tokenization took 8.169 ms\n"
    "0.00.408.587 I compute_imatrix: computing over 3 chunks, n_ctx=512, batch_size=512, n_seq=1\n"
    "0.02.361.627 I compute_imatrix: 1.95 seconds per pass - ETA 0.18 minutes\n"
    "[1]74.7882,[2]46.7805,[3]nan,\nFinal estimate: PPL = 83.4198 +/- 7.42612\n"
)
HELP = """usage: llama-quantize [--help]
 allowed quantization types
  38  or  MXFP4_MOE :  MXFP4 MoE
  15  or  Q4_K    : alias for Q4_K_M
  15  or  Q4_K_M  :  4.58G, +0.1754 ppl @ Llama-3-8B
   7  or  Q8_0    :  7.96G, +0.0026 ppl @ Llama-3-8B
          COPY    : only copy tensors, no quantizing
"""


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    directory = tmp_path / "native"
    directory.mkdir()
    (directory / "libllama.so").touch()
    (tmp_path / "work").mkdir()
    return Toolbox(config.load({"native_dirs": (directory,)}), tmp_path / "work")


def _tool(toolbox: Toolbox, name: str, script: str) -> None:
    path = toolbox.settings.native_dirs[0] / name
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


@given(st.lists(st.integers(0, len(IMATRIX_LOG)), max_size=12))
def test_progress_does_not_depend_on_where_the_output_is_cut(cuts: list[int]) -> None:
    seen: list[Progress] = []
    parser = ProgressParser("imatrix", seen.append)
    ends = [0, *sorted(cuts), len(IMATRIX_LOG)]
    for start, end in pairwise(ends):
        parser.feed(IMATRIX_LOG[start:end])
    assert [(event.done, event.total) for event in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_tool_runs_in_our_directory_without_llama_variables(
    toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "7")
    _tool(toolbox, "llama-x", "print(os.getcwd(), sys.argv[1:], 'LLAMA_ARG_CTX_SIZE' in os.environ)")
    heard: list[str] = []
    output = toolbox.run("llama-x", ["a b"], heard.append)
    assert output == "".join(heard) == f"{toolbox.directory} ['a b'] False\n"


def test_a_failing_tool_is_reported_with_its_last_words(toolbox: Toolbox) -> None:
    _tool(toolbox, "llama-x", "print('0.00.100.000 E fatal: no\\nluck', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ToolFailed) as caught:
        toolbox.run("llama-x", [])
    assert (caught.value.status, caught.value.output) == (3, "fatal: no luck")


def test_a_missing_tool_is_named(toolbox: Toolbox) -> None:
    with pytest.raises(LibrariesMissing, match="llama-none"):
        toolbox.run("llama-none", [])


def test_leaving_ends_the_tool(toolbox: Toolbox) -> None:
    _tool(toolbox, "llama-x", "import signal\nprint(os.getpid(), flush=True)\nsignal.pause()")
    pids: list[int] = []

    def interrupted(text: str) -> None:
        pids.append(int(text))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toolbox.run("llama-x", [], interrupted)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_tool_dies_with_us(toolbox: Toolbox) -> None:
    _tool(toolbox, "llama-x", "import signal\nprint(os.getpid(), flush=True)\nsignal.pause()")
    code = (
        "from pathlib import Path\nfrom kylin_convert.tools import Toolbox\nfrom kylin_gguf import config\n"
        f"settings = config.load({{'native_dirs': (Path({str(toolbox.settings.native_dirs[0])!r}),)}})\n"
        f"box = Toolbox(settings, Path({str(toolbox.directory)!r}))\n"
        "box.run('llama-x', [], lambda text: print(text, end='', flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        watched = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        gone, _, _ = select.select([watched], [], [], 30)  # a pidfd is readable once its process has ended
    os.close(watched)
    assert gone


def test_quantisation_names_come_from_the_tool(toolbox: Toolbox) -> None:
    _tool(toolbox, quantise.TOOL, f"print({HELP!r}); sys.exit(1)")
    assert quantise.known_names(toolbox) == ("MXFP4_MOE", "Q4_K", "Q4_K_M", "Q8_0")
    assert quantise.check_name("q4_k_m", toolbox) == "Q4_K_M"
    with pytest.raises(UnknownQuantisation) as caught:
        quantise.check_name("Q4_KM", toolbox)
    assert "Q4_K_M" in caught.value.near


def test_the_corpus_is_well_formed() -> None:
    held = "".join(calibration.held_out(language).text for language in calibration.LANGUAGES)
    content = files("kylin_convert").joinpath("corpus", "calibration.jsonl").read_bytes()
    dialogues = list(calibration._dialogues("built-in", content))
    texts = [message.content for dialogue in dialogues for message in dialogue]
    assert len(dialogues) > 90
    assert len({dialogue for dialogue in dialogues}) == len(dialogues)
    chinese = sum(bool(re.search("[\u4e00-\u9fff]", dialogue[0].content)) for dialogue in dialogues)
    assert 0.4 < chinese / len(dialogues) < 0.6
    assert not any(line and line in held for text in texts for line in text.splitlines() if len(line) > 20)
