"""The program without a service: the exit code table, models on disk, bad input, plug-ins."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import gguf
import pytest
import typer

import kylin_convert.cli
from kylin_gguf import __version__, errors, frames
from kylin_gguf.cli import app, chat, document, models, output
from kylin_gguf.cli.errors import EXIT_CODES
from kylin_gguf.offload import machine
from kylin_gguf.records import Device, FailedPlugin
from tests.tiny_model import write_model, write_projector

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the program in this process: HOME is empty, no packaged models, no bus."""
    for variable in ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KYLIN_GGUF_SYSTEM_MODEL_DIRS", str(tmp_path / "system"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kylin-gguf", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        captured = capsys.readouterr()
        return int(str(ended.value.code)), captured.out, captured.err

    return run


def write_gguf(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny \x1b[31m")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- Errors -------------------------------------------------------------------------------------------


def test_every_error_has_an_exit_code_of_its_own() -> None:
    classes = set(errors.all_errors())
    assert set(EXIT_CODES) == classes
    shared = {code for code, count in Counter(EXIT_CODES.values()).items() if count > 1}
    assert shared == {2}, "only a wrong command line shares a code"
    assert not set(EXIT_CODES.values()) & {0, *range(126, 130)}, "these mean other things to a shell"


def test_page_of_exit_codes_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / document.PAGE
    assert page.read_text(encoding="utf-8") == document.page()


@pytest.mark.parametrize("group", app.GROUPS)
def test_each_group_has_the_commands_that_it_is_imported_for(group: str) -> None:
    program = typer.Typer()
    importlib.import_module(f"kylin_gguf.cli.{group}").register(program)
    assert tuple(command.name for command in program.registered_commands) == app.GROUPS[group]


def test_known_error_is_one_line(run: Run) -> None:
    status, out, err = run("info", "no-such-file.gguf")
    assert (status, out) == (13, "")
    assert len(err.splitlines()) == 1
    assert "no-such-file.gguf" in err


def test_defect_is_an_internal_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(models, "open_store", break_down)
    status, _, err = run("rm", "x")
    assert status == 70
    assert err.startswith("kylin-gguf: Internal error: ZeroDivisionError")
    assert "Traceback" not in err


def test_debug_shows_the_traceback(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        _, _, err = run("--debug", "info", "no-such-file.gguf")
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("kylin-gguf: ")


@pytest.mark.parametrize(
    "arguments", [["--no-such-option"], ["models", "--jsno"], ["act"], ["act", "a", "--batch", "b"]]
)
def test_wrong_command_lines_have_status_2(run: Run, arguments: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err


def test_unknown_command_suggests(run: Run) -> None:
    status, _, err = run("modles")
    assert status == 2
    assert "models" in err


# --- Models on disk -----------------------------------------------------------------------------------


def test_models_as_json(run: Run) -> None:
    status, out, _ = run("models", "--json")
    listed = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert status == 0
    assert listed["smollm2-135m-instruct"]["licence"] == "Apache-2.0"
    assert not any(row["installed"] for row in listed.values())


def test_models_in_a_pipe_are_tab_separated(run: Run) -> None:
    status, out, _ = run("models")
    assert status == 0
    assert {line.count("\t") for line in out.splitlines()} == {5}


def test_unknown_model_suggests(run: Run) -> None:
    status, _, err = run("pull", "smollm")
    assert status == EXIT_CODES[errors.UnknownModel]
    assert "smollm2-135m-instruct" in err
    assert run("rm", "smollm")[0] == EXIT_CODES[errors.UnknownModel]


def test_info_of_files(run: Run, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    status, out, _ = run("info", "tiny.gguf", "--json", "--tensors")
    found = json.loads(out)
    assert status == 0
    assert (found["architecture"], found["tensors"]) == ("llama", [])
    assert found["name"] == "Tiny [31m", "control characters of a file do not reach the terminal"
    (tmp_path / "text.gguf").write_text("not a model", encoding="utf-8")
    assert run("info", "text.gguf")[0] in (EXIT_CODES[errors.NotGguf], EXIT_CODES[errors.TruncatedGguf])
    whole = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:40])
    assert run("info", "cut.gguf")[0] == EXIT_CODES[errors.TruncatedGguf]


def test_info_finds_a_name_beside_a_folder_of_that_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KYLIN_GGUF_MODELS_DIR", str(tmp_path / "models"))
    for folder in ("models", "tiny"):
        (tmp_path / folder).mkdir()
    write_model(tmp_path / "models" / "tiny.gguf")
    assert run("info", "tiny")[0] == 0
    assert run("info", "./tiny")[0] == EXIT_CODES[errors.FileMissing]
    assert run("info", "x" * 300)[0] == EXIT_CODES[errors.UnknownModel]


def test_paths_are_made_absolute_for_the_service(run: Run, tmp_path: Path) -> None:
    assert models.reference("qwen3-0.6b") == "qwen3-0.6b"
    assert models.reference("") == ""
    assert models.reference("x.gguf") == str(tmp_path / "x.gguf")
    assert models.reference("./x") == str(tmp_path / "x")


# --- Without a service --------------------------------------------------------------------------------


def test_status_without_a_service_starts_nothing(run: Run, tmp_path: Path) -> None:
    assert run("status")[0] == EXIT_CODES[errors.ServiceUnavailable]
    status, out, _ = run("status", "--json")
    assert (status, json.loads(out)) == (EXIT_CODES[errors.ServiceUnavailable], {"running": False})
    assert not list(tmp_path.iterdir())


def test_doctor_says_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KYLIN_GGUF_NATIVE_DIRS", str(tmp_path / "nowhere"))
    status, out, _ = run("doctor", "--json")
    found = {row["about"]: row for row in map(json.loads, out.splitlines())}
    assert status == 1
    assert found["settings.native_dirs"]["text"].endswith("($KYLIN_GGUF_NATIVE_DIRS)")
    assert found["libraries"]["level"] == "problem"
    assert "make native" in found["libraries"]["text"]
    assert found["models"]["level"] == "problem"
    assert "pull" in found["models"]["text"]
    assert found["service"]["level"] == "note"


# --- Plug-ins -----------------------------------------------------------------------------------------


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"kylin-gguf {__version__}\n", "")
    status, out, _ = run("--help")
    assert status == 0
    for command in (
        "models",
        "pull",
        "rm",
        "info",
        "convert",
        "serve",
        "chat",
        "act",
        "embed",
        "status",
        "doctor",
    ):
        assert command in out


@pytest.mark.parametrize(
    ("plugins", "code"),
    [
        ([], errors.ConverterMissing),
        ([EntryPoint("convert", "kylin_absent.cli:register", app.PLUGIN_GROUP)], errors.ConverterMissing),
        ([EntryPoint("convert", "json.absent:register", app.PLUGIN_GROUP)], errors.InternalError),
    ],
)
def test_absent_converter_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, plugins: list[EntryPoint], code: type[errors.KylinError]
) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: plugins)
    assert run("convert", "somewhere", "--quant", "Q4_K_M", "--help")[0] == EXIT_CODES[code]
    assert run("--help")[0] == 0, "the other commands work"


def test_what_is_named_without_the_converter_is_what_it_adds(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = typer.Typer()
    kylin_convert.cli.register(converter)
    assert {command.name for command in converter.registered_commands} == set(app.CONVERTER_COMMANDS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    for command in app.CONVERTER_COMMANDS:
        assert run(command, "somewhere", "--json")[0] == EXIT_CODES[errors.ConverterMissing]


def test_plugins_add_commands(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Greeting(EntryPoint):
        def load(self) -> object:
            return lambda program: program.command("greet")(lambda: print("hello"))

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Greeting("greet", "x:y", group)])
    assert run("greet") == (0, "hello\n", "")


# --- Conversations ------------------------------------------------------------------------------------


def test_a_trimmed_conversation_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = chat._Text(stats=False)
    for count in (2, 2, 6):
        shown.frame(frames.trimmed(count))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "oldest 2 " in told[0] and "oldest 6 " in told[1]


# --- Output -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (98_400_000, "98.4 MB"), (2_500_000_000, "2.50 GB"), (7e12, "7000.00 GB")],
)
def test_sizes(count: float, shown: str) -> None:
    assert output.size(count) == shown


def test_printable_keeps_text_and_drops_control_characters() -> None:
    assert output.printable("a\tb\nc 你好😀\x1b[2J\x07\x00\x7f\x9b\r") == "a\tb\nc 你好😀[2J"


# --- Devices ------------------------------------------------------------------------------------------


def test_devices_have_their_plug_in_and_what_it_states(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = Device("CPU", "EPYC", "cpu", 0, 0, plugin="cpu-zen4", features=("AVX2", "AVX512_VNNI"))
    card = Device("Vulkan0", "RX 580", "gpu", 8_000_000_000, 7_000_000_000, plugin="vulkan")
    lent = Device("RPC0", "lent", "remote", 0, 0, link=1e8, delay=0.001, plugin="rpc")
    found = machine.Machine(4, 1, (processor, card, lent), (FailedPlugin("cuda", "no driver"),))
    monkeypatch.setattr(machine, "probe", lambda _settings: found)
    assert run("devices")[1].splitlines() == [
        "CPU\tcpu\t\t\tEPYC; cpu-zen4: AVX2 AVX512_VNNI",
        "Vulkan0\tgpu\t7.00 GB\t8.00 GB\tRX 580; vulkan",
        "RPC0\tremote\t\t\tlent: 100.0 MB/s on the way there, 1.00 ms to answer; rpc",
        "cuda\tfailed\t\t\tno driver",
    ]
    rows = [json.loads(line) for line in run("devices", "--json")[1].splitlines()]
    assert (rows[0]["plugin"], rows[0]["features"]) == ("cpu-zen4", ["AVX2", "AVX512_VNNI"])
    assert (rows[1]["plugin"], rows[1]["features"]) == ("vulkan", [])


# --- Plans --------------------------------------------------------------------------------------------

MACHINE = "cores: 4\nmemory: 16\ndevices: [{name: Vulkan0, kind: gpu, memory: 8, bandwidth: 256}]\n"


def test_a_plan_for_another_machine_says_what_goes_where_and_why(run: Run, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf")
    (tmp_path / "machine.yaml").write_text(MACHINE, encoding="utf-8")
    options = ("--machine", "machine.yaml", "--device", "Vulkan0", "--ctx", "256", "--json")
    code, out, _ = run("plan", str(model), *options)
    plan = json.loads(out)
    assert code == 0
    assert (plan["shares"][0]["device"], plan["gpu_layers"], plan["context_length"]) == ("Vulkan0", 3, 256)
    assert plan["decode"] > 0 and plan["reasons"]
    code, out, _ = run("plan", str(model), "--machine", "machine.yaml", "--device", "cpu")
    assert code == 0 and "RAM" in out and "Vulkan0" not in out


def test_a_projector_has_no_plan(run: Run, tmp_path: Path) -> None:
    write_projector(tmp_path / "mmproj-m")
    (tmp_path / "machine.yaml").write_text(MACHINE, encoding="utf-8")
    code, _, said = run("plan", "mmproj-m", "--machine", "machine.yaml")
    assert code == EXIT_CODES[errors.UnsupportedModel]
    assert "projector" in said


def test_a_plan_for_a_device_that_is_not_there_names_those_that_are(run: Run, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf")
    (tmp_path / "machine.yaml").write_text(MACHINE, encoding="utf-8")
    code, _, said = run("plan", str(model), "--machine", "machine.yaml", "--device", "CUDA0")
    assert code == EXIT_CODES[errors.DeviceMissing]
    assert "Vulkan0" in said
