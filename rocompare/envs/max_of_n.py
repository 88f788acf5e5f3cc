"""Max of N: Max of Three's formula for 2 to 10 agents, to see how an algorithm scales.

Every agent's safe action is -5 and its optimal one 5, as in the Max of Two game of Wei et al.
(2018), which is the game for N = 2. Squared distances are summed over agents and so grow with N;
the hills' widths grow alike, ``s1 N/2`` and ``s2 N/2``, which makes averages of the sums::

    f1(a) = 0.8 * -(2/N) sum_j (a_j + 5)^2 / s1
    f2(a) = height - (2/N) sum_j (a_j - 5)^2 / s2

Comparable is, for every N: the reward along the straight line from p to q, so where the optimum's
hill begins and how deep the valley before it is; the least and the largest reward in the box; and
the average reward of uniform joint actions on either hill. What N makes harder is what is to be
seen: a share of the reward 1/N for each agent's own action, N agents that have to leave the safe
hill together, and a share of random joint actions better than the safe hill's top that falls from
8 % (N = 2) to 0.008 % (N = 10).
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from rocompare.envs.base import EnvConfig
from rocompare.envs.max_of_three import MaxOfThree, check_hills


class MaxOfN(MaxOfThree):
    """Max of Three with ``n_agents`` agents of equal goals."""

    version = 1

    class Config(EnvConfig):
        n_agents: int = Field(2, ge=2, le=10)
        """How many agents play."""
        s2: float = Field(1.0, gt=0)
        """Width of the optimum's hill, for two agents."""
        s1: float = Field(3.0, gt=0)
        """Width of the safe hill, for two agents."""
        height: float = 10.0
        """Reward at the optimum; the safe hill's top has 0."""

        @model_validator(mode="after")
        def _check_hills(self) -> MaxOfN.Config:
            n = self.n_agents
            check_hills((-5.0,) * n, (5.0,) * n, self.s2, self.height, factor=n / 2)
            return self

    def prepare(self) -> None:
        c = self.config
        self.p = torch.full((c.n_agents,), -5.0, device=self.device)
        self.q = torch.full((c.n_agents,), 5.0, device=self.device)
        self.s1, self.s2 = c.s1 * c.n_agents / 2, c.s2 * c.n_agents / 2
