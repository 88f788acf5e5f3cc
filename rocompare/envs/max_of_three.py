"""Max of Three: a one-step game whose narrow optimum stands beside a broad, safe hill.

With joint action ``a = 10 u``, ``u`` in ``[-1, 1]^N``::

    f1(a) = 0.8 * -sum_j (a_j - p_j)^2 / s1         the safe hill: height 0, wide
    f2(a) = height - sum_j (a_j - q_j)^2 / s2       the optimum: narrow, the more so the smaller s2
    reward = max(f1, f2), shared by the team

An agent that moves towards ``q`` alone leaves the safe hill and is punished, so agents that judge
an action by its average over exploring partners settle at ``p``: relative over-generalization.
``len(q)`` agents play; with two of them this is the Max of Two game of Wei et al. (2018).

The game is refused where an agent alone gets from ``p`` onto the optimum's hill: then ``p`` is no
equilibrium, and nothing holds the team there. That includes an optimum's hill so wide that it
covers ``p``, and ``p = q``. With the default ``p`` and ``q`` it takes ``s2 < 18``.

Source: Sheng et al. (AAMAS 2025), section 6; the extended abstract gives no formula, this one is
that of the first author's public code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from rocompare.api import EnvSpec
from rocompare.envs.base import EnvConfig, OneStepGame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

Point = Annotated[
    tuple[Annotated[float, Field(ge=-10, le=10)], ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


class MaxOfThree(OneStepGame):
    """``S x E`` copies of the game. Observation: a constant 0. Episodes last one step."""

    version = 1
    settable = ("s2", "s1", "height")
    unit = 10.0

    class Config(EnvConfig):
        s2: float = Field(3.0, gt=0)
        """Width of the optimum's hill: the smaller, the harder the game."""
        s1: float = Field(3.0, gt=0)
        """Width of the safe hill."""
        p: Point = (-5.0, -5.0, 3.0)
        """Top of the safe hill, a number in [-10, 10] per agent; the reward there is 0."""
        q: Point = (7.0, 7.0, -3.0)
        """The optimum, a number in [-10, 10] per agent."""
        height: float = 10.0
        """Reward at the optimum."""

        @model_validator(mode="after")
        def _check_hills(self) -> MaxOfThree.Config:
            if len(self.p) != len(self.q):
                raise ValueError(
                    f"p and q need one entry per agent each, got {len(self.p)} and {len(self.q)}"
                )
            check_hills(self.p, self.q, self.s2, self.height)
            return self

    def prepare(self) -> None:
        c = self.config
        self.p = torch.tensor(c.p, device=self.device)
        self.q = torch.tensor(c.q, device=self.device)
        self.s1, self.s2 = c.s1, c.s2

    def describe(self) -> EnvSpec:
        return EnvSpec(
            n_agents=len(self.q),
            obs_dim=1,
            action_dim=1,
            horizon=1,
            optimal_return=self.config.height,
            safe_return=0.0,
            basins=("optimum", "safe"),
            constant_obs=True,
        )

    def hills(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """``(f1, f2)``, each ``[...]``, of joint actions ``[..., N, 1]`` in ``[-1, 1]``."""
        a = 10 * action.squeeze(-1)
        f1 = -0.8 * (a - self.p).square().sum(-1) / self.s1
        f2 = self.config.height - (a - self.q).square().sum(-1) / self.s2
        return f1, f2

    def reward(self, action: Tensor) -> Tensor:
        return torch.maximum(*self.hills(action))

    def basin(self, action: Tensor) -> Tensor:
        """``[...]`` which hill a joint action stands on: 0 the optimum's, 1 the safe one."""
        f1, f2 = self.hills(action)
        return (~(f2 > f1)).long()  # NaN is never the optimum's

    def modes(self) -> Tensor:
        return (self.q / 10).view(1, -1, 1)

    def safe(self) -> Tensor:
        return (self.p / 10).unsqueeze(-1)

    def plane(self) -> tuple[int, int]:
        """The two agents whose actions differ most between p and q."""
        distance = (self.q - self.p).abs().tolist()
        first, second = sorted(sorted(range(len(distance)), key=lambda i: -distance[i])[:2])
        return first, second

    def slice(self, x: Tensor, y: Tensor) -> Tensor:
        """The agents beside those of :meth:`plane` stand on the straight line from p to q, as far
        along it as these two are: so the slice holds both tops."""
        pair = list(self.plane())
        p, q = self.safe().to(x), self.modes()[0].to(x)
        gap = q - p  # [N, 1]
        xy = torch.stack([x, y], -2)  # [..., 2, 1]
        along = ((xy - p[pair]) * gap[pair]).sum(-2) / gap[pair].square().sum()
        joint = (p + along.unsqueeze(-2) * gap).clamp(-1, 1)
        joint[..., pair, :] = xy
        return joint

    def slice_text(self) -> str:
        first, second = self.plane()
        others = [str(i + 1) for i in range(self.spec.n_agents) if i not in (first, second)]
        if not others:
            return ""
        agents = (
            f"agent {others[0]} moves" if len(others) == 1 else f"agents {', '.join(others)} move"
        )
        return (
            f"The reward is shown on a slice: {agents} along the straight line from p to q "
            f"(dashed), as far as agents {first + 1} and {second + 1} have come on it."
        )

    def draw(self, ax: Axes, names: tuple[str, str] | None = None) -> ScalarMappable:
        """As :meth:`OneStepGame.draw`, with the straight line from p to q, dashed."""
        ends = self.on_axes(torch.stack([self.safe(), self.modes()[0]])).cpu()
        ax.plot(*ends.T, "--", color="0.25", linewidth=0.6)
        return super().draw(ax, names)


def check_hills(
    p: tuple[float, ...], q: tuple[float, ...], s2: float, height: float, factor: float = 1.0
) -> None:
    """Whether ``p`` is a safe behaviour beside the optimum ``q``; a ``ValueError`` if not.

    Args:
        factor: of the optimum's width, which is ``s2 * factor``.
    """
    if len(p) < 2:
        raise ValueError("one agent has no others to over-generalize to: two or more are needed")
    if height <= 0:
        raise ValueError(
            f"height must be above 0, the reward of the safe hill's top, got {height:g}: else q is "
            "not the optimum"
        )
    squares = [(there - here) ** 2 for here, there in zip(p, q, strict=True)]
    others = sum(squares) - max(squares)
    if others == 0:
        raise ValueError(
            "p and q must differ for two agents or more: else the safe behaviour is the optimal "
            "one, or an agent gets from one to the other alone"
        )
    alone = height - others / (s2 * factor)
    if alone >= 0:
        raise ValueError(
            f"the optimum's hill is too wide: an agent that leaves p alone for its part of q gets "
            f"{alone:.4g} instead of 0, so p is not safe; s2 must be below "
            f"{others / (height * factor):.4g}"
        )
