"""PR2-AC: probabilistic recursive reasoning, actor-critic.

Wen, Yang, Luo, Wang and Pan, "Probabilistic Recursive Reasoning for Multi-Agent Reinforcement
Learning", ICLR 2019. Agent i believes that the others answer its own action, a_-i ~ rho_i::

    Q_i(s, a_i)        = alpha log int exp(Q_i(s, a_i, a_-i)/alpha) da_-i        (soft marginal)
    rho_i(a_-i|s, a_i) = exp((Q_i(s, a_i, a_-i) - Q_i(s, a_i))/alpha)
    every step:   a_i = f_i(xi_i; o_i); execute a, store (o, a, r, o')
    every update: critic i  minimise (Q_i(s, a) - r - gamma Q_i'(s', a'_i))^2, a'_i ~ pi_i
                  rho_i     amortised SVGD towards exp(Q_i(s, a_i, .)/alpha), at a_i ~ pi_i
                  policy i  ascend Q_i(s, a_i): gradient E_rho_i[grad_{a_i} Q_i(s, a_i, a_-i)]

By the envelope theorem that is the soft marginal's whole gradient where rho_i is optimal; passing
it through rho_i's samples too would ascend E_rho_i[Q_i] = Q_i(s, a_i) - alpha H(rho_i) instead.

Deviations:

- The paper's objective holds the entropy of pi_i as well; its maximiser is exp(Q_i(s, a_i)/alpha),
  which ``policy: stochastic`` samples by SVGD with the gradient above as score. The practical form,
  ``policy: deterministic`` with Gaussian exploration, stays on one of the marginal's hills.
- The target's soft marginal is importance-sampled, half uniform, half by rho_i; box volumes are 1.
  It holds no entropy of pi_i. Scores are over alpha, so Adam's steps lengthen while it falls.
- Every particle is both fixed and updated; alpha falls geometrically, learning rates as a cosine.
- Policies and rho_i see the agent's own observation, critics all of them.
- ``level`` k > 1: rho_i simulates the others' answer to the level-j action, and the same policy,
  given it, best responds with level j+1: exp(Q_i(s, ., a_-i)/alpha), at the optimum a Gibbs step.
  Level k is executed, every level is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn.kernels import stein_direction
from rocompare.learn.nn import MLP, Activation, Adam, beside, load_state_of, seed_mean, state_of
from rocompare.learn.rng import Streams
from rocompare.learn.ro import joint_of
from rocompare.learn.schedule import cosine, geometric
from rocompare.learn.soft import soft_value, squashed_mixture


class PR2:
    version = 1

    class Config(api.Config):
        alpha_first: Annotated[float, api.Search(3, 300)] = Field(30.0, gt=0)
        alpha_last: Annotated[float, api.Search(0.03, 1)] = Field(0.1, gt=0)
        """Temperature before and after its geometric fall, in units of reward."""
        alpha_begin: float = Field(0.1, ge=0, le=1)
        alpha_end: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(0.8, ge=0, le=1)
        """Shares of the budget at which the fall begins and ends."""
        level: int = Field(1, gt=0)
        """Depth k of the reasoning."""
        policy: Literal["stochastic", "deterministic"] = "stochastic"
        """Sampler of exp(Q_i(s, a_i)/alpha), or one action that ascends Q_i(s, a_i)."""
        noise: Annotated[float, api.Search(0.03, 1)] = Field(0.3, ge=0)
        """Standard deviation of a deterministic policy's exploration noise."""
        particles: int = Field(16, ge=2)
        """Own actions M per state that move together; a deterministic policy has one."""
        others: int = Field(16, ge=2)
        """Samples K of the others' actions per own action."""
        states: int = Field(16, gt=0)
        """States of the batch that carry particles; a constant observation is one state."""
        bandwidth: Annotated[float, api.Search(0.3, 3)] = Field(1.0, gt=0)
        """Factor on the kernels' median heuristic."""
        proposal_scale: float = Field(0.3, gt=0)
        """Standard deviation of the soft marginal's Gaussian proposals, before tanh."""
        policy_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        """Learning rate of the policies and of the rho_i."""
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.01, gt=0)
        hidden: int = Field(64, gt=0)
        """Units in each of two hidden layers."""
        policy_activation: Activation = "tanh"
        critic_activation: Activation = "silu"
        critic_input_scale: float = Field(3.0, gt=0)
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)

    def __init__(
        self, spec: api.EnvSpec, config: PR2.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        self.spec, self.config, c = spec, config, config
        n, a, o, h = spec.n_agents, spec.action_dim, spec.obs_dim, config.hidden
        names = "init", "update", "explore", "execute"
        init, self.noise, self.explore, self.execute = (Streams(seeds, x, device) for x in names)
        groups, self.rest, self.stochastic = (len(seeds), n), (n - 1) * a, c.policy == "stochastic"
        self.policy = MLP(groups, (o + n * a, h, h, a), c.policy_activation, init)
        self.rho = MLP(groups, (o + n * a, h, h, self.rest), c.policy_activation, init)
        scales = {"input_scale": c.critic_input_scale, "output_scale": c.critic_output_scale}
        self.critic = MLP(groups, (n * (o + a), h, h, 1), c.critic_activation, init, **scales)
        self.target = self.critic.clone()
        self.policy_adam, self.rho_adam = (Adam(m, c.policy_lr) for m in (self.policy, self.rho))
        self.critic_adam = Adam(self.critic, c.critic_lr)
        self.order = (torch.arange(n)[:, None] + torch.arange(n)).to(device) % n  # own first

    def act(self, obs: Tensor, mode: api.Mode) -> Tensor:
        streams = self.explore if mode == "explore" else self.execute
        scale, a = float(mode != "noiseless"), self.spec.action_dim
        with torch.no_grad():
            own = self._reason(obs, lambda *shape: scale * streams.normal(*shape))[-1][..., :a]
        if mode == "explore" and not self.stochastic:
            own = (own + self.config.noise * streams.normal(*own.shape[1:])).clamp_(-1, 1)
        return own.transpose(1, 2)

    def note(self, obs: Tensor, action: Tensor) -> dict[str, Tensor]:
        return {}

    def update(self, batch: api.Batch, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_last)
        alpha = geometric(progress, c.alpha_first, c.alpha_last, c.alpha_begin, c.alpha_end)
        td_loss = self._td_loss(batch, alpha)
        self.critic_adam.step(td_loss, lr_factor)
        policy_loss, rho_loss = self._stein_losses(batch.obs[:, : c.states], alpha)
        self.policy_adam.step(policy_loss, lr_factor)
        self.rho_adam.step(rho_loss, lr_factor)
        self.target.follow(self.critic, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _reason(self, obs: Tensor, draw: Callable[..., Tensor], m: int = 1) -> list[Tensor]:
        """Each level's own action and the others' that it answers (first 0): ``[S, N, R, N*A]``."""
        own_obs, a, levels = obs.transpose(1, 2), self.spec.action_dim, list[Tensor]()
        heard = own_obs.new_zeros(*own_obs.shape[:3], self.rest)
        for level in range(self.config.level):
            if level:
                heard = self._answer(obs[:, ::m], levels[-1][:, :, ::m, :a], draw)
                heard = heard.detach().repeat_interleave(m, 2)  # m rows answer the same
            noise = float(self.stochastic) * draw(*own_obs.shape[1:3], a)
            own = torch.tanh(self.policy(torch.cat([own_obs, noise, heard], -1)))
            levels.append(torch.cat([own, heard], -1))
        return levels

    def _answer(self, obs: Tensor, own: Tensor, draw: Callable[..., Tensor], k: int = 1) -> Tensor:
        """``a_-i ~ rho_i``, ``k`` per row: ``own [S, N, R, A]`` -> ``[S, N, R*K, (N-1)*A]``."""
        x = torch.cat([obs.transpose(1, 2), own], -1).repeat_interleave(k, 2)
        return torch.tanh(self.rho(torch.cat([x, draw(*x.shape[1:3], self.rest)], -1)))

    def _q(self, critic: MLP, obs: Tensor, joint: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, B, N, O]``, ``joint [S, N, B, ..., N*A]``, own first -> ``[S, N, B, ...]``."""
        return critic(beside(obs, joint), frozen=frozen).squeeze(-1)

    def _td_loss(self, batch: api.Batch, alpha: float) -> Tensor:
        """Soft Bellman error of each agent: ``[S, N]``."""
        q_target, a = batch.reward.unsqueeze(1), self.spec.action_dim  # [S, 1, B]
        if self.spec.horizon > 1:  # a one-step game has nothing to bootstrap
            discount = self.config.gamma * (1 - batch.terminated).unsqueeze(1)
            with torch.no_grad():
                own = self._reason(batch.next_obs, self.noise.normal)[-1][..., :a]
                q_target = q_target + discount * self._soft_marginal(batch.next_obs, own, alpha)
        joint = batch.action[:, :, self.order].transpose(1, 2).flatten(3)  # [S, N, B, N*A]
        return seed_mean((self._q(self.critic, batch.obs, joint) - q_target).square(), keep=2)

    def _soft_marginal(self, obs: Tensor, own: Tensor, alpha: float) -> Tensor:
        """``Q_i'(s, a_i)`` of the target critics at ``own [S, N, B, A]``: ``[S, N, B]``."""
        k, n = self.config.others, self.spec.n_agents
        centre = self._answer(obs, own, self.noise.normal, k).unflatten(2, (-1, k)).flatten(1, 2)
        others, log_p = squashed_mixture(centre, self.config.proposal_scale, self.noise)
        others, log_p = (x.unflatten(1, (n, -1)) for x in (others, log_p))  # [S, N, B, 2K, ..]
        joint = torch.cat([own.unsqueeze(3).expand(*others.shape[:-1], -1), others], -1)
        return soft_value(self._q(self.target, obs, joint), log_p, alpha)

    def _stein_losses(self, obs: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """The losses of the policies and of the rho_i, ``[S, N]`` each, summed over levels."""
        a, k, bandwidth = self.spec.action_dim, self.config.others, self.config.bandwidth
        m = self.config.particles if self.stochastic else 1
        rows = obs.repeat_interleave(m, 1)  # [S, B*M, N, O]
        policy_loss = rho_loss = obs.new_zeros(())
        for level, joint in enumerate(self._reason(rows, self.noise.normal, m)):
            others = self._answer(rows, joint[..., :a].detach(), self.noise.normal, k)
            others = others.unflatten(2, (-1, m, k))  # [S, N, B, M, K, (N-1)*A]
            own, heard = joint.unflatten(2, (-1, m)).unsqueeze(4).split([a, self.rest], -1)
            others_and_heard = torch.cat([others, heard], 4)  # [S, N, B, M, K+1, (N-1)*A]
            point = torch.cat([own.expand(*others_and_heard.shape[:-1], -1), others_and_heard], -1)
            point = point.detach().requires_grad_()
            q = self._q(self.critic, obs, point, frozen=True)
            (score,) = torch.autograd.grad(q.sum() / alpha, point)
            uphill = score[..., k, :a] if level else score[..., :k, :a].mean(4)  # [S, N, B, M, A]
            at, to = point[..., 0, :a], point[..., :k, a:]
            if self.stochastic:
                uphill = stein_direction(at, at, uphill, bandwidth=bandwidth)
            direction = stein_direction(to, to, score[..., :k, a:], bandwidth=bandwidth)
            policy_loss = policy_loss - seed_mean((own.squeeze(4) * uphill).sum(-1), keep=2)
            rho_loss = rho_loss - seed_mean((others * direction).sum(-1), keep=2)
        return policy_loss, rho_loss

    def beliefs(self, batch: api.Batch, own: Tensor, streams: Streams) -> Tensor:
        """rho_i's answers to each own action."""
        k, m = batch.action.shape[1], own.shape[2]
        others = self._answer(batch.obs.expand(-1, m, -1, -1), own, streams.normal, k)
        return joint_of(others, self.order[:, 1:], k)

    def state_dict(self) -> dict[str, Any]:
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load_state_of(self, state)
