"""Particle Gather: two particles must enter a landmark in the same step; alone is punished.

Two particles move in the square ``[-1, 1]^2``, with the landmark a disc of radius R at its
centre. Each particle's x and y are moved by an agent each, so four agents play, with scalar
actions ``u`` in ``[-1, 1]``::

    p <- clip(p + step * u, -1, 1)
    both within R in the same step:  win (5), the episode ends
    one alone within R:              penalty (-1), the episode ends
    neither:                         0; at the horizon the episode is cut off (truncation)

Agents 0 and 1 are the first particle's x and y, agents 2 and 3 the second's. All of them observe
where both particles stand relative to the landmark. An episode ends in the optimum's basin
(gathered: both entered), in the safe one (away: neither entered until the horizon) or ``alone``.

Source: Sheng et al. (AAMAS 2025), section 6. The extended abstract gives no formula: the rewards
here agree with its published returns, the geometry follows from what the task has to measure:

- Entering must not pay beside a partner that explores: this is relative over-generalization. A
  partner that moves uniformly enters a disc within its reach with probability
  ``q = pi R^2 / (4 step^2)``, less at a wall. Suppose that it does so in this step and plays safe
  afterwards. Then entering is worth ``win q + penalty (1 - q)`` and staying away, which leaves the
  partner to enter alone, ``penalty q``. Staying is the better one if and only if
  ``q < -penalty / (win - 2 penalty)``, with these rewards 1/7, which is ``R < 0.426 step``; other
  parameters are refused. ``R = 0.4 step`` leaves a margin: ``q = 0.126``, and averaged over the
  starts, where ``q`` is 0.107, entering is worth -0.355 and staying -0.107.
- So RO holds against a partner that plays safe after one step of exploring. It does not hold
  against one that explores until the episode ends: sooner or later that enters alone, so staying
  away all along returns -0.86, and entering at once, still -0.355, is the better answer.
- What fails must be the judgement of joint actions, not exploration: a replay buffer filled at
  random has to hold wins. Their share grows with the share of the arena that is within reach of
  the landmark, so a step is as long as fits: with 1, the centre can be reached from everywhere,
  both outcomes come in every sixth random step, and 0.7 % of random steps are wins. With steps of
  0.5 and R = 0.2, no less RO, it is 0.04 %.
- Starts are clear of the landmark by half a radius, so that standing still is safe, and in the
  reach of the landmark: the optimum is to enter at once, and takes one step. Where a step is
  shorter than that, it is to wait for each other outside and then to enter together. A horizon
  within which the particles cannot both get there is refused, for no policy returns ``win`` then.

``start: ring`` puts both particles at the same distance; with ``near < far`` the two kinds have
equal marginals. ``far < 1`` keeps starts off the walls. Shorter steps make it a task of
exploration as well.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from rocompare.api import EnvSpec, Step
from rocompare.envs.base import LAND, EnvConfig, Environment, draw_arena
from rocompare.learn.rng import Streams

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ParticleGather(Environment):
    """``S x E`` copies of the game. Observation: both particles' positions, ``(x, y, x, y)``."""

    version = 1

    settable = ("win", "penalty")
    movers = ("particle", "particle")
    """What stands at the places of :meth:`positions`."""

    class Config(EnvConfig):
        radius: float = Field(0.4, gt=0, lt=1)
        """R, the landmark's radius, in an arena that reaches from -1 to 1."""
        step: float = Field(1.0, gt=0, le=2)
        """How far an action of 1 moves a particle along its axis."""
        win: float = 5.0
        """Reward when both particles enter the landmark in the same step."""
        penalty: float = -1.0
        """Reward when one enters alone, below 0."""
        horizon: int = Field(25, gt=1)
        """Steps after which an episode is cut off."""
        start: Literal["uniform", "ring"] = "uniform"
        """Where episodes start: each particle uniform over the annulus of starts, or both at the
        same distance from the landmark."""
        near: float = Field(0.6, gt=0, le=1)
        """Inner radius of the annulus of starts, larger than the landmark's."""
        far: float = Field(1.0, gt=0, le=1)
        """Its outer radius; equal to ``near``, it makes a circle of the annulus."""

        @model_validator(mode="after")
        def _check_start(self) -> ParticleGather.Config:
            if not self.radius < self.near <= self.far:
                raise ValueError(
                    "episodes start outside the landmark: radius < near <= far is needed, got "
                    f"radius {self.radius:g}, near {self.near:g}, far {self.far:g}"
                )
            return self

        @model_validator(mode="after")
        def _check_returns(self) -> ParticleGather.Config:
            if self.win <= 0 or self.penalty >= 0:
                raise ValueError(
                    "win must be above 0 and penalty below it, else staying away is not what is "
                    f"safe, got win {self.win:g} and penalty {self.penalty:g}"
                )
            chance = math.pi * self.radius**2 / (4 * self.step**2)
            least = -self.penalty / (self.win - 2 * self.penalty)
            if chance >= least:
                raise ValueError(
                    "entering must not pay beside a partner that moves at random: that enters too "
                    f"with probability pi radius^2 / (4 step^2) = {chance:.4g}, which must be "
                    f"below -penalty / (win - 2 penalty) = {least:.4g}; lower radius or win, or "
                    "raise step or the punishment"
                )
            steps = math.floor((self.far - self.radius) / self.step) + 1
            if steps > self.horizon:
                raise ValueError(
                    f"it takes up to {steps} steps of {self.step:g} to reach the landmark, more "
                    f"than the horizon of {self.horizon}, so the optimum cannot be reached"
                )
            return self

    def __init__(
        self,
        config: ParticleGather.Config,
        seeds: Sequence[int],
        n_envs: int,
        stream: str = "env",
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.spec = EnvSpec(
            n_agents=4,
            obs_dim=4,
            action_dim=1,
            horizon=config.horizon,
            optimal_return=config.win,
            safe_return=0.0,
            basins=("optimum", "safe", "alone"),
            shared_obs=True,
        )
        self.starts = Streams(seeds, stream, device)
        self.position = torch.zeros(len(seeds), n_envs, 2, 2, device=device)  # particle, axis
        self.age = torch.zeros(len(seeds), n_envs, dtype=torch.long, device=device)

    def reset(self) -> Tensor:
        self.position, self.age = self._draw_starts(), torch.zeros_like(self.age)
        return self._observe(self.position)

    def step(self, action: Tensor) -> Step:
        c = self.config
        moved = (self.position + c.step * action.view_as(self.position)).clamp(-1, 1)
        inside = (moved.square().sum(-1) < c.radius**2).sum(-1)  # [S, E] particles, 0 to 2
        reward = c.penalty * (inside == 1) + c.win * (inside == 2)
        # Without this a NaN action would pass for staying away.
        reward = torch.where(moved.isfinite().all(-1).all(-1), reward, math.nan)
        terminated = inside > 0
        truncated = ~terminated & (self.age + 1 >= c.horizon)
        ended = terminated | truncated
        # Drawn for all environments: a seed's numbers must not depend on when others end.
        start = self._draw_starts()
        self.position = torch.where(ended[..., None, None], start, moved)
        self.age = torch.where(ended, 0, self.age + 1)
        return Step(
            obs=self._observe(self.position),
            next_obs=self._observe(moved),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            basin=1 + (inside == 1).long() - (inside == 2).long(),
        )

    def positions(self, obs: Tensor) -> Tensor:
        """``[S, E, N, O]`` -> where the particles stand, ``[S, E, 2, 2]``."""
        return obs[:, :, 0].unflatten(-1, (2, 2))

    def draw(self, ax: Axes) -> None:
        """Draw what does not move: the landmark, in an arena without ticks."""
        from matplotlib.patches import Circle

        disc = Circle((0, 0), self.config.radius, facecolor=LAND[-1], edgecolor="0.55")
        disc.set_linewidth(0.4)
        ax.add_patch(disc)
        draw_arena(ax)

    def fork(self, copies: int) -> ParticleGather:
        """``S x (E * copies)`` games as these stand, the copies of each side by side."""
        twin = copy.copy(self)  # no tensor is changed in place
        twin.position = self.position.repeat_interleave(copies, 1)
        twin.age = self.age.repeat_interleave(copies, 1)
        return twin

    def _draw_starts(self) -> Tensor:
        """Positions ``[S, E, 2, 2]``, uniform over the annulus of starts."""
        near, far = self.config.near, self.config.far
        n_envs = self.position.shape[1]
        area = self.starts.uniform(n_envs, 1 if self.config.start == "ring" else 2)
        angle = 2 * math.pi * self.starts.uniform(n_envs, 2)
        distance = (near**2 + (far**2 - near**2) * area).sqrt()
        return torch.stack([distance * angle.cos(), distance * angle.sin()], -1)

    def _observe(self, position: Tensor) -> Tensor:
        """``[S, E, 2, 2]`` -> ``[S, E, N, O]``, the same for every agent."""
        return position.flatten(2).unsqueeze(2).expand(-1, -1, 4, -1)

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "position": self.position,
            "age": self.age,
            "starts": self.starts.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.position, self.age = state["position"], state["age"]
        self.starts.load_state_dict(state["starts"])
