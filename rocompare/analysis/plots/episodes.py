"""Episodes: where things go, as strips of frames."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Array, Cell, Data
from rocompare.analysis.plots.style import Plot, Sheet
from rocompare.errors import ResultsError
from rocompare.results.records import SeedRecord

FRAMES = 4
"""Frames of a strip."""


def pictures(data: Data, scenario: str, width: str) -> list[Plot]:
    """One evaluation episode per algorithm: that of its median seed."""
    env = data.environment(scenario)
    strips = {}
    for name, cell in data.of(scenario).items():
        found = median_episode(cell)
        if found is not None:
            strips[name] = found
    if not strips or env is None:
        return []
    inches = style.WIDTHS[width]
    beside = 1 if width == "column" else 2
    columns = FRAMES * beside
    across, right = 0.06, 0.06
    side = (inches - right * 2 - across * (columns - 1)) / columns
    figures = []
    for part in style.chunks(list(strips), beside * int((style.PAGE_HEIGHT - 0.4) / (side + 0.36))):
        rows = -(-len(part) // beside)
        sheet = Sheet(
            inches, [side] * rows, columns, left=right, right=right, across=across, down=0.36,
            bottom=0.2,
        )  # fmt: skip
        for i, name in enumerate(part):
            record, value, path = strips[name]
            times = np.unique(np.linspace(0, len(path) - 1, FRAMES).round().astype(int))
            for column, t in enumerate(times):
                axes = sheet.panel(i // beside, FRAMES * (i % beside) + column)
                env.draw(axes)
                _draw_paths(axes, path[: t + 1], data.looks[name].color)
                axes.set_xlabel(f"t = {t}", labelpad=1, fontsize=style.SMALL)
                if column == 0:
                    basin = record.basin.get("decentralised", "?")
                    title = f"{name}: {basin}, {signed(value)}"
                    axes.set_title(style.fitted(title, side * FRAMES, 8))
        figures.append(sheet.figure)
    caption = (
        "The first evaluation episode of each algorithm's median seed: where its particles "
        "stand (filled and hollow) and the way that they came. Beside the name: where "
        "most of that seed's evaluation episodes ended, and their mean return. Strips of long "
        "episodes leave out frames."
    )
    name, title = style.file_name("episodes", scenario), f"Episodes on {scenario}"
    return style.in_parts(name, title, caption, figures, scenario)


def median_episode(cell: Cell) -> tuple[SeedRecord, float, Array] | None:
    """Of the seeds with an episode and a return, the one of the (lower) median return: its record,
    that return, and positions ``[T+1, P, 2]``."""
    found = [
        (float(value), record)
        for value, record in zip(cell.returns, cell.records, strict=True)
        if record.positions and np.isfinite(value)
    ]
    if not found:
        return None
    found.sort(key=lambda one: (one[0], one[1].seed))
    value, record = found[(len(found) - 1) // 2]
    try:
        path = np.array(record.positions, float)
    except ValueError:
        path = np.zeros(1)
    if path.ndim != 3 or path.shape[2] != 2 or not path.size:
        raise ResultsError(
            f"{cell.file_of(record)}: 'positions' is not a list of steps of (x, y) each; delete "
            "the file and run its suite again"
        )
    return record, value, path


def _draw_paths(axes: Axes, path: Array, color: str) -> None:
    """The last positions of ``path [t+1, P, 2]`` and the way there."""
    for i in range(path.shape[1]):
        axes.plot(*path[:, i].T, "-", color=color, linewidth=0.7, alpha=0.7)
        axes.plot(
            *path[-1, i], "o", color=color, mfc="white" if i % 2 else color, mew=0.9, ms=4,
            zorder=3, clip_on=False,
        )  # fmt: skip


def signed(value: float) -> str:
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")
