"""When does an algorithm over-generalize? Executed and perceived RO over training, as text."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from rocompare.analysis import escape as escapes
from rocompare.learn import ro
from rocompare.results.reader import Results, StoredCell

QUARTERS = (0.25, 0.5, 0.75, 1.0)
NOTES = (
    "Means over seeds, in units of reward, at shares of the budget; ± sample standard deviation.",
    "Executed RO, of decentralised execution: what the agent with the most to gain would gain by "
    "answering what the others execute. 0 in every equilibrium, the safe one too. In games of "
    f"several steps from below: at each step it tries {ro.ROLLOUT_ANSWERS} answers, or all "
    "discrete actions, in copies of the game.",
    "Perceived RO: the worst agent's regret, as alpha times a KL divergence, of its best policy "
    "for what it believes of the others against what the optimal joint policy at temperature alpha "
    f"does; alpha = {ro.ALPHA:g} of optimal minus safe return. So it says how far beliefs are from "
    "play that is all but optimal: while an algorithm still anneals its own temperature, even a "
    "perfect belief reads more than 0, and only values late in training tell algorithms apart. In "
    "games of several optima it may be 0 whatever is believed, for the optimal joint policy mixes "
    "them.",
)


def render(path: str | Path) -> str:
    """The text of ``rocompare diagnose``: a table per scenario, then what is missing and why.

    Raises:
        ResultsError: nothing there.
    """
    results = Results(path, details=True)
    rows = results.curves()
    groups = rows.groupby(["label", "algorithm"], sort=False).indices
    width = max([len("algorithm"), *(len(cell.algorithm) for cell in results.cells)])
    lines, missing = [], []
    for label in results.labels:
        lines.append(label)
        shares = "".join(f"{share:>8.0%}" for share in QUARTERS)
        block = len(shares) + len(" ± 00.00 ")  # as wide as what _quarters makes
        titles = "  ".join(f"   {name.replace('_ro', ' RO'):<{block - 3}}" for name in ro.COLUMNS)
        lines.append(f"  {'':<{width}}{titles}".rstrip())
        lines.append(f"  {'algorithm':<{width}}{shares:<{block}}  {shares}")
        for cell in (cell for cell in results.cells if cell.label == label):
            own = rows.iloc[groups[label, cell.algorithm]]
            parts = [_quarters(own, name) for name in ro.COLUMNS]
            lines.append(f"  {cell.algorithm:<{width}}{'  '.join(parts)}".rstrip())
            missing += _why_not(cell, own)
        lines.append("")
    return escapes.terminal([*lines, *NOTES, *dict.fromkeys(missing), *results.notes])


def render_json(path: str | Path) -> str:
    """The same as JSON: of each cell, measure and quarter the mean, the deviation and the seeds."""
    results = Results(path, details=True)
    rows = results.curves()
    groups = rows.groupby(["label", "algorithm"], sort=False).indices
    found = [
        {
            "scenario": cell.label,
            "algorithm": cell.algorithm,
            "measure": name,
            "share": share,
            "env_steps": step,
            "mean": float(values.mean()),
            "std": float(values.std(ddof=1)) if len(values) > 1 else None,
            "seeds": len(values),
        }
        for cell in results.cells
        for name in ro.COLUMNS
        for share, step, values in _at_quarters(rows.iloc[groups[cell.label, cell.algorithm]], name)
    ]
    data = {"measurements": found, "notes": [*NOTES, *results.notes]}
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _at_quarters(rows: pd.DataFrame, name: str) -> list[tuple[float, int, pd.Series[float]]]:
    """Share, environment steps and the seeds' values at the first evaluation with any at or after
    each quarter; nothing where nothing was measured."""
    rows = rows.dropna(subset=[name])
    steps = sorted(int(step) for step in rows["env_steps"].unique())
    if not steps:
        return []
    at = [next(step for step in steps if step >= share * steps[-1]) for share in QUARTERS]
    values = [rows[rows["env_steps"] == step][name] for step in at]
    return list(zip(QUARTERS, at, values, strict=True))


def _quarters(rows: pd.DataFrame, name: str) -> str:
    """Means at each quarter; at the end with its deviation."""
    found = _at_quarters(rows, name)
    if not found:
        return f"{'n/a':>8}" * len(QUARTERS) + " " * 9
    texts = [f"{values.mean():.2f}" for _, _, values in found]
    values = found[-1][2]
    end = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return "".join(f"{text:>8}" for text in texts) + f"{end:<9}"


def _why_not(cell: StoredCell, rows: pd.DataFrame) -> list[str]:
    """Which of the two a cell has no values of, and for what reason."""
    absent = [name for name in ro.COLUMNS if rows[name].isna().all()]
    if not absent:
        return []
    where = f"n/a: {cell.label} · {cell.algorithm}"
    if len(absent) == len(ro.COLUMNS):
        return [f"{where}: neither was measured: the game allows it not, or every seed diverged"]
    if absent == ["perceived_ro"]:
        return [
            f"{where}: perceived RO was not measured: it needs a game of one step with up to "
            f"{max(ro.GRID)} agents, or few discrete actions, and an algorithm that says what its "
            "agents believe"
        ]
    return [f"{where}: executed RO was not measured of decentralised execution"]
