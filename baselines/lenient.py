"""Lenient MADRL: lenient multi-agent deep reinforcement learning, for continuous actions.

Palmer, Tuyls, Bloembergen and Savani, "Lenient Multi-Agent Deep Reinforcement Learning", AAMAS
2018 (arXiv 1707.04402). Independent learners forgive each other's exploration: an outcome worse
than expected is mostly ignored while the pair of state and own action is still new. The loop::

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
  needs no bits. Tables larger than ``table_size`` share entries, as any hash table does.
- T decays by its own constant factor at each visit. The paper's retroactive schedule, in which
  pairs far from an episode's end decay more slowly, comes to the same in games of one step; its
  slowly falling ceiling on all temperatures is left out.
- ``saturation`` penalises the actors' outputs before tanh, as MADDPG's public code does: lenient
  critics are optimistic beyond the data, and an actor that has followed one into a corner of the
  box has no gradient left to come back.
- Learning rates decay along a cosine, and the critic's inputs and outputs are scaled, as for every
  algorithm here.
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
from rocompare.learn.schedule import cosine, geometric


class LenientMADRL:
    version = 1

    class Config(api.Config):
        max_temperature: Annotated[float, api.Search(0.1, 10)] = Field(1.0, gt=0)
        """Temperature of a pair of observation and own action never visited."""
        decay: Annotated[float, api.Search(0.9, 0.999, log=False)] = Field(0.97, gt=0, le=1)
        """Factor on the temperature of a pair at each visit."""
        leniency: Annotated[float, api.Search(1, 100)] = Field(10.0, ge=0)
        """Moderation factor k: leniency is ``1 - exp(-k T)``; 0 is an ordinary critic."""
        action_bins: int = Field(20, gt=0)
        """Intervals per coordinate of the own action that have temperatures of their own."""
        hash_bits: int = Field(8, gt=0, le=24)
        """Random projections whose signs identify an observation, unless that is constant."""
        table_size: int = Field(65_536, gt=0)
        """Temperatures at most, per seed and agent."""
        noise_first: Annotated[float, api.Search(0.1, 1)] = Field(0.5, gt=0)
        """Standard deviation of the exploration noise at the start, in units of the action."""
        noise_last: Annotated[float, api.Search(0.01, 0.3)] = Field(0.05, gt=0)
        """The same from ``noise_end`` on."""
        noise_end: float = Field(0.8, gt=0, le=1)
        """Share of the budget at which the noise's geometric decay ends."""
        saturation: Annotated[float, api.Search(0.01, 1)] = Field(0.1, ge=0)
        """Weight of the actors' squared outputs before tanh in their loss, in units of reward."""
        actor_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.01, gt=0)
        clip: float = Field(10.0, gt=0)
        """Largest gradient norm of a seed."""
        hidden: int = Field(64, gt=0)
        """Units in each of two hidden layers."""
        actor_activation: Activation = "relu"
        critic_activation: Activation = "silu"
        critic_input_scale: float = Field(3.0, gt=0)
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)

    def __init__(
        self,
        spec: api.EnvSpec,
        config: LenientMADRL.Config,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        self.spec, self.config, c = spec, config, config
        n_seeds, n, a, o = len(seeds), spec.n_agents, spec.action_dim, spec.obs_dim
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.forgive = Streams(seeds, "update", device)
        h = c.hidden
        self.actor = MLP((n_seeds, n), (o, h, h, a), c.actor_activation, init)
        scales = {"input_scale": c.critic_input_scale, "output_scale": c.critic_output_scale}
        self.critic = MLP((n_seeds, n), (o + a, h, h, 1), c.critic_activation, init, **scales)
        self.target_actor, self.target_critic = self.actor.clone(), self.critic.clone()
        self.actor_adam = Adam(self.actor, config.actor_lr, config.clip)
        self.critic_adam = Adam(self.critic, config.critic_lr, config.clip)
        self.noise_scale = config.noise_first
        bits = 0 if spec.constant_obs else config.hash_bits
        self.projection = init.normal(n, o, bits)  # [S, N, O, bits]
        self.offset = init.normal(n, 1, bits)
        self.bit_value = 2 ** torch.arange(bits, device=device)
        self.bin_value = config.action_bins ** torch.arange(a, device=device)
        size = min(config.table_size, 2**bits * config.action_bins**a)
        self.temperature = torch.full((n_seeds, n, size), config.max_temperature, device=device)

    def act(self, obs: Tensor, mode: api.Mode) -> Tensor:
        with torch.no_grad():
            action = torch.tanh(self.actor(obs.transpose(1, 2))).transpose(1, 2)  # [S, E, N, A]
        if mode == "explore":
            noise = self.explore.normal(*action.shape[1:])
            action = (action + self.noise_scale * noise).clamp_(-1, 1)
        return action

    def note(self, obs: Tensor, action: Tensor) -> dict[str, Tensor]:
        """The temperature ``[S, E, N]`` of each agent's pair, as it was before this visit."""
        entry = self._entry(obs, action)
        before = self.temperature.gather(2, entry)  # [S, N, E]
        factor = torch.full_like(before, self.config.decay)
        self.temperature.scatter_reduce_(2, entry, factor, "prod")  # once per visit
        return {"temperature": before.transpose(1, 2)}

    def _entry(self, obs: Tensor, action: Tensor) -> Tensor:
        """Which entry of the table ``(o_i, u_i)`` is: ``[S, N, E]``."""
        bins = self.config.action_bins
        cell = ((action + 1) * (0.5 * bins)).long().clamp_(0, bins - 1)  # [S, E, N, A]
        side = obs.transpose(1, 2) @ self.projection + self.offset > 0  # [S, N, E, bits]
        pair = (cell * self.bin_value).sum(-1).transpose(1, 2)
        pair = pair + (side * self.bit_value).sum(-1) * bins**self.spec.action_dim
        return pair % self.temperature.shape[2]

    def update(self, batch: api.Batch, progress: float) -> dict[str, Tensor]:
        c = self.config
        self.noise_scale = geometric(progress, c.noise_first, c.noise_last, 0, c.noise_end)
        lr_factor = cosine(progress, c.lr_last)
        td_loss = self._td_loss(batch)
        self.critic_adam.step(td_loss, lr_factor)
        self.actor_adam.step(self._actor_loss(batch), lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        self.target_actor.follow(self.actor, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _q(self, critic: MLP, obs: Tensor, action: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, N, B or 1, O]``, ``action [S, N, B, A]`` -> ``[S, N, B]``."""
        obs = obs.expand(-1, -1, action.shape[2], -1)
        return critic(torch.cat([obs, action], -1), frozen=frozen).squeeze(-1)

    def _td_loss(self, batch: api.Batch) -> Tensor:
        """Squared errors that leniency lets through: ``[S, N]``."""
        with torch.no_grad():
            next_obs = batch.next_obs.transpose(1, 2)
            next_q = self._q(self.target_critic, next_obs, torch.tanh(self.target_actor(next_obs)))
            discount = self.config.gamma * (1 - batch.terminated)
            q_target = batch.reward.unsqueeze(1) + discount.unsqueeze(1) * next_q  # [S, N, B]
        q = self._q(self.critic, batch.obs.transpose(1, 2), batch.action.transpose(1, 2))
        delta = q_target - q
        passed = self._passes(delta.detach(), batch.extras["temperature"].transpose(1, 2))
        return seed_mean(torch.where(passed, delta, 0.0).square(), keep=2)

    def _passes(self, delta: Tensor, temperature: Tensor) -> Tensor:
        """Which errors teach, all ``[S, N, B]``: the negative ones with probability 1 - l."""
        leniency = 1 - torch.exp(-self.config.leniency * temperature)
        return ~(delta < 0) | (self.forgive.uniform(*delta.shape[1:]) > leniency)

    def _actor_loss(self, batch: api.Batch) -> Tensor:
        """Minus the value of the own action, and what saturated outputs cost: ``[S, N]``."""
        obs = batch.obs.transpose(1, 2)
        z = self.actor(obs)
        q = self._q(self.critic, obs, torch.tanh(z), frozen=True)
        return seed_mean(self.config.saturation * z.square().sum(-1) - q, keep=2)

    def beliefs(self, batch: api.Batch, own: Tensor, streams: Streams) -> Tensor:
        """Replayed actions, each as often as leniency lets it teach (of one-step games)."""
        q = self._q(self.critic, batch.obs.transpose(1, 2), batch.action.transpose(1, 2))
        forgiven = torch.exp(-self.config.leniency * batch.extras["temperature"].transpose(1, 2))
        chance = torch.where(batch.reward.unsqueeze(1) < q, forgiven, 1.0).cumsum(-1)  # [S, N, K]
        row = torch.searchsorted(chance, streams.uniform(*q.shape[1:]) * chance[..., -1:])
        row = row.clamp_(max=q.shape[2] - 1)[..., None, None]
        joint = batch.action.unsqueeze(1).expand(-1, q.shape[1], -1, -1, -1)
        return joint.gather(2, row.expand_as(joint)).unsqueeze(2)

    def state_dict(self) -> dict[str, Any]:
        own = {"noise_scale": self.noise_scale, "temperature": self.temperature}
        return state_of(self) | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load_state_of(self, state)
        self.noise_scale = state["noise_scale"]
        self.temperature.copy_(state["temperature"])
