"""Two Modalities: a one-step game of two agents with two equal optima that must not be mixed.

With joint action ``a = 10 u``, ``u`` in ``[-1, 1]^2``, and the optima at ``(d, d)`` and
``(-d, -d)``, ``d = 5``::

    f0(a) = -0.8 (a_1^2 + a_2^2) / s1 - punishment max(0, -a_1 a_2) / d^2      the safe hill
    f1(a) = height - ((a_1 - d)^2 + (a_2 - d)^2) / s2                          the two optima,
    f2(a) = height - ((a_1 + d)^2 + (a_2 + d)^2) / s2                          both narrow
    reward = max(f0, f1, f2), shared by the team

The safe hill is broad, with height 0 in the centre. Where one agent goes for one optimum and its
partner for the other, at ``(d, -d)``, the reward is ``-1.6 d^2 / s1 - punishment``.

What it is made to show:

- **Perceived RO.** The optimal joint policy at a temperature, proportional to exp(reward/alpha),
  has half of its mass at each optimum. An agent that knows its partner's half of that policy, but
  not that it goes with its own action, believes in a partner that plays ``d`` or ``-d`` with equal
  chances. Beside it the safe action must be the best one, and is worth -6.67 by default, ``d``
  -11.67 and the best action on the way to ``d`` -7.28. So a belief about the others that ignores
  the own action, however right it is, makes a team over-generalize; one that depends on it does
  not.
- **Executed RO.** Agents that learn the joint policy and execute their halves of it on random
  numbers of their own mix the optima in half of the episodes.
- **Modes.** :meth:`TwoModalities.modes` are the two optima, and :meth:`~OneStepGame.mode` says
  which of them a joint action belongs to, so that it can be counted how many a policy holds.

A game is refused in which that does not hold, and one in which an agent alone gets from the centre
onto the hill of an optimum, for then the centre is not safe. An episode ends in the basin
``optimum`` on either optimum's hill, ``mixed`` where the agents are each nearer to an optimum than
to the centre, but to different ones, and ``safe`` elsewhere.

Source: a game of this name is the test of perceived RO in a later version of Sheng et al. (AAMAS
2025). Its formula is not known to us; this one is our own, made for the same purpose from the
hills of Max of Three.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor

from rocompare.api import EnvSpec
from rocompare.envs.base import EnvConfig, OneStepGame

D = 5.0
"""How far each agent's part of an optimum is from its safe action."""


class TwoModalities(OneStepGame):
    """``S x E`` copies of the game. Observation: a constant 0. Episodes last one step."""

    version = 1
    settable = ("s2", "s1", "punishment", "height")
    unit = 10.0

    class Config(EnvConfig):
        s2: float = Field(1.0, gt=0)
        """Width of the optima's hills: the smaller, the harder the game."""
        s1: float = Field(3.0, gt=0)
        """Width of the safe hill."""
        punishment: float = 20.0
        """What is subtracted where the agents go for different optima."""
        height: float = 10.0
        """Reward at the optima; in the centre it is 0."""

        @model_validator(mode="after")
        def _check_hills(self) -> TwoModalities.Config:
            if self.height <= 0:
                raise ValueError(
                    "height must be above 0, the reward of the safe hill's top, got "
                    f"{self.height:g}: else the optima are none"
                )
            if self.s2 * self.height >= D**2:
                raise ValueError(
                    "the optima's hills are too wide: an agent that leaves the centre alone gets "
                    f"{self.height - D**2 / self.s2:.4g} instead of 0, so it is not safe; s2 must "
                    f"be below {D**2 / self.height:.4g}"
                )
            own, worth, safe = self.beside_a_mixture()
            if worth >= safe:
                raise ValueError(
                    "punishment is too small, or the optima's hills are too wide: beside a partner "
                    f"that plays either optimum with equal chances the action {own / 10:.3g} is "
                    f"worth {worth:.4g}, the safe action {safe:.4g}, so nothing is safe about it"
                )
            return self

        def beside_a_mixture(self) -> tuple[float, float, float]:
            """The best action ``a_i`` towards an optimum beside a partner that plays d or -d with
            equal chances, its mean reward, and that of the safe action."""
            # The mean of f1(a, d) and f0(a, -d), which is concave in a, has its top where its
            # derivative (d - a) / s2 - 0.8 a / s1 - punishment / (2 d) is 0.
            slope = D / self.s2 - self.punishment / (2 * D)
            own = min(max(slope / (1 / self.s2 + 0.8 / self.s1), 0.0), 10.0)
            optimum = self.height - (own - D) ** 2 / self.s2
            mixed = -0.8 * (own**2 + D**2) / self.s1 - self.punishment * own / D
            safe = max(-0.8 * D**2 / self.s1, self.height - D**2 / self.s2)
            return own, (optimum + mixed) / 2, safe

    def describe(self) -> EnvSpec:
        return EnvSpec(
            n_agents=2,
            obs_dim=1,
            action_dim=1,
            horizon=1,
            optimal_return=self.config.height,
            safe_return=0.0,
            basins=("optimum", "safe", "mixed"),
            constant_obs=True,
        )

    def hills(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """The safe hill and the higher one of the optima's, each ``[...]``, of joint actions
        ``[..., 2, 1]`` in ``[-1, 1]``."""
        c, a = self.config, 10 * action.squeeze(-1)
        apart = (-a.prod(-1)).clamp(min=0) / D**2
        safe = -0.8 * a.square().sum(-1) / c.s1 - c.punishment * apart
        nearer = torch.where(a.sum(-1, keepdim=True) < 0, -D, D)
        return safe, c.height - (a - nearer).square().sum(-1) / c.s2

    def reward(self, action: Tensor) -> Tensor:
        return torch.maximum(*self.hills(action))

    def basin(self, action: Tensor) -> Tensor:
        safe, optimum = self.hills(action)
        a = 10 * action.squeeze(-1)
        mixed = (a.abs() > D / 2).all(-1) & (a.prod(-1) < 0)
        return torch.where(optimum > safe, 0, 1 + mixed.long())

    def modes(self) -> Tensor:
        return torch.tensor([[D / 10] * 2, [-D / 10] * 2], device=self.device).unsqueeze(-1)

    def safe(self) -> Tensor:
        return torch.zeros(2, 1, device=self.device)
