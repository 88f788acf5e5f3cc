"""GVR: greedy-based value representation, a sum of agents' values that is made to fit what is best.

Wan, Liu, Chen, Wang and Lan, "Greedy-based Value Representation for Optimal Coordination in
Multi-agent Reinforcement Learning", ICML 2022 (arXiv 2112.04454). A sum of values of single actions
cannot represent most games: what one agent's action is worth depends on the others'. GVR gives up
on that, and asks only that the joint action which is greedy in the sum is the best one.
Joint actions that are worse than the greedy one need no values of their own (*inferior target
shaping*). The loop::

    every step:   u_i = argmax Q_i(o_i, .), or uniform with probability epsilon; store (o, u, r, o')
    every update: greedy   a = argmax Q_1(o_1, .), .., argmax Q_N(o_N, .)
                  critic   minimise (Q(s, u) - y)^2, y = r + gamma Q'(s', a')
                  agents   minimise w (sum_i Q_i(o_i, u_i) - T)^2, where
                           T = Q(s, u)             if u = a
                           T = Q(s, u)             if Q(s, u) > Q(s, a) + margin: superior, w > 1
                           T = Q(s, a) - gap       else: inferior
                  target   follows with rate tau

So punishments do not spoil the values of actions that others punished by what they did: all
inferior joint actions are alike, just below the greedy one, which is thereby stable; a superior one
draws its agents' values above the greedy ones and takes its place.

What public pages establish of the paper is that, and *superior experience replay*: joint actions
whose return exceeds the mean by three standard deviations of the returns in test rounds, as critics
learn them from those, are replayed from a buffer of their own, with priorities and weights. This
file has inferior target shaping, and ``superior_weight`` in place of superior experience replay.

Deviations: no test rounds, whose steps a budget of environment steps does not hold, and so neither
the three standard deviations nor the buffer of superior experience with its priorities: whether a
joint action is superior is judged by a critic of joint actions and a constant ``margin``, and
superior ones have a constant weight. The critic, like weighted QMIX's, is ours too. The gap is a
constant in units of reward; the paper's was not to be established. Feed-forward networks;
parameters are not shared unless ``share_parameters``; the state is the observations of all agents;
learning rates decay along a cosine, and the networks' outputs are scaled, as for every algorithm
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn import discrete
from rocompare.learn.nn import MLP, Activation, Adam, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine


class GVR(api.Algorithm):
    version = 1
    actions = ("discrete",)

    class Config(discrete.ValueConfig):
        gap: Annotated[float, api.Search(0.1, 10)] = Field(1.0, gt=0)
        """How far below the greedy joint action inferior ones are held, in units of reward."""
        margin: Annotated[float, api.Search(0.05, 5)] = Field(0.5, ge=0)
        """How much better than the greedy joint action one must be to be superior, in units of
        reward: more than the critic's errors, lest the greedy one changes among equals."""
        superior_weight: Annotated[float, api.Search(1, 30)] = Field(3.0, ge=1)
        """Weight of joint actions that are better than the greedy one in the agents' loss; that of
        all others is 1."""
        critic_lr: float = Field(0.005, gt=0)
        """Learning rate of the critic at the start."""
        critic_activation: Activation = "silu"
        """Activation of the critic's hidden layers."""

    config: Config
    executes_with = ("q",)

    def __init__(
        self, spec: api.EnvSpec, config: GVR.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        c, h = config, config.hidden
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.q = discrete.networks(
            spec,
            len(seeds),
            (h, h),
            c.q_activation,
            init,
            share_parameters=c.share_parameters,
            output_scale=c.q_output_scale,
        )
        inputs = spec.n_agents * (spec.obs_dim + spec.action_dim)
        self.critic = MLP(
            (len(seeds),),
            (inputs, h, h, 1),
            c.critic_activation,
            init,
            output_scale=c.q_output_scale,
        )
        self.target_critic = self.critic.clone()
        self.q_adam = Adam(self.q, c.q_lr, c.max_grad_norm)
        self.critic_adam = Adam(self.critic, c.critic_lr, c.max_grad_norm)
        self.replay = Replay(spec, c.buffer_size, seeds, device)

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
        batch = self.replay.sample(c.batch_size)
        td_loss = self._td_loss(batch)
        self.critic_adam.step(td_loss, lr_factor)
        shaped_loss = self._shaped_loss(batch)
        self.q_adam.step(shaped_loss, lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        return {"td_loss": td_loss.detach(), "shaped_loss": shaped_loss.detach()}

    def _td_loss(self, batch: api.Batch) -> Tensor:
        """Squared errors of the critic: ``[S]``."""
        with torch.no_grad():
            next_greedy = self._greedy(batch.next_obs)
            next_q = self._joint(self.target_critic, batch.next_obs, next_greedy)
            q_target = batch.reward + self.config.gamma * (1 - batch.terminated) * next_q
        q = self._joint(self.critic, batch.obs, batch.action)
        return seed_mean((q - q_target).square())

    def _shaped_loss(self, batch: api.Batch) -> Tensor:
        """Weighted squared errors of the sum of the agents' values: ``[S]``."""
        target, weight = self._shaped_target(batch)
        values = discrete.outputs(self.q, batch.obs)  # [S, N, B, A]
        q_tot = discrete.chosen(values, batch.action.transpose(1, 2)).sum(1)
        return seed_mean(weight * (q_tot - target).square())

    @torch.no_grad()
    def _shaped_target(self, batch: api.Batch) -> tuple[Tensor, Tensor]:
        """What the sum of the agents' values should be, and its weight: ``[S, B]``."""
        action, greedy = batch.action, self._greedy(batch.obs)  # [S, B or 1, N, A] the second
        q = self._joint(self.critic, batch.obs, action)
        q_greedy = self._joint(self.critic, batch.obs, greedy)
        is_greedy = (action * greedy).sum(-1).amin(-1) > 0.5  # every agent's
        superior = ~is_greedy & (q > q_greedy + self.config.margin)
        target = torch.where(is_greedy | superior, q, q_greedy - self.config.gap)
        return target, torch.where(superior, self.config.superior_weight, 1.0)

    def _greedy(self, obs: Tensor) -> Tensor:
        """Every agent's greedy action: ``obs [S, B, N, O] -> [S, B, N, A]``."""
        return discrete.greedy(discrete.outputs(self.q, obs)).transpose(1, 2)

    def _joint(self, critic: MLP, obs: Tensor, action: Tensor) -> Tensor:
        """The critic's values of joint actions: ``[S, B]``; constant observations come once."""
        state = obs.flatten(2).expand(-1, action.shape[1], -1)
        return critic(torch.cat([state, action.flatten(2)], -1)).squeeze(-1)
