"""MMQ: MaxMax Q-learning, independent actor-critics that are optimistic about the next state.

Zhu, Jin, Houssineau and Montana, "Mitigating Relative Over-Generalization in Multi-Agent
Reinforcement Learning", TMLR 2024 (arXiv 2411.11099). To an agent that sees only itself, what
follows its action depends on what the others do. So it learns which next observations are possible,
and takes the best of them for what its partners will bring about once they play well. The loop::

    every step:   u_i = mu_i(o_i) + noise; execute u, store (o, u, r, o')
    every update: bounds    learn the 0.05 and 0.95 quantiles of each feature of o_i' given
                            o_i, u_i, by their pinball losses
                  reward    learn r_i(o_i, u_i, o_i') by least squares
                  target    K candidates drawn uniformly between the bounds, and the real o_i':
                            y_i = max over candidates z of r_i(o_i, u_i, z)
                                  + gamma Q_i'(z, mu_i'(z)), or r for the real one
                  critic i  minimise (Q_i(o_i, u_i) - y_i)^2
                  actor i   ascend Q_i(o_i, mu_i(o_i))
                  targets   follow with rate tau

Where a transition ended an episode its candidates have rewards but no values. Where nothing ever
follows a step, in games of one step, there is nothing to be optimistic about: no bounds and no
rewards are learnt, and MMQ is independent DDPG. It is made for games of several steps.

As in the authors' code the bounds' networks output the difference to o_i, the reward depends on
(o_i, u_i, o_i'), and there is one pair of bounds (``n_ensemble`` 1) and 15 candidates.

Deviations: one step of the critics on each batch instead of ten; all models learn from the whole
batch instead of 80 % of it; from the first update on, not after a phase of their own; Gaussian
noise with a geometric decay instead of noise 0.1 and a uniform action in every tenth step;
``saturation`` penalises the actors' outputs before tanh, as in MADDPG's public code; learning rates
decay along a cosine, and inputs and outputs are scaled, as for every algorithm here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn.nn import MLP, Activation, Adam, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine, geometric


class MMQ(api.Algorithm):
    version = 1

    class Config(api.OffPolicyConfig):
        candidates: int = Field(15, gt=0)
        """Next observations K that are drawn between the bounds, for each transition."""
        quantile: Annotated[float, api.Search(0.01, 0.4)] = Field(0.05, gt=0, lt=0.5)
        """Share of next observations below the lower bound of a feature, and above the upper: the
        smaller, the more optimistic."""
        noise_start: Annotated[float, api.Search(0.1, 1)] = Field(0.5, gt=0)
        """Standard deviation of the exploration noise at the start, in units of the action."""
        noise_end: Annotated[float, api.Search(0.01, 0.3)] = Field(0.05, gt=0)
        """Standard deviation of the exploration noise from ``noise_end_fraction`` on."""
        noise_end_fraction: float = Field(0.8, gt=0, le=1)
        """Share of the budget at which the geometric fall of the exploration noise ends."""
        saturation: Annotated[float, api.Search(0.01, 1)] = Field(0.1, ge=0)
        """Weight of the actors' squared outputs before tanh in their loss, in units of reward. It
        keeps actors out of the corners of the action box, where they have no gradient."""
        actor_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        """Learning rate of the actors at the start."""
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.01, gt=0)
        """Learning rate of the critics at the start."""
        model_lr: Annotated[float, api.Search(3e-4, 0.03)] = Field(0.005, gt=0)
        """Learning rate of the bounds and of the rewards at the start."""
        max_grad_norm: float = Field(10.0, gt=0)
        """Largest norm of a seed's gradient, over all agents' networks of a kind; a longer gradient
        is shortened to it."""
        hidden: int = Field(64, gt=0)
        """Units in each of a network's two hidden layers."""
        actor_activation: Activation = "relu"
        """Activation of the hidden layers of the actors and of the bounds."""
        critic_activation: Activation = "silu"
        """Activation of the hidden layers of the critics and of the rewards."""
        critic_input_scale: float = Field(3.0, gt=0)
        """Factor on all that a critic sees, and what a model of rewards does."""
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)
        """Factor on a critic's output, in units of reward: about the size of the returns. Also that
        of a model of rewards."""

    config: Config
    executes_with = ("actor",)

    def __init__(
        self, spec: api.EnvSpec, config: MMQ.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n_seeds, n, a, o = len(seeds), spec.n_agents, spec.action_dim, spec.obs_dim
        h, c = config.hidden, config
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.draws = Streams(seeds, "update", device)
        scales = {"input_scale": c.critic_input_scale, "output_scale": c.critic_output_scale}
        self.actor = MLP((n_seeds, n), (o, h, h, a), c.actor_activation, init)
        self.critic = MLP((n_seeds, n), (o + a, h, h, 1), c.critic_activation, init, **scales)
        self.target_actor, self.target_critic = self.actor.clone(), self.critic.clone()
        self.actor_adam = Adam(self.actor, c.actor_lr, c.max_grad_norm)
        self.critic_adam = Adam(self.critic, c.critic_lr, c.max_grad_norm)
        self.looks_ahead = spec.horizon > 1
        if self.looks_ahead:
            # A lower and an upper bound of each feature, by a network each.
            self.bounds = MLP((n_seeds, n, 2), (o + a, h, h, o), c.actor_activation, init)
            reward_sizes = 2 * o + a, h, h, 1
            self.reward = MLP((n_seeds, n), reward_sizes, c.critic_activation, init, **scales)
            self.bounds_adam = Adam(self.bounds, c.model_lr, c.max_grad_norm)
            self.reward_adam = Adam(self.reward, c.model_lr, c.max_grad_norm)
        self.replay = Replay(spec, c.buffer_size, seeds, device)

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        with torch.no_grad():
            action = torch.tanh(self.actor(obs.transpose(1, 2))).transpose(1, 2)  # [S, E, N, A]
        if mode == "explore":
            c = self.config
            scale = geometric(progress, c.noise_start, c.noise_end, 0, c.noise_end_fraction)
            noise = self.explore.normal(*action.shape[1:])
            action = (action + scale * noise).clamp_(-1, 1)
        return action

    def observe(self, transition: api.Transition) -> None:
        self.replay.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        batch = self.replay.sample(c.batch_size)
        metrics = {}
        if self.looks_ahead:
            bounds_loss, reward_loss = self._bounds_loss(batch), self._reward_loss(batch)
            self.bounds_adam.step(bounds_loss, lr_factor)
            self.reward_adam.step(reward_loss, lr_factor)
            metrics = {
                "bounds_loss": bounds_loss.detach().mean(1),
                "reward_loss": reward_loss.detach().mean(1),
            }
        td_loss = self._td_loss(batch)
        self.critic_adam.step(td_loss, lr_factor)
        self.actor_adam.step(self._actor_loss(batch), lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        self.target_actor.follow(self.actor, c.tau)
        return {"td_loss": td_loss.detach().mean(1), **metrics}

    def _bounds_loss(self, batch: api.Batch) -> Tensor:
        """The pinball losses of both bounds: ``[S, N]``."""
        obs, action, next_obs = self._own(batch)
        error = next_obs.unsqueeze(2) - self._bounds(obs, action)  # [S, N, 2, B, O]
        q = self.config.quantile
        share = error.new_tensor([q, 1 - q])[:, None, None]
        return seed_mean(torch.maximum((share - 1) * error, share * error), keep=2)

    def _reward_loss(self, batch: api.Batch) -> Tensor:
        """``[S, N]``"""
        predicted = self._predict_reward(*self._own(batch))
        return seed_mean((predicted - batch.reward.unsqueeze(1)).square(), keep=2)

    def _td_loss(self, batch: api.Batch) -> Tensor:
        """``[S, N]``"""
        obs, action, _ = self._own(batch)
        q = self._q(self.critic, obs, action)
        return seed_mean((q - self._target(batch)).square(), keep=2)

    @torch.no_grad()
    def _target(self, batch: api.Batch) -> Tensor:
        """The largest backup over the next observations that are thought possible: ``[S, N, B]``"""
        obs, action, next_obs = self._own(batch)
        discount = self.config.gamma * (1 - batch.terminated.unsqueeze(1))  # [S, 1, B]
        best = batch.reward.unsqueeze(1) + discount * self._next_value(next_obs)
        if self.looks_ahead:
            lower, upper = self._bounds(obs, action).unsqueeze(3).unbind(2)  # [S, N, 1, B, O]
            n, rows = next_obs.shape[1:3]
            share = self.draws.uniform(n, self.config.candidates, rows, self.spec.obs_dim)
            candidate = lower + share * (upper - lower)  # [S, N, K, B, O]
            reward = self._predict_reward(obs.unsqueeze(2), action.unsqueeze(2), candidate)
            backup = reward + discount.unsqueeze(2) * self._next_value(candidate)
            best = torch.maximum(best, backup.amax(2))
        return best

    def _actor_loss(self, batch: api.Batch) -> Tensor:
        """Minus the value of the own action, and what saturated outputs cost: ``[S, N]``."""
        obs = batch.obs.transpose(1, 2)
        z = self.actor(obs)
        q = self._q(self.critic, obs, torch.tanh(z), frozen=True)
        return seed_mean(self.config.saturation * z.square().sum(-1) - q, keep=2)

    def _own(self, batch: api.Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Every agent's own observation, action and next observation, ``[S, N, B, ...]``."""
        action = batch.action.transpose(1, 2)
        shape = -1, -1, action.shape[2], -1  # constant observations come once
        obs, next_obs = (x.transpose(1, 2).expand(shape) for x in (batch.obs, batch.next_obs))
        return obs, action, next_obs

    def _bounds(self, obs: Tensor, action: Tensor) -> Tensor:
        """The lower and the upper bound of each next observation, ``[S, N, 2, B, O]``."""
        seen = torch.cat([obs, action], -1).unsqueeze(2).expand(-1, -1, 2, -1, -1)
        return obs.unsqueeze(2) + self.bounds(seen)

    def _predict_reward(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """``next_obs [S, N, (K,) B, O]`` -> ``[S, N, (K,) B]``."""
        before = torch.cat([obs, action], -1).expand(*next_obs.shape[:-1], -1)
        return self.reward(torch.cat([before, next_obs], -1)).squeeze(-1)

    def _next_value(self, obs: Tensor) -> Tensor:
        """``Q'(o, mu'(o))``: ``obs [S, N, ..., O] -> [S, N, ...]``."""
        return self._q(self.target_critic, obs, torch.tanh(self.target_actor(obs)))

    def _q(self, critic: MLP, obs: Tensor, action: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, N, ..., O]``, ``action [S, N, ..., A]`` -> ``[S, N, ...]``."""
        return critic(torch.cat([obs, action], -1), frozen=frozen).squeeze(-1)

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """The others' actions that each agent's critic averages over: replayed ones."""
        joint = self.replay.sample(k, streams).action
        return joint[:, None, None].expand(-1, self.spec.n_agents, -1, -1, -1, -1)
