"""MASQL: multiagent soft Q-learning.

Wei, Wicke, Freelan and Luke, "Multiagent Soft Q-Learning", AAAI Spring Symposium 2018: the soft
Q-learning of Haarnoja et al. (ICML 2017) over joint actions. The loop::

    every step:   agent i samples a joint action u^i = f_i(xi_i; o_i), xi_i ~ N(0, I), and executes
                  its own component u^i_i; store (o, u, r, o')
    every update: critic i   minimise (Q_i(s, u) - r - gamma V_i(s'))^2,
                             V_i(s) = alpha log int exp(Q_i(s, u)/alpha) du
                  sampler i  particles u ~ f_i(xi; o_i); psi_i += Delta_i(u') . df_i(xi')/dpsi_i,
                             Delta_i(u') = E_u[k(u, u') grad_u Q_i(s, u)/alpha + grad_u k(u, u')]
    alpha anneals from exploration at random towards 0, where joint optima alone are sampled

Every agent has a critic, a sampler and noise of its own; nothing is shared in execution. The
sampler's target exp(Q/alpha) is a density over the action box, so it has no tanh correction.

Deviations:

- V is estimated by importance sampling, as in the paper, but only half of the joint actions are
  uniform: the others are drawn around the sampler's own, and the weights are those of the mixture.
  At a low alpha few uniform joint actions would fall on a narrow optimum. The action box counts as
  of volume 1: otherwise an episode would earn alpha N log 2 for each step that it goes on.
- Delta_i is soft Q-learning's over alpha, which makes Adam's steps longer while alpha falls.
- Every particle serves both as fixed and as updated, which uses all samples twice.
- alpha falls geometrically; learning rates decay along a cosine; the critics' inputs and outputs
  are scaled, as for every algorithm here.
- A sampler conditions on its agent's observation, so that execution is decentralised; critics
  see all observations.

The noiseless mode sets xi = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn.kernels import stein_direction
from rocompare.learn.nn import MLP, Activation, Adam, beside, load_state_of, seed_mean, state_of
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine, geometric
from rocompare.learn.soft import soft_value, squashed_mixture


class MASQL:
    version = 1

    class Config(api.Config):
        alpha_first: Annotated[float, api.Search(3, 300)] = Field(30.0, gt=0)
        """Entropy temperature until ``alpha_begin``, in units of reward."""
        alpha_last: Annotated[float, api.Search(0.03, 1)] = Field(0.1, gt=0)
        """Entropy temperature from ``alpha_end`` on."""
        alpha_begin: float = Field(0.1, ge=0, le=1)
        """Share of the budget at which the geometric fall of alpha begins."""
        alpha_end: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(0.7, ge=0, le=1)
        """Share of the budget at which it ends."""
        particles: int = Field(64, ge=2)
        """Joint actions K per agent and state that move together."""
        states: int = Field(64, gt=0)
        """States of the batch that carry particles; a constant observation is one state."""
        bandwidth: Annotated[float, api.Search(0.3, 3)] = Field(1.0, gt=0)
        """Factor on the kernels' median heuristic."""
        value_samples: int = Field(32, gt=0)
        """Joint actions in the soft value of either kind: uniform, and around the sampler's."""
        proposal_scale: float = Field(0.3, gt=0)
        """Standard deviation of the soft value's Gaussian proposals, before tanh."""
        sampler_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.01, gt=0)
        hidden: int = Field(64, gt=0)
        """Units in each of two hidden layers."""
        sampler_activation: Activation = "tanh"
        critic_activation: Activation = "silu"
        critic_input_scale: float = Field(3.0, gt=0)
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)

    def __init__(
        self, spec: api.EnvSpec, config: MASQL.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        self.spec, self.config = spec, config
        n_seeds, n, o, h = len(seeds), spec.n_agents, spec.obs_dim, config.hidden
        self.joint_dim = n * spec.action_dim
        init = Streams(seeds, "init", device)
        self.noise = Streams(seeds, "update", device)
        self.explore = Streams(seeds, "explore", device)
        self.execute = Streams(seeds, "execute", device)
        sizes = o + self.joint_dim, h, h, self.joint_dim
        self.sampler = MLP((n_seeds, n), sizes, config.sampler_activation, init)
        self.critic = MLP(
            (n_seeds, n),
            (n * o + self.joint_dim, h, h, 1),
            config.critic_activation,
            init,
            input_scale=config.critic_input_scale,
            output_scale=config.critic_output_scale,
        )
        self.target = self.critic.clone()
        self.sampler_adam = Adam(self.sampler, config.sampler_lr)
        self.critic_adam = Adam(self.critic, config.critic_lr)

    def act(self, obs: Tensor, mode: api.Mode) -> Tensor:
        n = self.spec.n_agents
        shape = n, obs.shape[1], self.joint_dim
        if mode == "noiseless":
            noise = obs.new_zeros(obs.shape[0], *shape)
        else:
            noise = (self.explore if mode == "explore" else self.execute).normal(*shape)
        with torch.no_grad():
            joint = self._sample(obs, noise).unflatten(-1, (n, -1))  # [S, N, E, N, A]
        return joint.diagonal(dim1=1, dim2=3).mT  # own components: [S, E, N, A]

    def note(self, obs: Tensor, action: Tensor) -> dict[str, Tensor]:
        return {}

    def update(self, batch: api.Batch, progress: float) -> dict[str, Tensor]:
        c = self.config
        alpha = geometric(progress, c.alpha_first, c.alpha_last, c.alpha_begin, c.alpha_end)
        lr_factor = cosine(progress, c.lr_last)
        td_loss = self._td_loss(batch, alpha)
        self.critic_adam.step(td_loss, lr_factor)
        self.sampler_adam.step(self._stein_loss(batch.obs[:, : c.states], alpha), lr_factor)
        self.target.follow(self.critic, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """``obs [S, M, N, O]``, ``noise [S, N, M, N*A]`` -> joint actions ``[S, N, M, N*A]``."""
        return torch.tanh(self.sampler(torch.cat([obs.transpose(1, 2), noise], -1)))

    def _particles(self, obs: Tensor, k: int) -> Tensor:
        """``obs [S, B, N, O]`` -> each agent's own joint actions ``[S, N, B, K, N*A]``."""
        noise = self.noise.normal(self.spec.n_agents, obs.shape[1] * k, self.joint_dim)
        return self._sample(obs.repeat_interleave(k, 1), noise).unflatten(2, (-1, k))

    def _q(self, critic: MLP, obs: Tensor, joint: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, B, N, O]``, ``joint [S, N or 1, B, ..., N*A]`` -> ``[S, N, B, ...]``."""
        joint = joint.expand(-1, self.spec.n_agents, *joint.shape[2:])
        return critic(beside(obs, joint), frozen=frozen).squeeze(-1)

    def _td_loss(self, batch: api.Batch, alpha: float) -> Tensor:
        """Soft Bellman error of each agent: ``[S, N]``."""
        q_target = batch.reward.unsqueeze(1)  # [S, 1, B]
        if self.spec.horizon > 1:  # a one-step game has nothing to bootstrap
            discount = self.config.gamma * (1 - batch.terminated).unsqueeze(1)
            q_target = q_target + discount * self._soft_value(batch.next_obs, alpha)
        q = self._q(self.critic, batch.obs, batch.action.flatten(2).unsqueeze(1))
        return seed_mean((q - q_target).square(), keep=2)

    @torch.no_grad()
    def _soft_value(self, obs: Tensor, alpha: float) -> Tensor:
        """``V_i(s) = alpha log E_{u~p}[exp(Q_i(s, u)/alpha) / p(u)]``: ``[S, N, B]``."""
        n = self.spec.n_agents
        centre = self._particles(obs, self.config.value_samples).flatten(1, 2)  # [S, N*B, K, N*A]
        u, log_p = squashed_mixture(centre, self.config.proposal_scale, self.noise)
        q = self._q(self.target, obs, u.unflatten(1, (n, -1)))  # [S, N, B, 2K]
        return soft_value(q, log_p.unflatten(1, (n, -1)), alpha)

    def _stein_loss(self, obs: Tensor, alpha: float) -> Tensor:
        """Its gradient is minus the amortised SVGD direction of each agent: ``[S, N]``."""
        u = self._particles(obs, self.config.particles)  # [S, N, B, K, N*A]
        point = u.detach().requires_grad_()
        q = self._q(self.critic, obs, point, frozen=True)
        (score,) = torch.autograd.grad(q.sum(), point)
        point = point.detach()
        direction = stein_direction(point, point, score / alpha, bandwidth=self.config.bandwidth)
        return -seed_mean((u * direction).sum(-1), keep=2)

    def beliefs(self, batch: api.Batch, own: Tensor, streams: Streams) -> Tensor:
        """Draws of each agent's own sampler of the joint action."""
        k, n, _ = batch.action.shape[1:]
        noise = streams.normal(n, k, self.joint_dim)
        joint = self._sample(batch.obs.expand(-1, k, -1, -1), noise)
        return joint.unflatten(-1, (n, -1)).unsqueeze(2)  # [S, N, 1, K, N, A]

    def state_dict(self) -> dict[str, Any]:
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load_state_of(self, state)
