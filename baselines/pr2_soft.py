"""PR2-Soft: probabilistic recursive reasoning with policies that are sampled.

Wen, Yang, Luo, Wang and Pan, "Probabilistic Recursive Reasoning for Multi-Agent Reinforcement
Learning", ICLR 2019, in a form of ours: the paper's practical algorithm, PR2-AC, has a
deterministic actor and is ``pr2``. Here the policy, too, is sampled by SVGD, from the maximiser of
the paper's objective. Agent i believes that the others answer its own action: a_-i ~ rho_i. The
loop::

    Q_i(s, a_i)        = alpha log int exp(Q_i(s, a_i, a_-i)/alpha) da_-i        (soft marginal)
    rho_i(a_-i|s, a_i) = exp((Q_i(s, a_i, a_-i) - Q_i(s, a_i))/alpha)
    every step:   a_i = f_i(xi_i; o_i); execute a, store (o, a, r, o')
    every update: critic i  minimise (Q_i(s, a) - r - gamma Q_i'(s', a'_i))^2, a'_i ~ pi_i
                  policy i  ascend Q_i(s, a_i): gradient E_rho_i[grad_{a_i} Q_i(s, a_i, a_-i)]
                  rho_i     amortised SVGD towards exp(Q_i(s, a_i, .)/alpha), at a_i ~ pi_i
                  targets   follow with rate tau

By the envelope theorem the policy's gradient is the whole gradient of the soft marginal where rho_i
is optimal. If it were passed through rho_i's samples too, the policy would ascend
E_rho_i[Q_i] = Q_i(s, a_i) - alpha H(rho_i) instead. Execution is decentralised: an agent draws its
own noise xi_i. Deterministic execution sets all noise to 0.

Deviations:

- The paper's objective also holds the entropy of pi_i. Its maximiser is exp(Q_i(s, a_i)/alpha),
  which SVGD samples with the gradient above as the score.
- The target's soft marginal is importance-sampled: half of the others' actions are uniform, half
  are drawn around rho_i's, and boxes count as of volume 1. The target holds no entropy of pi_i.
- Scores are divided by alpha, which makes Adam's steps longer while alpha falls.
- Every particle is used twice, as one that pulls others and as one that is moved; alpha falls
  geometrically, learning rates along a cosine; the critics' inputs and outputs are scaled, as for
  every algorithm here.
- The noise xi_i can be made to shrink to 0 late in the budget (``noise_anneal_start_fraction``), in
  training and in execution, as SVNR's does. By default it stays.
- Policies and rho_i see the agent's own observation, critics all of them.
- ``level`` k > 1: rho_i simulates the others' answer to the action of level j, and the same policy,
  given this answer, responds to it at level j+1 with exp(Q_i(s, ., a_-i)/alpha): at the optimum a
  step of Gibbs sampling. The action of level k is executed, every level is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from rocompare.learn.schedule import AlphaSchedule, cosine, linear, temperature
from rocompare.learn.soft import soft_value, squashed_mixture

Draw = Callable[..., Tensor]
"""Noise of a shape: ``[S, *shape]``."""


class PR2Soft(api.Algorithm):
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
            0.8, ge=0, le=1
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
        level: int = Field(1, gt=0)
        """Depth of the reasoning: at 2, an agent responds to how it believes the others would
        answer its action of level 1, and so on."""
        particles: int = Field(16, ge=2)
        """Own actions sampled per agent and state, which the Stein direction moves together."""
        others_samples: int = Field(16, ge=2)
        """Samples of the others' actions for each own action."""
        states: int = Field(16, gt=0)
        """States of the batch for which particles are sampled. A constant observation is a single
        state, whatever this number."""
        bandwidth: Annotated[float, api.Search(0.3, 3)] = Field(1.0, gt=0)
        """Factor on the kernel's bandwidth, which the median of the particles' squared distances
        sets."""
        proposal_scale: float = Field(0.3, gt=0)
        """Standard deviation, before tanh, of the others' actions around rho_i's in the estimate of
        the soft marginal."""
        policy_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        """Learning rate of the policies and of the models of the others at the start."""
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
    executes_with = ("policy", "rho")

    @classmethod
    def unfit(cls, spec: api.EnvSpec, config: PR2Soft.Config) -> str:
        return "" if spec.n_agents > 1 else "it models the other agents, and there are none"

    def __init__(
        self, spec: api.EnvSpec, config: PR2Soft.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n, a, o, h = spec.n_agents, spec.action_dim, spec.obs_dim, config.hidden
        groups = len(seeds), n
        self.others_dim = (n - 1) * a
        init = Streams(seeds, "init", device)
        self.noise = Streams(seeds, "update", device)
        self.explore = Streams(seeds, "explore", device)
        self.execute = Streams(seeds, "execute", device)
        activation = config.policy_activation
        self.policy = MLP(groups, (o + n * a, h, h, a), activation, init)
        self.rho = MLP(groups, (o + n * a, h, h, self.others_dim), activation, init)
        self.critic = MLP(
            groups,
            (n * (o + a), h, h, 1),
            config.critic_activation,
            init,
            input_scale=config.critic_input_scale,
            output_scale=config.critic_output_scale,
        )
        self.target_critic = self.critic.clone()
        self.policy_adam = Adam(self.policy, config.policy_lr)
        self.rho_adam = Adam(self.rho, config.policy_lr)
        self.critic_adam = Adam(self.critic, config.critic_lr)
        self.replay = Replay(spec, config.buffer_size, seeds, device)
        self.noise_size = torch.ones(())  # at the newest update
        # Row i: all agents, agent i first.
        agents = torch.arange(n, device=device)
        self.order = (agents[:, None] + agents) % n

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        streams = self.explore if mode == "explore" else self.execute
        size = 0.0 if mode == "deterministic" else self._noise_size(progress)

        def draw(*shape: int) -> Tensor:
            return size * streams.normal(*shape)

        with torch.no_grad():
            own = self._reason(obs, draw)[-1][..., : self.spec.action_dim]  # [S, N, E, A]
        return own.transpose(1, 2)

    def observe(self, transition: api.Transition) -> None:
        self.replay.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        alpha = temperature(progress, c)
        self.noise_size = torch.tensor(self._noise_size(progress))
        batch = self.replay.sample(c.batch_size)
        td_loss = self._td_loss(batch, alpha)
        self.critic_adam.step(td_loss, lr_factor)
        policy_loss, rho_loss = self._stein_losses(batch.obs[:, : c.states], alpha)
        self.policy_adam.step(policy_loss, lr_factor)
        self.rho_adam.step(rho_loss, lr_factor)
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
            with torch.no_grad():
                final = self._reason(batch.next_obs, self._draw)[-1]
                own = final[..., : self.spec.action_dim]
                q_target = q_target + discount * self._soft_marginal(batch.next_obs, own, alpha)
        joint = batch.action[:, :, self.order].transpose(1, 2).flatten(3)  # [S, N, B, N*A]
        return seed_mean((self._q(self.critic, batch.obs, joint) - q_target).square(), keep=2)

    def _soft_marginal(self, obs: Tensor, own: Tensor, alpha: float) -> Tensor:
        """``Q_i'(s, a_i)`` of the target critics at ``own [S, N, B, A]``: ``[S, N, B]``."""
        k, n = self.config.others_samples, self.spec.n_agents
        centre = self._answer(obs, own, self.noise.normal, k).unflatten(2, (-1, k))
        others, log_p = squashed_mixture(
            centre.flatten(1, 2), self.config.proposal_scale, self.noise
        )  # [S, N*B, 2K, (N-1)*A], [S, N*B, 2K]
        others, log_p = others.unflatten(1, (n, -1)), log_p.unflatten(1, (n, -1))
        joint = torch.cat([own.unsqueeze(3).expand(*others.shape[:-1], -1), others], -1)
        return soft_value(self._q(self.target_critic, obs, joint), log_p, alpha)

    def _stein_losses(self, obs: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """The losses of the policies and of the rho_i, ``[S, N]`` each, summed over levels."""
        a, k, bandwidth = self.spec.action_dim, self.config.others_samples, self.config.bandwidth
        m = self.config.particles
        rows = obs.repeat_interleave(m, 1)  # [S, B*M, N, O]
        policy_loss = rho_loss = obs.new_zeros(())
        for level, joint in enumerate(self._reason(rows, self._draw, m)):
            answers = self._answer(rows, joint[..., :a].detach(), self.noise.normal, k)
            answers = answers.unflatten(2, (-1, m, k))  # [S, N, B, M, K, (N-1)*A]
            own, heard = joint.unflatten(2, (-1, m)).unsqueeze(4).split([a, self.others_dim], -1)
            # Beside an own action stand its K answers and, last, what it responds to itself.
            others = torch.cat([answers, heard], 4)  # [S, N, B, M, K+1, (N-1)*A]
            point = torch.cat([own.expand(*others.shape[:-1], -1), others], -1)
            point = point.detach().requires_grad_()
            q = self._q(self.critic, obs, point, frozen=True)
            (score,) = torch.autograd.grad(q.sum() / alpha, point)
            # The first level ascends the soft marginal, the later ones respond to what they heard.
            uphill = score[..., :k, :a].mean(4) if level == 0 else score[..., k, :a]
            at = point[..., 0, :a]  # [S, N, B, M, A]
            uphill = stein_direction(at, at, uphill, bandwidth=bandwidth)
            at = point[..., :k, a:]
            direction = stein_direction(at, at, score[..., :k, a:], bandwidth=bandwidth)
            policy_loss = policy_loss - seed_mean((own.squeeze(4) * uphill).sum(-1), keep=2)
            rho_loss = rho_loss - seed_mean((answers * direction).sum(-1), keep=2)
        return policy_loss, rho_loss

    def _draw(self, *shape: int) -> Tensor:
        """The policies' noise in training. The samples of rho_i that losses and values average over
        keep their full noise: they stand for all that the others may do."""
        return self.noise_size * self.noise.normal(*shape)

    def _reason(self, obs: Tensor, draw: Draw, m: int = 1) -> list[Tensor]:
        """Each level's own action, and those of the others that it responds to.

        Args:
            obs: ``[S, R, N, O]``, of which ``m`` rows each are of the same state and respond to the
                same simulated answer.
            draw: noise of the samplers.

        Returns:
            ``[S, N, R, N*A]`` for each level, the own action first. What the first level responds
            to is 0.
        """
        own_obs, a = obs.transpose(1, 2), self.spec.action_dim
        heard = own_obs.new_zeros(*own_obs.shape[:3], self.others_dim)
        levels: list[Tensor] = []
        for level in range(self.config.level):
            if level > 0:
                before = levels[-1][:, :, ::m, :a]
                heard = self._answer(obs[:, ::m], before, draw).detach().repeat_interleave(m, 2)
            noise = draw(*own_obs.shape[1:3], a)
            own = torch.tanh(self.policy(torch.cat([own_obs, noise, heard], -1)))
            levels.append(torch.cat([own, heard], -1))
        return levels

    def _answer(self, obs: Tensor, own: Tensor, draw: Draw, k: int = 1) -> Tensor:
        """``a_-i ~ rho_i``, ``k`` per row: ``own [S, N, R, A]`` -> ``[S, N, R*K, (N-1)*A]``."""
        x = torch.cat([obs.transpose(1, 2), own], -1).repeat_interleave(k, 2)
        noise = draw(*x.shape[1:3], self.others_dim)
        return torch.tanh(self.rho(torch.cat([x, noise], -1)))

    def _q(self, critic: MLP, obs: Tensor, joint: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, B, N, O]``, ``joint [S, N, B, ..., N*A]``, own first -> ``[S, N, B, ...]``."""
        return critic(beside(obs, joint), frozen=frozen).squeeze(-1)

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """rho_i's answers to each own action."""
        obs = self.replay.sample(k, streams).obs.expand(-1, own.shape[2], -1, -1)
        others = self._answer(obs, own, streams.normal, k)
        return joint_of(others, self.order[:, 1:], k)
