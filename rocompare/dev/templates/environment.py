"""MyEnvironment: say here what is played, and where it comes from.

As written, a game of one step for two agents with actions ``u`` in ``[-1, 1]``::

    safe     -(u_1 + 0.5)^2 - (u_2 + 0.5)^2                     wide, of height 0
    optimum  1 - steepness ((u_1 - 0.5)^2 + (u_2 - 0.5)^2)      narrow, of height 1
    reward   the larger of the two, shared by the team

An agent that moves to the optimum alone is punished: relative over-generalization. A game of
several steps extends ``rocompare.envs.base.Environment`` instead, and has a ``reset`` and a
``step`` of its own: ``rocompare/envs/particle_gather.py`` shows how.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rocompare.api import EnvSpec
from rocompare.envs.base import EnvConfig, OneStepGame


class MyEnvironment(OneStepGame):
    version = 1  # raise it when results are no longer comparable
    settable = ("steepness",)  # what a curriculum may change while agents learn

    class Config(EnvConfig):
        steepness: float = Field(20.0, gt=0)
        """Of the optimum's hill: the larger, the harder the game."""

    def describe(self) -> EnvSpec:
        return EnvSpec(
            n_agents=2,
            obs_dim=1,
            action_dim=1,
            horizon=1,
            optimal_return=1.0,
            safe_return=0.0,
            basins=("optimum", "safe"),
            constant_obs=True,
        )

    def hills(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Heights ``[...]`` of the safe hill and of the optimum's, at ``action [..., N, 1]``."""
        u = action.squeeze(-1)
        safe = -(u + 0.5).square().sum(-1)
        optimum = 1 - self.config.steepness * (u - 0.5).square().sum(-1)
        return safe, optimum

    def reward(self, action: Tensor) -> Tensor:
        return torch.maximum(*self.hills(action))

    def basin(self, action: Tensor) -> Tensor:
        safe, optimum = self.hills(action)
        return (~(optimum > safe)).long()  # an index into spec.basins; of NaN never the optimum's

    def modes(self) -> Tensor:
        return torch.tensor([[[0.5], [0.5]]], device=self.device)

    def safe(self) -> Tensor:
        return torch.tensor([[-0.5], [-0.5]], device=self.device)
