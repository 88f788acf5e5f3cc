"""Discrete actions: networks with one output per action, and choices as one-hot rows.

Every agent has a network of its own unless parameters are shared; then all use one, which sees the
agent's number, one-hot, beside the observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from rocompare import api
from rocompare.learn.nn import MLP, Activation
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import linear


class ValueConfig(api.OffPolicyConfig):
    """What algorithms have in common that learn the values of discrete actions."""

    epsilon_start: float = Field(1.0, ge=0, le=1)
    """Probability with which an agent explores, by an action drawn uniformly, at the start."""
    epsilon_end: Annotated[float, api.Search(0.01, 0.2)] = Field(0.05, ge=0, le=1)
    """The same from ``epsilon_end_fraction`` on."""
    epsilon_end_fraction: Annotated[float, api.Search(0.3, 0.95, log=False)] = Field(
        0.8, gt=0, le=1
    )
    """Share of the budget at which the linear fall of the exploration ends."""
    q_lr: Annotated[float, api.Search(3e-4, 0.03)] = Field(0.003, gt=0)
    """Learning rate of the networks of values at the start."""
    max_grad_norm: float = Field(10.0, gt=0)
    """Largest norm of a seed's gradient, over all agents' networks of a kind; a longer gradient
    is shortened to it."""
    hidden: int = Field(64, gt=0)
    """Units in each of a network's two hidden layers."""
    q_activation: Activation = "relu"
    """Activation of the hidden layers."""
    q_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)
    """Factor on a network's output, in units of reward: about the size of the returns."""
    share_parameters: bool = False
    """All agents use one network, which also sees the agent's number."""

    def epsilon(self, progress: float) -> float:
        """Probability of exploring when ``progress`` of the budget is used."""
        return linear(
            progress, self.epsilon_start, self.epsilon_end, 0.0, self.epsilon_end_fraction
        )


def networks(
    spec: api.EnvSpec,
    n_seeds: int,
    hidden: Sequence[int],
    activation: Activation,
    streams: Streams,
    *,
    share_parameters: bool,
    output_scale: float = 1.0,
) -> MLP:
    """Every agent's network from its own observation to one number per action, for
    :func:`outputs`."""
    groups = (n_seeds,) if share_parameters else (n_seeds, spec.n_agents)
    inputs = spec.obs_dim + (spec.n_agents if share_parameters else 0)
    sizes = inputs, *hidden, spec.action_dim
    return MLP(groups, sizes, activation, streams, output_scale=output_scale)


def outputs(net: MLP, obs: Tensor) -> Tensor:
    """Of :func:`networks`, for every agent's own observation: ``[S, B, N, O] -> [S, N, B, A]``."""
    own = obs.transpose(1, 2)  # [S, N, B, O]
    if len(net.groups) == 1:
        n = own.shape[1]
        number = torch.eye(n, device=own.device)[:, None].expand(*own.shape[:-1], n)
        own = torch.cat([own, number], -1)
    return net(own)


def chosen(values: Tensor, action: Tensor) -> Tensor:
    """Values ``[..., A]`` at the one-hot ``action [..., A]``: ``[...]``."""
    return (values * action).sum(-1)


def greedy(values: Tensor) -> Tensor:
    """The action with the largest of ``values [..., A]``, the first of equals, one-hot."""
    return one_hot(values.argmax(-1), values.shape[-1]).to(values.dtype)


def epsilon_greedy(values: Tensor, epsilon: float, streams: Streams) -> Tensor:
    """The greedy action for ``values [S, ..., A]``, or with probability ``epsilon`` one drawn
    uniformly, one-hot ``[S, ..., A]``."""
    _, *items, n_actions = values.shape
    explores = streams.uniform(*items) < epsilon
    index = torch.where(explores, streams.index(n_actions, *items), values.argmax(-1))
    return one_hot(index, n_actions).to(values.dtype)


def draw(logits: Tensor, streams: Streams) -> Tensor:
    """An action with the probabilities ``softmax(logits [S, ..., A])``, one-hot ``[S, ..., A]``.

    By the largest of ``logits`` plus Gumbel noise, so that every seed uses its own numbers.
    """
    return greedy(logits - (-streams.uniform(*logits.shape[1:]).log()).log())
