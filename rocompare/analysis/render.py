"""Tables written: terminal, Markdown, CSV, LaTeX, HTML, JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from html import escape

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rocompare.analysis.table import WITH_STD, Entry, ReturnTable


def cell_text(entry: Entry | None, default_n: int, *, plus_minus: str = "±") -> str:
    """``mean ± std``, with ``n=`` where it is not the usual number or seeds diverged.

    Other statistics stand as ``value [low, high]``, success as ``7/10 [0.40, 0.89]``, and cost as
    ``1.25 s, 1,800 updates, 27,078 parameters, search 20×12, 1.3 h``: trials times dimensions.
    """
    if entry is None:
        return "—"
    interval = f" [{_number(entry.low)}, {_number(entry.high)}]"
    if entry.statistic == "success":
        text = f"{entry.successes}/{entry.total}{interval}" if entry.total else "failed"
        return text + (f" (n={entry.total}/{entry.asked})" if entry.failed else "")
    if entry.n == 0:
        return f"{'diverged' if entry.total else 'failed'} (n=0/{entry.asked})"
    if entry.statistic == "cost":
        text = f"{entry.value:.2f} s, {entry.updates:,} updates, {entry.parameters:,} parameters"
        if entry.search is None:
            text += ", search —"
        else:
            text += ", search {}×{}, {:.1f} h".format(*entry.search)
    elif entry.statistic in WITH_STD:
        text = f"{_number(entry.value)} {plus_minus} {_number(entry.std)}"
    else:
        text = _number(entry.value) + ("" if math.isnan(entry.low) else interval)
    if entry.n != entry.asked:
        text += f" (n={entry.n}/{entry.asked})"
    elif entry.n != default_n:
        text += f" (n={entry.n})"
    return text


def published_text(entry: Entry | None, plus_minus: str = "±") -> str:
    """``mean ± std`` of the reference table with the mark of a difference, or nothing."""
    if entry is None or entry.published is None:
        return ""
    mean, std = entry.published
    return f"{_number(mean)} {plus_minus} {_number(std)} {entry.differs}".rstrip()


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # adding 0.0 turns -0.00 into 0.00


def usual_n(table: ReturnTable) -> int:
    """The most common number of seeds; 0 in a table without entries."""
    totals = [entry.asked for entry in table.entries.values()]
    return max(set(totals), key=lambda n: (totals.count(n), n), default=0)


def render(table: ReturnTable, form: str) -> str:
    """The table as ``markdown``, ``csv``, ``latex``, ``html``, ``json`` or ``rich`` text."""
    n = usual_n(table)
    if form == "csv":
        return _long(table).to_csv(index=False, lineterminator="\n")
    if form == "json":
        rows = _long(table).to_dict("records")
        clean = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
            for row in rows
        ]
        return json.dumps({"cells": clean, "notes": [*table.notes, f"n = {n}"]}, indent=1) + "\n"
    if form == "markdown":
        return _markdown(table, n)
    if form == "latex":
        return _latex(table, n)
    if form == "html":
        return _html(table, n)
    console = Console(width=10_000, no_color=True, highlight=False)
    with console.capture() as capture:
        print_table(table, console)
    return capture.get()


def _long(table: ReturnTable) -> pd.DataFrame:
    rows = [
        {
            "algorithm": _cell(algorithm),
            "scenario": _cell(scenario),
            "curriculum": algorithm in table.eased,
            **_measured(entry),
            "n": entry.n,
            "seeds": entry.asked,
            "successes": entry.successes,
            "best": entry.best,
            **_published(entry),
        }
        for scenario in table.scenarios
        for algorithm in table.algorithms
        if (entry := table.entries.get((algorithm, scenario)))
    ]
    return pd.DataFrame(rows)


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text


def _published(entry: Entry) -> dict[str, float | str]:
    if entry.published is None:
        return {}
    mean, std = entry.published
    return {"published_mean": mean, "published_std": std, "differs": entry.differs}


def _measured(entry: Entry) -> dict[str, float]:
    """The entry's statistic under its name, and how far it may be off."""
    if entry.statistic in WITH_STD:
        return {entry.statistic.removesuffix("-std"): entry.value, "std": entry.std}
    if entry.statistic == "cost":
        costs = {"updates": float(entry.updates), "parameters": float(entry.parameters)}
        names = "search_trials", "search_dimensions", "search_hours"
        search = dict(zip(names, map(float, entry.search or [math.nan] * 3), strict=True))
        return {"seconds": entry.value, **costs, **search}
    return {entry.statistic: entry.value, "low": entry.low, "high": entry.high}


def _markdown(table: ReturnTable, n: int) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    heads = ["algorithm", *map(_in_markdown, table.scenarios)]
    lines = [row(heads), row(["---"] * len(heads))]
    for algorithm in table.algorithms:
        cells = []
        for scenario in table.scenarios:
            entry = table.entries.get((algorithm, scenario))
            text = cell_text(entry, n)
            text = f"**{text}**" if entry and entry.best else text
            cells.append(" / ".join(filter(None, [text, published_text(entry)])))
        lines.append(row([_in_markdown(table.shown(algorithm)), *cells]))
    notes = (f"{_in_markdown(note)}  " for note in [*table.notes, f"n = {n} seeds."])
    return "\n".join([*lines, "", *notes]) + "\n"


def _in_markdown(text: str) -> str:
    """Text that is no markup, in one line. Underscores stay: inside of a word they are none."""
    return re.sub(r"([\\`*|<>\[\]])", r"\\\1", " ".join(text.split()))


_LATEX = str.maketrans(
    {
        "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
        "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "—": "--", "×": r"$\times$",
        "†": r"$^\dagger$",
    }
)  # fmt: skip


def _in_latex(text: str) -> str:
    """Text that is no command, in one line."""
    return " ".join(text.split()).translate(_LATEX)


def _latex(table: ReturnTable, n: int) -> str:
    lines = [
        r"\begin{tabular}{l" + "c" * len(table.scenarios) + "}",
        r"\toprule",
        " & ".join(["Algorithm", *map(_in_latex, table.scenarios)]) + r" \\",
        r"\midrule",
    ]
    for algorithm in table.algorithms:
        cells = []
        for scenario in table.scenarios:
            entry = table.entries.get((algorithm, scenario))
            text = _in_latex(cell_text(entry, n))
            if entry and entry.n:
                text = cell_text(entry, n, plus_minus=r"\pm")
                text = "$" + text.replace(" (", r"\ (").replace(" [", r"\ [") + "$"
                text = rf"$\mathbf{{{text[1:-1]}}}$" if entry.best else text
            beside = published_text(entry, r"\pm").replace("↑", r"\uparrow")
            beside = f"${beside}$".replace("↓", r"\downarrow") if beside else ""
            cells.append(" / ".join(filter(None, [text, beside])))
        lines.append(" & ".join([_in_latex(table.shown(algorithm)), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    # A comment ends with its line, so a note is one line.
    lines += [f"% {' '.join(note.split())}" for note in [*table.notes, f"n = {n} seeds."]]
    return "\n".join(lines) + "\n"


def _html(table: ReturnTable, n: int) -> str:
    """A ``<table>`` to put into a page; its notes are the caption."""

    def row(scope: str, head: str, cells: Iterable[str]) -> str:
        return f'<tr><th scope="{scope}">{escape(head)}</th>{"".join(cells)}</tr>'

    heads = (f'<th scope="col">{escape(scenario)}</th>' for scenario in table.scenarios)
    notes = "<br>".join(escape(note) for note in [*table.notes, f"n = {n} seeds."])
    lines = ["<table>", f"<caption>{notes}</caption>"]
    lines += [f"<thead>{row('col', 'algorithm', heads)}</thead>", "<tbody>"]
    for algorithm in table.algorithms:
        cells = []
        for scenario in table.scenarios:
            entry = table.entries.get((algorithm, scenario))
            text = escape(cell_text(entry, n))
            text = f"<strong>{text}</strong>" if entry and entry.best else text
            beside = escape(published_text(entry))
            cells.append(f"<td>{'<br>'.join(filter(None, [text, beside]))}</td>")
        lines.append(row("row", table.shown(algorithm), cells))
    return "\n".join([*lines, "</tbody>", "</table>"]) + "\n"


def print_table(table: ReturnTable, console: Console) -> None:
    """For the terminal; on a narrow one, a scenario at a time instead of broken columns."""
    n = usual_n(table)
    # The width without wrapping: the longest name of the first column, then each scenario's
    # longest entry or name, two spaces between.
    width = max(map(len, ["algorithm", *map(table.shown, table.algorithms)])) + sum(
        2
        + max(len(s), *(len(cell_text(table.entries.get((a, s)), n)) + 1 for a in table.algorithms))
        for s in table.scenarios
    )
    groups = [table.scenarios] if width <= console.width else [[s] for s in table.scenarios]
    for scenarios in groups:
        grid = Table("algorithm", box=None, pad_edge=False, header_style="bold")
        for scenario in scenarios:
            grid.add_column(scenario, justify="right", no_wrap=False, overflow="fold")
        for algorithm in table.algorithms:
            cells: list[Text] = []
            for scenario in scenarios:
                entry = table.entries.get((algorithm, scenario))
                best = entry is not None and entry.best
                # The mark must survive a pipe, so it is a character and not only a colour.
                text = cell_text(entry, n) + ("*" if best else " ")
                cell = Text(text, style="bold green" if best else "")
                if entry is not None and entry.published:
                    mark = entry.differs or " "
                    cell.append(f"\n{published_text(entry).rstrip('↑↓ ')}{mark}", "not bold dim")
                cells.append(cell)
            grid.add_row(Text(table.shown(algorithm)), *cells)
        console.print(grid)
        console.print()
    marked = "* the best of its column, and whatever the test at 0.05 cannot tell from it"
    for note in [*table.notes, f"n = {n} seeds; {marked}."]:
        console.print(Text(note, style="dim"), soft_wrap=not console.is_terminal)
