"""What on-policy algorithms learn from: the newest steps in their order, and advantages of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rocompare.api import Transition


class Rollout:
    """Transitions of ``steps`` environment steps in a row, which are learnt from once.

    Args:
        steps: how many steps T make a rollout.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.kept: list[Transition] = []

    def add(self, transition: Transition) -> None:
        self.kept.append(transition)

    def full(self) -> bool:
        return len(self.kept) >= self.steps

    def take(self) -> Transition:
        """All that was added, ``[S, T, E, ...]`` each; the rollout is empty then."""
        parts = [torch.stack(part, 1) for part in zip(*self.kept, strict=True)]
        self.kept = []
        return Transition(*parts)

    def state_dict(self) -> dict[str, Any]:
        # Copies: observations that are the same everywhere are views of a single number.
        return {"kept": [[part.clone() for part in step] for step in self.kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = [Transition(*step) for step in state["kept"]]


@torch.no_grad()
def gae(
    rollout: Transition, value: Tensor, next_value: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al., ICLR 2016, eq. 16): ``[S, T, E]``.

    Where an episode was cut off its last value is bootstrapped, and no later error counts.

    Args:
        rollout: ``[S, T, E, ...]``
        value: ``[S, T, E]`` of what was acted on.
        next_value: ``[S, T, E]`` of what was reached, before a reset.
        gae_lambda: weight of longer estimates: 0 takes one step, 1 the whole return.
    """
    goes_on = ~rollout.terminated
    error = rollout.reward + gamma * torch.where(goes_on, next_value, 0.0) - value
    weight = gamma * gae_lambda * (goes_on & ~rollout.truncated)
    advantage = torch.empty_like(error)
    following = torch.zeros_like(error[:, 0])
    for t in range(error.shape[1] - 1, -1, -1):
        following = error[:, t] + weight[:, t] * following
        advantage[:, t] = following
    return advantage


@torch.no_grad()
def n_step_returns(rollout: Transition, next_value: Tensor, gamma: float, n: int) -> Tensor:
    """Discounted rewards of up to ``n`` steps and the value of what they lead to.

    Fewer steps where the episode or the rollout is over before.

    Args:
        rollout: ``[S, T, E, ...]``
        next_value: ``[..., S, T, E]`` of what was reached, before a reset.

    Returns:
        ``[..., S, T, E]``
    """
    over = rollout.truncated.clone()
    over[:, -1] = True
    following = next_value
    for _ in range(n):
        returns = rollout.reward + gamma * torch.where(rollout.terminated, 0.0, following)
        # What follows a step is the return, of a step less, from the next one on.
        following = torch.where(over, next_value, returns.roll(-1, -2))
    return returns
