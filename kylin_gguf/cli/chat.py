"""``chat``: a conversation, or one question, with the model that the service runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from kylin_gguf import catalogue, config
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import Answer, ClientSession, failure_of
from kylin_gguf.cli import given, output
from kylin_gguf.cli.consent import ask
from kylin_gguf.cli.conversation import Conversation, elsewhere
from kylin_gguf.cli.models import AsJson, Model, reference
from kylin_gguf.errors import KylinError, NothingToConfirm, UnknownModel
from kylin_gguf.frames import Frame
from kylin_gguf.records import Settings
from kylin_gguf.store import notice
from kylin_gguf.translation import translate as _


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        "chat",
        help=_("Talk with a model. With a question: answer it and end.")
        + "\n\n"
        + _("Ctrl-C stops the answer; Ctrl-D ends the conversation.")
        + "\n\n"
        + _('Examples: kylin-gguf chat — kylin-gguf chat "Why is the sky blue?" — kylin-gguf chat < text'),
    )(chat)


def chat(  # noqa: PLR0913, PLR0917 — one parameter for each option
    question: Annotated[
        str,
        typer.Argument(
            help=_("What to ask. Without it: a conversation, or the text on stdin."), show_default=False
        ),
    ] = "",
    model: Model = "",
    system: Annotated[str, typer.Option(help=_("The system message."), show_default=False)] = "",
    temperature: Annotated[float | None, typer.Option(help=_("0 is the likeliest words only."))] = None,
    top_k: Annotated[int | None, typer.Option(help=_("Choose among this many tokens; 0: all."))] = None,
    top_p: Annotated[
        float | None, typer.Option(help=_("Choose among tokens of this joint probability."))
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help=_("Leave out tokens below this share of the best."))
    ] = None,
    repeat_penalty: Annotated[float | None, typer.Option(help=_("Above 1: repeat less."))] = None,
    seed: Annotated[int | None, typer.Option(help=_("Seed of the random numbers; -1: a fresh one."))] = None,
    max_tokens: Annotated[int | None, typer.Option(help=_("The longest answer."))] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help=_("End the answer at this text (repeatable)."))
    ] = None,
    grammar: Annotated[
        Path | None, typer.Option(help=_("A file with a GBNF grammar for the answer."))
    ] = None,
    assistant: Annotated[
        bool, typer.Option("--assistant", help=_("Carry out desktop commands that are asked for, too."))
    ] = False,
    stats: Annotated[bool, typer.Option("--stats", help=_("Show token counts and speed."))] = False,
    as_json: AsJson = False,
) -> None:
    """Command ``chat``."""
    options = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repeat_penalty": repeat_penalty,
        "seed": seed,
        "max_tokens": max_tokens,
        "stop": stop,
        "grammar": given.text(str(grammar)) if grammar else None,
        "mode": "assistant" if assistant else None,
    }
    show = _Json() if as_json else _Text(stats)
    settings = config.load()
    if not question and not sys.stdin.isatty():
        question = given.text(given.STDIN)
    with asyncio.Runner() as runner:
        client = runner.run(Client.connect(settings))
        try:
            session = runner.run(client.create_session(reference(model), system))
            if question:
                runner.run(_ask(session, question, options, show))
            else:
                _greet(settings, runner.run(session.model()), runner.run(session.remote()))
                talk = Conversation(
                    runner.run, session, lambda text: runner.run(_ask(session, text, options, show))
                )
                talk.hold(settings.state_dir / "chat_history")
        finally:
            runner.run(client.close())


def _greet(settings: Settings, model: str, host: str) -> None:
    output.notice(_("{model}. /help lists commands, Ctrl-D ends.").format(model=model))
    if host:
        output.notice(elsewhere(host))
        return
    with contextlib.suppress(UnknownModel):  # a file of the user's own has no note
        output.notice(notice(catalogue.load(settings.catalogue).get(model)))


async def _ask(session: ClientSession, question: str, options: Mapping[str, Any], show: _Text) -> None:
    """Show one answer; Ctrl-C stops the answer and not the program.

    Raises:
        Cancelled: the answer was stopped.
        KylinError: the stream's error.
    """
    loop = asyncio.get_running_loop()
    answer = await session.generate(question, **options)
    cancels: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGINT, lambda: cancels.add(loop.create_task(answer.cancel())))
    try:
        failure = await _show(answer, show)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await asyncio.gather(*cancels, return_exceptions=True)
    if failure is not None:
        raise failure


async def _show(answer: Answer, show: _Text) -> KylinError | None:
    failure: KylinError | None = None
    asking: asyncio.Task[None] | None = None
    async for frame in answer:
        show.frame(frame)
        if asking is not None:  # whatever comes now, the question is settled
            asking.cancel()
        if frame["type"] == "confirm":
            asking = asyncio.ensure_future(_confirm(answer, str(frame.get("text"))))
        failure = failure or failure_of(frame)
    return failure


async def _confirm(answer: Answer, question: str) -> None:
    consent = await ask(question)
    with contextlib.suppress(NothingToConfirm):  # the time for an answer has just passed
        await answer.confirm(consent)


class _Text:
    """Frames for people: the answer on stdout, what is about it on stderr."""

    def __init__(self, stats: bool) -> None:
        self._stats = stats
        self._status = Console(stderr=True)
        self._loading = False
        self._trimmed = 0
        self._host = ""

    def frame(self, frame: Frame) -> None:
        """Show one frame."""
        match frame["type"]:
            case "text":
                self._clear_loading()
                sys.stdout.write(output.printable(str(frame["text"])))
                sys.stdout.flush()
            case "notice" if frame.get("code") == "loading" and self._status.is_terminal:
                self._loading = True
                share = round(100 * float(frame.get("fraction", 0)))
                sys.stderr.write("\r" + _("Loading the model… {share} %").format(share=share))
                sys.stderr.flush()
            case "notice" if frame.get("code") == "trimmed" and frame.get("messages") != self._trimmed:
                self._trimmed = frame["messages"]
                self._clear_loading()
                text = _("(The conversation is long: its oldest {count} messages are left out from here on.)")
                output.notice(text.format(count=self._trimmed))
            case "notice" if frame.get("code") == "remote" and frame.get("host") != self._host:
                self._host = str(frame.get("host"))
                self._clear_loading()
                output.notice(f"({elsewhere(self._host)})")
            case "notice" if frame.get("code") == "stepped-down":
                self._clear_loading()
                text = _("(The model was loaded with less than planned. {reason})")
                output.notice(text.format(reason=output.printable(str(frame.get("reason", "")))))
            case "usage" if self._stats:
                print()
                output.notice(_usage(frame))
            case "end":
                self._clear_loading()
                print(flush=True)
                if frame.get("reason") == "length":
                    output.notice(_("(The answer reached max_tokens.)"))

    def _clear_loading(self) -> None:
        if self._loading:
            self._loading = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class _Json(_Text):
    """Frames for programs, as they come."""

    def __init__(self) -> None:
        super().__init__(stats=False)

    def frame(self, frame: Frame) -> None:
        output.print_json(frame)


def _usage(frame: Frame) -> str:
    return _(
        "{prompt_tokens} prompt tokens ({cached_tokens} cached), {completion_tokens} tokens; "
        "first after {first_token_s:.2f} s, {decode_tokens_per_s:.1f} tokens/s"
    ).format(**frame)
