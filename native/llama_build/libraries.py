"""From the source to ``build/native/PRESET/``: compile a preset, keep the result for other checkouts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from llama_build.checkout import Tree
from llama_build.inputs import provide
from llama_build.presets import ingredients, vendor
from llama_build.source import unpack
from llama_build.steps import BuildFailed, appearing, call, exclusive, read_stamp, say, write_stamp


def cache_directory() -> Path:
    """Return where finished builds are kept for other checkouts (XDG base directories)."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "kylin-gguf" / "native"


def build_environment(tree: Tree) -> dict[str, str]:
    """Return the environment for CMake: ccache when it is installed, as many jobs as we may use cores."""
    environment = dict(os.environ)
    if shutil.which("ccache"):
        for language in ("C", "CXX", "CUDA"):
            environment.setdefault(f"CMAKE_{language}_COMPILER_LAUNCHER", "ccache")
        # Paths below the checkout become relative, so that another checkout finds the same objects. Not where
        # flags rename them: a package would be another one with ccache than without.
        if "-ffile-prefix-map=" not in environment.get("CXXFLAGS", ""):
            environment.setdefault("CCACHE_BASEDIR", str(tree.root))
    environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(len(os.sched_getaffinity(0))))
    return environment


def compile_preset(tree: Tree, preset: str, made_from: dict[str, Any]) -> Path:
    """Configure and build ``preset``; return the directory with the results.

    An interrupted build of the same ingredients resumes; one of others is thrown away first, so that no
    library of an older build is installed with the new ones.
    """
    directory = tree.build / "cmake" / preset
    if read_stamp(directory) != made_from:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write_stamp(directory, made_from)
    environment = build_environment(tree)
    say(f"building preset {preset} ({' / '.join(made_from['compilers'])})")
    configure = ["cmake", "--preset", preset, f"-DLLAMA_CPP_SOURCE={tree.llama_cpp}"]
    call(configure, cwd=tree.native, env=environment, stdout=subprocess.DEVNULL)
    call(["cmake", "--build", "--preset", preset], cwd=tree.native, env=environment)
    return directory / "bin"


def install(built: Path, target: Path, made_from: dict[str, Any]) -> None:
    """Put the libraries and tools in ``built`` into ``target``, all or nothing.

    Of a plug-in's build only the plug-in: the core that it was linked against is preset cpu's.
    """
    patterns = ["lib*.so*", "llama-*"]
    if vendor(made_from["configure"], "plugin", default=False):
        patterns = [f"lib{name}.so" for name in made_from["targets"]]
    with appearing(target) as fresh:
        for path in sorted(path for pattern in patterns for path in built.glob(pattern)):
            shutil.copy2(path, fresh / path.name, follow_symlinks=False)
        missing = [name for name in made_from["targets"] if not produced(fresh, name)]
        if missing:
            raise BuildFailed(f"the build left no {', '.join(missing)} in {built}")
        write_stamp(fresh, made_from)


def produced(directory: Path, target: str) -> bool:
    """Return whether ``directory`` holds what build target ``target`` makes: a tool or a library."""
    return (directory / target).is_file() or (directory / f"lib{target}.so").is_file()


def libraries(tree: Tree, preset: str) -> None:
    """Make ``build/native/PRESET`` from the cache or by building, unless it is there."""
    made_from = ingredients(tree, preset)
    target = tree.build / "native" / preset
    kept = cache_directory() / made_from["key"]
    with exclusive(target):
        if read_stamp(target) == made_from:
            return
        if read_stamp(kept) == made_from:
            say(f"preset {preset} was built before; taking it from {kept}")
        else:
            unpack(tree)
            for name in made_from["inputs"]:
                provide(tree, name)
            install(compile_preset(tree, preset, made_from), kept, made_from)
        install(kept, target, made_from)
