"""Max of Three: a one-step game whose narrow optimum stands beside a broad, safe hill.

With joint action ``a = 10 u``, ``u`` in ``[-1, 1]^N``::

    f1(a) = 0.8 * -sum_j (a_j - p_j)^2 / s1         the safe hill: height 0, wide
    f2(a) = height - sum_j (a_j - q_j)^2 / s2       the optimum: narrow, the more so the smaller s2
    reward = max(f1, f2), shared by the team

An agent that moves towards ``q`` alone leaves the safe hill and is punished, so agents that judge
an action by its average over exploring partners settle at ``p``: relative over-generalization.
``len(q)`` agents play; with two of them this is the Max of Two game of Wei et al. (2018).

Source: Sheng et al. (AAMAS 2025), section 6; the extended abstract gives no formula, this one is
that of the first author's public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import Tensor

from rocompare.api import EnvSpec, Step

Point = Annotated[
    tuple[Annotated[float, Field(ge=-10, le=10)], ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


class MaxOfThree:
    """``S x E`` copies of the game. Observation: a constant 0. Episodes last one step."""

    version = 1

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

        s2: float = Field(3.0, gt=0)
        """Width of the optimum's hill."""
        s1: float = Field(3.0, gt=0)
        """Width of the safe hill."""
        p: Point = Field((-5.0, -5.0, 3.0), min_length=1)
        """Where the safe hill stands."""
        q: Point = Field((7.0, 7.0, -3.0), min_length=1)
        """Where the optimum stands; one entry per agent."""
        height: float = Field(10.0, gt=0)
        """Reward at ``q``; the reward at ``p`` is 0."""

        @model_validator(mode="after")
        def _check_lengths(self) -> MaxOfThree.Config:
            if len(self.p) != len(self.q):
                raise ValueError(
                    f"p and q need one entry per agent each, got {len(self.p)} and {len(self.q)}"
                )
            return self

    def __init__(
        self,
        config: MaxOfThree.Config,
        seeds: Sequence[int],
        n_envs: int,
        stream: str = "env",
        device: torch.device | str = "cpu",
    ) -> None:
        # The game draws no random numbers, so ``stream`` goes unused.
        self.config = config
        self.spec = EnvSpec(
            n_agents=len(config.q),
            obs_dim=1,
            action_dim=1,
            horizon=1,
            optimal_return=config.height,
            safe_return=0.0,
            basins=("optimum", "safe"),
            constant_obs=True,
        )
        self.p = torch.tensor(config.p, device=device)
        self.q = torch.tensor(config.q, device=device)
        shape = (len(seeds), n_envs, self.spec.n_agents, 1)
        self.obs = torch.zeros(1, device=device).expand(shape)
        self.ended = torch.ones(1, dtype=torch.bool, device=device).expand(shape[:2])

    def hills(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """``(f1, f2)``, each ``[...]``, of joint actions ``[..., N, 1]`` in ``[-1, 1]``."""
        a = 10 * action.squeeze(-1)
        f1 = -0.8 * (a - self.p).square().sum(-1) / self.config.s1
        f2 = self.config.height - (a - self.q).square().sum(-1) / self.config.s2
        return f1, f2

    def reward(self, action: Tensor) -> Tensor:
        """``[...]`` rewards of joint actions ``[..., N, 1]`` in ``[-1, 1]``."""
        return torch.maximum(*self.hills(action))

    def basin(self, action: Tensor) -> Tensor:
        """``[...]`` which hill a joint action stands on: 0 the optimum's, 1 the safe one."""
        f1, f2 = self.hills(action)
        return (~(f2 > f1)).long()  # NaN is never the optimum's

    def reset(self) -> Tensor:
        return self.obs

    def step(self, action: Tensor) -> Step:
        return Step(
            obs=self.obs,
            next_obs=self.obs,
            reward=self.reward(action),
            terminated=self.ended,
            truncated=~self.ended,
            basin=self.basin(action),
        )

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state
