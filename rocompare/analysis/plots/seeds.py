"""A point per seed: under relative over-generalization they stand in two groups."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Cell, Data
from rocompare.analysis.plots.style import Plot, Sheet
from rocompare.results.records import SUCCESS_SCORE

ROW = 0.27
"""Inches of an algorithm's row."""


def pictures(data: Data, scenario: str, width: str) -> list[Plot]:
    """Final returns, a row per algorithm."""
    cells = {name: cell for name, cell in data.of(scenario).items() if cell.measured.any()}
    if not cells:
        return []
    every = np.concatenate([cell.returns for cell in cells.values()])
    declared = data.declared(scenario)
    figures = []
    cut = False
    for names in style.chunks(list(cells), int((style.PAGE_HEIGHT - 0.8) / ROW)):
        left = style.names_width(names, 1.3)
        sheet = Sheet(
            style.WIDTHS[width], [ROW * len(names)], left=left + 0.1, right=0.45, bottom=0.4
        )
        axes = sheet.panel()
        cut = style.limit(axes.set_xlim, every, declared, depth=1)
        for row, name in enumerate(names):
            _draw(axes, row, cells[name], data.looks[name].color)
            rate = cells[name].rate
            if rate:
                style.beside(axes, row, "{}/{}".format(*rate))
        style.row_names(axes, names, left)
        style.declared_lines(axes, declared, "x")
        if declared:
            safe, optimal = declared
            axes.axvline(
                safe + SUCCESS_SCORE * (optimal - safe), color=style.GREY, linestyle="--",
                linewidth=0.5, zorder=0,
            )  # fmt: skip
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel("return")
        figures.append(sheet.figure)
    caption = (
        "Return of decentralised execution at the end of training, a point per seed, spread "
        "vertically only to be told apart."
    )
    if declared:
        caption += (
            f" Filled: a score of at least {SUCCESS_SCORE:g} (dashed line), which is a success; "
            "hollow: less; right: successes of all seeds. Dotted: the returns of the optimal and "
            "of the safe joint behaviour."
        )
    if any(cell.diverged.any() for cell in cells.values()):
        caption += " × at the left edge: the seed diverged."
    if cut:
        caption += " ◁ at the left edge: a return further down."
    name, title = style.file_name("seeds", scenario), f"Final returns on {scenario}"
    return style.in_parts(name, title, caption, figures, scenario)


def _draw(axes: Axes, row: int, cell: Cell, color: str) -> None:
    low = axes.get_xlim()[0]
    n = len(cell.returns)
    height = row + np.linspace(-0.3, 0.3, n) if n > 1 else np.array([float(row)])
    below = cell.returns < low
    shown = np.isfinite(cell.returns) & ~below
    filled = cell.success | (cell.stored.scale is None)
    for where, value, marker, fill in (
        (cell.diverged, np.full(n, low), "x", color),
        (below, np.full(n, low), "<", "white"),
        (shown & ~filled, cell.returns, "o", "white"),
        (shown & filled, cell.returns, "o", color),
    ):
        if not where.any():
            continue
        axes.plot(
            value[where], height[where], marker, color=color, mfc=fill, ms=3.4, mew=0.7,
            linestyle="none", clip_on=False, zorder=3,
        )  # fmt: skip
