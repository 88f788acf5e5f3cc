"""MASQL: multiagent soft Q-learning.

Wei, Wicke, Freelan and Luke, "Multiagent Soft Q-Learning", AAAI Spring Symposium 2018: the soft
Q-learning of Haarnoja et al. (ICML 2017) over joint actions. The loop::

    every step:   agent i samples a joint action u^i = f_i(xi_i; o_i), xi_i ~ N(0, I), and executes
                  its own component u^i_i; store (o, u, r, o')
    every update: critic i  minimise (Q_i(s, u) - r - gamma V_i(s'))^2,
                            V_i(s) = alpha log int exp(Q_i(s, u)/alpha) du
                  policy i  particles u ~ f_i(xi; o_i); psi_i += Delta_i(u') . df_i(xi')/dpsi_i,
                            Delta_i(u') = E_u[k(u, u') grad_u Q_i(s, u)/alpha + grad_u k(u, u')]
                  targets   follow with rate tau
    alpha anneals from actions at random towards 0, where joint optima alone are sampled

Every agent has a critic, a policy and noise of its own. Execution is decentralised: the joint
actions that the agents sample differ, and each contributes its own component. Deterministic
execution sets xi = 0.

Deviations:

- V is estimated by importance sampling, as in the paper, but only half of the joint actions are
  uniform: the others are drawn around the policy's own, and the weights are those of the mixture.
  At a low alpha few uniform joint actions would fall on a narrow optimum. The action box counts as
  of volume 1: otherwise an episode would earn alpha N log 2 for each step that it goes on.
- The target density exp(Q/alpha) is one over the action box, so it has no correction for tanh.
- Delta_i is soft Q-learning's divided by alpha, which makes Adam's steps longer while alpha falls.
- Every particle is used twice, as one that pulls others and as one that is moved.
- alpha falls geometrically; learning rates decay along a cosine; the critics' inputs and outputs
  are scaled, as for every algorithm here.
- The noise xi can be made to shrink to 0 late in the budget (``noise_anneal_start_fraction``), in
  training and in execution, as SVNR's does: agents that draw their noise apart miscoordinate on a
  mixture of several optima. By default it stays, as in the paper.
- A policy conditions on its agent's observation, so that execution is decentralised; critics see
  all observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn.kernels import stein_direction
from rocompare.learn.nn import MLP, Activation, Adam, beside, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import AlphaSchedule, cosine, linear, temperature
from rocompare.learn.soft import soft_value, squashed_mixture


class MASQL(api.Algorithm):
    version = 1

    class Config(api.OffPolicyConfig):
        alpha_schedule: AlphaSchedule = "geometric"
        """How alpha falls: geometrically, as the four values below say, or in three steps as in the
        SVNR paper's first public code, whatever they say."""
        alpha_start: Annotated[float, api.Search(3, 300)] = Field(30.0, gt=0)
        """Entropy temperature until ``alpha_start_fraction``, in units of reward: the higher, the
        more uniform the actions."""
        alpha_end: Annotated[float, api.Search(0.001, 1)] = Field(0.1, gt=0)
        """Entropy temperature from ``alpha_end_fraction`` on: the lower, the nearer the policy
        comes to playing the best joint actions alone."""
        alpha_start_fraction: Annotated[float, api.Search(0, 0.5, log=False)] = Field(
            0.1, ge=0, le=1
        )
        """Share of the budget at which the geometric fall of alpha begins."""
        alpha_end_fraction: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(
            0.7, ge=0, le=1
        )
        """Share of the budget at which the fall of alpha ends."""
        noise_anneal_start_fraction: Annotated[float, api.Search(0.5, 1, log=False)] = Field(
            1.0, ge=0, le=1
        )
        """Share of the budget at which the policies' noise begins to shrink: its size
        falls from 1 to 0 along a line, in training and in execution. At 1.0 it never does."""
        noise_anneal_end_fraction: float = Field(0.95, ge=0, le=1)
        """Share of the budget at which the policies' noise is gone: from then on they are
        deterministic."""
        particles: int = Field(64, ge=2)
        """Joint actions sampled per agent and state, which the Stein direction moves together."""
        states: int = Field(64, gt=0)
        """States of the batch for which particles are sampled. A constant observation is a single
        state, whatever this number."""
        bandwidth: Annotated[float, api.Search(0.3, 3)] = Field(1.0, gt=0)
        """Factor on the kernel's bandwidth, which the median of the particles' squared distances
        sets."""
        value_samples: int = Field(32, gt=0)
        """Joint actions of either kind, uniform and around the policy's, in the estimate of the
        soft value."""
        proposal_scale: float = Field(0.3, gt=0)
        """Standard deviation, before tanh, of the joint actions around the policy's in that
        estimate."""
        policy_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        """Learning rate of the policies at the start."""
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.01, gt=0)
        """Learning rate of the critics at the start."""
        hidden: int = Field(64, gt=0)
        """Units in each of a network's two hidden layers."""
        policy_activation: Activation = "tanh"
        """Activation of the policies' hidden layers."""
        critic_activation: Activation = "silu"
        """Activation of the critics' hidden layers."""
        critic_input_scale: float = Field(3.0, gt=0)
        """Factor on all that a critic sees."""
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)
        """Factor on a critic's output, in units of reward: about the size of the returns."""

    config: Config
    executes_with = ("policy",)

    def __init__(
        self, spec: api.EnvSpec, config: MASQL.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n, o, h = spec.n_agents, spec.obs_dim, config.hidden
        groups = len(seeds), n
        self.joint_dim = n * spec.action_dim
        init = Streams(seeds, "init", device)
        self.noise = Streams(seeds, "update", device)
        self.explore = Streams(seeds, "explore", device)
        self.execute = Streams(seeds, "execute", device)
        policy_sizes = o + self.joint_dim, h, h, self.joint_dim
        self.policy = MLP(groups, policy_sizes, config.policy_activation, init)
        self.critic = MLP(
            groups,
            (n * o + self.joint_dim, h, h, 1),
            config.critic_activation,
            init,
            input_scale=config.critic_input_scale,
            output_scale=config.critic_output_scale,
        )
        self.target_critic = self.critic.clone()
        self.policy_adam = Adam(self.policy, config.policy_lr)
        self.critic_adam = Adam(self.critic, config.critic_lr)
        self.replay = Replay(spec, config.buffer_size, seeds, device)
        self.noise_size = torch.ones(())  # at the newest update

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        n = self.spec.n_agents
        shape = n, obs.shape[1], self.joint_dim
        if mode == "deterministic":
            noise = obs.new_zeros(obs.shape[0], *shape)
        else:
            noise = (self.explore if mode == "explore" else self.execute).normal(*shape)
            noise = self._noise_size(progress) * noise
        with torch.no_grad():
            joint = self._sample(obs, noise).unflatten(-1, (n, -1))  # [S, N, E, N, A]
        own: Tensor = joint.diagonal(dim1=1, dim2=3).mT  # [S, E, N, A]
        return own

    def observe(self, transition: api.Transition) -> None:
        self.replay.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        alpha = temperature(progress, c)
        self.noise_size = torch.tensor(self._noise_size(progress))
        batch = self.replay.sample(c.batch_size)
        td_loss = self._td_loss(batch, alpha)
        self.critic_adam.step(td_loss, lr_factor)
        self.policy_adam.step(self._stein_loss(batch.obs[:, : c.states], alpha), lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _noise_size(self, progress: float) -> float:
        """Factor on the policies' standard normal noise."""
        c = self.config
        return linear(
            progress, 1.0, 0.0, c.noise_anneal_start_fraction, c.noise_anneal_end_fraction
        )

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
        q = self._q(self.target_critic, obs, u.unflatten(1, (n, -1)))  # [S, N, B, 2K]
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

    def _particles(self, obs: Tensor, k: int) -> Tensor:
        """``obs [S, B, N, O]`` -> each agent's own joint actions ``[S, N, B, K, N*A]``."""
        shape = self.spec.n_agents, obs.shape[1] * k, self.joint_dim
        noise = self.noise_size * self.noise.normal(*shape)
        joint: Tensor = self._sample(obs.repeat_interleave(k, 1), noise).unflatten(2, (-1, k))
        return joint

    def _sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """``obs [S, M, N, O]``, ``noise [S, N, M, N*A]`` -> joint actions ``[S, N, M, N*A]``."""
        return torch.tanh(self.policy(torch.cat([obs.transpose(1, 2), noise], -1)))

    def _q(self, critic: MLP, obs: Tensor, joint: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, B, N, O]``, ``joint [S, N or 1, B, ..., N*A]`` -> ``[S, N, B, ...]``."""
        joint = joint.expand(-1, self.spec.n_agents, *joint.shape[2:])
        return critic(beside(obs, joint), frozen=frozen).squeeze(-1)

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """Draws of each agent's own policy of the joint action."""
        n = self.spec.n_agents
        obs = self.replay.sample(k, streams).obs.expand(-1, k, -1, -1)
        joint = self._sample(obs, self.noise_size * streams.normal(n, k, self.joint_dim))
        return joint.view(*joint.shape[:3], n, -1).unsqueeze(2)  # [S, N, 1, K, N, A]
