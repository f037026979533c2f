"""What llama-perplexity is told, and what is read from its answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.divergence import Probe, Way, divergence, write_base
from tests.stand_ins import Programs

ANSWER = """
====== KL divergence statistics ======
Mean    KLD:   0.003309 ±   0.000210
Maximum KLD:   0.015079
99.9%   KLD:   0.014988
Same top p: 96.032 ± 1.238 %
"""


@pytest.fixture
def tools(tmp_path: Path) -> Programs:
    programs = Programs(tmp_path / "native")
    programs.add("llama-perplexity", f"print({ANSWER!r})")
    return programs


def way(tools: Programs) -> Way:
    return Way(tools.directory, Path("m.gguf"), ("-ngl", "99"), {"GGML_VK_DISABLE_F16": "1"})


PROBE = Probe(Path("text"), pieces=4)
ASKED = ["llama-perplexity", "-m", "m.gguf", "-f", "text", "-c", "128", "-b", "128", "--chunks", "4"]


def test_the_base_is_written_and_then_compared_with(tools: Programs) -> None:
    write_base(way(tools), PROBE, Path("base"))
    figures = divergence(way(tools), PROBE, Path("base"))
    assert figures == {"mean": 0.003309, "largest": 0.015079, "same": 96.032}
    written = [*ASKED, "--kl-divergence-base", "base", "-ngl", "99"]
    compared = [*ASKED, "--kl-divergence-base", "base", "--kl-divergence", "-ngl", "99"]
    assert tools.calls() == [written, compared]
    for record in tools.records():
        assert isinstance(record["environment"], dict)
        assert record["environment"]["GGML_VK_DISABLE_F16"] == "1"


def test_an_answer_that_is_not_understood_is_no_figure(tools: Programs) -> None:
    tools.add("llama-perplexity", "print('Mean    KLD:   0.1')")
    with pytest.raises(ValueError, match=r"\['largest', 'same'\]"):
        divergence(way(tools), PROBE, Path("base"))
