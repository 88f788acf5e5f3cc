"""Results as pictures that fit a paper's column: curves, seeds, success, profiles, landscapes,
episodes.

Every picture is a :class:`Plot`, a matplotlib figure with the caption that explains it. They are
drawn without pyplot, so there is no global state, and the same files give the same bytes. An
algorithm has the same colour and marker in all of them.

``python -m rocompare.analysis.plots OUT.png`` draws the README's explanation of relative
over-generalization.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib import patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from rocompare.analysis import stats
from rocompare.analysis.compare import declared_returns
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.envs.particle_gather import ParticleGather
from rocompare.errors import ResultsError
from rocompare.learn import ro
from rocompare.results import store as results
from rocompare.suite import registry
from rocompare.suite.models import TUNED

FORMATS = ("png", "svg", "pdf")
WIDTH = 3.3
"""Inches: a column of a two-column paper."""

# Okabe and Ito's colours, told apart with every common colour blindness; the markers are for
# print without colour.
_FIXED = {
    "svnr": ("#0072B2", "o"),
    "maddpg": ("#D55E00", "s"),
    "masql": ("#009E73", "^"),
    "pr2": ("#CC79A7", "D"),
    "rommeo": ("#E69F00", "v"),
    "lenient_madrl": ("#56B4E9", "P"),
}
_OTHER_COLORS = ("#000000", "#8C8C8C", "#882255", "#332288")
_OTHER_MARKERS = ("X", "*", "<", ">", "h")
_TUNED_MARKERS = ("8", "p", "d", "H", "1", "+")
_GREY = "0.35"
_FRAMES = 4
"""Frames of an episode's strip."""
# Below the safe return in greys, above it in yellows, on which every algorithm's colour shows.
_LAND = ("#ffffff", "#f3f3f3", "#e4e4e4", "#d2d2d2", "#bdbdbd", "#fbf0b8", "#f2d957")
_HALO = patheffects.withStroke(linewidth=1.5, foreground="white", alpha=0.8)
_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.0,
    "savefig.dpi": 300,
    "svg.hashsalt": "rocompare",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: many conferences refuse matplotlib's default Type 3
}


@dataclass(frozen=True)
class Plot:
    """A picture and the words that belong under it."""

    name: str
    """Of its files, without suffix."""
    caption: str
    figure: Figure
    scenario: str = ""
    """Empty for a picture of all scenarios."""

    def render(self, form: str) -> bytes:
        """The picture as ``png``, ``svg`` or ``pdf``."""
        return _render(self.figure, form)


def finite(cell: pd.DataFrame) -> pd.DataFrame:
    """The seeds that have a return: those that diverged have none."""
    return cell[~cell["diverged"].astype(bool) & (cell["return"].abs() < np.inf)]


def reached(cell: pd.DataFrame) -> tuple[int, int]:
    """Seeds in the optimum's basin, and all seeds; one that diverged did not reach it."""
    return int((finite(cell)["basin"] == "optimum").sum()), len(cell)


@dataclass(frozen=True)
class Sweep:
    """Scenarios that differ in one number alone."""

    name: str
    """What the scenarios' names begin with"""
    parameter: str
    scenarios: list[tuple[float, str]]
    """The parameter's values in order, each with its scenario"""


@dataclass(frozen=True)
class Data:
    """What plots are made of: everything readable below one results folder."""

    seeds: pd.DataFrame
    """A row per seed, ``results.COLUMNS``"""
    curves: pd.DataFrame
    actions: dict[tuple[str, str], np.ndarray]
    """``(algorithm, scenario) -> [actions, N]`` in ``[-1, 1]``, of one-step games"""
    returns: dict[str, tuple[float, float]]
    """By scenario, the declared safe and optimal return; absent where the environment cannot be
    built"""
    games: dict[str, MaxOfThree]
    """One copy of each scenario's game, where it is one whose reward can be drawn"""
    notes: list[str]
    """What is missing, a line each"""
    diagnosis: pd.DataFrame = field(default_factory=lambda: _no_rows(results.DIAGNOSIS_COLUMNS))
    """Executed and perceived RO, a row per seed and evaluation"""
    sweeps: list[Sweep] = field(default_factory=list)
    episodes: dict[tuple[str, str], dict[int, np.ndarray]] = field(default_factory=dict)
    """``(algorithm, scenario) -> seed -> [T+1, P, 2]`` positions in one evaluation episode"""
    landmarks: dict[str, float] = field(default_factory=dict)
    """By scenario, the radius of the landmark at the centre, where there is one"""

    @property
    def algorithms(self) -> list[str]:
        return sorted(set(self.seeds["algorithm"]), key=lambda name: (name != "svnr", name))

    @property
    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(self.seeds["scenario"]))

    def of(self, algorithm: str, scenario: str) -> pd.DataFrame:
        """The seeds of one cell."""
        frame = self.seeds
        return frame[(frame["algorithm"] == algorithm) & (frame["scenario"] == scenario)]

    def present(self, scenario: str) -> list[str]:
        """Algorithms that have seeds on ``scenario``."""
        return [name for name in self.algorithms if len(self.of(name, scenario))]


def load(path: str | Path) -> Data:
    """Read all that plots show from the results below ``path``.

    Raises:
        ResultsError: nothing there, or one name stands for two configurations.
    """
    seeds, configs, failed = results.load_with_failures(path)
    notes = [f"failed: {cell}: {results.one_line(error)}" for cell, error in failed]
    if seeds.empty:
        return Data(_no_rows(results.COLUMNS), _no_rows(results.CURVE_COLUMNS), {}, {}, {}, notes)
    cells = results.cells_of(seeds)
    shown = results.shown_scenarios(cells, configs, path)
    seeds = results.with_shown(seeds, shown)
    curves = results.with_shown(_load_curves(path), shown)
    if curves.empty:
        notes.append("no learning curves: no cell has a curve.csv with rows")
    returns: dict[str, tuple[float, float]] = {}
    games: dict[str, MaxOfThree] = {}
    landmarks: dict[str, float] = {}
    scenarios = {shown[cell[:2]]: configs[cell]["scenario"] for cell in cells}
    for scenario, config in scenarios.items():
        try:
            returns[scenario] = declared_returns(config)
        except ResultsError as error:
            notes.append(f"{error}; they are not drawn")
            continue
        if registry.is_foreign(config["env"]):
            continue  # its code is not run to draw results
        env_class = registry.load("environment", config["env"])
        if isinstance(env_class, type) and issubclass(env_class, MaxOfThree):
            games[scenario] = env_class(env_class.Config.model_validate(config["params"]), [0], 1)
        if isinstance(env_class, type) and issubclass(env_class, ParticleGather):
            landmarks[scenario] = env_class.Config.model_validate(config["params"]).radius
    folders = results.cell_folders(path)
    actions, episodes = {}, {}
    for cell in cells:
        scenario, algorithm = shown[cell[:2]], cell[2]
        finished = set(seeds[(seeds["suite"] == cell[0]) & (seeds["key"] == cell[3])]["seed"])
        found = {s: e for s, e in _load_episodes(folders[cell]).items() if s in finished}
        if found:
            episodes[algorithm, scenario] = found
        if scenario in games and games[scenario].spec.n_agents > 1:
            n_agents = games[scenario].spec.n_agents
            records = results.load_actions(folders[cell])
            rows = [row for seed in sorted(records) for row in records[seed]]
            try:
                actions[algorithm, scenario] = np.array(rows, float).reshape(len(rows), n_agents)
            except (TypeError, ValueError):
                raise ResultsError(
                    f"{folders[cell]}: an entry of 'actions' is not one number per agent; delete "
                    "the seeds' records and rerun the suite"
                ) from None
    diagnosis = results.with_shown(results.load_diagnosis(path), shown)
    suites: dict[str, dict[str, results.Config]] = {}
    for cell in cells:
        suites.setdefault(cell[0], {})[shown[cell[:2]]] = configs[cell]
    sweeps = find_sweeps(suites)
    data = Data(
        seeds, curves, actions, returns, games, notes, diagnosis, sweeps, episodes, landmarks
    )  # fmt: skip
    notes += _missing_seeds(data)
    return data


def _load_episodes(folder: Path) -> dict[int, np.ndarray]:
    """The cell's episodes, ``[T+1, P, 2]`` each; an empty one, of a seed that diverged, is none."""
    found = {}
    for seed, episode in results.load_episodes(folder).items():
        try:
            frames = np.array(episode, float)
        except (TypeError, ValueError):
            frames = np.zeros(1)
        if frames.size == 0:
            continue
        if frames.ndim != 3 or frames.shape[2] != 2 or not np.isfinite(frames).all():
            raise ResultsError(
                f"{folder / results.EPISODES}: seed {seed}'s episode is not a list of positions; "
                "delete the file"
            )
        found[seed] = frames
    return found


def find_sweeps(suites: dict[str, dict[str, results.Config]]) -> list[Sweep]:
    """Where three scenarios or more of a suite differ in one number of their environment alone.

    Args:
        suites: by its name, and then by that of the scenario as shown, a cell's configuration.
    """
    found: list[tuple[str, str, list[tuple[float, str]]]] = []
    for suite, scenarios in suites.items():
        groups: dict[tuple[str, str], dict[float, str]] = {}
        for name, config in scenarios.items():
            env, params = config["scenario"]["env"], config["scenario"]["params"]
            for parameter, value in params.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    others = {k: v for k, v in params.items() if k != parameter}
                    same = env, others, config["budget"], config["evaluation"]
                    group = parameter, json.dumps(same, sort_keys=True)
                    groups.setdefault(group, {}).setdefault(value, name)
        for (parameter, _), by_value in groups.items():
            found.append((suite, parameter, sorted(by_value.items())))
    sweeps: list[Sweep] = []
    for suite, parameter, points in sorted(found, key=lambda one: -len(one[2])):
        if len(points) < 3 or any(set(points) <= set(other.scenarios) for other in sweeps):
            continue  # suites that share scenarios have one sweep between them, the longest
        letters = zip(*(name for _, name in points), strict=False)
        alike = takewhile(lambda column: len(set(column)) == 1, letters)
        start = "".join(column[0] for column in alike).rstrip("._-+")
        start = start.removesuffix(parameter).rstrip("._-+") or parameter
        taken = any((start, parameter) == (other.name, other.parameter) for other in sweeps)
        sweeps.append(Sweep(f"{start}@{suite}" if taken else start, parameter, points))
    return sweeps


def _load_curves(path: str | Path) -> pd.DataFrame:
    if not any(Path(path).rglob("curve.csv")):
        return _no_rows(("suite", "scenario", "algorithm", *results.CURVE_COLUMNS))
    return results.load_curves(path)


def _no_rows(columns: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


def _missing_seeds(data: Data) -> list[str]:
    """What a suite has elsewhere, but not on one of its scenarios; and what diverged."""
    notes = []
    for suite, rows in data.seeds.groupby("suite", sort=False):
        counts = rows.groupby(["scenario", "algorithm"]).size().unstack(fill_value=0)
        most = counts.to_numpy().max()
        for scenario in rows["scenario"].unique():
            few: dict[int, list[str]] = {}
            for algorithm, have in counts.loc[scenario].items():
                if have < most:
                    few.setdefault(have, []).append(str(algorithm))
            for have, names in sorted(few.items()):
                seeds = f"{have} of {most}" if have else "no"
                notes.append(f"{suite} · {scenario}: {seeds} seeds of {', '.join(names)}")
    for (scenario, algorithm), cell in data.seeds.groupby(["scenario", "algorithm"], sort=False):
        if cell["diverged"].any():
            notes.append(
                f"{scenario} · {algorithm}: {int(cell['diverged'].sum())} of {len(cell)} seeds "
                "diverged; they count as not reaching the optimum"
            )
    return notes


def styles(algorithms: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker by name: fixed for the algorithms of the paper, tuned or not, in the names'
    order for all others."""
    names = sorted(set(algorithms))
    found = {name: _FIXED[name] for name in names if name in _FIXED}
    for (plain, (color, _)), marker in zip(_FIXED.items(), _TUNED_MARKERS, strict=True):
        if plain + TUNED in names:
            found[plain + TUNED] = color, marker
    for i, name in enumerate(name for name in names if name not in found):
        color = _OTHER_COLORS[i % len(_OTHER_COLORS)]
        found[name] = (color, _OTHER_MARKERS[i % len(_OTHER_MARKERS)])
    return found


def all_plots(data: Data) -> Iterator[Plot]:
    """Every picture that the data allow, one at a time."""
    if data.seeds.empty:
        return
    yield success_rates(data)
    profiles = performance_profiles(data)
    if profiles is not None:
        yield profiles
    for sweep in data.sweeps:
        yield success_by_difficulty(data, sweep)
    for scenario in data.scenarios:
        if (data.curves["scenario"] == scenario).any():
            yield learning_curves(data, scenario)
        if len(data.diagnosis) and (data.diagnosis["scenario"] == scenario).any():
            yield diagnosis_curves(data, scenario)
        yield seed_returns(data, scenario)
        if any(len(data.actions.get((name, scenario), ())) for name in data.algorithms):
            yield landscape(data, scenario)
        if any((name, scenario) in data.episodes for name in data.algorithms):
            yield episode_strips(data, scenario)


def save_all(path: str | Path, out: Path) -> tuple[list[Path], list[str]]:
    """Write every picture in every form, and ``captions.md``, to the folder ``out``.

    Returns the files written, and what the results lack.
    """
    data = load(path)
    if data.seeds.empty:
        raise ResultsError(f"{path}: no finished seeds to draw; {data.notes[0]}")
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{out}: is a file; give a folder for the pictures")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    captions = ["# Captions\n"]
    for plot in all_plots(data):
        for form in FORMATS:
            file = out / f"{plot.name}.{form}"
            file.write_bytes(plot.render(form))
            written.append(file)
        captions.append(f"**{plot.name}**: {plot.caption}\n")
    captions += [f"- {note}" for note in data.notes]
    results.write_atomic(out / "captions.md", "\n".join(captions).rstrip() + "\n")
    return [*written, out / "captions.md"], data.notes


def learning_curves(data: Data, scenario: str) -> Plot:
    """Return against environment steps: each seed thin, the mean bold in its interval."""
    curves = data.curves[data.curves["scenario"] == scenario]
    names = [name for name in data.present(scenario) if (curves["algorithm"] == name).any()]
    # The seeds of more algorithms in one panel hide each other.
    panels = [names] if len(names) <= 3 else [[name] for name in names]
    rows, columns = (len(panels) + 1) // 2, min(len(panels), 2)
    with _style():
        figure = Figure((WIDTH, 2.4 if columns == 1 else 1.15 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, shown in zip(grid.flat, panels, strict=False):
            for algorithm in shown:
                _draw_curves(axes, curves[curves["algorithm"] == algorithm], algorithm, data)
            cut = _limit(axes.set_ylim, curves["return"], data, scenario, depth=2)
            # Named once: beside the last panel of a row.
            _references(data, scenario, axes, "y", named=axes in grid[:, -1])
            if columns > 1:
                axes.set_title(_short(shown[0], 18))
        _label_grid(grid, len(panels), "environment steps", "return")
        if columns == 1:
            _legend(figure, grid[0, 0])
    caption = (
        f"Learning curves on {scenario}. Thin lines: single seeds; bold: their mean; band: its 95% "
        "t interval over seeds. A seed that diverged leaves the mean from there on. Dotted: the "
        "returns of the optimal and of the safe joint behaviour. Steps are counted per seed."
    )
    if cut:
        caption += " Returns further down are cut off."
    return Plot(f"learning_curves-{scenario}", caption, figure, scenario)


def _draw_curves(axes: Axes, rows: pd.DataFrame, algorithm: str, data: Data) -> None:
    color, marker = styles(data.algorithms)[algorithm]
    # [points, seeds]; a seed that diverged is NaN from there on
    table = rows.pivot_table("return", "env_steps", "seed", dropna=False)
    values = np.where(np.isfinite(table.to_numpy()), table.to_numpy(), np.nan)
    steps = table.index.to_numpy(dtype=float)
    axes.plot(steps, values, color=color, linewidth=0.4, alpha=0.5)
    points = [row[~np.isnan(row)] for row in values]
    bounds = np.array([stats.t_interval(row) for row in points])
    axes.fill_between(steps, bounds[:, 0], bounds[:, 1], color=color, alpha=0.2, linewidth=0)
    mean = [row.mean() if len(row) else np.nan for row in points]
    axes.plot(steps, mean, color=color, marker=marker, label=_short(algorithm), markevery=0.2)
    axes.margins(x=0.01)


def seed_returns(data: Data, scenario: str) -> Plot:
    """A point per seed: under relative over-generalization they stand in two groups."""
    names = data.present(scenario)
    marks = styles(data.algorithms)
    returns = finite(data.seeds[data.seeds["scenario"] == scenario])["return"]
    with _style():
        figure, axes = _figure(0.85 + 0.28 * len(names))
        cut = _limit(axes.set_xlim, returns, data, scenario, depth=1)
        low = axes.get_xlim()[0]
        for row, algorithm in enumerate(names):
            color, marker = marks[algorithm]
            cell = data.of(algorithm, scenario).sort_values("seed")
            height = row + np.linspace(-0.3, 0.3, len(cell)) if len(cell) > 1 else np.array([row])
            value = cell["return"].to_numpy(dtype=float)
            lost = ~cell.index.isin(finite(cell).index)
            below = ~lost & (value < low)
            optimum = (cell["basin"] == "optimum").to_numpy()
            axes.plot(np.full(lost.sum(), low), height[lost], "x", color=color, clip_on=False)
            axes.plot(
                np.full(below.sum(), low), height[below], "<", color=color, mfc="none",
                clip_on=False,
            )  # fmt: skip
            for kind, fill in ((optimum, color), (~optimum, "none")):
                shown = kind & ~lost & ~below
                axes.plot(
                    value[shown], height[shown], marker, color=color, mfc=fill, mew=0.7,
                    linestyle="none", clip_on=False,
                )  # fmt: skip
            _beside(axes, row, "{}/{}".format(*reached(cell)))
        _references(data, scenario, axes, "x")
        _rows(axes, names)
        axes.set_xlabel("return\n(right: seeds in the optimum's basin)")
    caption = (
        f"Returns on {scenario}, a point per seed, spread vertically only to be told apart. "
        "Filled: most evaluation episodes ended in the optimum's basin; hollow: elsewhere; right: "
        "how many seeds reached it. Dotted: the returns of the optimal and of the safe joint "
        "behaviour."
    )
    if data.seeds[data.seeds["scenario"] == scenario]["diverged"].any():
        caption += " × at the left edge: the seed diverged."
    if cut:
        caption += " ◁ at the left edge: a return further down."
    return Plot(f"seed_returns-{scenario}", caption, figure, scenario)


def success_rates(data: Data) -> Plot:
    """Share of seeds in the optimum's basin, a panel per scenario."""
    marks = styles(data.algorithms)
    panels = [data.present(scenario) for scenario in data.scenarios]
    heights = [0.17 * len(names) + 0.12 for names in panels]
    with _style():
        figure = Figure((WIDTH, sum(heights) + 0.26 * len(panels) + 0.45), layout="constrained")
        grid = figure.subplots(
            len(panels), squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
        )[:, 0]
        for axes, scenario, names in zip(grid, data.scenarios, panels, strict=True):
            for row, algorithm in enumerate(names):
                color, marker = marks[algorithm]
                found, total = reached(data.of(algorithm, scenario))
                low, high = stats.wilson_interval(found, total)
                axes.plot([low, high], [row, row], color=color, linewidth=1.6, alpha=0.6)
                axes.plot(found / total, row, marker, color=color, clip_on=False, zorder=3)
                _beside(axes, row, f"{found}/{total}")
            _rows(axes, names)
            axes.set_title(_short(scenario, 44))
            axes.set_xlim(0, 1)
            axes.grid(axis="x", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
        grid[-1].set_xlabel("share of seeds in the optimum's basin")
    caption = (
        "Success rates: the share of seeds whose final evaluation ended mostly in the optimum's "
        "basin, with 95% Wilson intervals. Right: seeds that reached it, of all seeds; one that "
        "diverged did not."
    )
    return Plot("success_rates", caption, figure)


def success_by_difficulty(data: Data, sweep: Sweep) -> Plot:
    """Share of seeds in the optimum's basin against the number that a sweep changes."""
    marks = styles(data.algorithms)
    names = [n for n in data.algorithms if any(len(data.of(n, s)) for _, s in sweep.scenarios)]
    with _style():
        figure, axes = _figure(2.0 + 0.14 * -(-len(names) // 3))
        for i, algorithm in enumerate(names):
            color, marker = marks[algorithm]
            # Side by side, for many rates are 0 or 1.
            shift = 0.5 * ((i + 0.5) / len(names) - 0.5)
            places, rates = [], []
            for place, (_, scenario) in enumerate(sweep.scenarios):
                found, total = reached(data.of(algorithm, scenario))
                if total:
                    low, high = stats.wilson_interval(found, total)
                    at = place + shift
                    axes.plot([at, at], [low, high], color=color, linewidth=1, alpha=0.5)
                    places.append(at)
                    rates.append(found / total)
            axes.plot(
                places, rates, color=color, marker=marker, label=_short(algorithm), linewidth=0.8,
                clip_on=False, zorder=3,
            )  # fmt: skip
        axes.set_xticks(range(len(sweep.scenarios)), [f"{value:g}" for value, _ in sweep.scenarios])
        axes.set_ylim(0, 1)
        axes.set_xlabel(f"{sweep.parameter} ({_short(sweep.name, 30)})")
        axes.set_ylabel("share of seeds\nin the optimum's basin")
        _legend(figure, axes)
    caption = (
        f"Success rates on {sweep.name} against {sweep.parameter}, in which alone the scenarios "
        "differ, with 95% Wilson intervals. Values stand evenly spaced, whatever their distance, "
        "and algorithms side by side; a seed that diverged did not reach the optimum's basin."
    )
    return Plot(f"success_by_{sweep.parameter}-{sweep.name}", caption, figure)


def diagnosis_curves(data: Data, scenario: str) -> Plot:
    """Executed and perceived RO against environment steps: when an algorithm over-generalizes."""
    rows = data.diagnosis[data.diagnosis["scenario"] == scenario]
    names = [name for name in data.present(scenario) if (rows["algorithm"] == name).any()]
    # Perceived RO is not known in every game.
    columns = [name for name in ro.COLUMNS if rows[name].notna().any()] or list(ro.COLUMNS)
    marks = styles(data.algorithms)
    with _style():
        height = 0.5 + 1.3 * len(columns) + 0.14 * -(-len(names) // 3)
        figure = Figure((WIDTH, height), layout="constrained")
        panels = figure.subplots(len(columns), sharex=True, squeeze=False)[:, 0]
        for axes, column in zip(panels, columns, strict=True):
            for i, algorithm in enumerate(names):
                color, marker = marks[algorithm]
                own = rows[rows["algorithm"] == algorithm]
                table = own.pivot_table(column, "env_steps", "seed", dropna=False)
                steps = table.index.to_numpy(dtype=float)
                points = [row[~np.isnan(row)] for row in table.to_numpy(dtype=float)]
                bounds = np.array([stats.t_interval(row) for row in points]).clip(min=0)
                axes.fill_between(
                    steps, bounds[:, 0], bounds[:, 1], color=color, alpha=0.12, linewidth=0
                )
                mean = [row.mean() if len(row) else np.nan for row in points]
                axes.plot(
                    steps, mean, color=color, marker=marker, label=_short(algorithm),
                    markevery=(i % max(len(steps) // 5, 1), max(len(steps) // 5, 1)),
                )  # fmt: skip
            axes.set_yscale("symlog", linthresh=1, linscale=0.6)
            axes.set_ylim(0, max(axes.get_ylim()[1], 1))
            axes.margins(x=0.01)
            axes.set_ylabel(column.replace("_ro", " RO"))
            if scenario in data.returns:
                safe, optimal = data.returns[scenario]
                axes.axhline(optimal - safe, color=_GREY, linestyle=":", linewidth=0.8, zorder=0)
                axes.set_ylim(0, max(axes.get_ylim()[1], 1.3 * (optimal - safe)))
            top = axes.get_ylim()[1]
            # Plain numbers, where a logarithmic axis would write one power of ten or two.
            axes.set_yticks([0, *(m for n in range(9) for m in (10**n, 3 * 10**n) if m <= top)])
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        panels[-1].set_xlabel("environment steps")
        _legend(figure, panels[0])
    caption = (
        f"Relative over-generalization while training on {scenario}, in units of reward; means "
        "over seeds in their 95% t intervals. Executed: what the agent with the most to gain would "
        "gain by answering what the others execute, 0 in every equilibrium; in games of several "
        "steps it is estimated from below. Perceived, where it is known: the worst agent's regret "
        "of its best policy for what it believes of the others, against what the optimal joint "
        "policy does. Dotted: the optimal minus the safe return, about the "
        "perceived RO of agents that believe in the safe behaviour where there is one optimum "
        "(with several, that policy mixes them, and perceived RO may be 0 throughout). The axis "
        "is linear up to 1 and logarithmic beyond."
    )
    return Plot(f"diagnosis-{scenario}", caption, figure, scenario)


def performance_profiles(data: Data) -> Plot | None:
    """Share of seeds above each normalised score, over the scenarios that all algorithms have."""
    shared = [
        scenario
        for scenario in data.scenarios
        if scenario in data.returns and data.present(scenario) == data.algorithms
    ]
    if not shared:
        data.notes.append("no performance profiles: no scenario has seeds of every algorithm")
        return None
    thresholds = np.linspace(-0.5, 1.0, 301)
    marks = styles(data.algorithms)
    with _style():
        figure, axes = _figure(2.0 + 0.14 * -(-len(data.algorithms) // 3))
        for i, algorithm in enumerate(data.algorithms):
            color, marker = marks[algorithm]
            scores = [_scores(data, algorithm, scenario) for scenario in shared]
            low, high = stats.profile_interval(scores, thresholds)
            axes.fill_between(thresholds, low, high, color=color, alpha=0.12, linewidth=0)
            axes.plot(
                thresholds, stats.performance_profile(scores, thresholds), color=color,
                marker=marker, label=_short(algorithm), markevery=(7 * i, 45), clip_on=False,
            )  # fmt: skip
        for place, text in ((0, "safe"), (1, "optimal")):
            axes.axvline(place, color=_GREY, linestyle=":", linewidth=0.8, zorder=0, clip_on=False)
            axes.annotate(
                text, (place, 1), (0, 2), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", fontsize=7, color=_GREY,
            )  # fmt: skip
        axes.set_xlim(-0.5, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("normalised score τ")
        axes.set_ylabel("share of seeds above τ")
        _legend(figure, axes)
    caption = (
        "Performance profiles: the share of seeds whose normalised score exceeds τ, averaged over "
        f"{len(shared)} scenario{'s' if len(shared) > 1 else ''} ({', '.join(shared)}), with 95% "
        "bootstrap bands over seeds. A score "
        "is 0 at the safe and 1 at the optimal return that the scenario declares. A seed that "
        "diverged is below every τ."
    )
    left_out = [scenario for scenario in data.scenarios if scenario not in shared]
    if left_out:
        caption += f" Left out, for not every algorithm has seeds there: {', '.join(left_out)}."
    return Plot("performance_profiles", caption, figure)


def landscape(data: Data, scenario: str) -> Plot:
    """Where each algorithm's executed joint actions stand in a slice of the reward."""
    env = data.games[scenario]
    marks = styles(data.algorithms)
    names = [name for name in data.present(scenario) if len(data.actions[name, scenario])]
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    first, second = _plane(env)
    with _style():
        figure = Figure((WIDTH, (1.5 if columns > 1 else 2.6) * rows + 0.6), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, algorithm in zip(grid.flat, names, strict=False):
            color, marker = marks[algorithm]
            shades = _draw_landscape(axes, env)
            _name_tops(axes, env, "p", "q")
            action = 10 * data.actions[algorithm, scenario]
            axes.plot(
                action[:, first], action[:, second], marker, color=color, ms=3, mec="black",
                mew=0.2, linestyle="none", zorder=3, clip_on=False,
            )  # fmt: skip
            found, total = reached(data.of(algorithm, scenario))
            axes.set_title(_short(algorithm, 18))
            axes.annotate(
                f"{found}/{total}", (0.96, 0.04), xycoords="axes fraction", ha="right", fontsize=7
            )
        x, y = f"action of agent {first + 1}", f"action of agent {second + 1}"
        _label_grid(grid, len(names), x, y)
        _shade_bar(figure, shades, grid)
    caption = (
        f"Reward of {scenario} and the joint actions that each algorithm executed in the final "
        "evaluation, of all seeds. Yellow: better than the safe hill's top p; q is the optimum. "
        "Lower right: seeds that reached the optimum's basin, of all seeds."
    )
    if env.spec.n_agents > 2:
        caption += (
            f" {_slice_text(env)} Joint actions are projected onto the slice, so the reward that "
            "they had may differ from the shade below them."
        )
    else:
        caption += " Dashed: the straight line from p to q."
    return Plot(f"landscape-{scenario}", caption, figure, scenario)


def episode_strips(data: Data, scenario: str) -> Plot:
    """One evaluation episode per algorithm as a strip of frames."""
    marks = styles(data.algorithms)
    names = [name for name in data.present(scenario) if (name, scenario) in data.episodes]
    with _style():
        # By hand, for a layout engine would make room beside a title that is wider than its frame.
        height = 1.08 * len(names)  # inches: square frames of 0.75, their titles and times
        figure = Figure((WIDTH, height))
        grid = figure.subplots(len(names), _FRAMES, squeeze=False)
        figure.subplots_adjust(0.02, 0.17 / height, 0.98, 1 - 0.17 / height, 0.08, 0.33 / 0.75)
        for row, algorithm in zip(grid, names, strict=True):
            color, _ = marks[algorithm]
            seed, value, basin = _median_seed(data, algorithm, scenario)
            path = data.episodes[algorithm, scenario][seed]
            shown = np.unique(np.linspace(0, len(path) - 1, _FRAMES).round().astype(int))
            for axes, t in zip(row, shown, strict=False):
                _draw_frame(axes, path[: t + 1], color, data.landmarks.get(scenario))
                axes.set_xlabel(f"t = {t}", labelpad=1, fontsize=7)
            for axes in row[len(shown) :]:
                axes.axis("off")
            row[0].set_title(f"{_short(algorithm)}: {basin}, {_signed(value)}", pad=3)
    caption = (
        f"The first evaluation episode on {scenario} of each algorithm's median seed: where its "
        "particles stand (filled and hollow) and the way that they came. Beside the name: where "
        "most of that seed's evaluation episodes ended, and their mean return. Strips of long "
        "episodes leave out frames."
    )
    if scenario in data.landmarks:
        caption += " Yellow: the landmark, which both must enter in the same step."
    return Plot(f"episodes-{scenario}", caption, figure, scenario)


def _median_seed(data: Data, algorithm: str, scenario: str) -> tuple[int, float, str]:
    """Of the seeds with an episode, the one of the (lower) median return: seed, return, basin."""
    cell = data.of(algorithm, scenario)
    cell = cell[cell["seed"].isin(data.episodes[algorithm, scenario])]
    row = cell.sort_values(["return", "seed"]).iloc[(len(cell) - 1) // 2]
    return int(row["seed"]), float(row["return"]), str(row["basin"])


def _draw_frame(axes: Axes, path: np.ndarray, color: str, radius: float | None) -> None:
    """The last positions of ``path [t+1, P, 2]`` and the way there."""
    if radius is not None:
        axes.add_patch(Circle((0, 0), radius, facecolor=_LAND[-1], edgecolor="0.55", linewidth=0.4))
    for i, fill in zip(range(path.shape[1]), (color, "white") * path.shape[1], strict=False):
        axes.plot(*path[:, i].T, "-", color=color, linewidth=0.7, alpha=0.7)
        axes.plot(
            *path[-1, i], "o", color=color, mfc=fill, mew=0.9, ms=4, zorder=3, clip_on=False
        )  # fmt: skip
    axes.set_xlim(-1, 1)
    axes.set_ylim(-1, 1)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)


def _signed(value: float) -> str:
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def ro_picture(path: str | Path) -> None:
    """Write the PNG that explains relative over-generalization with Max of Three.

    Left, the game: a wide, safe hill at p and a narrow, higher one at q. Right, the reward that
    agent 1 sees for each of its own actions, averaged over what its partners do.
    """
    env = MaxOfThree(MaxOfThree.Config(s2=1.5), [0], 1)
    own, exploring, at_optimum = rewards_seen(env)
    with _style():
        figure = Figure((6.6, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        shades = _draw_landscape(left, env)
        _name_tops(left, env, "p: safe,\nreward 0", "q: optimum,\nreward 10")
        figure.colorbar(shades, ax=left, label="reward", aspect=30)
        left.set_xlabel("action of agent 1")
        left.set_ylabel("action of agent 2")
        left.set_title("Two hills (agent 3 on the line p–q)")
        for value, color, dash, text, height in (
            (at_optimum, _FIXED["svnr"][0], "--", "partners play the optimum:\n7 looks best", 3),
            (
                exploring,
                _FIXED["maddpg"][0],
                "-",
                "partners act at random:\n−5 looks best",
                -23,
            ),
        ):
            right.plot(own, value, dash, color=color)
            right.plot(own[value.argmax()], value.max(), "o", color=color, ms=5)
            right.annotate(text, (-9.5, height), color=color, path_effects=[_HALO], zorder=5)
        for place, text, side in ((env.p[0], "safe", "left"), (env.q[0], "optimal", "right")):
            right.axvline(float(place), color=_GREY, linestyle=":", linewidth=0.8, zorder=0)
            right.annotate(
                text, (float(place), -61), (3 if side == "left" else -3, 0), color=_GREY,
                textcoords="offset points", ha=side,
            )  # fmt: skip
        right.set_xlim(-10, 10)
        right.set_xticks([-10, -5, 0, 5, 10])
        right.set_ylim(-62, 17)
        right.set_xlabel("agent 1's own action")
        right.set_ylabel("average reward")
        right.set_title("What agent 1 sees of its own action")
        Path(path).write_bytes(_render(figure, "png", dpi=150))


def rewards_seen(env: MaxOfThree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Agent 1's own actions, and the average reward of each: while the two others explore
    uniformly, and when they play the optimum; ``[actions]`` each."""
    own, partner = np.linspace(-10, 10, 401), np.linspace(-10, 10, 201)
    second, third = np.meshgrid(partner, partner)
    exploring = [_reward(env, np.stack([second * 0 + a, second, third], -1)).mean() for a in own]
    q = env.q.tolist()
    at_optimum = _reward(env, np.stack([own, own * 0 + q[1], own * 0 + q[2]], -1))
    return own, np.array(exploring), at_optimum


def _scores(data: Data, algorithm: str, scenario: str) -> np.ndarray:
    """``[seeds]`` normalised scores, NaN where a seed diverged."""
    cell = data.of(algorithm, scenario)
    score = stats.normalise(cell["return"], *data.returns[scenario])
    return np.where(cell["diverged"].to_numpy(dtype=bool), np.nan, score)


def _plane(env: MaxOfThree) -> tuple[int, int]:
    """The two agents whose actions differ most between p and q: the axes of the slice."""
    distance = (env.q - env.p).abs().tolist()
    order = sorted(range(len(distance)), key=lambda i: -distance[i])
    first, second = sorted(order[:2])
    return first, second


def slice_actions(env: MaxOfThree, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``[..., N]`` joint actions of the slice where the agents of :func:`_plane` play ``x`` and
    ``y [...]``: the others stand on the line p-q, as far along it as these two are."""
    first, second = _plane(env)
    p, q = env.p.numpy().astype(float), env.q.numpy().astype(float)
    gap = q - p
    along = (x - p[first]) * gap[first] + (y - p[second]) * gap[second]
    along = along / max(gap[first] ** 2 + gap[second] ** 2, 1e-9)
    action = np.clip(p + along[..., None] * gap, -10, 10)
    action[..., first], action[..., second] = x, y
    return action


def _slice_text(env: MaxOfThree) -> str:
    first, second = _plane(env)
    others = [str(i + 1) for i in range(env.spec.n_agents) if i not in (first, second)]
    agents = f"agent {others[0]} moves" if len(others) == 1 else f"agents {', '.join(others)} move"
    return (
        f"The reward is shown on a slice: {agents} along the straight line from p to q (dashed), "
        f"as far as agents {first + 1} and {second + 1} have come on it."
    )


def _draw_landscape(axes: Axes, env: MaxOfThree) -> ContourSet:
    """Contours of the reward over the two agents of :func:`_plane`, others on the line p-q."""
    first, second = _plane(env)
    p, q = env.p.tolist(), env.q.tolist()
    side = np.linspace(-10, 10, 121)
    x, y = np.meshgrid(side, side)
    reward = _reward(env, slice_actions(env, x, y))
    unit = env.spec.optimal_return - env.spec.safe_return
    levels = [env.spec.safe_return + k * unit for k in (-4, -2, -1, -0.5, 0, 0.5, 1)]
    shades = axes.contourf(x, y, reward, levels, colors=_LAND, extend="min")
    axes.contour(x, y, reward, levels, colors="0.55", linewidths=0.4, linestyles="solid")
    axes.plot([p[first], q[first]], [p[second], q[second]], "--", color="0.25", linewidth=0.6)
    for point in (p, q):
        axes.plot(point[first], point[second], "+", color="black", ms=6, mew=0.8)
    axes.set_aspect("equal")
    axes.set_xticks([-10, -5, 0, 5, 10])
    axes.set_yticks([-10, -5, 0, 5, 10])
    return shades


def _name_tops(axes: Axes, env: MaxOfThree, p: str, q: str) -> None:
    """Write ``p`` and ``q`` below the tops of the hills."""
    first, second = _plane(env)
    for point, text in ((env.p.tolist(), p), (env.q.tolist(), q)):
        axes.annotate(
            text, (point[first], point[second]), (0, -5), textcoords="offset points", zorder=5,
            ha="center", va="top", linespacing=1.1, fontsize=7, path_effects=[_HALO],
        )  # fmt: skip


def _reward(env: MaxOfThree, action: np.ndarray) -> np.ndarray:
    """``[...]`` rewards of joint actions ``[..., N]`` on the scale of p and q."""
    tensor = torch.as_tensor(action / 10, dtype=torch.float64)
    return env.reward(tensor.unsqueeze(-1)).numpy()


def _shade_bar(figure: Figure, shades: ContourSet, grid: np.ndarray) -> None:
    figure.colorbar(
        shades, ax=grid, location="bottom", label="reward", aspect=40, pad=0.02, fraction=0.05
    ).ax.tick_params(labelsize=7, length=2)


@contextmanager
def _style() -> Iterator[None]:
    # From matplotlib's own defaults: a user's matplotlibrc must not change the pictures.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)  # type: ignore[arg-type]
        yield


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _render(figure: Figure, form: str, dpi: int = 300) -> bytes:
    # Without dates and versions, so that equal pictures are equal bytes.
    metadata: dict[str, None] = {
        "png": {"Software": None},
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
    }[form]
    buffer = io.BytesIO()
    with _style():
        if figure.get_layout_engine() is not None:
            # Once for all forms: the layout takes longer than the drawing.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=form, metadata=metadata, dpi=dpi)
    return buffer.getvalue()


def _limit(set_limits: Any, values: pd.Series, data: Data, scenario: str, *, depth: float) -> bool:
    """Show the optimal and the safe return and all values; True if some lie too far below.

    ``depth``: how far below the safe return to go, in units of its gap to the optimal one.
    """
    numbers = values.to_numpy(dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 1.0)
    cut = False
    if scenario in data.returns:
        safe, optimal = data.returns[scenario]
        # Early returns can be hundreds below the safe one, which would flatten all the rest.
        floor = safe - depth * (optimal - safe)
        cut = bool(low < floor)
        low, high = min(max(low, floor), safe), max(high, optimal)
    pad = 0.06 * (high - low) or 1.0
    set_limits(low - pad, high + pad)
    return cut


def _references(data: Data, scenario: str, axes: Axes, along: str, *, named: bool = True) -> None:
    """Dotted lines at the declared returns; if ``named``, with their names outside the axes."""
    for value, text in zip(data.returns.get(scenario, ()), ("safe", "optimal"), strict=False):
        line: dict[str, Any] = {"color": _GREY, "linestyle": ":", "linewidth": 0.8, "zorder": 0}
        words: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "color": _GREY}
        if not named:
            text = ""
        if along == "y":
            axes.axhline(value, **line)
            axes.annotate(
                text, (1, value), (2, 0), xycoords=("axes fraction", "data"), va="center", **words
            )
        else:
            axes.axvline(value, **line)
            axes.annotate(
                text, (value, 1), (0, 2), xycoords=("data", "axes fraction"), ha="center", **words
            )


def _label_grid(grid: np.ndarray, used: int, x: str, y: str) -> None:
    """Name the axes at the left and at the bottom; a panel that is not used disappears."""
    for axes in grid[:, 0]:
        axes.set_ylabel(y)
    for axes in grid.flat[used:]:
        axes.axis("off")
    for axes in grid.flat[max(used - grid.shape[1], 0) : used]:
        axes.xaxis.set_tick_params(labelbottom=True)
    for axes in grid[-1]:
        axes.set_xlabel(x)


def _rows(axes: Axes, names: list[str]) -> None:
    """Names at the rows, the first on top."""
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _beside(axes: Axes, row: float, text: str) -> None:
    """``text`` right of the axes at a row."""
    axes.annotate(
        text, (1, row), (5, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="center", fontsize=7, annotation_clip=False,
    )  # fmt: skip


def _short(name: str, length: int = 22) -> str:
    """``name``, without its middle if it is too long for its place; ends tell variants apart."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m rocompare.analysis.plots OUT.png")
    ro_picture(sys.argv[1])
