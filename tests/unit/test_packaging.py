"""What ``debian/`` repeats from elsewhere is the same there, and the launcher keeps strangers out."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kylin_gguf
from kylin_gguf import catalogue
from kylin_gguf.bus import names
from kylin_gguf.catalogue import PypiSource
from kylin_gguf.cli import app
from kylin_gguf.records import ADAPTER

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "debian"
BUNDLED = ("engine", "convert")


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE))


def requirements(name: str) -> str:
    return (DEBIAN / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def test_the_packages_version_is_the_projects() -> None:
    changelog = (DEBIAN / "changelog").read_text(encoding="utf-8")
    found = re.match(r"kylin-gguf-engine \((\S+)-ok\d+\) (nile|huanghe);", changelog)
    assert found and found[1] == kylin_gguf.__version__


def test_bundled_packages_have_the_versions_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra in ("convert", "monitor") for line in project["optional-dependencies"][extra]]
    tested = pins("\n".join(project["dependencies"] + extras))
    bundled = pins("".join(map(requirements, BUNDLED)))
    from_elsewhere = FROM_DEBIAN | {"llama-cpp-python"}
    assert {name: bundled.get(name) for name in tested.keys() - from_elsewhere} == {
        name: version for name, version in tested.items() if name not in from_elsewhere
    }


FROM_DEBIAN = {"jinja2", "numpy", "pyyaml"}
LEFT_OUT = {"click", "hf-xet", "mdit-py-plugins", "requests"}
"""debian/requirements/engine.txt says why."""


def test_what_the_bundled_packages_need_is_there() -> None:
    bundled = pins("".join(map(requirements, BUNDLED)))
    lines = [line for name in bundled for line in requires(name) or ()]
    needed = {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, lines)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }
    assert needed - bundled.keys() - FROM_DEBIAN == LEFT_OUT


@pytest.mark.parametrize("name", [*BUNDLED, "model"])
def test_every_requirement_is_pinned_by_hash(name: str) -> None:
    lines = [line for line in requirements(name).replace("\\\n", "").splitlines() if line[0] != "#"]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w-]+==\S+(\s+--hash=sha256:[0-9a-f]{64})+", line), line


def test_the_packaged_model_is_the_catalogues() -> None:
    sources = [
        source
        for model in catalogue.load(ROOT / "models.yaml").models
        for source in model.sources
        if isinstance(source, PypiSource)
    ]
    assert [(f"{source.package}=={source.version}", source.wheel_sha256) for source in sources] == re.findall(
        r"^(\S+) \\\n +--hash=sha256:(\w+)$", requirements("model"), re.MULTILINE
    )
    member = DEBIAN / "kylin-gguf-model-smollm2.install"
    assert sources[0].member.rpartition("/")[0] in member.read_text(encoding="utf-8")


def test_the_licence_of_everything_bundled_is_stated() -> None:
    stated = re.findall(r"^(?:Files:)? archives/(\w+)-\*$", copyright_file(), re.MULTILINE)
    wheels = {name.replace("-", "_") for name in pins("".join(map(requirements, BUNDLED)))}
    assert sorted(stated) == sorted(wheels | {"llama_cpp_python"})


def test_every_licence_has_its_text() -> None:
    used = set(re.findall(r"^License: (.+)$", copyright_file(), re.MULTILINE))
    names = {name for licences in used for name in re.split(r",? and | or ", licences)}
    texts = set(re.findall(r"^License: (\S+)\n ", copyright_file(), re.MULTILINE))
    assert names == texts


@pytest.mark.parametrize(
    ("name", "command"), [(names.BUS_NAME, "serve"), (ADAPTER.name, "actuator")], ids=["service", "adapter"]
)
def test_the_bus_and_systemd_start_the_same(name: str, command: str) -> None:
    def read(path: Path, section: str) -> configparser.SectionProxy:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(path.read_text(encoding="utf-8"))
        return parser[section]

    activation = read(ROOT / "dbus" / f"{name}.service", "D-BUS Service")
    unit = read(ROOT / "dbus" / activation["SystemdService"], "Service")
    assert (activation["Name"], unit["BusName"], unit["Type"]) == (name, name, "dbus")
    assert activation["Exec"] == unit["ExecStart"] == f"/usr/bin/kylin-gguf {command}"
    installed = (DEBIAN / "kylin-gguf-engine.install").read_text(encoding="utf-8")
    assert f"dbus/{name}.service usr/share/dbus-1/services" in installed
    assert f"dbus/{activation['SystemdService']} usr/lib/systemd/user" in installed


def test_the_worker_s_unit_gives_its_command_options_that_there_are() -> None:
    unit = (DEBIAN / "kylin-gguf-engine-rpc.kylin-gguf-rpc-worker.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=/usr/bin/kylin-gguf (\S+) \$OPTIONS$", unit, re.MULTILINE)
    example = (DEBIAN / "default" / "kylin-gguf-rpc-worker").read_text(encoding="utf-8")
    (line,) = re.findall(r'^#OPTIONS="(.*)"$', example, re.MULTILINE)
    given = {(command, word) for word in line.split() if word.startswith("--")}
    assert given and given <= set(options())


@pytest.mark.parametrize("architecture", ["amd64", "arm64", "riscv64"])
def test_every_plugin_has_a_preset_for_the_architectures_of_its_package(architecture: str) -> None:
    presets = json.loads((ROOT / "native" / "CMakePresets.json").read_text(encoding="utf-8"))
    known = {preset["name"] for preset in presets["buildPresets"]}
    control = (DEBIAN / "control").read_text(encoding="utf-8")
    built = re.findall(r"^Package: kylin-gguf-engine-(\w+)\nArchitecture: (.+)$", control, re.MULTILINE)
    needed = {plugin for plugin, architectures in built if architecture in architectures.split()}
    cross = f"{architecture}-"
    assert needed and {plugin if architecture == "amd64" else cross + plugin for plugin in needed} <= known


def copyright_file() -> str:
    return (DEBIAN / "copyright").read_text(encoding="utf-8")


def options() -> Iterator[tuple[str, str]]:
    """Yield each command with each of its long options, as the program has them."""
    program = typer.main.get_command(app.build([]))
    yield from (("", option) for parameter in program.params for option in parameter.opts)
    for name, command in program.commands.items():  # type: ignore[attr-defined]
        yield name, ""
        yield from ((name, option) for parameter in command.params for option in parameter.opts)


def test_the_man_pages_name_every_command_and_option() -> None:
    pages = {
        path.name: path.read_text(encoding="utf-8").replace("\\-", "-")
        for path in (DEBIAN / "man").glob("*.1")
    }
    missing = []
    for command, option in options():
        of_converter = option and command in app.CONVERTER_COMMANDS
        page = pages["kylin-gguf-convert.1" if of_converter else "kylin-gguf.1"]
        if option.startswith("-"):
            described = re.search(rf"(?<![\w-]){option}(?![\w-])", page)
        else:
            described = not command or f"kylin-gguf {command}" in page
        if not described:
            missing.append(f"{command} {option}")
    assert not missing


STRANGER = "import sys; sys.exit('a stranger was imported')"
MAIN = """import json, os, sys
def main():
    print(json.dumps([sys.path, {n: v for n, v in os.environ.items() if n.startswith("PYTHON")}]))
"""


def write_module(directory: Path, text: str) -> Path:
    package = directory / "kylin_gguf" / "cli"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(text, encoding="utf-8")
    return directory


def test_the_launcher_runs_its_own_modules_and_has_children_do_so(tmp_path: Path) -> None:
    ours, strangers = write_module(tmp_path / "ours", MAIN), write_module(tmp_path / "strangers", STRANGER)
    script = (DEBIAN / "bin" / "kylin-gguf").read_text(encoding="utf-8")
    first, _, rest = script.partition("\n")
    assert first == "#!/usr/bin/python3 -I"
    launcher = strangers / "kylin-gguf"
    launcher.write_text(rest.replace("/usr/lib/kylin-gguf/python", str(ours)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", launcher],
        cwd=strangers,
        env={"PYTHONPATH": str(strangers), "PYTHONHOME": "/nowhere", "PYTHONUSERBASE": str(strangers)},
        capture_output=True,
        text=True,
        check=True,
    )
    path, environment = json.loads(done.stdout)
    assert path[0] == str(ours)
    assert str(strangers) not in path
    assert environment == {"PYTHONPATH": str(ours), "PYTHONNOUSERSITE": "1"}
