"""Learning curves: the return of decentralised execution against environment steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from rocompare.analysis import stats
from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Array, Cell, Data
from rocompare.analysis.plots.style import Legend, Mark, Plot, Sheet

Range = tuple[float, float]
NOTHING: Range = math.inf, -math.inf
"""Where nothing is known of the range of what can be."""
TOGETHER = 3
"""Algorithms whose single seeds can be told apart in one panel."""


def pictures(data: Data, scenario: str, width: str) -> list[Plot]:
    """Each seed thin, the mean bold in its interval."""
    curves = {name: cell.return_curve() for name, cell in data.of(scenario).items()}
    curves = {name: curve for name, curve in curves.items() if np.isfinite(curve[1]).any()}
    if not curves:
        return []
    # Everything within every panel's sight, so that panels and parts can be compared.
    every = np.concatenate([values.ravel() for _, values in curves.values()])
    declared = data.declared(scenario)
    inches = style.WIDTHS[width]
    cut = False
    figures = []
    together = len(curves) <= TOGETHER
    for part in style.chunks(_panels(list(curves), together), 14 if width == "column" else 28):
        columns = min(len(part), 2 if width == "column" else 4)
        rows = -(-len(part) // columns)
        legend = Legend(part[0], data.looks, inches) if together else None
        sheet = Sheet(
            inches, [1.75 if together else 0.85] * rows, columns, left=0.56, right=0.42,
            top=0.12 + legend.height if legend else 0.2, across=0.24,
        )  # fmt: skip
        panels = sheet.panels(len(part))
        for i, (axes, names) in enumerate(zip(panels, part, strict=True)):
            for name in names:
                _draw(axes, *curves[name], declared or NOTHING, data.looks[name])
            cut = style.limit(axes.set_ylim, every, declared, depth=2)
            last = i % columns == columns - 1 or i == len(part) - 1
            style.declared_lines(axes, declared, "y", named=last)
            style.steps_axis(axes, curves[names[0]][0], 4 if together else 2)
            axes.locator_params(axis="y", nbins=4 if together else 2)
            if not together:
                axes.set_title(style.fitted(names[0], sheet.panel_width, 8))
        sheet.name_axes(panels, "environment steps", "return")
        if legend:
            legend.draw(sheet.figure)
        figures.append(sheet.figure)
    return style.in_parts(
        style.file_name("curves", scenario),
        f"Learning curves on {scenario}",
        _caption(data.of(scenario), list(curves), cut, declared is not None),
        figures,
        scenario,
    )


def _panels(names: list[str], together: bool) -> list[list[str]]:
    """Names by panel: all in one, or a tuned algorithm beside its untuned one."""
    if together:
        return [names]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(style.untuned(name), []).append(name)
    return list(groups.values())


def _draw(axes: Axes, steps: Array, values: Array, range_: Range, look: Mark) -> None:
    # All seeds as one line, interrupted between two.
    gap = np.full((1, values.shape[1]), np.nan)
    x = np.tile(np.append(steps, np.nan), values.shape[1])
    y = np.concatenate([values, gap]).T.ravel()
    axes.plot(x, y, color=look.color, linewidth=0.35, alpha=0.45)
    draw_mean(axes, steps, values, range_, look, band=0.2)
    axes.margins(x=0.01)


def draw_mean(
    axes: Axes,
    steps: Array,
    values: Array,
    range_: Range,
    look: Mark,
    *,
    band: float,
    first: int = 0,
) -> None:
    """The mean of ``values [P, n]`` over seeds, with marks from the point ``first`` on, in its
    interval, as opaque as ``band``."""
    mean, low, high = mean_and_band(values, range_)
    axes.fill_between(steps, low, high, color=look.color, alpha=band, linewidth=0)
    every = max(len(steps) // 5, 1)
    axes.plot(
        steps, mean, color=look.color, ls=look.dash, marker=look.marker, mfc=look.fill,
        markevery=(min(first, len(steps) - 1) % every, every),
    )  # fmt: skip


def mean_and_band(values: Array, range_: Range) -> tuple[Array, Array, Array]:
    """Mean over seeds of ``values [P, n]`` and its 95% interval
    (:func:`rocompare.analysis.stats.bounded_interval`), ``[P]`` each.

    Seeds that are NaN at a point are left out of it; a single seed has no interval.

    Args:
        range_: of what can be; it is widened to what is.
    """
    valid = np.isfinite(values)
    found = values[valid]
    bottom, top = min([range_[0], *found]), max([range_[1], *found])
    mean, low, high = np.full((3, len(values)), np.nan)
    for which in np.unique(valid, axis=0):  # points at which the same seeds are left are one call
        at = (valid == which).all(1)
        if which.any():
            kept = values[at][:, which]
            mean[at] = kept.mean(1)
            low[at], high[at] = stats.bounded_interval(kept, bottom, top)
    return mean, low, high


def _caption(cells: dict[str, Cell], names: Sequence[str], cut: bool, known: bool) -> str:
    text = (
        "Return of decentralised execution. Thin lines: single seeds; bold: their mean; band: its "
        "95% interval over seeds, which cannot leave the range from the "
        + ("safe to the optimal return, or of what was seen" if known else "least to the most seen")
        + ". "
        + ("Dotted: the returns of the optimal and of the safe joint behaviour. " if known else "")
        + "Steps are counted per seed."
    )
    if any(name != style.untuned(name) for name in names):
        text += " Dashed, with hollow marks: the tuned algorithm."
    if any(cells[name].diverged.any() for name in names):
        text += " A seed that diverged leaves the mean from there on."
    if cut:
        text += " Returns further down are cut off."
    return text
