"""Stein variational negotiated reasoning (SVNR).

Sheng, Li, Jin, Zha, Wang and Wang, "Negotiated Reasoning: On Provably Addressing Relative
Over-Generalization", AAMAS 2025 (extended abstract). Algorithm 1::

    nested sets C_1 = {}, C_i = {1, .., i-1}: agent i hears the noise of those before it
    every step:   u_i = f_i(xi_i; xi_{C_i}, s); execute u, store (s, u, r, s')
    every update: critic   minimise (Q(s, u) - r - gamma V(s'))^2, V(s) = alpha log int exp(Q/alpha)
                  agent i  particles u ~ f(xi; s); psi_i += Delta_i(u') . df_i(xi')/dpsi_i with
                           Delta_i(u') = E_u[k_i(u, u') grad_{u_i} Q(s, u)/alpha + grad_{u_i} k_i]
    alpha anneals towards 0 (Theorem 3.2); k_i is a kernel on (u_i, u_{C_i}) (MP-SVGD, section 5)

Choices where the abstract is silent, and deviations:

- The target density is exp(Q/alpha) over the action box itself, so it has no tanh correction:
  that would be a prior that pulls actions away from the border.
- Delta_i is section 5's direction over alpha, which makes Adam's steps longer while alpha falls.
- Every particle is both fixed and updated, unless ``split_particles``.
- ``rounds`` K > 1 (default 2) negotiates (Theorem 3.1): u^0 = xi, u^{k+1}_i = f_i(xi_i; u^k_{C_i},
  s): agent i hears proposals instead of noise, held fixed in its own gradient.
- V is the optimal soft value, as in soft Q-learning (Lemma 4.1 evaluates the negotiated policy,
  which has no density): an importance-sampled integral, the box's volume counted as 1, half of the
  proposals uniform, half around the policy's samples, with the exact density. ``value_samples`` so
  few fall short of it where alpha is low and the policy off the peak.
- f_i takes agent i's own observation for s; learning rates decay; the critic is scaled.

Execution samples noise that agents share along the nesting, as Algorithm 1 does: common randomness
that no baseline has. The noiseless mode xi = 0 is without it, but with K > 1 an agent hears the
proposals of C_i there too: more than baselines know where observations or networks are private.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn.kernels import stein_direction
from rocompare.learn.nn import MLP, Activation, Adam, load_state_of, seed_mean, state_of
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine, geometric
from rocompare.learn.soft import soft_value, squashed_mixture


class SVNR:
    version = 1

    class Config(api.Config):
        random_until: Annotated[float, api.Search(0.1, 0.5, log=False)] = Field(0.2, ge=0, le=1)
        """Fraction of the budget in which actions are uniform over the action box."""
        alpha_first: Annotated[float, api.Search(3, 300)] = Field(30.0, gt=0)
        """Entropy temperature until ``alpha_begin``, in units of reward."""
        alpha_last: Annotated[float, api.Search(0.03, 1)] = Field(0.1, gt=0)
        """Entropy temperature from ``alpha_end`` on."""
        alpha_begin: float = Field(0.1, ge=0, le=1)
        """Share of the budget at which the geometric fall of alpha begins."""
        alpha_end: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(0.8, ge=0, le=1)
        """Share of the budget at which it ends."""
        particles: int = Field(32, ge=2)
        """Action samples K per state."""
        split_particles: bool = False
        """Half of the particles fixed, half updated, instead of all of them both."""
        states: int = Field(64, gt=0)
        """States of the batch that carry particles; a constant observation is one state."""
        kernel: Literal["nested", "full", "own"] = "nested"
        """Coordinates in agent i's kernel: (u_i, u_{C_i}), all of u, or u_i alone."""
        hears: Literal["nested", "own"] = "nested"
        """Whose noise agent i hears: its own and that of C_i, or its own alone."""
        bandwidth: Annotated[float, api.Search(0.3, 3)] = Field(1.0, gt=0)
        """Factor on the kernels' median heuristic."""
        rounds: int = Field(2, gt=0)
        """Negotiation rounds."""
        value_samples: int = Field(2, gt=0)
        """Proposals of either kind for the soft value; as many as ``particles`` would cost most."""
        proposal_scale: float = Field(0.3, gt=0)
        """Standard deviation of the soft value's Gaussian proposals, before tanh."""
        policy_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.01, gt=0)
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.02, gt=0)
        hidden: int = Field(64, gt=0)
        """Units in each of two hidden layers."""
        policy_activation: Activation = "tanh"
        critic_activation: Activation = "silu"
        critic_input_scale: float = Field(3.0, gt=0)
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)

    def __init__(
        self, spec: api.EnvSpec, config: SVNR.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        self.spec, self.config, c = spec, config, config
        n_seeds, n, a, o = len(seeds), spec.n_agents, spec.action_dim, spec.obs_dim
        h, init = c.hidden, Streams(seeds, "init", device)
        self.noise = Streams(seeds, "update", device)
        self.explore = Streams(seeds, "explore", device)
        self.execute = Streams(seeds, "execute", device)
        self.policy = MLP((n_seeds, n), (o + n * a, h, h, a), c.policy_activation, init)
        scales = {"input_scale": c.critic_input_scale, "output_scale": c.critic_output_scale}
        self.critic = MLP((n_seeds,), (n * (o + a), h, h, 1), c.critic_activation, init, **scales)
        self.target = self.critic.clone()
        self.policy_adam = Adam(self.policy, c.policy_lr)
        self.critic_adam = Adam(self.critic, c.critic_lr)
        own, nested = torch.eye(n, device=device), torch.ones(n, n, device=device).tril()
        heard = (nested if c.hears == "nested" else own) - own
        self.own, self.heard = own[:, None, :, None], heard[:, None, :, None]  # [N, 1, N, 1]
        self.mask = {"nested": nested, "full": torch.ones_like(own), "own": own}[c.kernel]

    def act(self, obs: Tensor, mode: api.Mode) -> Tensor:
        shape = obs.shape[1], self.spec.n_agents, self.spec.action_dim
        if mode == "noiseless":
            noise = obs.new_zeros(obs.shape[0], *shape)
        else:
            noise = (self.explore if mode == "explore" else self.execute).normal(*shape)
        with torch.no_grad():
            return self._negotiate(obs, noise)

    def note(self, obs: Tensor, action: Tensor) -> dict[str, Tensor]:
        return {}

    def update(self, batch: api.Batch, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_last)
        alpha = geometric(progress, c.alpha_first, c.alpha_last, c.alpha_begin, c.alpha_end)
        td_loss = self._td_loss(batch, alpha)
        self.critic_adam.step(td_loss, lr_factor)
        self.policy_adam.step(self._stein_loss(batch.obs[:, : c.states], alpha), lr_factor)
        self.target.follow(self.critic, c.tau)
        return {"td_loss": td_loss.detach()}

    def _negotiate(self, obs: Tensor, noise: Tensor) -> Tensor:
        """``obs [S, M, N, O]``, ``noise [S, M, N, A]`` -> joint actions ``[S, M, N, A]``."""
        own = noise.transpose(1, 2).unsqueeze(3) * self.own  # [S, N, M, N, A]
        said = noise
        for _ in range(self.config.rounds):
            heard = own + said.detach().unsqueeze(1) * self.heard
            x = torch.cat([obs.transpose(1, 2), heard.flatten(3)], -1)  # [S, N, M, O + N*A]
            said = torch.tanh(self.policy(x)).transpose(1, 2)
        return said

    def _q(self, critic: MLP, obs: Tensor, action: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, B, N, O]``, ``action [S, B, ..., N, A]`` -> ``[S, B, ...]``."""
        state = obs.flatten(2)
        state = state.view(*state.shape[:2], *[1] * (action.dim() - 4), -1)
        state = state.expand(*action.shape[:-2], -1)
        return critic(torch.cat([state, action.flatten(-2)], -1), frozen=frozen).squeeze(-1)

    def _td_loss(self, batch: api.Batch, alpha: float) -> Tensor:
        """Soft Bellman error, section 4: ``[S]``."""
        q_target = batch.reward
        if self.spec.horizon > 1:  # a one-step game has nothing to bootstrap
            value = self._soft_value(batch.next_obs, alpha)
            q_target = q_target + self.config.gamma * (1 - batch.terminated) * value
        q = self._q(self.critic, batch.obs.expand(-1, q_target.shape[1], -1, -1), batch.action)
        return seed_mean((q - q_target).square())

    @torch.no_grad()
    def _soft_value(self, obs: Tensor, alpha: float) -> Tensor:
        """``V(s) = alpha log E_{u~p}[exp(Q(s, u)/alpha) / p(u)]``: ``[S, B]``."""
        centre = self._particles(obs, self.config.value_samples)  # [S, B, K, N, A]
        action, log_p = squashed_mixture(
            centre.flatten(-2), self.config.proposal_scale, self.noise
        )  # [S, B, 2K, N*A], [S, B, 2K]
        q = self._q(self.target, obs, action.unflatten(-1, centre.shape[-2:]))
        return soft_value(q, log_p, alpha)

    def _particles(self, obs: Tensor, k: int) -> Tensor:
        """``obs [S, B, N, O]`` -> joint actions ``[S, B, K, N, A]``."""
        _, b, n, _ = obs.shape
        noise = self.noise.normal(b * k, n, self.spec.action_dim)
        return self._negotiate(obs.repeat_interleave(k, 1), noise).unflatten(1, (b, k))

    def _stein_loss(self, obs: Tensor, alpha: float) -> Tensor:
        """Its gradient is minus the amortised MP-SVGD direction of section 5: ``[S, N]``."""
        u = self._particles(obs, self.config.particles)  # [S, B, K, N, A]
        point = u.detach().requires_grad_()
        q = self._q(self.critic, obs, point, frozen=True)
        (score,) = torch.autograd.grad(q.sum(), point)
        fixed, score = point.detach().transpose(2, 3), score.transpose(2, 3) / alpha
        updated = u.transpose(2, 3)  # [S, B, N, K, A]
        if self.config.split_particles:
            half = u.shape[2] // 2
            fixed, score = fixed[..., half:, :], score[..., half:, :]
            updated = updated[..., :half, :]
        direction = stein_direction(
            fixed, updated.detach(), score, self.mask, self.config.bandwidth
        )
        return -(updated * direction).sum(-1).mean((1, 3))

    def beliefs(self, batch: api.Batch, own: Tensor, streams: Streams) -> Tensor:
        """Draws of the negotiated joint policy: every agent perceives the same one."""
        k, n, a = batch.action.shape[1:]
        joint = self._negotiate(batch.obs.expand(-1, k, -1, -1), streams.normal(k, n, a))
        return joint[:, None, None].expand(-1, n, -1, -1, -1, -1)

    def state_dict(self) -> dict[str, Any]:
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load_state_of(self, state)
