"""Landscapes: where executed joint actions stand in a slice of the reward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.contour import ContourSet

from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Array, Cell, Data
from rocompare.analysis.plots.style import Plot, Sheet
from rocompare.errors import ResultsError, printable
from rocompare.results.reader import StoredCell
from rocompare.suite import registry

if TYPE_CHECKING:
    from rocompare.envs.max_of_three import MaxOfThree

# Below the safe return in greys, above it in yellows, on which every algorithm's colour shows.
SHADES = ("#ffffff", "#f3f3f3", "#e4e4e4", "#d2d2d2", "#bdbdbd", "#fbf0b8", "#f2d957")
HALO = patheffects.withStroke(linewidth=1.5, foreground="white", alpha=0.8)
SIDE = 121
"""Points of the slice along each axis."""


def pictures(data: Data, scenario: str, width: str) -> list[Plot]:
    """A panel per algorithm, with the joint actions of all its seeds."""
    cells = {name: cell for name, cell in data.of(scenario).items() if cell.measured.any()}
    env = game(next(iter(cells.values())).stored) if cells else None
    if env is None or env.spec.n_agents < 2:
        return []
    actions = {name: joint_actions(cell, env.spec.n_agents) for name, cell in cells.items()}
    names = [name for name in cells if len(actions[name])]
    if not names:
        return []
    first, second = plane(env)
    inches = style.WIDTHS[width]
    columns = min(len(names), 2 if width == "column" else 4)
    side = (inches - 0.6 - 0.2 * (columns - 1)) / columns
    figures = []
    for part in style.chunks(names, columns * int((style.PAGE_HEIGHT - 1.0) / (side + 0.28))):
        rows = -(-len(part) // columns)
        sheet = Sheet(inches, [side] * rows, columns, left=0.48, bottom=0.9, across=0.2)
        panels = sheet.panels(len(part))
        shades = None
        for axes, name in zip(panels, part, strict=True):
            shades = draw_game(axes, env, shades)
            name_tops(axes, env, "p", "q")
            look = data.looks[name]
            action = 10 * actions[name]
            axes.plot(
                action[:, first], action[:, second], look.marker, color=look.color, ms=3,
                mec="black", mew=0.2, linestyle="none", zorder=3, clip_on=False,
            )  # fmt: skip
            axes.set_title(style.fitted(name, side, 8))
            rate = cells[name].rate
            if rate:
                axes.annotate(
                    f"{rate[0]}/{rate[1]}", (0.96, 0.04), xycoords="axes fraction", ha="right",
                    fontsize=style.SMALL,
                )  # fmt: skip
        sheet.name_axes(panels, f"action of agent {first + 1}", f"action of agent {second + 1}")
        width_, height = sheet.size
        box = 0.48 / width_, 0.34 / height, (inches - 0.6) / width_, 0.07 / height
        assert shades is not None  # there is a panel, and each is shaded
        bar = sheet.figure.colorbar(
            shades, cax=sheet.figure.add_axes(box), orientation="horizontal", label="reward"
        )
        bar.ax.tick_params(length=2)
        figures.append(sheet.figure)
    caption = (
        "Reward, and the joint actions that each algorithm executed in the final evaluation, of "
        "all seeds. Yellow: better than the safe hill's top p; q is the optimum. "
        "Lower right of a panel: seeds that succeed, of all."
    )
    if env.spec.n_agents > 2:
        caption += (
            f" {slice_text(env)} Joint actions are projected onto the slice, so the reward that "
            "they had may differ from the shade below them."
        )
    else:
        caption += " Dashed: the straight line from p to q."
    name, title = style.file_name("landscape", scenario), f"Landscape of {scenario}"
    return style.in_parts(name, title, caption, figures, scenario)


def game(cell: StoredCell) -> MaxOfThree | None:
    """One copy of a cell's game, if its reward is one that can be drawn. Only rocompare's own
    environments are built to read results."""
    config = cell.config["scenario"]
    if registry.is_foreign(config["env"]):
        return None
    from rocompare.envs.max_of_three import MaxOfThree

    found: type[MaxOfThree] = registry.load("environment", config["env"])
    if not issubclass(found, MaxOfThree):
        return None
    try:
        return found(found.Config.model_validate(config["params"]), [0], 1)
    except ValueError as error:
        raise ResultsError(
            f"{cell.folder / 'config.yaml'}: not a configuration of {config['env']}: "
            f"{printable(str(error))}"
        ) from None


def joint_actions(cell: Cell, n_agents: int) -> Array:
    """``[actions, N]`` in ``[-1, 1]``, of all seeds."""
    rows: list[list[float]] = []
    for record in cell.records:
        if any(len(action) != n_agents for action in record.actions):
            raise ResultsError(
                f"{cell.file_of(record)}: an entry of 'actions' is not one number per agent; "
                "delete the file and run its suite again"
            )
        rows += record.actions
    return np.array(rows, float).reshape(len(rows), n_agents)


def plane(env: MaxOfThree) -> tuple[int, int]:
    """The two agents whose actions differ most between p and q: the axes of the slice."""
    distance = (env.q - env.p).abs().tolist()
    order = sorted(range(len(distance)), key=lambda i: -distance[i])
    first, second = sorted(order[:2])
    return first, second


def slice_actions(env: MaxOfThree, x: Array, y: Array) -> Array:
    """``[..., N]`` joint actions of the slice where the agents of :func:`plane` play ``x`` and
    ``y [...]``: the others stand on the line p-q, as far along it as these two are."""
    first, second = plane(env)
    p, q = env.p.numpy().astype(float), env.q.numpy().astype(float)
    gap = q - p
    along = (x - p[first]) * gap[first] + (y - p[second]) * gap[second]
    along = along / max(gap[first] ** 2 + gap[second] ** 2, 1e-9)
    action = np.clip(p + along[..., None] * gap, -10, 10)
    action[..., first], action[..., second] = x, y
    return action


def slice_text(env: MaxOfThree) -> str:
    first, second = plane(env)
    others = [str(i + 1) for i in range(env.spec.n_agents) if i not in (first, second)]
    agents = f"agent {others[0]} moves" if len(others) == 1 else f"agents {', '.join(others)} move"
    return (
        f"The reward is shown on a slice: {agents} along the straight line from p to q (dashed), "
        f"as far as agents {first + 1} and {second + 1} have come on it."
    )


def draw_game(axes: Axes, env: MaxOfThree, drawn: ContourSet | None = None) -> ContourSet:
    """Contours of the reward over the two agents of :func:`plane`, others on the line p-q.

    Args:
        drawn: what this drew of the same game in another panel, which is then only copied.
    """
    first, second = plane(env)
    p, q = env.p.tolist(), env.q.tolist()
    if drawn is None:
        side = np.linspace(-10, 10, SIDE)
        x, y = np.meshgrid(side, side)
        # The safe hill's top has the reward 0.
        levels = [k * env.config.height for k in (-4, -2, -1, -0.5, 0, 0.5, 1)]
        drawn = axes.contourf(
            x, y, reward(env, slice_actions(env, x, y)), levels, colors=SHADES, extend="min",
            antialiased=True,
        )  # fmt: skip
        drawn.set(edgecolor="0.55", linewidth=0.4)
    else:
        shades = PathCollection(
            drawn.get_paths(), facecolors=drawn.get_facecolor(), edgecolors="0.55", linewidths=0.4
        )
        axes.add_collection(shades, autolim=False)
    axes.plot([p[first], q[first]], [p[second], q[second]], "--", color="0.25", linewidth=0.6)
    for point in (p, q):
        axes.plot(point[first], point[second], "+", color="black", ms=6, mew=0.8)
    axes.set_xlim(-10, 10)
    axes.set_ylim(-10, 10)
    axes.set_xticks([-10, 0, 10])
    axes.set_yticks([-10, 0, 10])
    return drawn


def name_tops(axes: Axes, env: MaxOfThree, p: str, q: str) -> None:
    """Write ``p`` and ``q`` below the tops of the hills."""
    first, second = plane(env)
    for point, text in ((env.p.tolist(), p), (env.q.tolist(), q)):
        axes.annotate(
            text, (point[first], point[second]), (0, -5), textcoords="offset points", zorder=5,
            ha="center", va="top", linespacing=1.1, fontsize=style.SMALL, path_effects=[HALO],
        )  # fmt: skip


def reward(env: MaxOfThree, action: Array) -> Array:
    """``[...]`` rewards of joint actions ``[..., N]`` on the scale of p and q."""
    import torch

    tensor = torch.as_tensor(action / 10, dtype=torch.float64)
    rewards: Array = env.reward(tensor.unsqueeze(-1)).numpy()
    return rewards
