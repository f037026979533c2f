"""Settings, from five layers: defaults, system files, user file, environment, command line.

Each value remembers where it came from, so that ``kylin-gguf doctor`` can say why it is what it is.
Reading settings touches nothing but the configuration files: no directory is made, nothing is probed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from kylin_gguf import rpc
from kylin_gguf.errors import ConfigError, near
from kylin_gguf.records import Settings

ENV_PREFIX = "KYLIN_GGUF_"
SYSTEM_CONFIG = Path("/etc/kylin-gguf/config.yaml")
SYSTEM_SHARE = Path("/usr/share/kylin-gguf")
# Debian's Python knows the architecture's directory (x86_64-linux-gnu); elsewhere there is none.
SYSTEM_LIB = Path("/usr/lib", getattr(sys.implementation, "_multiarch", ""), "kylin-gguf")
_CHECKOUT = Path(__file__).resolve().parent.parent
_NAMES = tuple(f.name for f in fields(Settings) if f.name != "origins")
_TEXTS = ("default_model", "device")
_PATHS = ("models_dir", "cache_dir", "state_dir", "runtime_dir", "catalogue")
_PATH_LISTS = ("system_model_dirs", "commands_dirs", "native_dirs")
_ADDRESS_LISTS = ("rpc_workers",)
_INTEGERS = {
    "context_length": (128, 1 << 20),
    "threads": (0, 1024),
    "gpu_layers": (-1, 4096),
    "sequences": (1, 64),
    "prefix_cache_mb": (0, 1 << 20),
    "gpu_memory_mb": (0, 1 << 20),
}
_CHOICES = {
    "load_mode": ("auto", "instant", "throughput"),
    "kv_type": ("f16", "q8_0"),
    "speculation": ("auto", "off"),
    "context_fit": ("keep", "shrink"),
    "use": ("chat", "command", "document"),
    "power": ("auto", "speed", "saving"),
}
_SECONDS = ("idle_unload_s", "idle_exit_s")


def in_checkout() -> bool:
    """Return whether this code runs from a source checkout rather than an installed package."""
    return (_CHECKOUT / "native" / "CMakePresets.json").is_file()


def shared_file(name: str) -> Path:
    """Return the path of a data file that ships with the project, such as ``models.yaml`` or ``dbus``."""
    return (_CHECKOUT if in_checkout() else SYSTEM_SHARE) / name


def _defaults(environ: Mapping[str, str]) -> dict[str, Any]:
    home = Path(environ.get("HOME") or "~").expanduser()

    def xdg(variable: str, fallback: str) -> Path:
        # The base directory specification says that relative values are to be ignored.
        value = Path(environ.get(variable, ""))
        return (value if value.is_absolute() else home / fallback) / "kylin-gguf"

    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    native = [SYSTEM_LIB]
    if in_checkout():
        native.insert(0, _CHECKOUT / "build" / "native" / "cpu")
    return {
        "models_dir": xdg("XDG_DATA_HOME", ".local/share") / "models",
        "system_model_dirs": (SYSTEM_SHARE / "models",),
        "cache_dir": xdg("XDG_CACHE_HOME", ".cache"),
        "state_dir": xdg("XDG_STATE_HOME", ".local/state"),
        "runtime_dir": (runtime / "kylin-gguf")
        if runtime.is_absolute()
        else xdg("XDG_STATE_HOME", ".local/state") / "run",
        "catalogue": shared_file("models.yaml"),
        "commands_dirs": (SYSTEM_SHARE / "commands.d",),
        "native_dirs": tuple(native),
    }


def _read_file(path: Path) -> dict[str, Any]:
    try:
        # All values as texts, as the environment has them: YAML 1.1 would make a boolean of "off".
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), "file", str(error).replace("\n", " ")) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(str(path), "file", "not a mapping of names to values")
    return {str(key): value for key, value in content.items()}


def _layers(environ: Mapping[str, str], flags: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "default", _defaults(environ)
    drop_ins = sorted(SYSTEM_CONFIG.with_name("config.d").glob("*.yaml"))
    home = Path(environ.get("HOME") or "~").expanduser()
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kylin-gguf" / "config.yaml"
    for path in (SYSTEM_CONFIG, *drop_ins, user):
        yield str(path), _read_file(path)
    for name in _NAMES:
        variable = ENV_PREFIX + name.upper()
        if variable in environ:
            yield f"${variable}", {name: environ[variable]}
    yield "command line", dict(flags)


def _converted(origin: str, name: str, value: Any) -> Any:
    if name in _PATHS:
        return _path(origin, name, value)
    if name in _PATH_LISTS:
        return tuple(_path(origin, name, item) for item in _items(origin, name, value, os.pathsep))
    if name in _TEXTS:
        if not isinstance(value, str):
            raise ConfigError(origin, name, f"'{value}' is not a text")
        return value
    if name in _ADDRESS_LISTS:
        return _addresses(origin, name, value)
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ConfigError(origin, name, f"'{value}' is not one of {', '.join(_CHOICES[name])}")
        return value
    low, high = _INTEGERS.get(name, (0, 1 << 31))
    try:
        number = float(value) if name in _SECONDS else int(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(origin, name, f"'{value}' is not a number") from error
    if not low <= number <= high:
        raise ConfigError(origin, name, f"{value} is not from {low} to {high}")
    return number


def _path(origin: str, name: str, value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ConfigError(origin, name, f"'{value}' is not a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # a user who does not exist
        raise ConfigError(origin, name, f"'{value}' has no home directory") from error


def _items(origin: str, name: str, value: Any, separator: str) -> list[Any]:
    """Return the items of a list, or of a text between ``separator``; empty ones are none.

    As a path, an empty one would be the current directory, from which nothing may be loaded.
    """
    items = value.split(separator) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ConfigError(origin, name, f"'{value}' is not a list")
    return [item for item in items if item != ""]


def _addresses(origin: str, name: str, value: Any) -> tuple[str, ...]:
    """Return addresses, of a list or separated by commas."""
    items = _items(origin, name, value, ",")
    addresses = tuple(dict.fromkeys(text for item in items if (text := str(item).strip())))
    for address in addresses:
        if not rpc.ADDRESS.fullmatch(address):
            raise ConfigError(origin, name, f"'{address}' is not HOST:PORT")
    return addresses


def load(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Merge all layers into one frozen Settings.

    Raises:
        ConfigError: a file cannot be parsed, a name is unknown, or a value has the wrong type or range.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in _layers(os.environ if environ is None else environ, flags or {}):
        for name, value in layer.items():
            if name not in _NAMES:
                hint = ", ".join(near(name, _NAMES)) or ", ".join(_NAMES)
                raise ConfigError(origin, name, f"unknown setting; did you mean {hint}?")
            values[name] = _converted(origin, name, value)
            origins[name] = origin
    for name in _NAMES:
        origins.setdefault(name, "default")
    return Settings(**values, origins=origins)
