"""Landscapes: where executed joint actions stand in a slice of the reward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.text import Annotation

from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Array, Cell, Data
from rocompare.analysis.plots.style import Mark, Plot, Sheet
from rocompare.errors import ResultsError

if TYPE_CHECKING:
    from rocompare.envs.base import OneStepGame

BETWEEN = 0.2
"""Inches between panels, and between a panel and the left and the right edge."""
LEFT, RIGHT = 0.48, 0.14


def pictures(data: Data, scenario: str, width: str) -> list[Plot]:
    """A panel per algorithm, with the joint actions of all its seeds."""
    cells = {name: cell for name, cell in data.of(scenario).items() if cell.measured.any()}
    env = data.environment(scenario) if cells else None
    if env is None or not hasattr(env, "on_axes"):
        return []
    places = {name: places_of(env, cell) for name, cell in cells.items()}
    names = [name for name in cells if len(places[name])]
    if not names:
        return []
    inches = style.WIDTHS[width]
    columns = min(len(names), 2 if width == "column" else 4)
    side = (inches - LEFT - RIGHT - BETWEEN * (columns - 1)) / columns
    figures = []
    for part in style.chunks(names, columns * int((style.PAGE_HEIGHT - 1.0) / (side + 0.28))):
        rows = -(-len(part) // columns)
        sheet = Sheet(
            inches, [side] * rows, columns, left=LEFT, right=RIGHT, bottom=0.9, across=BETWEEN
        )
        panels = sheet.panels(len(part))
        for i, (axes, name) in enumerate(zip(panels, part, strict=True)):
            if i == 0:
                shades = env.draw(axes, ("p", "q"))
                ticks = list(axes.get_xticks()[:: 1 if env.spec.discrete else 2])
            else:
                _draw_again(env, axes, panels[0])
            # Ticks take longer than all else: panels inside have none.
            axes.set_xticks(ticks if i + columns >= len(part) else [])
            axes.set_yticks(ticks if i % columns == 0 else [])
            _keep_inside(axes)
            _draw(axes, places[name], data.looks[name])
            axes.set_title(style.fitted(name, side, 8))
            rate = cells[name].rate
            if rate:
                axes.annotate(
                    "{}/{}".format(*rate), (0.96, 0.04), xycoords="axes fraction", ha="right",
                    fontsize=style.SMALL,
                )  # fmt: skip
        x, y = (f"action of agent {agent + 1}" for agent in env.plane())
        sheet.name_axes(panels, x, y)
        _, height = sheet.size
        box = LEFT / inches, 0.34 / height, 1 - (LEFT + RIGHT) / inches, 0.07 / height
        bar = sheet.figure.colorbar(
            shades, cax=sheet.figure.add_axes(box), orientation="horizontal", label="reward"
        )
        bar.ax.tick_params(length=2)
        figures.append(sheet.figure)
    title = f"Landscape of {scenario}"
    return style.in_parts(
        style.file_name("landscape", scenario), title, _caption(env), figures, scenario
    )


def places_of(env: OneStepGame, cell: Cell) -> Array:
    """Where the joint actions of all seeds stand on the landscape's axes, ``[actions, 2]``."""
    import torch

    shape = env.spec.n_agents, env.spec.action_dim
    rows: list[list[float]] = []
    for record in cell.records:
        if any(len(action) != shape[0] * shape[1] for action in record.actions):
            raise ResultsError(
                f"{cell.file_of(record)}: an entry of 'actions' does not have {shape[1]} number"
                f"{'s' if shape[1] > 1 else ''} per agent; delete the file and run its suite again"
            )
        rows += record.actions
    actions = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), *shape)
    places: Array = env.on_axes(actions).double().numpy()
    if env.spec.discrete:  # else they would hide each other
        places = places + np.random.default_rng(0).uniform(-0.35, 0.35, places.shape)
    return places


def _draw_again(env: OneStepGame, axes: Axes, drawn: Axes) -> None:
    """What ``env.draw`` drew in another panel; contours are copied, for finding them takes long."""
    if env.spec.discrete:
        env.draw(axes, ("p", "q"))
        return
    for land in drawn.collections:
        shape = PathCollection(
            land.get_paths(), facecolors=land.get_facecolor(), edgecolors=land.get_edgecolor(),
            linewidths=land.get_linewidth(), zorder=land.get_zorder(),
        )  # fmt: skip
        axes.add_collection(shape, autolim=False)
    for line in drawn.lines:
        if line.get_linestyle() != "None":
            axes.plot(*line.get_data(), line.get_linestyle(), color=line.get_color(), lw=0.6)
    env.mark(axes, ("p", "q"))
    axes.set(xlim=drawn.get_xlim(), ylim=drawn.get_ylim())


def _keep_inside(axes: Axes) -> None:
    """Names of points at an edge go to its inner side."""
    for text in axes.texts:
        if not isinstance(text, Annotation):
            continue
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(text.xy))
        if y < 0.15:
            text.set(va="bottom", position=(0, 5))
        if not 0.05 < x < 0.95:
            text.set(ha="left" if x < 0.5 else "right")


def _draw(axes: Axes, places: Array, look: Mark) -> None:
    axes.plot(
        *places.T, look.marker, color=look.color, ms=3, mec="black", mew=0.2, linestyle="none",
        zorder=3, clip_on=False,
    )  # fmt: skip


def _caption(env: OneStepGame) -> str:
    text = (
        "Reward, and the joint actions that each algorithm executed in the final evaluation, of "
        "all seeds. Yellow: better than the safe behaviour p; q is the optimum. Lower right of a "
        "panel: seeds that succeed, of all."
    )
    if env.slice_text():
        text += (
            f" {env.slice_text()} Joint actions are projected onto the slice, so the reward that "
            "they had may differ from the shade below them."
        )
    return text
