"""Settings: layers, origins, and errors that name the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from kylin_gguf import config
from kylin_gguf.errors import ConfigError


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(config, "SYSTEM_CONFIG", tmp_path / "etc" / "config.yaml")
    (tmp_path / "etc" / "config.d").mkdir(parents=True)
    (tmp_path / ".config" / "kylin-gguf").mkdir(parents=True)
    return {"HOME": str(tmp_path)}


def test_later_layers_win_and_are_remembered(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "etc" / "config.yaml").write_text("context_length: 1000\nthreads: 1\nsequences: 2\n")
    (tmp_path / "etc" / "config.d" / "10-site.yaml").write_text("context_length: 2000\n")
    (tmp_path / ".config" / "kylin-gguf" / "config.yaml").write_text("context_length: 3000\nthreads: 2\n")
    settings = config.load({"idle_exit_s": 7}, environ | {"KYLIN_GGUF_CONTEXT_LENGTH": "4000"})
    assert (settings.context_length, settings.threads, settings.sequences) == (4000, 2, 2)
    assert settings.idle_exit_s == 7
    assert settings.origins["context_length"] == "$KYLIN_GGUF_CONTEXT_LENGTH"
    assert settings.origins["threads"].endswith(".config/kylin-gguf/config.yaml")
    assert settings.origins["sequences"].endswith("etc/config.yaml")
    assert (settings.origins["idle_exit_s"], settings.origins["models_dir"]) == ("command line", "default")


def test_base_directories_are_honoured_when_absolute(environ: dict[str, str], tmp_path: Path) -> None:
    settings = config.load(environ=environ | {"XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "relative"})
    assert settings.models_dir == Path("/data/kylin-gguf/models")
    assert settings.cache_dir == tmp_path / ".cache" / "kylin-gguf"


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("contxt_length: 1", "contxt_length", "context_length"),
        ("context_length: many", "context_length", "number"),
        ("context_length: 5", "context_length", "128"),
        ("threads: 2.7", "threads", "number"),
        ("threads: true", "threads", "number"),
        ("models_dir:", "models_dir", "path"),
        ("models_dir: [/a]", "models_dir", "path"),
        ("models_dir: ~nobody-of-this-name/models", "models_dir", "home"),
        ("native_dirs: {/a: /b}", "native_dirs", "list"),
        ("commands_dirs: [[/a]]", "commands_dirs", "path"),
        ("device: [cpu]", "device", "text"),
        ("- a list", "file", "mapping"),
        ("a: [", "file", ""),
    ],
)
def test_errors_name_file_key_and_remedy(
    environ: dict[str, str], tmp_path: Path, text: str, key: str, reason: str
) -> None:
    path = tmp_path / ".config" / "kylin-gguf" / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(environ=environ)
    assert (caught.value.origin, caught.value.key) == (str(path), key)
    assert reason in caught.value.reason


def test_a_file_means_what_it_says(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / ".config" / "kylin-gguf" / "config.yaml"
    path.write_text(
        "speculation: off\ndefault_model:\ndevice: 3\nnative_dirs: [/a, /b]\nidle_unload_s: 1.5\n"
    )
    settings = config.load(environ=environ)
    assert (settings.speculation, settings.default_model, settings.device) == ("off", "", "3")
    assert (settings.native_dirs, settings.idle_unload_s) == ((Path("/a"), Path("/b")), 1.5)


@pytest.mark.parametrize(("value", "expected"), [("", ()), ("/a:", (Path("/a"),)), (":", ())])
def test_no_list_of_directories_means_the_current_one(
    environ: dict[str, str], value: str, expected: tuple[Path, ...]
) -> None:
    assert config.load(environ=environ | {"KYLIN_GGUF_NATIVE_DIRS": value}).native_dirs == expected


def test_reading_settings_creates_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    config.load(environ=environ)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_installed_program_finds_its_libraries_in_the_systems_directory(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "in_checkout", lambda: False)
    (directory,) = config.load(environ=environ).native_dirs
    assert directory.name == "kylin-gguf"
    assert directory.parent in (Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-*"))


def test_rpc_workers_are_a_list_or_separated_by_commas(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "etc" / "config.yaml").write_text("rpc_workers: ['10.0.0.2:50052', 'studio.lan:50052']\n")
    assert config.load({}, environ).rpc_workers == ("10.0.0.2:50052", "studio.lan:50052")
    fewer = config.load({}, environ | {"KYLIN_GGUF_RPC_WORKERS": "10.0.0.3:1,10.0.0.3:1"})
    assert fewer.rpc_workers == ("10.0.0.3:1",)
    for wrong in ("10.0.0.2", "[::1]:50052", "-x:1"):
        with pytest.raises(ConfigError, match="HOST:PORT"):
            config.load({"rpc_workers": wrong}, environ)
