"""Results as tables: terminal, Markdown, CSV, LaTeX, HTML, JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rocompare.analysis import stats
from rocompare.analysis.compare import declared_returns
from rocompare.errors import ResultsError
from rocompare.results import store as results
from rocompare.suite import registry
from rocompare.suite.models import TUNED

_RETURN = (
    "Return: undiscounted team reward per episode of the executed joint action, averaged over "
    "evaluation episodes, then "
)
DEFINITION = f"{_RETURN}mean ± sample standard deviation over seeds."
_RO = ", in units of reward; mean ± sample standard deviation over seeds. Smaller is better."
DEFINITIONS = {
    "mean-std": DEFINITION,
    "median": f"{_RETURN}median over seeds, with its exact 95% interval (from 6 seeds on).",
    "iqm": f"{_RETURN}interquartile mean over seeds, with its 95% bootstrap interval.",
    "success": "Seeds that ended in the optimum's basin, with Wilson's 95% interval of their "
    "rate. Seeds that diverged count as not in it.",
    "gap": "Gap: the optimal return that the scenario declares minus the return (undiscounted "
    "team reward per episode of the executed joint action, averaged over evaluation episodes); "
    "mean ± sample standard deviation over seeds. Smaller is better.",
    "executed-ro": "Executed RO at the end of training: what the agent with the most to gain would "
    f"gain by answering what the others execute{_RO}",
    "perceived-ro": "Perceived RO at the end of training: the worst agent's regret of its best "
    f"policy for what it believes of the others{_RO}",
}
"""By statistic, what the numbers of a table are."""
WITH_STD = ("mean-std", "gap", "executed-ro", "perceived-ro")
"""Statistics that are means over seeds, shown with their deviation."""
_SEED = ["suite", "scenario", "algorithm", "key", "seed"]


@dataclass(frozen=True)
class Entry:
    """One cell of the table."""

    mean: float
    std: float
    n: int
    """Seeds that have a finite return."""
    total: int
    """Seeds with a record, diverged ones included."""
    in_optimum: int
    best: bool = False
    statistic: str = "mean-std"
    """One of ``DEFINITIONS``: what the entry shows."""
    value: float = math.nan
    """That statistic: the mean, median, interquartile mean, success rate or mean gap."""
    low: float = math.nan
    high: float = math.nan
    """Its 95% interval, for the median, the interquartile mean and the success rate."""
    published: tuple[float, float] | None = None
    """``(mean, std)`` that a reference table gives for this cell."""
    failed: int = 0
    """Seeds without a record, which the last attempt failed to train."""

    @property
    def asked(self) -> int:
        """Seeds that there should be."""
        return self.total + self.failed

    @property
    def differs(self) -> str:
        """``↑`` or ``↓`` where our mean ± std lies wholly above or below the published one."""
        if self.published is None or not self.n:
            return ""
        mean, std = self.published
        if abs(self.mean - mean) <= self.std + std:
            return ""
        return "↑" if self.mean > mean else "↓"


@dataclass(frozen=True)
class ReturnTable:
    """Algorithms x scenarios, in the order of ``algorithms`` and ``scenarios``."""

    algorithms: list[str]
    scenarios: list[str]
    entries: dict[tuple[str, str], Entry]
    notes: list[str]


def return_table(
    path: str | Path,
    column: str = "return",
    statistic: str = "mean-std",
    reference: str | None = None,
) -> ReturnTable:
    """Aggregate the results below ``path``; ``statistic`` is one of ``DEFINITIONS``.

    Args:
        reference: one of ``registry.REFERENCES``, whose published values stand beside ours.

    Raises:
        ResultsError: nothing there, or one name of a suite stands for two configurations.
    """
    measured = statistic.replace("-", "_")
    if measured in results.DIAGNOSIS_COLUMNS and column != "return":
        raise ResultsError(
            f"--noiseless: {statistic} is measured of the policy as it is executed; drop one"
        )
    published = {} if reference is None else load_reference(reference)
    if published and statistic != "mean-std":
        raise ResultsError(
            f"--reference: '{reference}' publishes mean ± std, so it needs --statistic mean-std"
        )
    frame, configs = results.load(path)
    every_cell = results.cells_of(frame)
    labels = results.shown_scenarios(every_cell, configs, path)
    cells = {(cell[2], labels[cell[:2]]): cell for cell in every_cell}
    failures = results.load_failures(path)
    notes = [DEFINITIONS[statistic], _budget_note(configs)]
    if measured in results.DIAGNOSIS_COLUMNS:
        column = measured
        last = results.last_diagnosis(path)[[*_SEED, measured]]
        frame = frame.merge(last, "left", on=_SEED)
    frame = results.with_shown(frame, labels)
    failed_seeds = results.load_failed_seeds(path) if failures else {}
    entries: dict[tuple[str, str], Entry] = {}
    # Arrays, not frames: a table may have ten thousand cells.
    rows_of = frame.groupby(["algorithm", "scenario"], sort=False).indices
    returns = frame[column].to_numpy(float)
    healthy = ~frame["diverged"].to_numpy(bool)
    usable = healthy & np.isfinite(returns)
    basin = frame["basin_noiseless" if column == "return_noiseless" else "basin"].to_numpy()
    seeds = frame["seed"].to_numpy()
    for name, cell in cells.items():
        rows = rows_of[name]
        finite = rows[usable[rows]]
        if column == measured and healthy[rows].any() and not len(finite):
            notes.append(f"—: {name[1]} · {name[0]}: not measured; see `rocompare diagnose`")
            continue
        values = returns[finite]
        failed = failed_seeds.pop("/".join(cell), set()) - set(seeds[rows].tolist())
        entry = Entry(
            mean=float(values.mean()) if len(values) else math.nan,
            std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            n=len(values),
            total=len(rows),
            in_optimum=int((basin[finite] == "optimum").sum()),
            failed=len(failed),
            published=published.get((_untuned(name[0]), cell[1])),
        )
        entries[name] = _with_statistic(
            entry, statistic, values.tolist(), configs[cell]["scenario"]
        )
    for place, failed in failed_seeds.items():  # of these not one seed has a record
        suite, scenario, algorithm, _ = place.split("/")
        scenario = labels.get((suite, scenario), scenario)
        if (algorithm, scenario) not in entries:
            entry = Entry(math.nan, 0.0, 0, 0, 0, failed=len(failed), statistic=statistic)
            entries[algorithm, scenario] = entry
    scenarios = _ordered((s for _, s in entries), [scenario for _, scenario in published])
    algorithms = _ordered(
        (a for a, _ in entries), ["svnr", *(algorithm for algorithm, _ in published)]
    )
    for scenario in scenarios:
        column_entries = {a: entries[a, scenario] for a in algorithms if (a, scenario) in entries}
        shown = [e.value for e in column_entries.values() if not math.isnan(e.value)]
        best = min if statistic in ("gap", "executed-ro", "perceived-ro") else max
        for algorithm, entry in column_entries.items():
            # Equal in the two decimals that are shown is equally best.
            if shown and round(entry.value, 2) == round(best(shown), 2):
                entries[algorithm, scenario] = replace(entry, best=True)
    if published:
        notes.append(
            f"Second value: {reference}, as published. ↑ or ↓: our mean ± std lies wholly above "
            "or below it."
        )
    if any("@" in scenario for scenario in scenarios):
        notes.append(
            "name@suite: suites that give one name to different parameters, budgets or "
            "evaluations, or that both have an algorithm."
        )
    notes += [f"Failed: {cell}: {results.one_line(error)}" for cell, error in failures]
    return ReturnTable(algorithms, scenarios, entries, notes)


def _untuned(algorithm: str) -> str:
    """The name that `rocompare tune` gave its suffix to."""
    return algorithm.removesuffix(TUNED)


def _ordered(names: Iterable[str], first: list[str]) -> list[str]:
    """The distinct names, tuned ones behind the others: those of ``first`` in its order, then by
    name, numbers in it by size."""

    def place(name: str) -> tuple[bool, int, list[Any]]:
        plain = _untuned(name)
        rank = first.index(plain) if plain in first else len(first)
        return name != plain, rank, results.natural(name)

    return sorted(set(names), key=place)


def load_reference(name: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Published ``(algorithm, scenario) -> (mean, std)``.

    Raises:
        ResultsError: no such reference.
    """
    if name not in registry.REFERENCES:
        hint = registry.nearest(name, registry.REFERENCES)
        raise ResultsError(f"--reference: unknown reference '{name[:80]}'{hint}")
    path = Path(__file__).parent / "reference" / registry.REFERENCES[name]
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["algorithm"], row["scenario"]): (float(row["mean"]), float(row["std"]))
            for row in csv.DictReader(file)
        }


def _with_statistic(
    entry: Entry, statistic: str, returns: list[float], scenario: dict[str, Any]
) -> Entry:
    """The entry with ``value``, ``low`` and ``high``; ``returns [n]`` are its finite ones."""
    value, interval = entry.mean, stats.NO_INTERVAL
    if statistic == "median":
        value, interval = stats.summarise(returns).median, stats.median_interval(returns)
    elif statistic == "iqm":
        value, interval = stats.iqm(returns), stats.iqm_interval(returns)
    elif statistic == "success":
        value = entry.in_optimum / entry.total
        interval = stats.wilson_interval(entry.in_optimum, entry.total)
    elif statistic == "gap":
        _, optimal = declared_returns(scenario)
        value = optimal - entry.mean
    return replace(entry, statistic=statistic, value=value, low=interval.low, high=interval.high)


def _budget_note(configs: dict[Any, dict[str, Any]]) -> str:
    budgets = sorted({int(config["budget"]["env_steps"]) for config in configs.values()})
    episodes = sorted({int(config["evaluation"]["episodes"]) for config in configs.values()})
    steps = " or ".join(f"{budget:,}" for budget in budgets)
    return (
        f"Budget: {steps} environment steps per seed; "
        f"{' or '.join(map(str, episodes))} evaluation episodes."
    )


def cell_text(entry: Entry | None, default_n: int, *, plus_minus: str = "±") -> str:
    """``mean ± std``, with ``n=`` where it is not the usual number or seeds diverged.

    Other statistics stand as ``value [low, high]``, and success as ``7/10 [0.40, 0.89]``.
    """
    if entry is None:
        return "—"
    interval = f" [{_number(entry.low)}, {_number(entry.high)}]"
    if entry.statistic == "success":
        text = f"{entry.in_optimum}/{entry.total}{interval}" if entry.total else "failed"
        return text + (f" (n={entry.total}/{entry.asked})" if entry.failed else "")
    if entry.n == 0:
        return f"{'diverged' if entry.total else 'failed'} (n=0/{entry.asked})"
    if entry.statistic in WITH_STD:
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
            "algorithm": algorithm,
            "scenario": scenario,
            **_measured(entry),
            "n": entry.n,
            "seeds": entry.asked,
            "in_optimum": entry.in_optimum,
            "best": entry.best,
            **_published(entry),
        }
        for scenario in table.scenarios
        for algorithm in table.algorithms
        if (entry := table.entries.get((algorithm, scenario)))
    ]
    return pd.DataFrame(rows)


def _published(entry: Entry) -> dict[str, float | str]:
    if entry.published is None:
        return {}
    mean, std = entry.published
    return {"published_mean": mean, "published_std": std, "differs": entry.differs}


def _measured(entry: Entry) -> dict[str, float]:
    """The entry's statistic under its name, and how far it may be off."""
    if entry.statistic in WITH_STD:
        return {entry.statistic.removesuffix("-std"): entry.value, "std": entry.std}
    return {entry.statistic: entry.value, "low": entry.low, "high": entry.high}


def _markdown(table: ReturnTable, n: int) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    lines = [row(["algorithm", *table.scenarios]), row(["---"] * (len(table.scenarios) + 1))]
    for algorithm in table.algorithms:
        cells = []
        for scenario in table.scenarios:
            entry = table.entries.get((algorithm, scenario))
            text = cell_text(entry, n)
            text = f"**{text}**" if entry and entry.best else text
            cells.append(" / ".join(filter(None, [text, published_text(entry)])))
        lines.append(row([algorithm, *cells]))
    return (
        "\n".join([*lines, "", *(f"{note}  " for note in [*table.notes, f"n = {n} seeds."])]) + "\n"
    )


_LATEX = str.maketrans(
    {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "±": r"$\pm$", "—": "--"}
)


def _latex(table: ReturnTable, n: int) -> str:
    lines = [
        r"\begin{tabular}{l" + "c" * len(table.scenarios) + "}",
        r"\toprule",
        " & ".join(["Algorithm", *(s.translate(_LATEX) for s in table.scenarios)]) + r" \\",
        r"\midrule",
    ]
    for algorithm in table.algorithms:
        cells = []
        for scenario in table.scenarios:
            entry = table.entries.get((algorithm, scenario))
            text = cell_text(entry, n, plus_minus=r"\pm").translate(_LATEX)
            if entry and entry.n:
                text = cell_text(entry, n, plus_minus=r"\pm")
                text = "$" + text.replace(" (", r"\ (").replace(" [", r"\ [") + "$"
                text = rf"$\mathbf{{{text[1:-1]}}}$" if entry.best else text
            beside = published_text(entry, r"\pm").replace("↑", r"\uparrow")
            beside = f"${beside}$".replace("↓", r"\downarrow") if beside else ""
            cells.append(" / ".join(filter(None, [text, beside])))
        lines.append(" & ".join([algorithm.translate(_LATEX), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {note}" for note in [*table.notes, f"n = {n} seeds."]]
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
        lines.append(row("row", algorithm, cells))
    return "\n".join([*lines, "</tbody>", "</table>"]) + "\n"


def print_table(table: ReturnTable, console: Console) -> None:
    """For the terminal; on a narrow one, a scenario at a time instead of broken columns."""
    n = usual_n(table)
    # The width without wrapping: the longest name of the first column, then each scenario's
    # longest entry or name, two spaces between.
    width = max(map(len, ["algorithm", *table.algorithms])) + sum(
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
            grid.add_row(Text(algorithm), *cells)
        console.print(grid)
        console.print()
    for note in [*table.notes, f"n = {n} seeds; * best of the column."]:
        console.print(Text(note, style="dim"), soft_wrap=not console.is_terminal)
