"""Relative over-generalization as numbers: executed RO while training, perceived RO at its end.

Perceived RO is measured at one temperature, that of the game's score, which algorithms reach only
late in training. Earlier values would not read 0 for a perfect belief and are not drawn.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis

from rocompare.analysis.plots import curves, style
from rocompare.analysis.plots.data import Array, Data
from rocompare.analysis.plots.style import Legend, Plot, Sheet

ROW = 0.14
"""Inches of an algorithm's row."""


def pictures(data: Data, scenario: str, width: str) -> list[Plot]:
    """Executed RO against environment steps; below it, perceived RO at the end, where known."""
    executed, perceived = {}, {}
    for name, cell in data.of(scenario).items():
        steps, values = cell.curve(lambda curve: curve.executed_ro)
        known = np.isfinite(values).any(1) if len(steps) else np.zeros(0, bool)
        if known.any():
            executed[name] = steps[known], values[known]
        _, values = cell.curve(lambda curve: curve.perceived_ro)
        if len(values) and np.isfinite(values[-1]).any():
            perceived[name] = values[-1][np.isfinite(values[-1])]
    if not executed and not perceived:
        return []
    declared = data.declared(scenario)
    gap = declared[1] - declared[0] if declared else None
    inches = style.WIDTHS[width]
    heights = [1.6] if executed else []
    legend = Legend(list(executed), data.looks, inches) if executed else None
    top = legend.height + 0.08 if legend else 0.1
    if perceived:
        heights.append(min(ROW * len(perceived) + 0.1, style.PAGE_HEIGHT - top - 2.6))
    sheet = Sheet(inches, heights, top=top, down=0.5, right=0.16)
    if executed:
        axes = sheet.panel()
        for i, (name, (steps, values)) in enumerate(executed.items()):
            look = data.looks[name]
            curves.draw_mean(axes, steps, values, (0, gap or 0), look, band=0.12, first=i)
        steps = next(iter(executed.values()))[0]
        style.steps_axis(axes, steps)
        axes.margins(x=0.01)
        _from_zero(axes, "y", gap)
        axes.set_xlabel("environment steps")
        axes.set_ylabel("executed RO")
    if perceived:
        left = style.names_width(perceived, 1.3)
        axes = sheet.panel(len(heights) - 1, left=left + 0.1)
        _draw_ends(axes, data, perceived, gap or 0)
        style.row_names(axes, list(perceived), left)
        _from_zero(axes, "x", gap)
        axes.set_xlabel("perceived RO at the end of training")
    if legend:
        legend.draw(sheet.figure)
    name = style.file_name("diagnosis", scenario)
    title = f"Relative over-generalization on {scenario}"
    return [Plot(name, title, _caption(bool(perceived)), sheet.figure, scenario)]


def _draw_ends(axes: Axes, data: Data, perceived: dict[str, Array], gap: float) -> None:
    """A point per seed, the mean in its interval as a mark."""
    for row, (name, values) in enumerate(perceived.items()):
        look = data.looks[name]
        (mean,), (low,), (high,) = curves.mean_and_band(values[None], (0, gap))
        axes.plot(values, np.full(len(values), row), "|", color=look.color, ms=4, alpha=0.5)
        axes.plot([low, high], [row, row], color=look.color, linewidth=1.4, alpha=0.55)
        axes.plot(mean, row, look.marker, color=look.color, mfc=look.fill, clip_on=False, zorder=3)


def _from_zero(axes: Axes, along: Literal["x", "y"], gap: float | None) -> None:
    """An axis of RO: from 0, linear up to 1, logarithmic beyond, with plain numbers."""
    axis: Axis = axes.xaxis if along == "x" else axes.yaxis
    getattr(axes, f"set_{along}scale")("symlog", linthresh=1, linscale=0.6)
    top = max(axis.get_view_interval()[1], 1.0)
    if gap is not None:
        line = axes.axvline if along == "x" else axes.axhline
        line(gap, color=style.GREY, linestyle=":", linewidth=0.8, zorder=0)
        top = max(top, 1.3 * gap)
    getattr(axes, f"set_{along}lim")(0, top)
    # A logarithmic axis would write one power of ten or two.
    axis.set_ticks([0, *(m for n in range(9) for m in (10**n, 3 * 10**n) if m <= top)])
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(ticker.NullLocator())


def _caption(perceived: bool) -> str:
    text = (
        "In units of reward. Executed RO: what the agent with the most to gain would gain by "
        "answering what the others execute, 0 in every equilibrium; in games of several steps it "
        "is estimated from below. Line: mean over seeds in its 95% interval."
    )
    if perceived:
        text += (
            " Perceived RO: the worst agent's regret of its best policy for what it believes of "
            "the others, against what the optimal joint policy does, at the temperature of 0.01 "
            "of optimal minus safe return. Only its value at the end of training is shown, a "
            "stroke per seed and the mean in its interval: agents that still explore at a higher "
            "temperature would not read 0 with a perfect belief. Where there are several optima, "
            "it may be 0 whatever is believed."
        )
    return text + (
        " Dotted: the optimal minus the safe return. Axes are linear up to 1, logarithmic beyond."
    )
