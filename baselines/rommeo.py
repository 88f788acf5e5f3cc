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
                  targets   follow with rate tau

with u_-i ~ rho_i and u_i ~ pi_i; all are reparameterised Gaussians squashed by tanh. One backward
pass of the model's loss serves the policy, whose loss has the same gradient in its parameters.
Execution is decentralised: every agent imagines the others by itself. Deterministic execution sets
the noise of all the Gaussians to 0.

Deviations:

- alpha falls geometrically, from when updates start; the model learns far more slowly than the
  policy; the prior is fitted to all of the ``prior_window`` newest joint actions.
- Agents act on their own observation, only critics see the state. Standard deviations stay in
  (e^-5, e^2). Learning rates decay along a cosine, and the critics' inputs and outputs are scaled,
  as for every algorithm here.
- The noise of policies and models can be made to shrink to 0 late in the budget
  (``noise_anneal_start_fraction``), in training and in execution, as SVNR's does. The critics then
  judge the actions of less noise; entropies and log rho_i - log P_i stay those of full noise,
  because those of ever narrower distributions grow without bounds. By default the noise stays.
- The entropy in y_i is the paper's, of a density on the box. If the box's volume counted as 1, as
  in the soft values of MASQL, PR2 and SVNR, an episode would earn up to alpha A log 2 less for each
  step that it goes on; Particle Gather is then learnt no better (``results/reference/README.md``).
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
from rocompare.learn.ro import joint_of
from rocompare.learn.schedule import cosine, geometric, linear
from rocompare.learn.soft import Squashed

EDGE = 1 - 1e-6
"""Executed actions nearer to the border of the box count as here: atanh(1) is infinite."""


class ROMMEO(api.Algorithm):
    version = 1

    class Config(api.OffPolicyConfig):
        alpha_start: Annotated[float, api.Search(0.1, 100)] = Field(1.0, gt=0)
        """Temperature of the policy's entropy until ``learning_starts_fraction``, in units of
        reward: the higher, the more random the actions."""
        alpha_end: Annotated[float, api.Search(0.001, 1)] = Field(0.03, gt=0)
        """Temperature of the policy's entropy from ``alpha_end_fraction`` on."""
        alpha_end_fraction: Annotated[float, api.Search(0.3, 0.95, log=False)] = Field(
            0.8, ge=0, le=1
        )
        """Share of the budget at which the geometric fall of alpha ends."""
        noise_anneal_start_fraction: Annotated[float, api.Search(0.5, 1, log=False)] = Field(
            1.0, ge=0, le=1
        )
        """Share of the budget at which the policies' noise begins to shrink: its size
        falls from 1 to 0 along a line, in training and in execution. At 1.0 it never does."""
        noise_anneal_end_fraction: float = Field(0.95, ge=0, le=1)
        """Share of the budget at which the policies' noise is gone: from then on they are
        deterministic."""
        prior_window: int = Field(128, gt=0)
        """Newest joint actions that the prior is fitted to, per seed."""
        model_lr: Annotated[float, api.Search(1e-5, 0.03)] = Field(5e-5, gt=0)
        """Learning rate of the models of the others at the start. It is low, so that a model sees
        good answers before it commits itself."""
        policy_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.01, gt=0)
        """Learning rate of the policies at the start."""
        prior_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        """Learning rate of the priors at the start."""
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.02, gt=0)
        """Learning rate of the critics at the start."""
        max_grad_norm: float = Field(10.0, gt=0)
        """Largest norm of a seed's gradient, over all agents' networks of a kind; a longer gradient
        is shortened to it."""
        hidden: int = Field(64, gt=0)
        """Units in each of a network's two hidden layers."""
        policy_activation: Activation = "tanh"
        """Activation of the hidden layers of the policies, the models and the priors."""
        critic_activation: Activation = "silu"
        """Activation of the critics' hidden layers."""
        critic_input_scale: float = Field(3.0, gt=0)
        """Factor on all that a critic sees."""
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)
        """Factor on a critic's output, in units of reward: about the size of the returns."""

    config: Config
    executes_with = ("policy", "model")

    @classmethod
    def unfit(cls, spec: api.EnvSpec, config: ROMMEO.Config) -> str:
        return "" if spec.n_agents > 1 else "it models the other agents, and there are none"

    def __init__(
        self, spec: api.EnvSpec, config: ROMMEO.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n_seeds, n, a, o = len(seeds), spec.n_agents, spec.action_dim, spec.obs_dim
        h, others_dim, groups = config.hidden, (n - 1) * a, (n_seeds, n)
        init = Streams(seeds, "init", device)
        self.noise = Streams(seeds, "update", device)
        self.explore = Streams(seeds, "explore", device)
        self.execute = Streams(seeds, "execute", device)
        activation = config.policy_activation
        self.model = MLP(groups, (o, h, h, 2 * others_dim), activation, init)
        self.prior = MLP(groups, (o, h, h, 2 * others_dim), activation, init)
        self.policy = MLP(groups, (o + others_dim, h, h, 2 * a), activation, init)
        self.critic = MLP(
            groups,
            (n * (o + a), h, h, 1),
            config.critic_activation,
            init,
            input_scale=config.critic_input_scale,
            output_scale=config.critic_output_scale,
        )
        self.target_critic = self.critic.clone()
        self.model_adam = Adam(self.model, config.model_lr, config.max_grad_norm)
        self.prior_adam = Adam(self.prior, config.prior_lr, config.max_grad_norm)
        self.policy_adam = Adam(self.policy, config.policy_lr, config.max_grad_norm)
        self.critic_adam = Adam(self.critic, config.critic_lr, config.max_grad_norm)
        self.replay = Replay(spec, config.buffer_size, seeds, device)
        self.noise_size = torch.ones(())  # at the newest update
        # The newest joint actions, and what they were responses to: (o_i, u_i) of every agent.
        self.recent = torch.zeros(n_seeds, 0, n, o + a, device=device)
        # Row i: the agents other than i, in order.
        self.rest = torch.tensor([[j for j in range(n) if j != i] for i in range(n)], device=device)

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        shape = *obs.shape[1:3], self.spec.n_agents * self.spec.action_dim
        if mode == "deterministic":
            noise = obs.new_zeros(obs.shape[0], *shape)
        else:
            noise = (self.explore if mode == "explore" else self.execute).normal(*shape)
            noise = self._noise_size(progress) * noise
        with torch.no_grad():
            *_, own = self._imagine(obs.transpose(1, 2), noise.transpose(1, 2))
        return torch.tanh(own).transpose(1, 2)

    def observe(self, transition: api.Transition) -> None:
        self.replay.add(transition)
        newest = torch.cat([transition.obs, transition.action], -1)  # [S, E, N, O + A]
        self.recent = torch.cat([self.recent, newest], 1)[:, -self.config.prior_window :]

    def update(self, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        alpha = geometric(
            progress, c.alpha_start, c.alpha_end, c.learning_starts_fraction, c.alpha_end_fraction
        )
        self.noise_size = torch.tensor(self._noise_size(progress))
        batch = self.replay.sample(c.batch_size)
        self.prior_adam.step(self._prior_loss(), lr_factor)
        td_loss = self._td_loss(batch, alpha)
        self.critic_adam.step(td_loss, lr_factor)
        value = self._soft_value(self.critic, batch.obs, batch.reward.shape[1], alpha)
        flats = self.model.flat, self.policy.flat
        for_model, for_policy = torch.autograd.grad(-seed_mean(value, keep=2).sum(), flats)
        self.model_adam.apply(for_model, lr_factor)
        self.policy_adam.apply(for_policy, lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        return {"td_loss": td_loss.detach().mean(1), "soft_value": seed_mean(value.detach())}

    def _noise_size(self, progress: float) -> float:
        """Factor on the standard normal noise of policies and models."""
        c = self.config
        return linear(
            progress, 1.0, 0.0, c.noise_anneal_start_fraction, c.noise_anneal_end_fraction
        )

    def _prior_loss(self) -> Tensor:
        """Minus the log-likelihood of the others' recent actions: ``[S, N]``."""
        obs, action = self.recent.split([self.spec.obs_dim, self.spec.action_dim], -1)
        if self.spec.constant_obs:
            obs = obs[:, :1]
        z = torch.atanh(self._others(action).clamp(-EDGE, EDGE))
        prior = Squashed.of(self.prior(obs.transpose(1, 2)))
        return -seed_mean(prior.log_prob(z), keep=2)

    def _td_loss(self, batch: api.Batch, alpha: float) -> Tensor:
        """Soft Bellman error of each agent: ``[S, N]``."""
        q_target = batch.reward.unsqueeze(1)  # [S, 1, B]
        if self.spec.horizon > 1:  # a one-step game has nothing to bootstrap
            rows = batch.reward.shape[1]
            with torch.no_grad():
                value = self._soft_value(self.target_critic, batch.next_obs, rows, alpha)
            discount = self.config.gamma * (1 - batch.terminated)
            q_target = q_target + discount.unsqueeze(1) * value
        own, others = batch.action.transpose(1, 2), self._others(batch.action)
        q = self._q(self.critic, batch.obs, own, others, frozen=False)
        return seed_mean((q - q_target).square(), keep=2)

    def _soft_value(self, critic: MLP, obs: Tensor, rows: int, alpha: float) -> Tensor:
        """``[S, N, rows]`` samples of V at ``obs [S, rows or 1, N, O]``: minus the model's loss."""
        n, own_obs = self.spec.n_agents, obs.transpose(1, 2)
        noise = self.noise.normal(n, rows, n * self.spec.action_dim)
        rho, others, pi, own = self._imagine(own_obs, self.noise_size * noise)
        q = self._q(critic, obs, torch.tanh(own), torch.tanh(others), frozen=True)
        if self.noise_size < 1:
            # The critic judges what is executed. Entropy and divergence stay those of full noise:
            # of ever narrower distributions they would grow without bounds.
            a = self.spec.action_dim
            own, others = pi.draw(noise[..., :a]), rho.draw(noise[..., a:])
        prior = Squashed.of(self.prior(own_obs, frozen=True))
        divergence = rho.log_prob(others) - prior.log_prob(others)
        return q - alpha * pi.log_prob(own) - divergence

    def _imagine(self, obs: Tensor, noise: Tensor) -> tuple[Squashed, Tensor, Squashed, Tensor]:
        """What each agent expects of the others, and its answer.

        Args:
            obs: ``[S, N, B or 1, O]``
            noise: ``[S, N, B, N*A]``, the policy's first.

        Returns:
            rho_i, ``u_-i ~ rho_i``, pi_i and ``u_i ~ pi_i``; the actions are before tanh.
        """
        a = self.spec.action_dim
        rho = Squashed.of(self.model(obs))
        others = rho.draw(noise[..., a:])
        known = torch.cat([obs.expand(-1, -1, noise.shape[2], -1), torch.tanh(others)], -1)
        pi = Squashed.of(self.policy(known))
        return rho, others, pi, pi.draw(noise[..., :a])

    def _q(self, critic: MLP, obs: Tensor, own: Tensor, others: Tensor, frozen: bool) -> Tensor:
        """``obs [S, B or 1, N, O]``, actions ``[S, N, B, ...]`` -> every agent's ``[S, N, B]``."""
        state = obs.flatten(2).unsqueeze(1).expand(-1, *own.shape[1:3], -1)
        return critic(torch.cat([state, own, others], -1), frozen=frozen).squeeze(-1)

    def _others(self, action: Tensor) -> Tensor:
        """``[S, B, N, A]`` -> what each agent sees of it, ``[S, N, B, (N-1)*A]``."""
        return action[:, :, self.rest].flatten(3).transpose(1, 2)

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """Draws of the models rho_i."""
        n, a = self.spec.n_agents, self.spec.action_dim
        obs = self.replay.sample(k, streams).obs
        rho = Squashed.of(self.model(obs.transpose(1, 2)))
        noise = self.noise_size * streams.normal(n, k, (n - 1) * a)
        others = torch.tanh(rho.draw(noise))
        return joint_of(others, self.rest, k)
