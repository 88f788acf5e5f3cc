"""ROMMEO-AC: actor-critic with a regularised opponent model and a maximum entropy objective.

Tian, Wen, Gong, Punakkath, Zou and Wang, "A Regularized Opponent Model with Maximum Entropy
Objective", IJCAI 2019. Agent i models the others, ``u_-i ~ rho_i(. | o_i)``, and answers the model,
``u_i ~ pi_i(. | o_i, u_-i)``. The model may be optimistic but pays for leaving a prior
``P_i(u_-i | o_i)``, which is what the others did of late. The loop::

    every step:   u_-i ~ rho_i, then u_i ~ pi_i; execute u = (u_1 .. u_N), store (o, u, r, o')
    every update: prior i   maximise log P_i of the others' recent actions
                  critic i  minimise (Q_i(o, u) - y_i)^2 with
                            y_i = r + gamma (Q_i' - alpha log pi_i - log rho_i + log P_i)
                  model i   minimise E[log rho_i - log P_i - Q_i + alpha log pi_i]
                  policy i  minimise E[alpha log pi_i - Q_i]
                  target    follow with rate tau

with u_-i ~ rho_i and u_i ~ pi_i; all are reparameterised Gaussians squashed by tanh. One backward
pass of the model's loss serves the policy, whose loss has the same gradient in its parameters.

Deviations: alpha falls geometrically; the model learns far more slowly than the policy; the prior
fits all of the ``prior_window`` newest joint actions; agents act on their own observation, only
critics see the state; standard deviations stay in (e^-5, e^2); cosine decay of the learning rates
and scaled critics, as everywhere here. The entropy in y_i is the paper's, of a density on the box:
with the box's volume as 1, as in MASQL's, PR2's and SVNR's soft values, staying on in an episode
earns up to alpha A log 2 a step less, and Particle Gather is learnt no better
(``results/reference/README.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn.nn import MLP, Activation, Adam, load_state_of, seed_mean, state_of
from rocompare.learn.rng import Streams
from rocompare.learn.ro import joint_of
from rocompare.learn.schedule import cosine, geometric
from rocompare.learn.soft import Squashed

EDGE = 1 - 1e-6  # executed actions nearer to the border count as here: atanh(1) is infinite


class ROMMEO:
    version = 1

    class Config(api.Config):
        alpha_first: Annotated[float, api.Search(0.1, 100)] = Field(1.0, gt=0)
        """Temperature of the policy's entropy until ``learn_from``, in units of reward."""
        alpha_last: Annotated[float, api.Search(0.01, 1)] = Field(0.03, gt=0)
        """The same from ``alpha_end`` on."""
        alpha_end: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(0.8, ge=0, le=1)
        """Share of the budget at which the geometric fall of alpha ends."""
        prior_window: int = Field(128, gt=0)
        """Newest joint actions that the prior is fitted to, per seed."""
        model_lr: Annotated[float, api.Search(1e-5, 0.03)] = Field(5e-5, gt=0)
        """Low, so that the model sees good answers before it commits itself."""
        policy_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.01, gt=0)
        prior_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.02, gt=0)
        clip: float = Field(10.0, gt=0)
        """Largest gradient norm of a seed."""
        hidden: int = Field(64, gt=0)
        """Units in each of two hidden layers."""
        actor_activation: Activation = "tanh"
        critic_activation: Activation = "silu"
        critic_input_scale: float = Field(3.0, gt=0)
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)

    def __init__(
        self, spec: api.EnvSpec, config: ROMMEO.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        self.spec, self.config = spec, config
        n_seeds, n, a, o = len(seeds), spec.n_agents, spec.action_dim, spec.obs_dim
        names = "init", "explore", "execute", "update"
        init, self.explore, self.execute, self.noise = (Streams(seeds, x, device) for x in names)
        h, d, groups, activation = config.hidden, (n - 1) * a, (n_seeds, n), config.actor_activation
        self.model = MLP(groups, (o, h, h, 2 * d), activation, init)
        self.prior = MLP(groups, (o, h, h, 2 * d), activation, init)
        self.policy = MLP(groups, (o + d, h, h, 2 * a), activation, init)
        self.critic = MLP(groups, (n * (o + a), h, h, 1), config.critic_activation, init)
        self.critic.input_scale = config.critic_input_scale
        self.critic.output_scale = config.critic_output_scale
        self.target = self.critic.clone()
        self.model_adam = Adam(self.model, config.model_lr, config.clip)
        self.prior_adam = Adam(self.prior, config.prior_lr, config.clip)
        self.policy_adam = Adam(self.policy, config.policy_lr, config.clip)
        self.critic_adam = Adam(self.critic, config.critic_lr, config.clip)
        # Row i: the agents other than i, in order.
        self.rest = torch.tensor([[j for j in range(n) if j != i] for i in range(n)], device=device)
        self.recent = torch.zeros(n_seeds, 0, n, o + a, device=device)  # newest (o_i, u_i)

    def act(self, obs: Tensor, mode: api.Mode) -> Tensor:
        shape = *obs.shape[1:3], self.spec.n_agents * self.spec.action_dim
        if mode == "noiseless":
            noise = obs.new_zeros(obs.shape[0], *shape)
        else:
            noise = (self.explore if mode == "explore" else self.execute).normal(*shape)
        with torch.no_grad():
            *_, own = self._imagine(obs.transpose(1, 2), noise.transpose(1, 2))
        return torch.tanh(own).transpose(1, 2)

    def note(self, obs: Tensor, action: Tensor) -> dict[str, Tensor]:
        """Keep the newest observations and actions for the prior; none for the replay buffer."""
        recent = torch.cat([self.recent, torch.cat([obs, action], -1)], 1)
        self.recent = recent[:, -self.config.prior_window :]
        return {}

    def update(self, batch: api.Batch, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_last)
        alpha = geometric(progress, c.alpha_first, c.alpha_last, c.learn_from, c.alpha_end)
        if self.recent.shape[1]:
            self.prior_adam.step(self._prior_loss(), lr_factor)
        td_loss = self._td_loss(batch, alpha)
        self.critic_adam.step(td_loss, lr_factor)
        value = self._soft_value(self.critic, batch.obs, batch.reward.shape[1], alpha)
        flats = self.model.flat, self.policy.flat
        for_model, for_policy = torch.autograd.grad(-seed_mean(value, keep=2).sum(), flats)
        self.model_adam.apply(for_model, lr_factor)
        self.policy_adam.apply(for_policy, lr_factor)
        self.target.follow(self.critic, c.tau)
        return {"td_loss": td_loss.detach().mean(1), "soft_value": seed_mean(value.detach())}

    def _prior_loss(self) -> Tensor:
        """Minus the log-likelihood of the others' recent actions: ``[S, N]``."""
        obs, action = self.recent.split([self.spec.obs_dim, self.spec.action_dim], -1)
        obs = obs[:, :1] if self.spec.constant_obs else obs
        z = torch.atanh(self._others(action).clamp(-EDGE, EDGE))
        prior = Squashed.of(self.prior(obs.transpose(1, 2)))
        return -seed_mean(prior.log_prob(z), keep=2)

    def _td_loss(self, batch: api.Batch, alpha: float) -> Tensor:
        """Soft Bellman error: ``[S, N]``."""
        q_target = batch.reward.unsqueeze(1)  # [S, 1, B]
        if self.spec.horizon > 1:  # a one-step game has nothing to bootstrap
            with torch.no_grad():
                value = self._soft_value(self.target, batch.next_obs, batch.reward.shape[1], alpha)
            discount = self.config.gamma * (1 - batch.terminated)
            q_target = q_target + discount.unsqueeze(1) * value
        own, others = batch.action.transpose(1, 2), self._others(batch.action)
        q = self._q(self.critic, batch.obs, own, others, frozen=False)
        return seed_mean((q - q_target).square(), keep=2)

    def _soft_value(self, critic: MLP, obs: Tensor, rows: int, alpha: float) -> Tensor:
        """``[S, N, rows]`` samples of V at ``obs [S, rows or 1, N, O]``: minus J_rho's terms."""
        n, own_obs = self.spec.n_agents, obs.transpose(1, 2)
        noise = self.noise.normal(n, rows, n * self.spec.action_dim)
        rho, others, pi, own = self._imagine(own_obs, noise)
        prior = Squashed.of(self.prior(own_obs, frozen=True))
        q = self._q(critic, obs, torch.tanh(own), torch.tanh(others), frozen=True)
        divergence = rho.log_prob(others) - prior.log_prob(others)
        return q - alpha * pi.log_prob(own) - divergence

    def _imagine(self, obs: Tensor, noise: Tensor) -> tuple[Squashed, Tensor, Squashed, Tensor]:
        """rho, ``u_-i ~ rho``, pi and ``u_i ~ pi`` for ``obs [S, N, B or 1, O]``, before tanh."""
        a = self.spec.action_dim
        rho = Squashed.of(self.model(obs))
        others = rho.draw(noise[..., a:])
        known = [obs.expand(-1, -1, noise.shape[2], -1), torch.tanh(others)]
        pi = Squashed.of(self.policy(torch.cat(known, -1)))
        return rho, others, pi, pi.draw(noise[..., :a])

    def _q(self, critic: MLP, obs: Tensor, own: Tensor, others: Tensor, frozen: bool) -> Tensor:
        """``obs [S, B or 1, N, O]``, actions ``[S, N, B, ...]`` -> every agent's ``[S, N, B]``."""
        state = obs.flatten(2).unsqueeze(1).expand(-1, *own.shape[1:3], -1)
        return critic(torch.cat([state, own, others], -1), frozen=frozen).squeeze(-1)

    def _others(self, action: Tensor) -> Tensor:
        """``[S, B, N, A]`` -> what each agent sees of it, ``[S, N, B, (N-1)*A]``."""
        return action[:, :, self.rest].flatten(3).transpose(1, 2)

    def beliefs(self, batch: api.Batch, own: Tensor, streams: Streams) -> Tensor:
        """Draws of the opponent model rho_i."""
        k, n, a = batch.action.shape[1:]
        rho = Squashed.of(self.model(batch.obs.transpose(1, 2)))
        others = torch.tanh(rho.draw(streams.normal(n, k, (n - 1) * a)))
        return joint_of(others, self.rest, k)

    def state_dict(self) -> dict[str, Any]:
        return state_of(self) | {"recent": self.recent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load_state_of(self, state)
        self.recent = state["recent"]
