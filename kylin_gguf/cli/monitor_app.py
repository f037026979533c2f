"""The screen of ``monitor``, with Textual; nothing else imports this module."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, Sparkline, Static

from kylin_gguf.cli import monitor_rows as rows
from kylin_gguf.cli import output
from kylin_gguf.cli.watch import Look, Speed, Speeds, look
from kylin_gguf.errors import KylinError
from kylin_gguf.translation import translate as _

EVERY_S = 1.0
KEPT = 60
"""Looks that a graph shows."""


class Graph(Vertical):
    """The last minute of one figure: as bars, and as a number in the title."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__(id=name, classes="box")
        self._label = label
        self._values: deque[float] = deque([0.0] * KEPT, KEPT)
        self.border_title = label

    def compose(self) -> ComposeResult:
        """Lay the bars out."""
        yield Sparkline(list(self._values), summary_function=max)

    def add(self, value: float, shown: str) -> None:
        """Add the newest value; ``shown`` is how it reads."""
        self._values.append(value)
        self.query_one(Sparkline).data = list(self._values)
        self.border_title = f"{self._label} {shown}"


class Table(DataTable[Text]):
    """Lines that are replaced at each look. Names come from files and clients: they are shown as text."""

    def __init__(self, name: str, title: str, columns: Sequence[str]) -> None:
        super().__init__(id=name, classes="box", cursor_type="none", cell_padding=0, zebra_stripes=False)
        self._heads = columns
        self.border_title = title

    def on_mount(self) -> None:
        """Name the columns."""
        self.add_columns(*(f"{head} " for head in self._heads))

    def show(self, lines: Sequence[Sequence[str]]) -> None:
        """Replace the lines."""
        self.clear()
        for line in lines:
            self.add_row(*(Text(f"{output.printable(cell)} ") for cell in line))


class MonitorApp(App[None]):
    """Looks at the service every second."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    .box { border: round $primary; border-title-color: $text; }
    #service { height: 1; padding: 0 1; text-style: bold; }
    #models { height: 7; }
    #graphs { height: 4; }
    Graph { width: 1fr; }
    Sparkline { height: 2; }
    #below { height: 1fr; }
    #devices { width: 2fr; height: 1fr; }
    #commands { width: 3fr; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", _("Quit")),
        Binding("p", "pause", _("Pause")),
        Binding("space", "look", _("Look now")),
    ]

    def __init__(self, look: Callable[[], Awaitable[Look | None]] = look) -> None:
        super().__init__()
        self.title = "kylin-gguf monitor"
        self._look, self._speeds = look, Speeds()
        self._paused = False
        self._failure: KylinError | None = None

    def compose(self) -> ComposeResult:
        """Lay the screen out; it is made for 80 columns and 24 lines."""
        yield Static(id="service", markup=False)
        yield Table("models", _("Models"), rows.model_columns())
        with Horizontal(id="graphs"):
            yield Graph("answers", _("Answers"))
            yield Graph("prompts", _("Prompts"))
            yield Graph("waiting", _("Queue"))
        with Horizontal(id="below"):
            yield Table("devices", _("Devices"), rows.device_columns())
            yield Table("commands", _("Commands"), rows.command_columns())
        yield Footer()

    async def on_mount(self) -> None:
        """Begin to look."""
        await self.action_look()
        self.set_interval(EVERY_S, self._tick)

    async def _tick(self) -> None:
        if not self._paused:
            await self.action_look()

    def action_pause(self) -> None:
        """Leave the screen as it is, or go on."""
        self._paused = not self._paused
        self.sub_title = _("paused") if self._paused else ""
        self.query_one("#models").border_subtitle = self.sub_title

    async def action_look(self) -> None:
        """Look at the service and show what it tells."""
        try:
            found = await self._look()
        except KylinError as error:
            self._failure = error
            self.exit()
            return
        if found is None:
            self._show_absence()
        else:
            self._show(found)

    def _show_absence(self) -> None:
        text = _("The service is not running. It starts by itself when it is needed.")
        self.query_one("#service", Static).update(text)
        self._speeds = Speeds()
        for table in self.query(Table):
            table.show(())
        self._draw(Speed(), 0, 0)

    def _show(self, found: Look) -> None:
        speeds = self._speeds.since_last(found["Statistics"])
        self.query_one("#service", Static).update(rows.headline(found))
        self.query_one("#models", Table).show(rows.model_rows(found, speeds))
        self.query_one("#devices", Table).show(rows.device_rows(found))
        self.query_one("#commands", Table).show(rows.command_rows(found))
        models = found["Statistics"]["models"]
        running, waiting = (sum(model[key] for model in models) for key in ("running", "waiting"))
        together = sum(speeds.values(), Speed())
        self.query_one("#devices").border_subtitle = rows.power_line(found, together.watts)
        self._draw(together, running, waiting)

    def _draw(self, speed: Speed, running: int, waiting: int) -> None:
        for name, rate in (("answers", speed.answers), ("prompts", speed.prompts)):
            self.query_one(f"#{name}", Graph).add(rate, _("{rate:.1f} t/s").format(rate=rate))
        asked = _("{running} run, {waiting} wait").format(running=running, waiting=waiting)
        self.query_one("#waiting", Graph).add(running + waiting, asked)

    def run_to_the_end(self) -> None:
        """Run until the user quits.

        Raises:
            KylinError: the service refused to tell.
        """
        self.run()
        if self._failure:
            raise self._failure
