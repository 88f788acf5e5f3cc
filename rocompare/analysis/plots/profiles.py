"""Performance profiles: the share of seeds above each score."""

from __future__ import annotations

import numpy as np

from rocompare.analysis import stats
from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Data
from rocompare.analysis.plots.style import Legend, Plot, Sheet

THRESHOLDS = np.linspace(-0.5, 1.0, 151)
BANDS = 6
"""Algorithms whose bands can be told apart."""


def pictures(data: Data, width: str) -> list[Plot]:
    """Profiles of the algorithms and over the scenarios of :func:`block`."""
    names, shared = block(data)
    if not names:
        return []
    inches = style.WIDTHS[width]
    legend = Legend(names, data.looks, inches)
    sheet = Sheet(inches, [1.8], top=legend.height + 0.2, right=0.28)
    axes = sheet.panel()
    for i, name in enumerate(names):
        look = data.looks[name]
        cells = [data.cells[name, scenario] for scenario in shared]
        scores = [cell.scores[cell.measured] for cell in cells]
        if len(names) <= BANDS:
            low, high = stats.profile_interval(scores, THRESHOLDS)
            axes.fill_between(THRESHOLDS, low, high, color=look.color, alpha=0.12, linewidth=0)
        axes.plot(
            THRESHOLDS, stats.performance_profile(scores, THRESHOLDS), color=look.color,
            ls=look.dash, marker=look.marker, mfc=look.fill,
            markevery=(1 + 30 * i // len(names), 30), clip_on=False,
        )  # fmt: skip
    style.declared_lines(axes, (0.0, 1.0), "x")
    axes.set_xlim(-0.5, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("score τ")
    axes.set_ylabel("share of seeds above τ")
    legend.draw(sheet.figure)
    caption = (
        "The share of seeds whose score in decentralised execution exceeds τ, averaged over "
        f"{len(shared)} scenario{'s' if len(shared) > 1 else ''} ({', '.join(shared)})"
    )
    caption += ", with 95% bootstrap bands over seeds." if len(names) <= BANDS else "."
    caption += (
        " A score is 0 at the safe and 1 at the optimal return that the scenario declares. A seed "
        "that diverged is below every τ."
    )
    left_out = [name for name in data.algorithms if name not in names]
    left_out += [scenario for scenario in data.scenarios if scenario not in shared]
    if left_out:
        caption += f" Left out, for only a part of these have seeds: {', '.join(left_out)}."
    return [Plot("profiles", "Performance profiles", caption, sheet.figure)]


def block(data: Data) -> tuple[list[str], list[str]]:
    """The algorithms and the scenarios that a mean over scenarios can be taken of: every algorithm
    has seeds on every scenario. Of all such blocks the one with the most cells."""
    measured = {
        scenario: [name for name, cell in data.of(scenario).items() if cell.rate]
        for scenario in data.scenarios
    }
    blocks = [
        (names, [scenario for scenario, have in measured.items() if set(names) <= set(have)])
        for names in measured.values()
        if names
    ]
    return max(blocks, key=lambda one: (len(one[0]) * len(one[1]), len(one[0])), default=([], []))
