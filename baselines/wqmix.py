"""Weighted QMIX: a monotone joint value that is fitted where it matters.

Rashid, Farquhar, Peng and Whiteson, "Weighted QMIX: Expanding Monotonic Value Function
Factorisation for Deep Multi-Agent Reinforcement Learning", NeurIPS 2020 (arXiv 2006.10800). QMIX
spreads the error that monotone mixing must make over all joint actions, also over the punished ones
next to the optimum. Here an unrestricted joint value Q* says what joint actions are worth, and
Q_tot is fitted to it with small weights where another joint action than the best is overestimated::

    every step:   u_i = argmax Q_i(o_i, .), or uniform with probability epsilon; store (o, u, r, o')
    every update: u~ = (argmax Q_1(o_1, .), .., argmax Q_N(o_N, .)), the greedy joint action
                  y = r + gamma Q*'(s', u~')
                  descend w (Q_tot(s, u) - y)^2 + (Q*(s, u) - y)^2
                  the target Q*' follows with rate tau
    ``cw_qmix``, centrally weighted:     w = 1 if u = u~ or y > Q*'(s, u~), else alpha
    ``ow_qmix``, optimistically:         w = 1 if Q_tot(s, u) < y, else alpha

Q_tot is QMIX's monotone mixture of the agents' values. In execution every agent acts on its own.

Choices and deviations: Q* is one network that sees the state and the joint action, where the
authors' mixes values of further agents' networks without a monotone form; the state is the
observations of all agents; feed-forward networks; parameters are not shared unless
``share_parameters``; one network with a hidden layer makes all of the mixer's weights; targets
follow by Polyak averaging instead of being copied; learning rates decay along a cosine, and the
networks' outputs are scaled, as for every algorithm here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn import discrete, mixing
from rocompare.learn.nn import MLP, Adam, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine


class _WeightedQMIX(api.Algorithm):
    version = 1
    actions = ("discrete",)

    class Config(discrete.ValueConfig):
        alpha: Annotated[float, api.Search(0.01, 0.9)] = Field(0.1, gt=0, le=1)
        """Weight of errors that matter less; at 1 the joint value is fitted as QMIX's."""
        mixer_units: int = Field(32, gt=0)
        """Units of the mixing network's hidden layer."""
        mixer_hidden: int = Field(64, gt=0)
        """Units of the hidden layer of the network that makes the mixing network's weights."""

    config: Any
    executes_with = ("q",)

    def __init__(
        self, spec: api.EnvSpec, config: Any, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n_seeds, n, h = len(seeds), spec.n_agents, config.hidden
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.q = discrete.networks(
            spec,
            n_seeds,
            (h, h),
            config.q_activation,
            init,
            share_parameters=config.share_parameters,
            output_scale=config.q_output_scale,
        )
        self.mixer = mixing.mixer(
            spec, n_seeds, config.mixer_units, config.mixer_hidden, "relu", init
        )
        self.central = MLP(
            (n_seeds,),
            (n * (spec.obs_dim + spec.action_dim), h, h, 1),
            config.q_activation,
            init,
            output_scale=config.q_output_scale,
        )
        self.target_central = self.central.clone()
        self.q_adam = Adam(self.q, config.q_lr, config.max_grad_norm)
        self.mixer_adam = Adam(self.mixer, config.q_lr, config.max_grad_norm)
        self.central_adam = Adam(self.central, config.q_lr, config.max_grad_norm)
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
        adams = self.q_adam, self.mixer_adam, self.central_adam
        grads = torch.autograd.grad(td_loss.sum(), [adam.mlp.flat for adam in adams])
        for adam, grad in zip(adams, grads, strict=True):
            adam.apply(grad, lr_factor)
        self.target_central.follow(self.central, c.tau)
        return {"td_loss": td_loss.detach()}

    def _td_loss(self, batch: api.Batch) -> Tensor:
        """Squared errors of both joint values, Q_tot's weighted: ``[S]``."""
        values = discrete.outputs(self.q, batch.obs)  # [S, N, B, A]
        q = discrete.chosen(values, batch.action.transpose(1, 2))
        q_tot = mixing.mix(self.mixer, batch.obs, q, self.config.q_output_scale)
        q_star = self._joint_value(self.central, batch.obs, batch.action)
        target = self._q_target(batch)
        with torch.no_grad():
            matters = self._matters(batch, values, q_tot, target)
            weight = torch.where(matters, 1.0, self.config.alpha)
        return seed_mean(weight * (q_tot - target).square() + (q_star - target).square())

    @torch.no_grad()
    def _q_target(self, batch: api.Batch) -> Tensor:
        """``r + gamma Q*'`` of what the agents would do next: ``[S, B]``."""
        best = discrete.greedy(discrete.outputs(self.q, batch.next_obs)).transpose(1, 2)
        next_q = self._joint_value(self.target_central, batch.next_obs, best)
        return batch.reward + self.config.gamma * (1 - batch.terminated) * next_q

    def _joint_value(self, net: MLP, obs: Tensor, action: Tensor) -> Tensor:
        """Q* ``[S, B]`` of ``action [S, B, N, A]`` at ``obs [S, B, N, O]``, or 1 for either B."""
        rows = max(obs.shape[1], action.shape[1])
        parts = [x.flatten(2).expand(-1, rows, -1) for x in (obs, action)]
        return net(torch.cat(parts, -1)).squeeze(-1)

    @abstractmethod
    def _matters(self, batch: api.Batch, values: Tensor, q_tot: Tensor, target: Tensor) -> Tensor:
        """Which errors have the weight 1, ``[S, B]`` bool.

        Args:
            values: ``[S, N, B, A]`` every agent's.
            q_tot: ``[S, B]`` joint value of what was done.
            target: ``[S, B]`` y.
        """


class CWQMIX(_WeightedQMIX):
    """Centrally weighted: what counts is the greedy joint action, and what may be better."""

    def _matters(self, batch: api.Batch, values: Tensor, q_tot: Tensor, target: Tensor) -> Tensor:
        greedy = discrete.greedy(values).transpose(1, 2)  # [S, B, N, A]
        is_greedy = (greedy == batch.action).all(-1).all(-1)
        return is_greedy | (target > self._joint_value(self.target_central, batch.obs, greedy))


class OWQMIX(_WeightedQMIX):
    """Optimistically weighted: what counts is what turned out better than thought."""

    def _matters(self, batch: api.Batch, values: Tensor, q_tot: Tensor, target: Tensor) -> Tensor:
        return q_tot < target
