"""Stein variational negotiated reasoning (SVNR).

Sheng, Li, Jin, Zha, Wang and Wang, "Negotiated Reasoning: On Provably Addressing Relative
Over-Generalization", AAMAS 2025 (extended abstract). Algorithm 1::

    nested sets C_1 = {}, C_i = {1, .., i-1}: agent i hears the noise of those before it
    every step:   u_i = f_i(xi_i; xi_{C_i}, s); execute u, store (s, u, r, s')
    every update: critic   minimise (Q(s, u) - r - gamma V(s'))^2, V(s) = alpha log int exp(Q/alpha)
                  agent i  particles u ~ f(xi; s); psi_i += Delta_i(u') . df_i(xi')/dpsi_i with
                           Delta_i(u') = E_u[k_i(u, u') grad_{u_i} Q(s, u)/alpha + grad_{u_i} k_i]
    alpha anneals towards 0 (Theorem 3.2); k_i is a kernel on (u_i, u_{C_i}) (MP-SVGD, section 5)

Ways to execute the policy:

- ``shared``: Algorithm 1 as written. Agent i hears the very noise xi_{C_i} that the others act on.
  That is common randomness, which no baseline has.
- ``decentralised``: agent i draws its own noise, and its own copies of the noise that it would
  hear, and answers these. With ``rounds`` above 1 it computes the others' proposals itself, with
  their networks, from its copies of the noise and from its own observation. So the joint policy is
  a product of the agents' policies.
- ``deterministic``: all noise is 0. With ``rounds`` above 1 agents still hear the proposals of
  C_i, which is more than decentralised agents know where observations are private.

Choices where the abstract is silent, and deviations:

- The target density is exp(Q/alpha) over the action box itself, so it has no correction for tanh:
  that would be a prior that pulls actions away from the border.
- Delta_i is section 5's direction divided by alpha, which makes Adam's steps longer while alpha
  falls.
- Every particle u is used twice, as one that pulls others and as one that is moved, unless
  ``split_particles``.
- ``rounds`` K > 1 negotiates (Theorem 3.1): u^0 = xi, u^{k+1}_i = f_i(xi_i; u^k_{C_i}, s). Agent i
  then hears proposals instead of noise, and they count as constants in its own gradient.
- V is the optimal soft value, as in soft Q-learning (Lemma 4.1 evaluates the negotiated policy,
  which has no density). It is an importance-sampled integral, with the volume of the action box
  counted as 1: half of the proposals are uniform, half lie around the policy's samples, and the
  weights use the exact density of this mixture. With few ``value_samples`` the estimate falls short
  of V where alpha is low and the policy is off the peak.
- The size of the noise, own and heard, falls to 0 late in the budget. Theorem 3.2 has the policy
  become deterministic as alpha falls, but at any alpha above 0 two equal optima stay an even
  mixture of both, on which agents without common randomness miscoordinate. Annealing alpha further
  does not change that; without noise the three ways to execute are one.
- One round by default: to act is a single forward pass of an agent's own network, and what it hears
  is noise, never what another agent is about to do.
- ``hears`` may name other sets than the nested ones, as the sparse ones that the paper's successor
  compares.
- f_i takes agent i's own observation in place of s; learning rates decay along a cosine; the
  critic's inputs and outputs are scaled, as for every algorithm here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from rocompare import api
from rocompare.learn.kernels import stein_direction
from rocompare.learn.nn import MLP, Activation, Adam, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import AlphaSchedule, cosine, linear, temperature
from rocompare.learn.soft import soft_value, squashed_mixture


def _check_hears(value: Any) -> Any:
    """A suite's lists of agents, as tuples; a name is for pydantic to check."""
    if value in ("nested", "own"):
        return value
    rows: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(row, list | tuple) for row in rows):
        raise ValueError(
            "expected nested, own, or for each agent a list of those it hears: [[], [1], [1, 2]]"
        )
    agents = range(1, len(rows) + 1)
    for i, row in zip(agents, rows, strict=True):
        others = [j for j in agents if j != i]
        if not all(type(j) is int and j in others for j in row) or len({*row}) < len(row):
            raise ValueError(
                f"agent {i} is to hear {list(row)!r:.80}, but of {len(agents)} agents, one for "
                f"each list, it can hear {others}, each once"
            )
    return tuple(tuple(row) for row in rows)


Hears = Annotated[
    tuple[tuple[int, ...], ...] | Literal["nested", "own"], BeforeValidator(_check_hears)
]


class SVNR(api.Algorithm):
    version = 1
    shares_noise = True

    class Config(api.OffPolicyConfig):
        random_fraction: Annotated[float, api.Search(0.1, 0.5, log=False)] = Field(0.4, ge=0, le=1)
        """Share of the budget, from the start, in which actions are uniform over the action box."""
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
            0.3, ge=0, le=1
        )
        """Share of the budget at which the geometric fall of alpha begins."""
        alpha_end_fraction: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(
            0.9, ge=0, le=1
        )
        """Share of the budget at which the fall of alpha ends."""
        noise_anneal_start_fraction: Annotated[float, api.Search(0.5, 1, log=False)] = Field(
            0.7, ge=0, le=1
        )
        """Share of the budget at which the policies' noise, own and heard, begins to shrink: its
        size falls from 1 to 0 along a line, in training and in execution. At 1.0 it never does."""
        noise_anneal_end_fraction: float = Field(0.95, ge=0, le=1)
        """Share of the budget at which the policies' noise is gone: from then on they are
        deterministic."""
        particles: int = Field(32, ge=2)
        """Joint actions sampled per state, which the Stein direction moves together."""
        split_particles: bool = False
        """Half of the particles pull and the other half are moved, instead of all doing both."""
        states: int = Field(64, gt=0)
        """States of the batch for which particles are sampled. A constant observation is a single
        state, whatever this number."""
        hears: Hears = "nested"
        """Whom an agent hears besides itself: all agents before it (nested), nobody (own), or those
        in a list for each agent, counted from 1. With [[], [1], [2]] agent 2 hears agent 1, and
        agent 3 hears agent 2."""
        kernel: Literal["nested", "heard", "full", "own"] = "nested"
        """Whose actions an agent's kernel compares: its own and those of all agents before it
        (nested), its own and those of whom it hears (heard), all agents' (full), or its own alone
        (own)."""
        bandwidth: Annotated[float, api.Search(0.3, 3)] = Field(1.0, gt=0)
        """Factor on the kernel's bandwidth, which the median of the particles' squared distances
        sets."""
        rounds: int = Field(1, gt=0)
        """Negotiation rounds. In the first, agents hear noise; in each later one, the proposals of
        the round before."""
        value_samples: int = Field(2, gt=0)
        """Joint actions of either kind, uniform and around the policy's, in the estimate of the
        soft value."""
        proposal_scale: float = Field(0.3, gt=0)
        """Standard deviation, before tanh, of the joint actions around the policy's in that
        estimate."""
        policy_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.01, gt=0)
        """Learning rate of the policies at the start."""
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.02, gt=0)
        """Learning rate of the critic at the start."""
        hidden: int = Field(64, gt=0)
        """Units in each of a network's two hidden layers."""
        policy_activation: Activation = "tanh"
        """Activation of the policies' hidden layers."""
        critic_activation: Activation = "silu"
        """Activation of the critic's hidden layers."""
        critic_input_scale: float = Field(3.0, gt=0)
        """Factor on all that the critic sees."""
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)
        """Factor on the critic's output, in units of reward: about the size of the returns."""

    config: Config
    executes_with = ("policy",)

    @classmethod
    def unfit(cls, spec: api.EnvSpec, config: SVNR.Config) -> str:
        if isinstance(config.hears, str) or len(config.hears) == spec.n_agents:
            return ""
        return f"'hears' has {len(config.hears)} lists for {spec.n_agents} agents"

    def __init__(
        self, spec: api.EnvSpec, config: SVNR.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n_seeds, n, a, o = len(seeds), spec.n_agents, spec.action_dim, spec.obs_dim
        h = config.hidden
        init = Streams(seeds, "init", device)
        self.noise = Streams(seeds, "update", device)
        self.explore = Streams(seeds, "explore", device)
        self.shared = Streams(seeds, "execute", device)
        self.private = Streams(seeds, "decentralised", device)
        self.policy = MLP((n_seeds, n), (o + n * a, h, h, a), config.policy_activation, init)
        self.critic = MLP(
            (n_seeds,),
            (n * (o + a), h, h, 1),
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
        # Row i: which agents concern agent i.
        own = torch.eye(n, device=device)
        everyone = torch.ones(n, n, device=device)
        nested = everyone.tril()
        heard = nested - own if config.hears == "nested" else torch.zeros_like(own)
        if not isinstance(config.hears, str):
            for i, others in enumerate(config.hears):
                for j in others:
                    heard[i, j - 1] = 1
        self.own = own[:, None, :, None]  # [N, 1, N, 1]
        self.heard = heard[:, None, :, None]
        kernels = {"nested": nested, "heard": own + heard, "full": everyone, "own": own}
        self.mask = kernels[config.kernel]

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        n, size = self.spec.n_agents, self._noise_size(progress)
        shape = obs.shape[1], n, self.spec.action_dim
        with torch.no_grad():
            if mode == "decentralised":
                return self._act_alone(obs, size * self.private.normal(n, *shape))
            if mode == "deterministic":
                noise = obs.new_zeros(obs.shape[0], *shape)
            else:
                noise = size * (self.explore if mode == "explore" else self.shared).normal(*shape)
            return self._negotiate(obs, noise, self.config.rounds)

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
        return {"td_loss": td_loss.detach()}

    def _noise_size(self, progress: float) -> float:
        """Factor on the policies' standard normal noise."""
        c = self.config
        return linear(
            progress, 1.0, 0.0, c.noise_anneal_start_fraction, c.noise_anneal_end_fraction
        )

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
        q = self._q(self.target_critic, obs, action.unflatten(-1, centre.shape[-2:]))
        return soft_value(q, log_p, alpha)

    def _stein_loss(self, obs: Tensor, alpha: float) -> Tensor:
        """Its gradient is minus the amortised MP-SVGD direction of section 5: ``[S, N]``."""
        u = self._particles(obs, self.config.particles)  # [S, B, K, N, A]
        point = u.detach().requires_grad_()
        q = self._q(self.critic, obs, point, frozen=True)
        (score,) = torch.autograd.grad(q.sum(), point)
        score = score.transpose(2, 3) / alpha  # [S, B, N, K, A]
        fixed, updated = point.detach().transpose(2, 3), u.transpose(2, 3)
        if self.config.split_particles:
            half = u.shape[2] // 2
            fixed, score = fixed[..., half:, :], score[..., half:, :]
            updated = updated[..., :half, :]
        direction = stein_direction(
            fixed, updated.detach(), score, self.mask, self.config.bandwidth
        )
        return -(updated * direction).sum(-1).mean((1, 3))

    def _particles(self, obs: Tensor, k: int) -> Tensor:
        """Samples of the policy for ``obs [S, B, N, O]``: joint actions ``[S, B, K, N, A]``."""
        _, b, n, _ = obs.shape
        noise = self.noise_size * self.noise.normal(b * k, n, self.spec.action_dim)
        rows = obs.repeat_interleave(k, 1)
        return self._negotiate(rows, noise, self.config.rounds).view(-1, b, k, *noise.shape[-2:])

    def _negotiate(self, obs: Tensor, noise: Tensor, rounds: int) -> Tensor:
        """``obs [S, M, N, O]``, ``noise [S, M, N, A]`` -> joint actions ``[S, M, N, A]``."""
        said = noise
        for _ in range(rounds):
            said = self._respond(obs, noise.unsqueeze(1), said.detach().unsqueeze(1))
        return said

    def _act_alone(self, obs: Tensor, copies: Tensor) -> Tensor:
        """Agents that hear nobody and imagine what they would hear: ``[S, E, N, A]``.

        Args:
            obs: ``[S, E, N, O]``
            copies: ``[S, N, E, N, A]``, in row i everybody's noise as agent i draws it for itself.
        """
        said = copies
        if self.config.rounds > 1:
            # Row i in place of one environment each: agent i imagines them all in its own place.
            n = self.spec.n_agents
            imagined = obs.transpose(1, 2).unsqueeze(3).expand(-1, -1, -1, n, -1)
            said = self._negotiate(
                imagined.flatten(1, 2), copies.flatten(1, 2), self.config.rounds - 1
            ).unflatten(1, (n, -1))
        return self._respond(obs, copies, said)

    def _respond(self, obs: Tensor, noise: Tensor, said: Tensor) -> Tensor:
        """One round: every agent's action, given its own noise and what the others said.

        Args:
            obs: ``[S, M, N, O]``
            noise: ``[S, N or 1, M, N, A]``, of which agent i uses its own in row i.
            said: ``[S, N or 1, M, N, A]``, of which agent i uses that of whom it hears in row i.

        Returns:
            ``[S, M, N, A]``
        """
        heard = noise * self.own + said * self.heard  # [S, N, M, N, A]
        x = torch.cat([obs.transpose(1, 2), heard.flatten(3)], -1)  # [S, N, M, O + N*A]
        return torch.tanh(self.policy(x)).transpose(1, 2)

    def _q(self, critic: MLP, obs: Tensor, action: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, B, N, O]``, ``action [S, B, ..., N, A]`` -> ``[S, B, ...]``."""
        state = obs.flatten(2)
        state = state.view(*state.shape[:2], *[1] * (action.dim() - 4), -1)
        state = state.expand(*action.shape[:-2], -1)
        return critic(torch.cat([state, action.flatten(-2)], -1), frozen=frozen).squeeze(-1)

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """Draws of the negotiated joint policy: every agent perceives the same one."""
        n, a = self.spec.n_agents, self.spec.action_dim
        obs = self.replay.sample(k, streams).obs.expand(-1, k, -1, -1)
        noise = self.noise_size * streams.normal(k, n, a)
        joint = self._negotiate(obs, noise, self.config.rounds)
        return joint[:, None, None].expand(-1, n, -1, -1, -1, -1)
