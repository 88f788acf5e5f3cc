"""PR2-AC: probabilistic recursive reasoning, actor-critic, as its authors wrote it.

Wen, Yang, Luo, Wang and Pan, "Probabilistic Recursive Reasoning for Multi-Agent Reinforcement
Learning", ICLR 2019, Algorithm 1, and the authors' code where the paper is silent. Agent i believes
that the others answer its own action: a_-i ~ rho_i(.|s, a_i). The loop::

    Q_i(s, a_i) = alpha log int exp(Q_i(s, a_i, a_-i)/alpha) da_-i                (soft marginal)
    every step:   a_i = mu_i(o_i) + noise; execute a, store (o, a, r, o')
    every update: critic i  minimise (Q_i(s, a) - r - gamma Q_i'(s', mu_i'(o'_i)))^2
                  rho_i     amortised SVGD towards exp((Q_i(s, a_i, .) - Q_i(s, a_i))/alpha) at
                            replayed a_i
                  policy i  ascend alpha log mean_k exp(Q_i(s, mu_i(o_i), a_-i^k)/alpha), where
                            a_-i^k ~ rho_i(.|s, a_i) answer a replayed a_i
                  targets   follow with rate tau

The policy's gradient goes through its own action alone. The others' actions in it answer actions
that were played, not mu_i(o_i): a policy is drawn towards an optimum wherever the replay still
holds own actions near it. Execution is deterministic, and so is the same in every way of executing.

Deviations:

- The soft marginal that a target bootstraps from is estimated from uniform actions of the others,
  as in the authors' code, with the volume of the action box counted as 1. They train a network on
  the same targets for Q_i(s, a_i); as it does not depend on a_-i it has no part in rho_i's
  gradient, and there is none here.
- Every particle of rho_i is used twice, as one that pulls others and as one that is moved, instead
  of half of them each. The authors add log(1 - a^2) to the log-density of rho_i, which draws
  answers away from the border of the box; here that is an option (``squash_term``).
- alpha falls geometrically (the authors keep it), exploration noise is Gaussian with a geometric
  decay, learning rates decay along a cosine, the critics' inputs and outputs are scaled, as for
  every algorithm here.
- Policies learn far more slowly than critics and rho_i. With the authors' one rate for all (0.01)
  an agent often commits itself to the safe action before the critics know the optimum, and stays
  there while its partners do not: at either place the expected answers look right.
- The replay holds 300 transitions by default (the authors' holds all): answers to own actions from
  the beginning pull a policy between the hills.
- Policies and rho_i see the agent's own observation, critics all of them.
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
from rocompare.learn.ro import joint_of
from rocompare.learn.schedule import cosine, geometric
from rocompare.learn.soft import soft_value


class PR2(api.Algorithm):
    version = 2

    class Config(api.OffPolicyConfig):
        buffer_size: int = Field(300, gt=0)
        """Transitions kept per seed; the oldest is overwritten. Few, so that what is answered is
        near what is played now; games of several steps need more."""
        alpha_start: Annotated[float, api.Search(0.1, 100)] = Field(0.5, gt=0)
        """Entropy temperature until ``alpha_start_fraction``, in units of reward: the higher, the
        more uniform the answers that an agent expects."""
        alpha_end: Annotated[float, api.Search(0.001, 1)] = Field(0.5, gt=0)
        """Entropy temperature from ``alpha_end_fraction`` on: the lower, the more an agent expects
        the best answers alone."""
        alpha_start_fraction: Annotated[float, api.Search(0, 0.5, log=False)] = Field(
            0.1, ge=0, le=1
        )
        """Share of the budget at which the geometric fall of alpha begins."""
        alpha_end_fraction: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(
            0.8, ge=0, le=1
        )
        """Share of the budget at which the fall of alpha ends."""
        noise_start: Annotated[float, api.Search(0.03, 1)] = Field(0.1, gt=0)
        """Standard deviation of the exploration noise at the start, in units of the action."""
        noise_end: Annotated[float, api.Search(0.01, 0.3)] = Field(0.05, gt=0)
        """Standard deviation of the exploration noise from ``noise_end_fraction`` on."""
        noise_end_fraction: float = Field(0.8, gt=0, le=1)
        """Share of the budget at which the geometric fall of the exploration noise ends."""
        others_samples: int = Field(8, ge=2)
        """Samples of the others' actions for each own action: rho_i's particles, and the uniform
        ones of the soft marginal."""
        states: int = Field(16, gt=0)
        """Transitions of the batch whose own actions rho_i answers."""
        squash_term: bool = False
        """Add log(1 - a^2), summed over the others' actions, to the log-density of rho_i."""
        bandwidth: Annotated[float, api.Search(0.3, 3)] = Field(1.0, gt=0)
        """Factor on the kernel's bandwidth, which the median of the particles' squared distances
        sets."""
        policy_lr: Annotated[float, api.Search(1e-4, 0.03)] = Field(3e-4, gt=0)
        """Learning rate of the policies at the start. It is low, so that a policy does not settle
        before critics and answers are right."""
        rho_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.01, gt=0)
        """Learning rate of the models of the others at the start."""
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.01, gt=0)
        """Learning rate of the critics at the start."""
        hidden: int = Field(64, gt=0)
        """Units in each of a network's two hidden layers."""
        policy_activation: Activation = "tanh"
        """Activation of the hidden layers of the policies and of the models of the others."""
        critic_activation: Activation = "silu"
        """Activation of the critics' hidden layers."""
        critic_input_scale: float = Field(3.0, gt=0)
        """Factor on all that a critic sees."""
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)
        """Factor on a critic's output, in units of reward: about the size of the returns."""

    config: Config
    executes_with = ("policy",)

    @classmethod
    def unfit(cls, spec: api.EnvSpec, config: PR2.Config) -> str:
        return "" if spec.n_agents > 1 else "it models the other agents, and there are none"

    def __init__(
        self, spec: api.EnvSpec, config: PR2.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n, a, o, h = spec.n_agents, spec.action_dim, spec.obs_dim, config.hidden
        groups = len(seeds), n
        self.others_dim = (n - 1) * a
        init = Streams(seeds, "init", device)
        self.noise = Streams(seeds, "update", device)
        self.explore = Streams(seeds, "explore", device)
        activation = config.policy_activation
        self.policy = MLP(groups, (o, h, h, a), activation, init)
        self.rho = MLP(groups, (o + n * a, h, h, self.others_dim), activation, init)
        self.critic = MLP(
            groups,
            (n * (o + a), h, h, 1),
            config.critic_activation,
            init,
            input_scale=config.critic_input_scale,
            output_scale=config.critic_output_scale,
        )
        self.target_policy, self.target_critic = self.policy.clone(), self.critic.clone()
        self.policy_adam = Adam(self.policy, config.policy_lr)
        self.rho_adam = Adam(self.rho, config.rho_lr)
        self.critic_adam = Adam(self.critic, config.critic_lr)
        self.replay = Replay(spec, config.buffer_size, seeds, device)
        # Row i: all agents, agent i first.
        agents = torch.arange(n, device=device)
        self.order = (agents[:, None] + agents) % n

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        with torch.no_grad():
            action = torch.tanh(self.policy(obs.transpose(1, 2))).transpose(1, 2)  # [S, E, N, A]
        if mode == "explore":
            c = self.config
            scale = geometric(progress, c.noise_start, c.noise_end, 0, c.noise_end_fraction)
            action = (action + scale * self.explore.normal(*action.shape[1:])).clamp_(-1, 1)
        return action

    def observe(self, transition: api.Transition) -> None:
        self.replay.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        alpha = geometric(
            progress, c.alpha_start, c.alpha_end, c.alpha_start_fraction, c.alpha_end_fraction
        )
        batch = self.replay.sample(c.batch_size)
        td_loss = self._td_loss(batch, alpha)
        self.critic_adam.step(td_loss, lr_factor)
        obs, own = batch.obs[:, : c.states], batch.action[:, : c.states].transpose(1, 2)
        self.rho_adam.step(self._rho_loss(obs, own, alpha), lr_factor)
        self.policy_adam.step(self._policy_loss(obs, own, alpha), lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        self.target_policy.follow(self.policy, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _td_loss(self, batch: api.Batch, alpha: float) -> Tensor:
        """Soft Bellman error of each agent: ``[S, N]``."""
        q_target = batch.reward.unsqueeze(1)  # [S, 1, B]
        if self.spec.horizon > 1:  # a one-step game has nothing to bootstrap
            discount = self.config.gamma * (1 - batch.terminated).unsqueeze(1)
            with torch.no_grad():
                own = torch.tanh(self.target_policy(batch.next_obs.transpose(1, 2)))
                shape = *own.shape[1:3], self.config.others_samples, self.others_dim
                others = 2 * self.noise.uniform(*shape) - 1  # [S, N, B, K, (N-1)*A]
                q = self._q(self.target_critic, batch.next_obs, own, others)
                q_target = q_target + discount * soft_value(q, 0.0, alpha)
        joint = batch.action[:, :, self.order].transpose(1, 2).flatten(3)  # [S, N, B, N*A]
        q = self.critic(beside(batch.obs, joint)).squeeze(-1)
        return seed_mean((q - q_target).square(), keep=2)

    def _rho_loss(self, obs: Tensor, own: Tensor, alpha: float) -> Tensor:
        """Its gradient is minus the amortised Stein direction at ``own [S, N, B, A]``: ``[S, N]``.

        Args:
            obs: ``[S, B or 1, N, O]``
        """
        answers = self._answer(obs, own, self.noise, self.config.others_samples)
        point = answers.detach().requires_grad_()
        log_p = self._q(self.critic, obs, own, point, frozen=True) / alpha
        if self.config.squash_term:
            log_p = log_p + torch.log(1 - point.square() + 1e-6).sum(-1)
        (score,) = torch.autograd.grad(log_p.sum(), point)
        at = point.detach()
        direction = stein_direction(at, at, score, bandwidth=self.config.bandwidth)
        return -seed_mean((answers * direction).sum(-1), keep=2)

    def _policy_loss(self, obs: Tensor, own: Tensor, alpha: float) -> Tensor:
        """Minus the soft marginal at the policy's actions, over answers to ``own``: ``[S, N]``."""
        with torch.no_grad():
            others = self._answer(obs, own, self.noise, self.config.others_samples)
        played = torch.tanh(self.policy(obs.transpose(1, 2))).expand(-1, -1, own.shape[2], -1)
        q = self._q(self.critic, obs, played, others, frozen=True)
        return -seed_mean(soft_value(q, 0.0, alpha), keep=2)

    def _answer(self, obs: Tensor, own: Tensor, streams: Streams, k: int) -> Tensor:
        """``a_-i ~ rho_i``, ``k`` to each of ``own [S, N, B, A]``: ``[S, N, B, K, (N-1)*A]``."""
        seen = obs.transpose(1, 2).expand(-1, -1, own.shape[2], -1)
        known = torch.cat([seen, own], -1).unsqueeze(3).expand(-1, -1, -1, k, -1)
        noise = streams.normal(*own.shape[1:3], k, self.others_dim)
        return torch.tanh(self.rho(torch.cat([known, noise], -1)))

    def _q(
        self, critic: MLP, obs: Tensor, own: Tensor, others: Tensor, frozen: bool = False
    ) -> Tensor:
        """``own [S, N, B, A]`` beside ``others [S, N, B, K, (N-1)*A]`` -> ``[S, N, B, K]``."""
        joint = torch.cat([own.unsqueeze(3).expand(*others.shape[:-1], -1), others], -1)
        return critic(beside(obs, joint), frozen=frozen).squeeze(-1)

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """rho_i's answers to each own action."""
        obs = self.replay.sample(k, streams).obs[:, :1]
        others = self._answer(obs, own, streams, k)  # [S, N, M, K, (N-1)*A]
        return joint_of(others.flatten(2, 3), self.order[:, 1:], k)
