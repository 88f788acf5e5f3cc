"""Lenient MADRL: lenient multi-agent deep reinforcement learning, for continuous actions.

Palmer, Tuyls, Bloembergen and Savani, "Lenient Multi-Agent Deep Reinforcement Learning", AAMAS
2018 (arXiv 1707.04402). Independent learners forgive each other's exploration: an outcome worse
than expected is mostly ignored while the pair of observation and own action is still new. The
loop::

    every step:   u_i = mu_i(o_i) + noise; store (o, u, r, o', T_i(o_i, u_i)), then let
                  T_i(o_i, u_i) <- decay T_i(o_i, u_i)
    every update: leniency l_i = 1 - exp(-k T_i), with the T_i of the replayed transition
                  critic i  delta_i = r + gamma Q_i'(o_i', mu_i'(o_i')) - Q_i(o_i, u_i); minimise
                            delta_i^2, but where delta_i < 0 only if a uniform draw exceeds l_i
                  actor i   ascend Q_i(o_i, mu_i(o_i))
                  targets   follow with rate tau

Every agent sees its own observation and action only, in training too.

Adaptations to continuous actions, and deviations:

- The paper's lenient double DQN becomes a lenient deterministic actor-critic, so that the actor
  replaces the argmax over actions. Gaussian exploration noise with a geometric decay stands in
  for its (optional) temperature-based choice between a greedy and a random action.
- Temperatures need countable pairs (o_i, u_i): the action box is cut into ``action_bins`` equal
  intervals per coordinate, and an observation becomes the signs of ``hash_bits`` random
  projections (SimHash, as in the paper, but of the observation itself, not of an autoencoder's
  code, and with random offsets, so that near and far can be told apart). A constant observation
  needs no bits. If there are more pairs than ``table_size``, a universal hash of all coordinates
  and bits says which share an entry, as in any hash table.
- ``lenient_on: terminal`` forgives only where nothing follows. Where values are bootstrapped, to
  ignore what is worse than expected lets them grow beyond what the game can pay. The paper forgives
  everywhere, and so does the default.
- T decays by the same constant factor at each visit. The paper's retroactive schedule, in which
  pairs far from an episode's end decay more slowly, comes to the same in games of one step; its
  slowly falling ceiling on all temperatures is left out.
- ``saturation`` penalises the actors' outputs before tanh, as MADDPG's public code does: lenient
  critics are optimistic beyond the data, and an actor that has followed one into a corner of the
  box has no gradient left to come back.
- Learning rates decay along a cosine, and the critics' inputs and outputs are scaled, as for every
  algorithm here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn.nn import MLP, Activation, Adam, seed_mean
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine, geometric

PRIME = 2**31 - 1
"""More than any table has entries: what the universal hash is taken modulo of first."""


class LenientMADRL(api.Algorithm):
    version = 1

    class Config(api.OffPolicyConfig):
        max_temperature: Annotated[float, api.Search(0.1, 10)] = Field(1.0, gt=0)
        """Temperature of a pair of observation and own action that was never visited."""
        temperature_decay: Annotated[float, api.Search(0.9, 0.999, log=False)] = Field(
            0.97, gt=0, le=1
        )
        """Factor on the temperature of a pair at each visit."""
        leniency_factor: Annotated[float, api.Search(1, 100)] = Field(10.0, ge=0)
        """The factor k in the leniency ``1 - exp(-k T)``, the probability with which an outcome
        worse than expected is ignored at temperature T. At 0 nothing is ignored."""
        lenient_on: Literal["all", "terminal"] = "all"
        """Which transitions are forgiven: all, or only those that nothing follows."""
        action_bins: int = Field(20, gt=0)
        """Intervals per coordinate of the own action that have temperatures of their own."""
        hash_bits: int = Field(8, gt=0, le=24)
        """Random projections whose signs tell observations apart. A constant observation needs
        none."""
        table_size: int = Field(65_536, gt=0)
        """Most temperatures kept, per seed and agent."""
        noise_start: Annotated[float, api.Search(0.1, 1)] = Field(0.5, gt=0)
        """Standard deviation of the exploration noise at the start, in units of the action."""
        noise_end: Annotated[float, api.Search(0.01, 0.3)] = Field(0.05, gt=0)
        """Standard deviation of the exploration noise from ``noise_end_fraction`` on."""
        noise_end_fraction: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(
            0.8, gt=0, le=1
        )
        """Share of the budget at which the geometric fall of the exploration noise ends."""
        saturation: Annotated[float, api.Search(0.001, 1)] = Field(0.1, ge=0)
        """Weight of the actors' squared outputs before tanh in their loss, in units of reward. It
        keeps actors out of the corners of the action box, where they have no gradient."""
        actor_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        """Learning rate of the actors at the start."""
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.01, gt=0)
        """Learning rate of the critics at the start."""
        max_grad_norm: float = Field(10.0, gt=0)
        """Largest norm of a seed's gradient, over all agents' networks of a kind; a longer gradient
        is shortened to it."""
        hidden: int = Field(64, gt=0)
        """Units in each of a network's two hidden layers."""
        actor_activation: Activation = "relu"
        """Activation of the actors' hidden layers."""
        critic_activation: Activation = "silu"
        """Activation of the critics' hidden layers."""
        critic_input_scale: float = Field(3.0, gt=0)
        """Factor on all that a critic sees."""
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)
        """Factor on a critic's output, in units of reward: about the size of the returns."""

    config: Config
    executes_with = ("actor",)

    def __init__(
        self,
        spec: api.EnvSpec,
        config: LenientMADRL.Config,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n_seeds, n, a, o = len(seeds), spec.n_agents, spec.action_dim, spec.obs_dim
        h = config.hidden
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.forgive = Streams(seeds, "update", device)
        self.actor = MLP((n_seeds, n), (o, h, h, a), config.actor_activation, init)
        self.critic = MLP(
            (n_seeds, n),
            (o + a, h, h, 1),
            config.critic_activation,
            init,
            input_scale=config.critic_input_scale,
            output_scale=config.critic_output_scale,
        )
        self.target_actor, self.target_critic = self.actor.clone(), self.critic.clone()
        self.actor_adam = Adam(self.actor, config.actor_lr, config.max_grad_norm)
        self.critic_adam = Adam(self.critic, config.critic_lr, config.max_grad_norm)
        self.replay = Replay(spec, config.buffer_size, seeds, device, {"temperature": (n,)})
        bits = 0 if spec.constant_obs else config.hash_bits
        self.projection = init.normal(n, o, bits)  # [S, N, O, bits]
        self.offset = init.normal(n, 1, bits)
        pairs = config.action_bins**a * 2**bits
        if pairs <= config.table_size:  # each has an entry of its own
            self.bin_value = config.action_bins ** torch.arange(a, device=device)
            self.bit_value = config.action_bins**a * 2 ** torch.arange(bits, device=device)
        else:
            high, low = init.index(2**15, a + bits), init.index(2**16, a + bits)
            factors = high * 2**16 + low  # [S, A + bits], up to PRIME
            self.bin_value = factors[:, None, None, :a]
            self.bit_value = factors[:, None, None, a:]
        size = min(config.table_size, pairs)
        self.temperature = torch.full((n_seeds, n, size), config.max_temperature, device=device)

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
        before = self._visit(transition.obs, transition.action)
        self.replay.add(transition, temperature=before)

    def _visit(self, obs: Tensor, action: Tensor) -> Tensor:
        """Cool each agent's pair and return its temperature before: ``[S, E, N]``."""
        entry = self._entry(obs, action)
        before = self.temperature.gather(2, entry)  # [S, N, E]
        factor = torch.full_like(before, self.config.temperature_decay)
        # Several environments may visit one entry in a step: each visit counts.
        self.temperature.scatter_reduce_(2, entry, factor, "prod")
        return before.transpose(1, 2)

    def _entry(self, obs: Tensor, action: Tensor) -> Tensor:
        """Which entry of the table ``(o_i, u_i)`` is: ``[S, N, E]``."""
        bins = self.config.action_bins
        cell = ((action + 1) * (0.5 * bins)).long().clamp_(0, bins - 1)  # [S, E, N, A]
        side = obs.transpose(1, 2) @ self.projection + self.offset > 0  # [S, N, E, bits]
        of_action = (cell * self.bin_value).sum(-1).transpose(1, 2)
        of_obs = (side * self.bit_value).sum(-1)
        return (of_action + of_obs) % PRIME % self.temperature.shape[2]

    def update(self, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        batch, extras = self.replay.sample_with(c.batch_size)
        td_loss = self._td_loss(batch, extras["temperature"])
        self.critic_adam.step(td_loss, lr_factor)
        self.actor_adam.step(self._actor_loss(batch), lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        self.target_actor.follow(self.actor, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _td_loss(self, batch: api.Batch, temperature: Tensor) -> Tensor:
        """Squared errors that leniency lets through: ``[S, N]``; ``temperature [S, B, N]``."""
        with torch.no_grad():
            next_obs = batch.next_obs.transpose(1, 2)
            next_q = self._q(self.target_critic, next_obs, torch.tanh(self.target_actor(next_obs)))
            discount = self.config.gamma * (1 - batch.terminated)
            q_target = batch.reward.unsqueeze(1) + discount.unsqueeze(1) * next_q  # [S, N, B]
        q = self._q(self.critic, batch.obs.transpose(1, 2), batch.action.transpose(1, 2))
        delta = q_target - q
        temperature = temperature.transpose(1, 2)
        if self.config.lenient_on == "terminal":
            temperature = temperature * batch.terminated.unsqueeze(1)
        passed = self._passes(delta.detach(), temperature)
        return seed_mean(torch.where(passed, delta, 0.0).square(), keep=2)

    def _passes(self, delta: Tensor, temperature: Tensor) -> Tensor:
        """Which errors teach, all ``[S, N, B]``: the negative ones with probability 1 - l."""
        leniency = 1 - torch.exp(-self.config.leniency_factor * temperature)
        return ~(delta < 0) | (self.forgive.uniform(*delta.shape[1:]) > leniency)

    def _actor_loss(self, batch: api.Batch) -> Tensor:
        """Minus the value of the own action, and what saturated outputs cost: ``[S, N]``."""
        obs = batch.obs.transpose(1, 2)
        z = self.actor(obs)
        q = self._q(self.critic, obs, torch.tanh(z), frozen=True)
        return seed_mean(self.config.saturation * z.square().sum(-1) - q, keep=2)

    def _q(self, critic: MLP, obs: Tensor, action: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, N, B or 1, O]``, ``action [S, N, B, A]`` -> ``[S, N, B]``."""
        obs = obs.expand(-1, -1, action.shape[2], -1)
        return critic(torch.cat([obs, action], -1), frozen=frozen).squeeze(-1)

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """Replayed actions, each as often as leniency lets it teach (of one-step games)."""
        batch, extras = self.replay.sample_with(k, streams)
        q = self._q(self.critic, batch.obs.transpose(1, 2), batch.action.transpose(1, 2))
        temperature = extras["temperature"].transpose(1, 2)
        forgiven = torch.exp(-self.config.leniency_factor * temperature)
        chance = torch.where(batch.reward.unsqueeze(1) < q, forgiven, 1.0).cumsum(-1)  # [S, N, K]
        row = torch.searchsorted(chance, streams.uniform(*q.shape[1:]) * chance[..., -1:])
        row = row.clamp_(max=q.shape[2] - 1)[..., None, None]
        joint = batch.action.unsqueeze(1).expand(-1, q.shape[1], -1, -1, -1)
        return joint.gather(2, row.expand_as(joint)).unsqueeze(2)
