"""Success rates: of every cell, against a scenario's difficulty, against a hyperparameter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from rocompare.analysis import stats
from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Data
from rocompare.analysis.plots.style import Legend, Mark, Plot, Sheet
from rocompare.analysis.plots.sweeps import Sensitivity, Sweep, find_sensitivities, find_sweeps
from rocompare.results.records import SUCCESS_SCORE

ROW = 0.125
"""Inches of an algorithm's row."""
TOGETHER = 8
"""Algorithms that can be told apart side by side in one panel."""
DEFINITION = (
    f"The share of seeds whose score in decentralised execution is at least {SUCCESS_SCORE:g}, "
    "with 95% Wilson intervals; a seed that diverged does not succeed."
)


def sweeps(data: Data, width: str) -> list[Plot]:
    """Success rates against what alone differs between scenarios or between variants."""
    cells = [cell.stored for cell in data.cells.values()]
    found: list[Plot] = []
    for sweep in find_sweeps(cells):
        found += difficulty(data, sweep, width)
    by_algorithm: dict[str, list[Sensitivity]] = {}
    for one in find_sensitivities(cells):
        by_algorithm.setdefault(one.algorithm, []).append(one)
    for algorithm, several in by_algorithm.items():
        found += sensitivity(data, algorithm, several, width)
    return found


def rates(data: Data, width: str) -> list[Plot]:
    """A panel per scenario, a row per algorithm."""
    panels = {
        scenario: [name for name, cell in data.of(scenario).items() if cell.rate]
        for scenario in data.scenarios
    }
    scenarios = [scenario for scenario, names in panels.items() if names]
    if not scenarios:
        return []
    columns = min(len(scenarios), 1 if width == "column" else 3)
    # Panels that stand side by side share their rows.
    bands = []
    for start in range(0, len(scenarios), columns):
        side = scenarios[start : start + columns]
        present = {name for scenario in side for name in panels[scenario]}
        bands.append((side, [name for name in data.algorithms if name in present]))
    left = style.names_width(data.algorithms, 1.25)
    figures = []
    for part in _pages(bands):
        sheet = Sheet(
            style.WIDTHS[width], [_height(names) for _, names in part], columns, left=left + 0.1,
            right=0.4, across=0.45,
        )  # fmt: skip
        for row, (side, names) in enumerate(part):
            for column, scenario in enumerate(side):
                axes = sheet.panel(row, column)
                _draw_rates(axes, data, scenario, names)
                style.row_names(axes, names if column == 0 else [""] * len(names), left)
                axes.set_title(style.fitted(scenario, sheet.panel_width + 0.3, 8))
                lowest = row == len(part) - 1 or column >= len(part[row + 1][0])
                axes.tick_params(labelbottom=lowest)
                if lowest:
                    axes.set_xlabel("success rate")
        figures.append(sheet.figure)
    caption = f"{DEFINITION} Right of each panel: successes of all seeds."
    return style.in_parts("success", "Success rates", caption, figures)


def _height(names: Sequence[str]) -> float:
    return min(ROW * len(names) + 0.06, style.PAGE_HEIGHT - 1)


def _pages(bands: list[tuple[list[str], list[str]]]) -> list[list[tuple[list[str], list[str]]]]:
    """As many bands of panels on a page as its height holds."""
    pages: list[list[tuple[list[str], list[str]]]] = []
    room = 0.0
    for band in bands:
        need = _height(band[1]) + 0.28
        if not pages or need > room:
            pages.append([])
            room = style.PAGE_HEIGHT - 0.4
        pages[-1].append(band)
        room -= need
    return pages


def _draw_rates(axes: Axes, data: Data, scenario: str, names: Sequence[str]) -> None:
    for row, name in enumerate(names):
        cell = data.cells.get((name, scenario))
        if cell is None or cell.rate is None:
            continue
        look = data.looks[name]
        low, high = stats.wilson_interval(*cell.rate)
        axes.plot([low, high], [row, row], color=look.color, linewidth=1.4, alpha=0.55)
        axes.plot(
            cell.rate[0] / cell.rate[1], row, look.marker, color=look.color, mfc=look.fill,
            clip_on=False, zorder=3,
        )  # fmt: skip
        style.beside(axes, row, "{}/{}".format(*cell.rate))
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


Point = tuple[float, tuple[int, int]]
"""A place on the x axis, and successes of seeds."""


def difficulty(data: Data, sweep: Sweep, width: str) -> list[Plot]:
    """Success rates against the number that a sweep of scenarios changes."""
    lines: dict[str, list[Point]] = {}
    for name in data.algorithms:
        cells = [data.cells.get((name, scenario)) for _, scenario in sweep.points]
        points = [(float(i), cell.rate) for i, cell in enumerate(cells) if cell and cell.rate]
        if points:
            lines[name] = points
    if not lines:
        return []
    inches = style.WIDTHS[width]
    groups = style.chunks(list(lines), TOGETHER)
    legend = Legend(list(lines), data.looks, inches)
    sheet = Sheet(inches, [1.4] * len(groups), top=legend.height + 0.08, down=0.15, bottom=0.42)
    panels = sheet.panels(len(groups))
    for axes, names in zip(panels, groups, strict=True):
        _draw_lines(axes, [(lines[name], data.looks[name]) for name in names])
        axes.set_xticks(range(len(sweep.points)), [f"{value:g}" for value, _ in sweep.points])
        axes.set_xlim(-0.4, len(sweep.points) - 0.6)
    where = style.fitted(f"{sweep.parameter} ({sweep.name})", inches - 0.6, 8)
    sheet.name_axes(panels, where, "success rate")
    legend.draw(sheet.figure)
    caption = (
        f"{DEFINITION} The scenarios differ in {sweep.parameter} alone, whose values stand evenly "
        "spaced, whatever their distance, and algorithms side by side."
    )
    if any(name != style.untuned(name) for name in lines):
        caption += " Dashed, with hollow marks: tuned algorithms."
    name = style.file_name(f"success_by_{style.shown(sweep.parameter)}", sweep.name)
    title = f"Success rates against {sweep.parameter} ({sweep.name})"
    return [Plot(name, title, caption, sheet.figure)]


def sensitivity(data: Data, algorithm: str, found: list[Sensitivity], width: str) -> list[Plot]:
    """Success rates of an algorithm's variants, a panel per hyperparameter."""
    # The variant from which all others differ, if it is one.
    common = set.intersection(*({name for _, name in one.points} for one in found))
    base = common.pop() if len(found) > 1 and len(common) == 1 else ""
    scenarios = [s for s in data.scenarios if any(s in one.scenarios for one in found)]
    colors = style.marks([f"scenario {i}" for i in range(len(scenarios))])
    looks = dict(zip(scenarios, colors.values(), strict=True))
    inches = style.WIDTHS[width]
    figures = []
    for part in style.chunks(found, 10 if width == "column" else 15):
        columns = min(len(part), 2 if width == "column" else 3)
        rows = -(-len(part) // columns)
        legend = Legend(scenarios, looks, inches)
        sheet = Sheet(
            inches, [1.0] * rows, columns, top=legend.height + 0.1, down=0.54, bottom=0.52
        )
        panels = sheet.panels(len(part))
        for axes, one in zip(panels, part, strict=True):
            lines = []
            for scenario in one.scenarios:
                cells = [data.cells.get((name, scenario)) for _, name in one.points]
                points = [(float(i), c.rate) for i, c in enumerate(cells) if c and c.rate]
                numbers = all(type(value) in (int, float) for value, _ in one.points)
                # A line between values that are no numbers would say nothing.
                lines.append((points, looks[scenario]._replace(dash="-" if numbers else "")))
            _draw_lines(axes, lines)
            place = sheet.panel_width / len(one.points)
            values = [style.fitted(_value(value), place) for value, _ in one.points]
            axes.set_xticks(range(len(values)), values)
            axes.set_xlim(-0.5, len(values) - 0.5)
            axes.tick_params(labelbottom=True)
            for i, (_, name) in enumerate(one.points):
                if name == base:
                    axes.axvspan(i - 0.4, i + 0.4, color="#000000", alpha=0.07, linewidth=0)
        sheet.name_axes(panels, "", "success rate")
        for axes, one in zip(panels, part, strict=True):
            axes.set_xlabel(_in_lines(one.parameter, sheet.panel_width))
        legend.draw(sheet.figure)
        figures.append(sheet.figure)
    caption = (
        f"{DEFINITION} The variants in a panel differ in the hyperparameter below it alone, whose "
        "values stand evenly spaced; a line or a mark per scenario."
        + (f" On grey: {style.shown(base)}, which all panels share." if base else "")
    )
    name, title = style.file_name("sensitivity", algorithm), f"Sensitivity of {algorithm}"
    return style.in_parts(name, title, caption, figures)


def _in_lines(parameter: str, inches: float) -> str:
    """A hyperparameter's name, in two lines if one is too short for it."""
    words = parameter.split("_")
    if style.text_width(parameter, 8) <= inches or len(words) == 1:
        return style.fitted(parameter, inches, 8)
    breaks = ("_".join(words[:i]) + "_\n" + "_".join(words[i:]) for i in range(1, len(words)))
    best = min(breaks, key=lambda text: max(map(len, text.split("\n"))))
    return "\n".join(style.fitted(line, inches, 8) for line in best.split("\n"))


def _value(value: object) -> str:
    return f"{value:g}" if type(value) in (int, float) else str(value)


def _draw_lines(axes: Axes, lines: Sequence[tuple[list[Point], Mark]]) -> None:
    """A line per item with Wilson's intervals, side by side, for many rates are 0 or 1."""
    for i, (points, look) in enumerate(lines):
        shift = 0.55 * ((i + 0.5) / len(lines) - 0.5)
        places = [place + shift for place, _ in points]
        ends = np.array([stats.wilson_interval(*rate) for _, rate in points])
        axes.vlines(places, ends[:, 0], ends[:, 1], color=look.color, linewidth=1, alpha=0.5)
        axes.plot(
            places, [a / b for _, (a, b) in points], color=look.color, marker=look.marker,
            ls=look.dash, mfc=look.fill, linewidth=0.8, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
