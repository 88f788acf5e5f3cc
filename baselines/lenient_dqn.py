"""Lenient DQN: lenient multi-agent deep Q-learning, for discrete actions as it was published.

Palmer, Tuyls, Bloembergen and Savani, "Lenient Multi-Agent Deep Reinforcement Learning", AAMAS
2018 (arXiv 1707.04402), and the authors' code (nui_in_madrl). Independent double DQNs forgive each
other's exploration: an outcome below the expected value counts little while the pair of state and
own action is still new. The loop::

    every step:    u_i = argmax Q_i(o_i, .), or uniform with probability epsilon; leniency
                   l_i = 1 - exp(-k min(T_i(phi(o_i), u_i), nu)); store (o, u, r, o', l)
    every episode: nu <- mu nu; from its last step, n = 0, to its first
                   T_i(phi(o_i), u_i) <- min(exp(rho d^n) T_i(phi(o_i), u_i), nu)
    every update:  agent i  delta_i = r + gamma Q_i'(o_i', argmax Q_i(o_i', .)) - Q_i(o_i, u_i);
                            descend delta_i^2, weighted by 1 - l_i where delta_i < 0
                   targets  follow with rate tau

So temperatures fall most near an episode's end, and those of its start only once the end is known
(the paper's retroactive temperature decay schedule). Every agent sees its own observation and
action only, in training too. ``baselines.lenient`` is the same idea for continuous actions.

Choices and deviations:

- The weight 1 - l is that of the authors' code; the paper ignores a disappointment with
  probability l, which is the same in expectation.
- phi are the signs of ``hash_bits`` random projections of the observation (SimHash), with random
  offsets; the paper's autoencoder before it is for images. A constant observation needs no bits.
- Exploration falls along a line with the budget, as for every algorithm here that learns values.
  The paper's choice by the temperatures (T-greedy) is left out, and so is its second network of
  temperatures for it.
- Temperatures fall from the first episode on. In the authors' code they wait until updates begin,
  and for an episode that did not fail.
- Feed-forward networks; targets follow by Polyak averaging; learning rates decay along a cosine.
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


class LenientDQN(api.Algorithm):
    version = 1
    actions = ("discrete",)

    class Config(discrete.ValueConfig):
        leniency_factor: Annotated[float, api.Search(0.5, 20)] = Field(5.0, ge=0)
        """The factor k in the leniency ``1 - exp(-k T)``. At 0 nothing is forgiven."""
        temperature_rate: Annotated[float, api.Search(1e-4, 0.1)] = Field(0.001, ge=0)
        """Minus the exponent rho: a last step's temperature falls by the factor ``exp(rho)``."""
        temperature_discount: float = Field(0.9, ge=0, le=1)
        """The factor d by which that exponent is less for each step farther from the end."""
        max_temperature_decay: float = Field(0.9998, gt=0, le=1)
        """The factor mu on the largest temperature, which is 1 at first, after each episode."""
        hash_bits: int = Field(12, gt=0, le=16)
        """Random projections whose signs tell observations apart. A constant observation needs
        none."""

    config: Config
    executes_with = ("q",)

    def __init__(
        self,
        spec: api.EnvSpec,
        config: LenientDQN.Config,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n_seeds, n, o = len(seeds), spec.n_agents, spec.obs_dim
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.q = discrete.networks(
            spec,
            n_seeds,
            (config.hidden, config.hidden),
            config.q_activation,
            init,
            share_parameters=config.share_parameters,
            output_scale=config.q_output_scale,
        )
        self.target_q = self.q.clone()
        self.q_adam = Adam(self.q, config.q_lr, config.max_grad_norm)
        self.replay = Replay(spec, config.buffer_size, seeds, device, {"leniency": (n,)})
        bits = 0 if spec.constant_obs else config.hash_bits
        self.projection = init.normal(n, o, bits)  # [S, N, O, bits]
        self.offset = init.normal(n, 1, bits)
        self.bit_value = spec.action_dim * 2 ** torch.arange(bits, device=device)
        self.temperature = torch.ones(n_seeds, n, spec.action_dim * 2**bits, device=device)
        self.max_temperature = torch.ones(n_seeds, device=device)
        # Of each step from an episode's last on, exp(rho d^n).
        step = torch.arange(spec.horizon, device=device)
        self.decay = torch.exp(-config.temperature_rate * config.temperature_discount**step)
        # What the running episodes visited; made when it is known how many there are.
        self.visited = torch.zeros(n_seeds, n, 0, spec.horizon, dtype=torch.long, device=device)
        self.age = torch.zeros(n_seeds, 0, dtype=torch.long, device=device)

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        with torch.no_grad():
            values = discrete.outputs(self.q, obs).transpose(1, 2)  # [S, E, N, A]
        if mode == "explore":
            return discrete.epsilon_greedy(values, self.config.epsilon(progress), self.explore)
        return discrete.greedy(values)

    def observe(self, transition: api.Transition) -> None:
        entry = self._entry(transition.obs, transition.action)  # [S, N, E]
        leniency = self._leniency(self.temperature.gather(2, entry))
        self.replay.add(transition, leniency=leniency.transpose(1, 2))
        self._cool(entry, transition.terminated | transition.truncated)

    def _entry(self, obs: Tensor, action: Tensor) -> Tensor:
        """Which entry of the table ``(phi(o_i), u_i)`` is: ``[S, N, E]``."""
        side = obs.transpose(1, 2) @ self.projection + self.offset > 0  # [S, N, E, bits]
        return (side * self.bit_value).sum(-1) + action.argmax(-1).transpose(1, 2)

    def _leniency(self, temperature: Tensor) -> Tensor:
        """``1 - exp(-k min(T, nu))`` of ``temperature [S, N, E]``."""
        bounded = torch.minimum(temperature, self.max_temperature[:, None, None])
        return 1 - torch.exp(-self.config.leniency_factor * bounded)

    def _cool(self, entry: Tensor, ended: Tensor) -> None:
        """Remember what was visited, and where an episode ended let its temperatures fall.

        Args:
            entry: ``[S, N, E]``
            ended: ``[S, E]`` bool
        """
        horizon = self.spec.horizon
        if not self.age.shape[1]:
            self.age = self.age.new_zeros(ended.shape)
            self.visited = self.visited.new_zeros(*entry.shape, horizon)
        at = self.age[:, None, :, None].expand(-1, entry.shape[1], -1, 1)
        self.visited = self.visited.scatter(3, at, entry.unsqueeze(3))
        last = self.age.unsqueeze(2)  # [S, E, 1]
        left = last - torch.arange(horizon, device=last.device)  # [S, E, T] steps to the end
        falls = (left >= 0) & ended.unsqueeze(2)
        factor = torch.where(falls, self.decay[left.clamp(min=0)], 1.0)
        fall = self.config.max_temperature_decay ** ended.sum(1)
        self.max_temperature = self.max_temperature * fall
        bound = torch.where(falls, self.max_temperature[:, None, None], 1.0)
        # An entry that was visited several times falls several times.
        for change, how in ((factor, "prod"), (bound, "amin")):
            each = change.unsqueeze(1).expand_as(self.visited)  # [S, N, E, T]
            self.temperature.scatter_reduce_(2, self.visited.flatten(2), each.flatten(2), how)
        # An episode is never longer than the horizon.
        self.age = torch.where(ended, 0, self.age + 1).clamp(max=horizon - 1)

    def update(self, progress: float) -> dict[str, Tensor]:
        c = self.config
        batch, extras = self.replay.sample_with(c.batch_size)
        td_loss = self._td_loss(batch, extras["leniency"])
        self.q_adam.step(td_loss, cosine(progress, c.lr_end_factor))
        self.target_q.follow(self.q, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _td_loss(self, batch: api.Batch, leniency: Tensor) -> Tensor:
        """Squared errors ``[S, N]``, the negative ones weighted by 1 - ``leniency [S, B, N]``."""
        delta = self._q_target(batch) - self._chosen(batch)
        weight = torch.where(delta < 0, 1 - leniency.transpose(1, 2), 1.0)
        return seed_mean(weight * delta.square(), keep=2)

    @torch.no_grad()
    def _q_target(self, batch: api.Batch) -> Tensor:
        """The double estimate, of every agent: ``[S, N, B]``."""
        best = discrete.greedy(discrete.outputs(self.q, batch.next_obs))
        next_q = discrete.chosen(discrete.outputs(self.target_q, batch.next_obs), best)
        discount = self.config.gamma * (1 - batch.terminated)
        return batch.reward.unsqueeze(1) + discount.unsqueeze(1) * next_q

    def _chosen(self, batch: api.Batch) -> Tensor:
        """Every agent's value of what it did: ``[S, N, B]``."""
        values = discrete.outputs(self.q, batch.obs)
        return discrete.chosen(values, batch.action.transpose(1, 2))

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """Replayed actions, each as often as its outcome counts (in games of one step)."""
        batch, extras = self.replay.sample_with(k, streams)
        below = batch.reward.unsqueeze(1) < self._chosen(batch)
        weight = torch.where(below, 1 - extras["leniency"].transpose(1, 2), 1.0)
        chance = weight.cumsum(-1)  # [S, N, K]
        row = torch.searchsorted(chance, streams.uniform(*below.shape[1:]) * chance[..., -1:])
        row = row.clamp_(max=k - 1)[..., None, None]
        joint = batch.action.unsqueeze(1).expand(-1, below.shape[1], -1, -1, -1)
        return joint.gather(2, row.expand_as(joint)).unsqueeze(2)
