"""Ranks of the algorithms, and which of them the seeds cannot tell apart."""

from __future__ import annotations

import numpy as np

from rocompare.analysis import pairwise, stats
from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Data
from rocompare.analysis.plots.style import Plot, Sheet

ALPHA = 0.05
ROW = 0.15
"""Inches of an algorithm's row."""
BAR = 0.07
"""Inches between the bars of groups."""


def pictures(data: Data, width: str) -> list[Plot]:
    """A row per algorithm at its mean rank; bars join those that cannot be told apart."""
    scenarios = [s for s in data.scenarios if all(c.rate for c in data.of(s).values())]
    common = [s for s in scenarios if set(data.of(s)) == set(data.algorithms)]
    if not common or len(data.algorithms) < 2:
        return []
    scores = {
        name: [
            stats.fill_diverged(np.where(cell.diverged, np.nan, cell.scores)[cell.measured])
            for cell in (data.cells[name, scenario] for scenario in common)
        ]
        for name in data.algorithms
    }
    found = pairwise.ranking(scores, ALPHA)
    names = list(found.ranks)
    left = style.names_width(names, 1.25)
    right = 0.35 + BAR * len(found.groups)
    height = min(ROW * len(names) + 0.06, style.PAGE_HEIGHT - 1)
    sheet = Sheet(style.WIDTHS[width], [height], left=left + 0.1, right=right)
    axes = sheet.panel()
    for row, name in enumerate(names):
        look = data.looks[name]
        axes.plot(found.ranks[name], row, look.marker, color=look.color, mfc=look.fill, zorder=3)
        style.beside(axes, row, f"{found.ranks[name]:.1f}")
    for i, group in enumerate(found.groups):
        rows = [names.index(name) for name in group]
        # In inches right of the axes: beside the numbers.
        x = 1 + (0.32 + BAR * i) / sheet.panel_width
        axes.plot(
            [x, x], [min(rows), max(rows)], color="0.3", linewidth=1.6, clip_on=False,
            transform=axes.get_yaxis_transform(), solid_capstyle="butt",
        )  # fmt: skip
        axes.plot(
            [x] * len(rows), rows, "o", color="0.3", ms=2.6, clip_on=False,
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    style.row_names(axes, names, left)
    axes.set_xlim(0.8, len(names) + 0.2)
    axes.set_xticks(range(1, len(names) + 1))
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("mean rank (1 is the best)")
    caption = (
        f"Mean rank of each algorithm's mean score over {len(common)} scenarios. Dots on one bar: "
        "algorithms of which no two can be told apart by the seeds, by a permutation test of "
        f"their mean scores within scenarios, at {ALPHA:g} over all pairs (Holm). A diverged seed "
        "counts as -1, or as the worst other one. Ranks hide how large differences are."
    )
    return [Plot("ranks", "Ranks of the algorithms", caption, sheet.figure)]
