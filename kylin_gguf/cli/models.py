"""``models``, ``pull``, ``rm`` and ``info``: models on disk. None of them needs the service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from kylin_gguf import catalogue, config
from kylin_gguf.cli import completion, output
from kylin_gguf.gguf_info import GgufInfo, shards
from kylin_gguf.records import RemoteModel
from kylin_gguf.store import Store, notice
from kylin_gguf.translation import translate as _

AsJson = Annotated[bool, typer.Option("--json", help=_("Print JSON objects, one a line."))]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help=_("A model's name, or the path of a GGUF file."),
        autocompletion=completion.usable,
        show_default=False,
    ),
]
ModelFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME",
        help=_("A GGUF file, or an installed model."),
        autocompletion=completion.installed,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("models", help=_("List the models of the catalogue and those installed."))(list_models)
    app.command(
        "pull",
        help=_("Download a model.")
        + "\n\n"
        + _("Without a name: the best default model that can be reached.")
        + "\n\n"
        + _("Example: kylin-gguf pull qwen3-0.6b"),
    )(pull)
    app.command("rm", help=_("Delete an installed model."))(remove)
    app.command(
        "info",
        help=_("Show what a GGUF file contains.") + "\n\n" + _("Example: kylin-gguf info ./model.gguf"),
    )(info)


def not_local(host: str) -> str:
    """Return what marks a model that ``host`` answers for."""
    return _("not local: {host}").format(host=host)


def reference(model: str) -> str:
    """Return ``model`` as another process understands it: a path is made absolute, a name stays."""
    is_path = os.sep in model or model.endswith(".gguf")
    return str(Path(model).absolute()) if is_path else model


def open_store() -> Store:
    """Return the store of the current settings."""
    settings = config.load()
    return Store(settings, catalogue.load(settings.catalogue))


def list_models(as_json: AsJson = False) -> None:
    """Command ``models``."""
    rows = open_store().listing()
    if as_json:
        for row in rows:
            output.print_json(row)
        return
    output.print_table(
        [_("NAME"), _("SIZE"), _("LANGUAGES"), _("LICENCE"), _("STATE"), _("TITLE")],
        [_line(row) for row in rows],
    )


def _line(row: dict[str, Any]) -> list[str]:
    state = _("default") if row["default"] else _("installed") if row["installed"] else ""
    if not row["local"]:
        state = not_local(row["remote"])
    return [
        row["name"],
        output.size(row["size"]) if row.get("size") else "",
        " ".join(row.get("languages", ())),
        row.get("licence", ""),
        state,
        row.get("title", ""),
    ]


def pull(
    name: Annotated[
        str,
        typer.Argument(
            help=_("A name of the catalogue."), show_default=False, autocompletion=completion.absent
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Command ``pull``."""
    settings = config.load()
    known = catalogue.load(settings.catalogue)
    with output.progress() as progress:
        model = Store(settings, known).pull(name, progress)
    about = notice(known.get(model.name)) if model.name in known.names() else ""
    if as_json:
        output.print_json(
            {"name": model.name, "path": str(model.path), "size": model.size, "notice": about or None}
        )
        return
    print(f"{model.name}: {model.path} ({output.size(model.size)})")
    if about:
        output.notice(about)


def remove(
    name: Annotated[str, typer.Argument(help=_("An installed model."), autocompletion=completion.installed)],
) -> None:
    """Command ``rm``."""
    open_store().remove(name)


def info(
    model: ModelFile,
    tensors: Annotated[bool, typer.Option("--tensors", help=_("List the tensors, too."))] = False,
    as_json: AsJson = False,
) -> None:
    """Command ``info``."""
    meant = None if os.path.isfile(model) else open_store().find(model)
    if isinstance(meant, RemoteModel):
        _show_remote(meant, as_json=as_json)
        return
    found = shards.read(meant.path if meant else Path(model))
    fields = _fields(found)
    if as_json:
        listed = [
            {"name": t.name, "shape": list(t.shape), "type": t.type_name, "bytes": t.nbytes}
            for t in found.tensors
        ]
        output.print_json(fields | ({"tensors": listed} if tensors else {}))
        return
    shown = fields | {
        "file_size": output.size(found.file_size),
        "parameters": f"{found.parameters / 1e6:.1f} M",
    }
    output.print_fields({name: str(value) for name, value in shown.items() if value not in ("", None, [])})
    if tensors:
        output.print_table(
            [_("TENSOR"), _("SHAPE"), _("TYPE"), _("SIZE")],
            [
                [t.name, "×".join(map(str, t.shape)), t.type_name, output.size(t.nbytes)]
                for t in found.tensors
            ],
        )


def _show_remote(model: RemoteModel, *, as_json: bool) -> None:
    """Show what is known of a model that a server has. The server is not asked."""
    origin = f"${model.token_env}" if model.token_env else str(model.token_file or "")
    fields = {"name": model.name, "title": model.title, "local": False, "remote": model.host}
    fields |= {"url": model.url, "model": model.model, "token": origin}
    if as_json:
        output.print_json(fields)
        return
    shown = fields | {"local": not_local(model.host)}
    output.print_fields({name: output.printable(str(value)) for name, value in shown.items() if value})


def _fields(found: GgufInfo) -> dict[str, Any]:
    return {
        "path": str(found.path),
        "file_size": found.file_size,
        "gguf_version": found.version,
        "kind": found.kind,
        "architecture": found.architecture,
        "name": output.printable(found.name),
        "file_type": found.file_type,
        "parameters": found.parameters,
        "bits_per_weight": round(found.bits_per_weight, 3),
        "layers": found.layers,
        "embedding_length": found.embedding_length,
        "context_length": found.context_length,
        "head_count": found.head_count,
        "head_count_kv": max(found.head_count_kv, default=0),
        "vocab_size": found.vocab_size,
        "tokenizer": output.printable(f"{found.tokenizer_model} {found.tokenizer_pre}".strip()),
        "chat_template": found.has_chat_template,
        "pooling": found.pooling,
        "licence": output.printable(found.licence),
        "languages": list(found.languages),
        "tensor_count": len(found.tensors),
    }
