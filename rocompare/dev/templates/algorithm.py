"""MyAlgorithm: say here what it does, and where it comes from.

As written, every agent imitates, with a network of its own, the actions that were rewarded::

    every step:   u_i = mu_i(o_i) + noise; execute u, store (o, u, r)
    every update: agent i  minimise sum_b w_b |mu_i(o_b) - u_ib|^2, w = softmax of the rewards r_b

Shapes: S seeds, E environments, B minibatch, N agents, O observation, A action. All seeds are
trained as one program: no operation may mix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn.nn import MLP, Adam, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine


class MyAlgorithm(api.Algorithm):
    version = 1  # raise it when results are no longer comparable

    class Config(api.OffPolicyConfig):
        noise: float = Field(0.3, ge=0)
        """Standard deviation of the exploration noise, in units of the action."""
        actor_lr: Annotated[float, api.Search(1e-3, 0.1)] = Field(0.01, gt=0)
        """Learning rate of the actors at the start; `rocompare tune` searches the range."""
        hidden: int = Field(64, gt=0)
        """Units in each of two hidden layers."""

    def __init__(
        self,
        spec: api.EnvSpec,
        config: MyAlgorithm.Config,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        super().__init__(spec, config, seeds, device)
        # Every seed has its own random numbers, one named stream for each purpose.
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        sizes = spec.obs_dim, config.hidden, config.hidden, spec.action_dim
        self.actor = MLP((len(seeds), spec.n_agents), sizes, "tanh", init)
        self.actor_adam = Adam(self.actor, config.actor_lr)
        self.replay = Replay(spec, config.buffer_size, seeds, device)

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        """``obs [S, E, N, O]`` -> ``action [S, E, N, A]`` in ``[-1, 1]``."""
        with torch.no_grad():
            action = self._policy(obs)
        if mode == "explore":
            noise = self.explore.normal(*action.shape[1:])
            action = (action + self.config.noise * noise).clamp(-1, 1)
        return action

    def observe(self, transition: api.Transition) -> None:
        """Remember what happened, ``[S, E, ...]``."""
        self.replay.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        """One step of learning; returns metrics ``[S]``, among which a NaN marks divergence."""
        batch = self.replay.sample(self.config.batch_size)
        loss = self._loss(batch)
        self.actor_adam.step(loss, cosine(progress, self.config.lr_end_factor))
        return {"loss": loss.detach().mean(1)}

    def _loss(self, batch: api.Batch) -> Tensor:
        """Squared distance to the replayed actions, the rewarded ones before all: ``[S, N]``."""
        weight = torch.softmax(batch.reward, 1)  # [S, B]
        distance = (self._policy(batch.obs) - batch.action).square().sum(-1)  # [S, B, N]
        return seed_mean((weight.unsqueeze(-1) * distance).transpose(1, 2), keep=2)

    def _policy(self, obs: Tensor) -> Tensor:
        # Networks are indexed by seed and agent: [S, N, B, ...] inside, [S, B, N, ...] outside.
        return torch.tanh(self.actor(obs.transpose(1, 2))).transpose(1, 2)
