"""The live display of a run: a line per cell in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rocompare.results.records import SUCCESS_SCORE

if TYPE_CHECKING:
    from rocompare.execute.runner import CellStatus
    from rocompare.learn.engine import Progress

PLAIN_SECONDS = 10.0
_STYLES = {
    "done": "green",
    "running": "cyan",
    "failed": "bold red",
    "stopped": "yellow",
    "elsewhere": "yellow",
    "waiting": "dim",
}
_COLUMNS = ("cell", "state", "progress", "return", "curve", "success", "updates/s", "left")
_BLOCKS = "▁▂▃▄▅▆▇█"
_WORDS = {"elsewhere": "another run has it"}


class Display:
    """Shows the state of a run's cells; use as a context manager and call :meth:`show`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.spoken: dict[str, tuple[str, float]] = {}
        self.returns: dict[str, dict[float, float]] = {}
        """By cell, the mean return at each fraction that was seen, for its curve."""

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=4)
            self.live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.live.__exit__(kind, value, trace)

    def show(self, statuses: list[CellStatus]) -> None:
        """Bring the display up to date."""
        if self.live:
            for status in statuses:
                p = status.progress
                if p and math.isfinite(p.mean_return):
                    self.returns.setdefault(status.cell.label, {})[p.fraction] = p.mean_return
            self.live.update(self._grid(statuses))
        else:
            self._speak(statuses)

    def _grid(self, statuses: list[CellStatus]) -> Table:
        # What does not fit a screen is summed up: running and failed cells stay in sight.
        room = max(3, self.console.height - 4)
        shown = statuses
        if len(statuses) > room:
            order = {"running": 0, "failed": 1, "elsewhere": 2}
            shown = sorted(statuses, key=lambda s: order.get(s.state, 3))[:room]
        narrow, wide = self.console.width < 90, self.console.width >= 110
        grid = Table(box=None, pad_edge=False, header_style="bold")
        for name in _COLUMNS:
            if (narrow and name in ("updates/s", "progress")) or (not wide and name == "curve"):
                continue
            right = name not in ("cell", "state", "progress", "curve")
            grid.add_column(name, justify="right" if right else "left", no_wrap=name != "cell")
        for status in shown:
            p = status.progress
            fraction = 1.0 if status.state == "done" else p.fraction if p else 0.0
            state = Text(_WORDS.get(status.state, status.state), _STYLES[status.state])
            row: list[Text | str] = [status.cell.label, state]
            if not narrow:
                bar = "━" * round(12 * fraction)
                row.append(
                    Text.assemble(
                        (bar, "cyan"), ("─" * (12 - len(bar)), "dim"), f" {fraction:4.0%}"
                    )
                )
            row.append("" if p is None or math.isnan(p.mean_return) else f"{p.mean_return:.2f}")
            if wide:
                row.append(sparkline(list(self.returns.get(status.cell.label, {}).values())))
            row.append(success_text(p) if p else "")
            if not narrow:
                row.append(f"{p.updates_per_second:,.0f}" if p else "")
            row.append(clock(p.seconds_left) if p and status.state == "running" else "")
            grid.add_row(*row)
        if len(shown) < len(statuses):
            done = sum(s.state == "done" for s in statuses)
            grid.add_row(Text(f"… {len(statuses)} cells, {done} done", "dim"))
        return grid

    def _speak(self, statuses: list[CellStatus]) -> None:
        """A line when a cell's state changes, and now and then while it runs."""
        now = time.monotonic()
        for status in statuses:
            state, last = self.spoken.get(status.cell.label, ("waiting", now))
            changed = status.state != state
            if not changed and (status.state != "running" or now - last < PLAIN_SECONDS):
                self.spoken.setdefault(status.cell.label, (state, last))
                continue
            self.spoken[status.cell.label] = status.state, now
            line = f"{status.cell.label}: {_WORDS.get(status.state, status.state)}"
            p = status.progress
            if p and status.state in ("running", "done"):
                if status.state == "running":
                    line += f" {p.fraction:.0%}, {clock(p.seconds_left)} left"
                line += f", return {p.mean_return:.2f}"
                line += f", {success_text(p)}" if p.successes is not None else ""
                line += f", {p.updates_per_second:,.0f} updates/s"
            if status.error:
                line += f": {status.error}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def success_text(progress: Progress) -> str:
    """``12/20 at 0.9``: seeds whose score is a success; nothing where there is no score."""
    if progress.successes is None:
        return ""
    return f"{progress.successes}/{progress.n_seeds} at {SUCCESS_SCORE:g}"


def sparkline(values: list[float]) -> str:
    """The last 12 values as blocks, from the lowest of all values to the highest."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in values[-12:])


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    if not math.isfinite(seconds):
        return "?"
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"
