"""VDN and QMIX: a joint value that is mixed from the agents' values.

Every agent acts greedily on values of its own actions. They are trained together, by the error of
the joint value Q_tot that is mixed from the values of what the agents did:

- ``vdn``: by adding them. Sunehag et al., "Value-Decomposition Networks for Cooperative
  Multi-Agent Learning", AAMAS 2018 (arXiv 1706.05296).
- ``qmix``: by a network that increases in each of them, and whose weights another network makes
  from the state. Rashid et al., "QMIX: Monotonic Value Function Factorisation for Deep Multi-Agent
  Reinforcement Learning", ICML 2018 (arXiv 1803.11485).

The loop::

    every step:   u_i = argmax Q_i(o_i, .), or uniform with probability epsilon; store (o, u, r, o')
    every update: y = r + gamma Q_tot'(s', argmax Q_1(o_1', .), .., argmax Q_N(o_N', .))
                  descend (Q_tot(s, u) - y)^2 in all agents' networks and in the mixer's
                  targets follow with rate tau

So the joint greedy action is every agent's own greedy one, and an action that is best in one
company and worst in another cannot be represented. Where the two occur, agents over-generalize.

Choices and deviations: feed-forward networks; parameters are not shared unless
``share_parameters``; the state is the observations of all agents; one network with a hidden layer
makes all of the mixer's weights, where the authors' code has one for each; targets follow by
Polyak averaging instead of being copied; learning rates decay along a cosine, and the networks'
outputs are scaled, as for every algorithm here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn import discrete, mixing
from rocompare.learn.nn import Adam, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine


class VDN(api.Algorithm):
    """Value decomposition: the joint value is the sum of the agents' values."""

    version = 1
    actions = ("discrete",)
    Config = discrete.ValueConfig
    config: Any
    executes_with = ("q",)

    def __init__(
        self, spec: api.EnvSpec, config: Any, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        self.init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.q = discrete.networks(
            spec,
            len(seeds),
            (config.hidden, config.hidden),
            config.q_activation,
            self.init,
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
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        td_loss = self._td_loss(self.replay.sample(c.batch_size))
        self._descend(td_loss, lr_factor)
        self.target_q.follow(self.q, c.tau)
        return {"td_loss": td_loss.detach()}

    def _descend(self, loss: Tensor, lr_factor: float) -> None:
        self.q_adam.step(loss, lr_factor)

    def _td_loss(self, batch: api.Batch) -> Tensor:
        """Squared errors of the joint value: ``[S]``."""
        q = discrete.chosen(discrete.outputs(self.q, batch.obs), batch.action.transpose(1, 2))
        return seed_mean((self._mix(batch.obs, q) - self._q_target(batch)).square())

    @torch.no_grad()
    def _q_target(self, batch: api.Batch) -> Tensor:
        """``r + gamma Q_tot'`` of what the agents would do next: ``[S, B]``."""
        best = discrete.greedy(discrete.outputs(self.q, batch.next_obs))
        next_q = discrete.chosen(discrete.outputs(self.target_q, batch.next_obs), best)
        next_q_tot = self._mix(batch.next_obs, next_q, target=True)
        return batch.reward + self.config.gamma * (1 - batch.terminated) * next_q_tot

    def _mix(self, obs: Tensor, q: Tensor, target: bool = False) -> Tensor:
        """The joint value ``[S, B]`` of the agents' ``q [S, N, B]`` at ``obs [S, B, N, O]``."""
        return q.sum(1)


class QMIX(VDN):
    """The joint value is a monotone function of the agents' values that depends on the state."""

    class Config(discrete.ValueConfig):
        mixer_units: int = Field(32, gt=0)
        """Units of the mixing network's hidden layer."""
        mixer_hidden: int = Field(64, gt=0)
        """Units of the hidden layer of the network that makes the mixing network's weights."""

    def __init__(
        self, spec: api.EnvSpec, config: Any, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        self.mixer = mixing.mixer(
            spec, len(seeds), config.mixer_units, config.mixer_hidden, "relu", self.init
        )
        self.target_mixer = self.mixer.clone()
        self.mixer_adam = Adam(self.mixer, config.q_lr, config.max_grad_norm)

    def update(self, progress: float) -> dict[str, Tensor]:
        metrics = super().update(progress)
        self.target_mixer.follow(self.mixer, self.config.tau)
        return metrics

    def _descend(self, loss: Tensor, lr_factor: float) -> None:
        flats = self.q.flat, self.mixer.flat
        q_grad, mixer_grad = torch.autograd.grad(loss.sum(), flats)
        self.q_adam.apply(q_grad, lr_factor)
        self.mixer_adam.apply(mixer_grad, lr_factor)

    def _mix(self, obs: Tensor, q: Tensor, target: bool = False) -> Tensor:
        net = self.target_mixer if target else self.mixer
        return mixing.mix(net, obs, q, self.config.q_output_scale)
