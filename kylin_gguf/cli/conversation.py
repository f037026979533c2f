"""A conversation on a terminal: lines and blocks to ask, and commands that begin with a slash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from kylin_gguf.bus.client_session import ClientSession
from kylin_gguf.cli import output
from kylin_gguf.cli.models import reference
from kylin_gguf.errors import Cancelled, FileMissing, InvalidValue, KylinError, NotWritable, near
from kylin_gguf.records import Entry, Message
from kylin_gguf.translation import N_
from kylin_gguf.translation import translate as _

PROMPT, CONTINUED = "> ", ". "
BLOCK = '"""'
"""Opens and closes a question of several lines."""
HISTORY_LINES = 1000

COMMANDS = {
    "/clear": N_("/clear                forget the conversation"),
    "/model": N_("/model [NAME|FILE]    show the model, or go on with another one"),
    "/system": N_("/system [TEXT]        show the system message, or set it"),
    "/save": N_("/save FILE            write the conversation to a file"),
    "/load": N_("/load FILE            go on with the conversation in a file"),
    "/help": N_("/help                 show this list"),
    "/exit": N_("/exit, Ctrl-D         end"),
}

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine to its end."""


class Conversation:
    """Reads what the user types, and has it answered or carried out."""

    def __init__(self, run: Run, session: ClientSession, ask: Callable[[str], None]) -> None:
        """``ask`` shows the answer to a question; raises Cancelled when the user stops it."""
        self._run, self._session, self._ask = run, session, ask

    def hold(self, history: Path) -> None:
        """Talk until the user ends it; the lines typed are kept in ``history``."""
        with _editing(history):
            for text in _typed():
                if text.split()[0] == "/exit":
                    return
                try:
                    self._take(text)
                except Cancelled:
                    pass  # the answer was stopped, the conversation goes on
                except KylinError as error:
                    output.notice(error.message())

    def _take(self, text: str) -> None:
        if not text.startswith("/"):
            self._ask(text)
            return
        name, _space, argument = text.partition(" ")
        if name not in COMMANDS:
            similar = ", ".join(near(name, tuple(COMMANDS)) or COMMANDS)
            output.notice(
                _("There is no '{command}'; did you mean {similar}?").format(command=name, similar=similar)
            )
            return
        getattr(self, f"_{name[1:]}")(argument.strip())

    def _help(self, _argument: str) -> None:
        for line in COMMANDS.values():
            output.notice(_(line))
        output.notice(_('""" begins and ends a question of several lines. Ctrl-C stops an answer.'))

    def _clear(self, _argument: str) -> None:
        self._run(self._session.clear())

    def _model(self, name: str) -> None:
        if name:
            self._run(self._session.set_model(reference(name)))
        output.notice(str(self._run(self._session.model())))
        if host := self._run(self._session.remote()):
            output.notice(elsewhere(host))

    def _system(self, text: str) -> None:
        entries = self._run(self._session.entries())
        if text:
            rest = [entry for entry in entries if entry.message.role != "system"]
            self._run(self._session.set_context([Entry(Message("system", text)), *rest]))
            return
        said = [entry.message.content for entry in entries if entry.message.role == "system"]
        output.notice(output.printable(said[0]) if said else _("There is no system message."))

    def _save(self, name: str) -> None:
        path = _file("/save", name)
        document = json.dumps(self._run(self._session.export()), ensure_ascii=False, indent=1)
        try:
            path.write_text(f"{document}\n", encoding="utf-8")
        except OSError as error:
            raise NotWritable(str(path), error.strerror or str(error)) from error
        output.notice(_("The conversation is in {path}.").format(path=path))

    def _load(self, name: str) -> None:
        path = _file("/load", name)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise FileMissing(str(path), str(error)) from error
        except (ValueError, RecursionError) as error:
            raise InvalidValue("FILE", str(path), _("a conversation that /save has written")) from error
        self._run(self._session.import_(document))


def elsewhere(host: str) -> str:
    """Return the sentence that says where words go and answers come from."""
    return _("What you say goes to {host}, which answers: not this machine.").format(
        host=output.printable(host)
    )


def _file(command: str, name: str) -> Path:
    if not name:
        raise InvalidValue(command, "", _("the name of a file"))
    return Path(name).expanduser()


@contextlib.contextmanager
def _editing(history: Path) -> Iterator[None]:
    """Edit lines as in a shell, with those of earlier conversations; only the user can read these."""
    import readline  # noqa: PLC0415 - changes what input() does

    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a conversation does not fail for want of a history
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            history.touch(mode=0o600)
            readline.write_history_file(history)


def _typed() -> Iterator[str]:
    """Yield what the user types, line by line or block by block, until the end of the input."""
    while True:
        try:
            line = input(PROMPT).strip()
            if line.startswith(BLOCK):
                line = _block(line.removeprefix(BLOCK))
        except KeyboardInterrupt:
            print()
            continue
        except EOFError:
            print()
            return
        if line:
            yield line


def _block(line: str) -> str:
    lines = [line]
    while not lines[-1].rstrip().endswith(BLOCK):
        lines.append(input(CONTINUED))
    return "\n".join(lines).rstrip().removesuffix(BLOCK).strip()
