"""Independent Q-learning, hysteretic Q-learning and distributed Q-learning, with networks.

Every agent learns the values of its own actions as if it were alone. They differ in what a
disappointment is worth, that is an outcome below the value that was expected:

- ``iql``: as much as a pleasant surprise (``beta`` 1). Tan, "Multi-Agent Reinforcement Learning:
  Independent vs. Cooperative Agents", ICML 1993.
- ``hysteretic``: less (``beta`` between). Matignon, Laurent and Le Fort-Piat, "Hysteretic
  Q-Learning", IROS 2007; with networks Omidshafiei et al., ICML 2017 (arXiv 1703.06182).
- ``distributed_q``: nothing (``beta`` 0). Lauer and Riedmiller, "An Algorithm for Distributed
  Reinforcement Learning in Cooperative Multi-Agent Systems", ICML 2000. Exact in deterministic
  games; where rewards are drawn it believes the luckiest.

The loop::

    every step:   u_i = argmax Q_i(o_i, .), or uniform with probability epsilon; store (o, u, r, o')
    every update: agent i  delta_i = r + gamma max Q_i'(o_i', .) - Q_i(o_i, u_i); descend
                           delta_i^2, weighted by beta where delta_i < 0
                  targets  follow with rate tau

So with replay a value comes to rest at the expectile 1 / (1 + beta) of its outcomes. Every agent
sees its own observation and action only, in training too.

Deviations: feed-forward networks; targets follow by Polyak averaging instead of being copied;
learning rates decay along a cosine, and the networks' outputs are scaled, as for every algorithm
here. The maximum of the target network is taken, without a double estimate. Distributed Q-learning
also has agents change their policy only when a value rises, by which they settle on one of several
optima: with networks, whose values always move, there is no such rule. A network's value also rises
when others do that share its weights, and at ``beta`` 0 nothing takes that back: where values are
bootstrapped it adds up, so that ``distributed_q`` is one for games of one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn import discrete
from rocompare.learn.nn import Adam, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine


class HystereticQ(api.Algorithm):
    version = 1
    actions = ("discrete",)

    class Config(discrete.ValueConfig):
        beta: Annotated[float, api.Search(0.01, 0.5)] = Field(0.05, ge=0, le=1)
        """Weight of outcomes below the expected value; those above it have the weight 1."""

    config: Config
    executes_with = ("q",)

    def __init__(
        self,
        spec: api.EnvSpec,
        config: HystereticQ.Config,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        super().__init__(spec, config, seeds, device)
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.q = discrete.networks(
            spec,
            len(seeds),
            (config.hidden, config.hidden),
            config.q_activation,
            init,
            share_parameters=config.share_parameters,
            output_scale=config.q_output_scale,
        )
        self.target_q = self.q.clone()
        self.q_adam = Adam(self.q, config.q_lr, config.max_grad_norm)
        self.replay = Replay(spec, config.buffer_size, seeds, device)

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        with torch.no_grad():
            values = discrete.outputs(self.q, obs).transpose(1, 2)  # [S, E, N, A]
        if mode == "explore":
            return discrete.epsilon_greedy(values, self.config.epsilon(progress), self.explore)
        return discrete.greedy(values)

    def observe(self, transition: api.Transition) -> None:
        self.replay.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        c = self.config
        td_loss = self._td_loss(self.replay.sample(c.batch_size))
        self.q_adam.step(td_loss, cosine(progress, c.lr_end_factor))
        self.target_q.follow(self.q, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _td_loss(self, batch: api.Batch) -> Tensor:
        """Squared errors, the negative ones weighted by beta: ``[S, N]``."""
        delta = self._q_target(batch) - self._chosen(batch)
        weight = torch.where(delta < 0, self.config.beta, 1.0)
        return seed_mean(weight * delta.square(), keep=2)

    @torch.no_grad()
    def _q_target(self, batch: api.Batch) -> Tensor:
        """``r + gamma max Q'``, of every agent: ``[S, N, B]``."""
        next_q = discrete.outputs(self.target_q, batch.next_obs).amax(-1)
        discount = self.config.gamma * (1 - batch.terminated)
        return batch.reward.unsqueeze(1) + discount.unsqueeze(1) * next_q

    def _chosen(self, batch: api.Batch) -> Tensor:
        """Every agent's value of what it did: ``[S, N, B]``."""
        values = discrete.outputs(self.q, batch.obs)
        return discrete.chosen(values, batch.action.transpose(1, 2))

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """Replayed actions, each as often as its outcome counts (in games of one step)."""
        batch = self.replay.sample(k, streams)
        below = batch.reward.unsqueeze(1) < self._chosen(batch)
        chance = torch.where(below, self.config.beta, 1.0).cumsum(-1)  # [S, N, K]
        row = torch.searchsorted(chance, streams.uniform(*below.shape[1:]) * chance[..., -1:])
        row = row.clamp_(max=k - 1)[..., None, None]
        joint = batch.action.unsqueeze(1).expand(-1, below.shape[1], -1, -1, -1)
        return joint.gather(2, row.expand_as(joint)).unsqueeze(2)


class IQL(HystereticQ):
    """Independent Q-learning: a disappointment counts as much as a pleasant surprise."""

    class Config(HystereticQ.Config):
        beta: float = Field(1.0, ge=1, le=1)
        """Weight of outcomes below the expected value: 1, which makes it independent
        Q-learning."""


class DistributedQ(HystereticQ):
    """Distributed Q-learning: values never fall, so agents expect the best that they ever saw."""

    class Config(HystereticQ.Config):
        beta: float = Field(0.0, ge=0, le=0)
        """Weight of outcomes below the expected value: 0, which makes it distributed
        Q-learning."""
