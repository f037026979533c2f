"""What llama-perplexity's tables come to, and that a reference is computed once."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kylin_convert import compare, divergence, plot, reference, verify
from kylin_convert.calibration import LANGUAGES, Corpus, held_out, read_text
from kylin_convert.compare import Compared
from kylin_convert.divergence import TOOL, Sampling
from kylin_convert.quality import Quality, difference
from kylin_convert.tools import Toolbox
from kylin_gguf import config, gguf_info
from kylin_gguf.errors import (
    FileMissing,
    InvalidValue,
    NoSpace,
    ToolFailed,
    UnsupportedModel,
    VerificationFailed,
)
from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import Progress, Settings, no_progress
from tests.tiny_model import write_model

TEXT = Corpus("zh", "0" * 64, "text")
SAMPLING = Sampling(64, 3)
SIZE = 20 + 4 * 64 * 4 + 4 * 31 * (4 + 4) * 2
"""Of a reference's file: a vocabulary of 4, scale and minimum, two bytes each."""
# Chunks of perplexity e, e^2, e^3: the tool prints means over what it has seen so far.
REFERENCE = f"over 4 chunks\\n[1]{math.e:.4f},[2]{math.exp(1.5):.4f},[3]{math.exp(2):.4f},"
TABLE = f"""over 4 chunks
chunk  PPL  ln(PPL(Q)/PPL(base))  KL Divergence  Δp RMS  Same top p
   1    {math.e:.4f} ± 0.1    0.00000 ±    0.1    0.10000 ±    0.2    1.0 ±  0.1 %    90.000 ±  1.0 %
   2    {math.exp(1.5):.4f} ± 0.1    0.00000 ±    0.1    0.20000 ±    0.2    1.0 ±  0.1 %    80.000 ±  1.0 %
   3    {math.exp(2):.4f} ± 0.1    0.00000 ±    0.1    0.30000 ±    0.2    1.0 ±  0.1 %    70.000 ±  1.0 %
"""
WRITES = "import sys, pathlib; pathlib.Path(sys.argv[sys.argv.index('--kl-divergence-base') + 1])"
SCRIPT = f"""#!{sys.executable}
import sys
from pathlib import Path
with open({{log!r}}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if "--version" in sys.argv:
    print("build 1, commit abc")
elif "--kl-divergence" in sys.argv:
    print({TABLE!r})
elif "--kl-divergence-base" in sys.argv:
    Path(sys.argv[sys.argv.index("--kl-divergence-base") + 1]).write_bytes(bytes({SIZE}))
    print("{REFERENCE}")
"""


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """Settings whose tools are scripts, which log their arguments to ``calls``."""
    native = tmp_path / "native"
    native.mkdir()
    (native / "libllama.so").touch()
    for name in (TOOL, "llama-imatrix"):
        (native / name).write_text(SCRIPT.format(log=str(tmp_path / "calls")), encoding="utf-8")
        (native / name).chmod(0o755)
    return replace(config.load({"native_dirs": (native,)}), cache_dir=tmp_path / "cache")


@pytest.fixture
def model(tmp_path: Path) -> GgufInfo:
    return gguf_info.read(write_model(tmp_path / "model.gguf"))


def _calls(folder: Path, option: str) -> int:
    lines = (folder / "calls").read_text(encoding="utf-8").splitlines()
    return sum(option in line.split() for line in lines)


def test_chunks_are_had_back_from_running_means(own: Settings, model: GgufInfo) -> None:
    seen: list[Progress] = []
    with reference.opened(own, model, TEXT, SAMPLING, no_progress) as known:
        assert known.logits.stat().st_size == SIZE
        assert known.quality.perplexities == pytest.approx([1, 2, 3], abs=1e-3)
    found = list(compare.compare(own, model, [model], [TEXT], SAMPLING, seen.append))
    quality = found[1].quality
    assert quality.divergences == pytest.approx([0.1, 0.3, 0.5])
    assert quality.same_top == pytest.approx([0.9, 0.7, 0.5])
    assert quality.tokens == 3 * 31
    # The standard deviation of 0.1, 0.3 and 0.5 is 0.2.
    assert quality.divergence.value == pytest.approx(0.3)
    assert quality.divergence.error == pytest.approx(0.2 / math.sqrt(3))
    assert quality.perplexity.value == pytest.approx(math.exp(2), abs=1e-3)
    assert [event.done for event in seen if event.stage == "check output"] == [1, 2, 3]


def test_a_reference_is_computed_once(own: Settings, model: GgufInfo, tmp_path: Path) -> None:
    for _ in range(2):
        first, second, third = compare.compare(own, model, [model, model], [TEXT], SAMPLING, no_progress)
    assert (first.is_reference, second.is_reference) == (True, False)
    assert third.beside_first is not None
    assert (third.beside_first.value, third.beside_first.error) == (0, 0)
    assert _calls(tmp_path, "--kl-divergence") == 4
    assert _calls(tmp_path, "--kl-divergence-base") == 4 + 1
    with reference.opened(own, model, replace(TEXT, text="other"), SAMPLING, no_progress):
        pass
    assert _calls(tmp_path, "--kl-divergence-base") == 4 + 2


def test_old_references_go(own: Settings, model: GgufInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [replace(TEXT, text=text) for text in "abc"]
    kept = own.cache_dir / "logits"
    for text in texts:
        with reference.opened(own, model, text, SAMPLING, no_progress):
            pass
    assert len(list(kept.glob("*/logits.bin"))) == 3
    monkeypatch.setattr(reference, "_KEPT_BYTES", 1)
    reference.prune(kept)
    assert not list(kept.glob("*"))


def test_a_full_disk_is_said_before_hours_of_work(
    own: Settings, model: GgufInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = Sampling(1 << 20, 1 << 40)
    with pytest.raises(NoSpace), reference.opened(own, model, TEXT, huge, no_progress):
        pass
    assert not list(own.cache_dir.glob("logits/*/logits*"))


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("print('over 2 chunks [1]nan,')", "no finite probabilities"),
        ("print('you need at least')", "too short"),
        (f"{WRITES}.write_bytes(b'half'); print('over 2 chunks [1]2.0,')", "wrote 4 bytes"),
    ],
)
def test_what_is_no_figure_is_refused(
    own: Settings, model: GgufInfo, tmp_path: Path, printed: str, said: str
) -> None:
    tool = tmp_path / "native" / TOOL
    tool.write_text(f"#!{sys.executable}\n{printed}\n", encoding="utf-8")
    with pytest.raises(VerificationFailed, match=said):
        next(compare.compare(own, model, [], [TEXT], SAMPLING, no_progress))
    assert not list(own.cache_dir.glob("logits/*/quality.json"))


def test_models_that_cannot_be_compared(own: Settings, model: GgufInfo, tmp_path: Path) -> None:
    other = gguf_info.read(write_model(tmp_path / "other.gguf", vocabulary=9))
    with pytest.raises(UnsupportedModel, match="vocabulary"):
        next(compare.compare(own, model, [other], [TEXT], SAMPLING, no_progress))
    with pytest.raises(UnsupportedModel, match="no probabilities"):
        compare.check(replace(model, architecture="bert"), [])


def test_the_size_of_a_reference_is_two_bytes_an_entry() -> None:
    # 255 of 512 tokens; 151936 entries, a scale and a minimum; the tokens' ids; as the tool writes it.
    assert Sampling(512, 2).logits_bytes(151936) == 20 + 3 * (255 * 2 * (151936 + 4)) + 3 * 512 * 4


def test_a_model_of_little_context_is_read_in_shorter_chunks(model: GgufInfo) -> None:
    assert Sampling(4096, 3).of(model) == Sampling(512, 3)


def test_pairs_are_of_the_same_chunks() -> None:
    pair = difference([0.3, 0.5, 0.7], [0.2, 0.4, 0.6])
    assert pair.value == pytest.approx(0.1)
    assert pair.error == pytest.approx(0)
    with pytest.raises(ValueError, match="argument 2"):
        difference([1.0], [1.0, 2.0])


def test_texts(tmp_path: Path) -> None:
    assert all(len(held_out(language).text) > 1500 for language in LANGUAGES)
    with pytest.raises(FileMissing):
        read_text(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")
    with pytest.raises(InvalidValue, match="UTF-8"):
        read_text(tmp_path / "latin.txt")


def test_a_plot_is_drawn_or_refused_at_once(
    own: Settings, model: GgufInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidValue, match=r"\*\.png"):
        plot.check(tmp_path / "out.jpg")
    found = list(compare.compare(own, model, [model], [TEXT], SAMPLING, no_progress))
    plot.check(tmp_path / "out.svg")
    plot.draw(found, tmp_path / "out.svg")
    assert "model" in (tmp_path / "out.svg").read_text(encoding="utf-8")


def test_records_are_json(model: GgufInfo) -> None:
    quality = Quality("zh", 31, (1.0,), (0.5,), (0.9,))
    one = Compared(model, quality).to_json()
    assert one["kl_divergence"] == {"value": 0.5, "error": 0.0}
    assert "kl_divergence" not in Compared(model, Quality("zh", 31, (1.0,)), is_reference=True).to_json()


def test_every_value_is_read_again(tmp_path: Path, model: GgufInfo) -> None:
    verify.check_values(model)
    data = bytearray(model.path.read_bytes())
    weights = next(tensor for tensor in model.tensors if tensor.type_name == "Q8_0")
    data[weights.offset : weights.offset + 2] = b"\x00\x7e"  # the scale of its first block: not a number
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(VerificationFailed, match=weights.name):
        verify.check_values(gguf_info.read(tmp_path / "bad.gguf"))


@pytest.mark.parametrize("single", [2.2, math.nan])
def test_generation_must_agree_with_reading_at_once(
    own: Settings, model: GgufInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single: float
) -> None:
    toolbox = Toolbox(own, tmp_path)
    monkeypatch.setattr(divergence, "decode_one_by_one", lambda *_: (2.0, 2.0))
    verify.check_generation(toolbox, model)
    monkeypatch.setattr(divergence, "decode_one_by_one", lambda *_: (single, 2.0))
    with pytest.raises(VerificationFailed, match="token by token"):
        verify.check_generation(toolbox, model)


def test_lost_output_is_asked_for_again(own: Settings, model: GgufInfo, tmp_path: Path) -> None:
    tool, flag = tmp_path / "native" / TOOL, tmp_path / "ran"
    told = "over 3 chunks [1]2.0,"
    script = f"import pathlib; f = pathlib.Path({str(flag)!r})\n"
    script += f"print({told!r} + '[2]2.0,' * f.exists()); f.touch()"
    tool.write_text(f"#!{sys.executable}\n{script}\n", encoding="utf-8")
    single, whole = divergence.decode_one_by_one(Toolbox(own, tmp_path), model, TEXT, 64)
    assert single == whole == pytest.approx(math.log(2))
    tool.write_text(f"#!{sys.executable}\nprint({told!r})\n", encoding="utf-8")
    with pytest.raises(ToolFailed, match="was lost"):
        divergence.decode_one_by_one(Toolbox(own, tmp_path), model, TEXT, 64)
