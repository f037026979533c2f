"""The ``convert-adapter`` command: a LoRA adapter as a GGUF, not merged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kylin_convert import lora, remote, view, work
from kylin_convert.adapter import Adapter
from kylin_convert.source import open_base
from kylin_convert.writer import FORMATS
from kylin_gguf import config, gguf_info
from kylin_gguf.errors import InvalidValue, NotACheckpoint
from kylin_gguf.records import ProgressCallback, Settings
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "convert-adapter",
        help=_("Write a LoRA adapter as a GGUF that llama.cpp adds to its base model; 'convert' merges it.")
        + "\n\n"
        + _("Example: kylin-gguf convert-adapter ./my-adapter --base Qwen/Qwen3-1.7B"),
    )(run)


def run(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help=_("A folder that PEFT saved, or a repository."))
    ],
    base: Annotated[
        str,
        typer.Option(
            help=_("The checkpoint it belongs to, a folder or a repository. Default: the one it names."),
            show_default=False,
        ),
    ] = "",
    form: Annotated[str, typer.Option("--type", help=_("F32, F16 or BF16."))] = "F32",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=_("What to write. Default: NAME-LoRA-TYPE.gguf here.")),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=_("Replace the output if it exists."))] = False,
) -> None:
    """Command ``convert-adapter``."""
    settings = config.load()
    if form.upper() not in FORMATS:
        raise InvalidValue("--type", form, ", ".join(FORMATS))
    with view.terminable(), view.opened(as_json=False) as shown:
        folder = _folder(adapter, settings, shown.progress)
        name = Path(adapter).name if folder == Path(adapter).absolute() else adapter.rpartition("/")[2]
        target = (output or Path(f"{name}-LoRA-{form.upper()}.gguf")).absolute()
        if target.exists() and not force:
            raise InvalidValue("output", str(target), "a file that does not exist yet, or --force")
        named = base or lora.base_name(folder)
        checkpoint = open_base(named, adapter, settings, shown.progress, outline=True)
        opened = Adapter.open(folder, checkpoint)
        with work.blaming_full_disk(target, opened.nbytes(form.upper())):
            opened.write(target, form.upper(), shown.progress)
        work.sync(target)
    made = gguf_info.read(target)
    adapted = _("{count} matrices adapted").format(count=len(made.tensors) // 2)
    print(f"{target}: {view.size(made.file_size)}, {adapted}")


def _folder(text: str, settings: Settings, progress: ProgressCallback) -> Path:
    """Return the folder of the adapter that ``text`` names, downloaded if it must be."""
    path = Path(text).absolute()
    if not path.is_dir() and (reference := remote.parse(text)):
        path = remote.fetch(reference, settings, progress, _check).folder
    _check(path)
    return path


def _check(folder: Path) -> None:
    if not lora.is_adapter(folder):
        raise NotACheckpoint(str(folder), f"it has no {lora.CONFIG}, or is a whole checkpoint")
