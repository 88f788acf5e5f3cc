"""Algorithms over all scenarios: how often they succeed first, then how well they score."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rocompare.analysis import escape as escapes
from rocompare.analysis.aggregate import Aggregate, Estimate, aggregate
from rocompare.analysis.exact import Array
from rocompare.analysis.stats import fill_diverged
from rocompare.analysis.table import ordered
from rocompare.errors import ResultsError, printable
from rocompare.results.reader import Results
from rocompare.results.records import SUCCESS_SCORE

COLUMNS = {
    "success rate": "success_rate",
    "mean score": "mean",
    "IQM": "iqm",
    "optimality gap": "optimality_gap",
    "improvement": "improvement",
    "rank": "rank",
}
NOTES = (
    "Each with its 95% interval: of the success rate a stratified Wilson interval, of the others a "
    "bootstrap that resamples seeds within each scenario.",
    "Score: (return - safe) / (optimal - safe) in decentralised execution; a seed that diverged "
    "counts as the worst of its cell, and as no better than -1. Success: at least "
    f"{SUCCESS_SCORE:g}.",
    "IQM: interquartile mean over all seeds of all scenarios; it hides up to a quarter of lost "
    "seeds, so read it beside the success rate. Optimality gap: how far scores fall short of 1, "
    "those above it counted as 1. Improvement: probability that a seed scores higher than one of "
    "another algorithm on the same scenario. Rank: mean over scenarios, by mean score.",
)


@dataclass(frozen=True)
class Overall:
    """What ``table --aggregate`` shows."""

    scenarios: list[str]
    rows: dict[str, Aggregate]
    notes: list[str]


def overall(results: Results) -> Overall:
    """Aggregate every algorithm over the scenarios that all of them have.

    Raises:
        ResultsError: there is no such scenario with a known optimal and safe return.
    """
    scores: dict[str, dict[str, Array]] = {}
    for cell, rows in results.rows_of_cells():
        if cell.scale is not None:
            own = results.seeds["score"].to_numpy(float)[rows]
            scores.setdefault(cell.algorithm, {})[cell.label] = own
    common = [label for label in results.labels if all(label in own for own in scores.values())]
    if not scores or not common:
        raise ResultsError(
            f"{results.path}: --aggregate needs a scenario that all algorithms have seeds on, with "
            "a known optimal and safe return; give the folder of one suite"
        )
    matrices, successes = {}, {}
    for name in ordered(scores, ["svnr"]):
        # As many seeds of each scenario as the one with the fewest has.
        n = min(len(scores[name][label]) for label in common)
        kept = [fill_diverged(scores[name][label][:n]) for label in common]
        matrices[name] = np.stack(kept, axis=1)  # [runs, tasks]
        successes[name] = (matrices[name] >= SUCCESS_SCORE - 1e-9).astype(float)
    left = [label for label in results.labels if label not in common]
    notes = [f"{len(common)} scenarios that all algorithms have: {', '.join(common)}."]
    if left:
        notes.append(f"Left out: {', '.join(left)}.")
    return Overall(common, aggregate(matrices, successes), [*NOTES, *notes, *results.notes])


def render(found: Overall, form: str) -> str:
    """The aggregates as ``markdown``, ``csv`` or ``json``."""
    if form == "json":
        rows = [
            {"algorithm": name, **{key: _plain(getattr(row, key)) for key in COLUMNS.values()}}
            for name, row in found.rows.items()
        ]
        data = {"scenarios": found.scenarios, "algorithms": rows, "notes": found.notes}
        return json.dumps(data, indent=1) + "\n"
    if form not in ("csv", "markdown"):
        raise ResultsError(f"--format {form}: --aggregate has rich, markdown, csv and json")
    heads = ["algorithm", *COLUMNS]
    escape = escapes.csv if form == "csv" else escapes.markdown
    cells = [
        [escape(name), *(_text(getattr(row, key)) for key in COLUMNS.values())]
        for name, row in found.rows.items()
    ]
    if form == "csv":
        return pd.DataFrame(cells, columns=heads).to_csv(
            index=False, lineterminator="\n", quoting=csv.QUOTE_ALL
        )
    lines = ["| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *cells]]
    return "\n".join([*lines, "", *(f"{escape(note)}  " for note in found.notes)]) + "\n"


def show(found: Overall, console: Console) -> None:
    """For the terminal."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("algorithm", no_wrap=True)
    for head in COLUMNS:
        grid.add_column(head, justify="right")
    for name, row in found.rows.items():
        texts = (_text(getattr(row, key)) for key in COLUMNS.values())
        grid.add_row(Text(printable(name)), *(Text(text) for text in texts))
    console.print(grid)
    console.print()
    for note in found.notes:
        console.print(Text(printable(note), style="dim"), soft_wrap=not console.is_terminal)


def _text(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "—"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {
        key: float(value) if math.isfinite(value) else None for key, value in vars(estimate).items()
    }
