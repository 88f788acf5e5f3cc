"""The picture that explains relative over-generalization with Max of Three.

``python -m rocompare.analysis.plots.explain OUT.png`` writes it; README shows it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.patheffects import withStroke
from torch import Tensor

from rocompare.analysis.plots import style
from rocompare.analysis.plots.data import Array
from rocompare.analysis.plots.style import FIXED, GREY, Plot, Sheet
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.results import files


def picture() -> Plot:
    """Left, the game: a wide, safe hill at p and a narrow, higher one at q. Right, the reward that
    agent 1 sees for each of its own actions, averaged over what its partners do."""
    env = MaxOfThree(MaxOfThree.Config(s2=1.5), [0], 1)
    own, exploring, at_optimum = rewards_seen(env)
    halo = withStroke(linewidth=1.5, foreground="white", alpha=0.8)
    with style.drawing():
        sheet = Sheet(6.6, [2.2], 2, left=0.5, right=0.1, bottom=0.4, across=1.15)
        left, right = sheet.panel(0, 0), sheet.panel(0, 1)
        shades = env.draw(left, ("p: safe,\nreward 0", "q: optimum,\nreward 10"))
        width, height = sheet.size
        box = (0.6 + sheet.panel_width) / width, 0.4 / height, 0.08 / width, 2.2 / height
        sheet.figure.colorbar(shades, cax=sheet.figure.add_axes(box), label="reward")
        left.set_xlabel("action of agent 1")
        left.set_ylabel("action of agent 2")
        left.set_title("Two hills (agent 3 on the line p–q)")
        for value, color, dash, text, at in (
            (at_optimum, FIXED["svnr"][0], "--", "partners play the optimum:\n7 looks best", 3),
            (exploring, FIXED["maddpg"][0], "-", "partners act at random:\n−5 looks best", -23),
        ):
            right.plot(own, value, dash, color=color)
            right.plot(own[value.argmax()], value.max(), "o", color=color, ms=5)
            right.annotate(text, (-9.5, at), color=color, path_effects=[halo], zorder=5)
        for place, text, side in ((env.p[0], "safe", "left"), (env.q[0], "optimal", "right")):
            right.axvline(float(place), color=GREY, linestyle=":", linewidth=0.8, zorder=0)
            right.annotate(
                text, (float(place), -61), (3 if side == "left" else -3, 0), color=GREY,
                textcoords="offset points", ha=side,
            )  # fmt: skip
        right.set_xlim(-10, 10)
        right.set_xticks([-10, -5, 0, 5, 10])
        right.set_ylim(-62, 17)
        right.set_xlabel("agent 1's own action")
        right.set_ylabel("average reward")
        right.set_title("What agent 1 sees of its own action")
    return Plot("relative_overgeneralization", "Relative over-generalization", "", sheet.figure)


def rewards_seen(env: MaxOfThree) -> tuple[Array, Array, Array]:
    """Agent 1's own actions, and the average reward of each: while the two others explore
    uniformly, and when they play the optimum; ``[actions]`` each."""
    own = torch.linspace(-1, 1, 201, dtype=torch.float64)
    partner = torch.linspace(-1, 1, 101, dtype=torch.float64)
    second, third = torch.meshgrid(partner, partner, indexing="ij")
    exploring = [_rewards(env, action, second, third).mean() for action in own]
    q = env.modes()[0, :, 0].tolist()
    return (
        10 * own.numpy(),
        np.array(exploring),
        _rewards(env, own, torch.tensor(q[1]), torch.tensor(q[2])),
    )


def _rewards(env: MaxOfThree, *actions: Tensor) -> Array:
    """Of each agent's actions in ``[-1, 1]``, tensors of shapes that go together."""
    joint = torch.stack(torch.broadcast_tensors(*actions), -1).unsqueeze(-1)
    rewards: Array = env.reward(joint).numpy()
    return rewards


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m rocompare.analysis.plots.explain OUT.png")
    files.write_out(Path(sys.argv[1]), picture().render("png", dpi=150))
