"""MADDPG: multi-agent deep deterministic policy gradient.

Lowe, Wu, Tamar, Harb, Abbeel and Mordatch, "Multi-Agent Actor-Critic for Mixed
Cooperative-Competitive Environments", NeurIPS 2017. The loop (their Algorithm 1)::

    every step:   u_i = mu_i(o_i) + noise; execute u, store (o, u, r, o')
    every update: critic i  minimise (Q_i(x, u) - y_i)^2, y_i = r + gamma Q_i'(x', mu'(o')) (eq. 6)
                  actor i   ascend Q_i(x, u_1..mu_i(o_i)..u_N), others' actions replayed (eq. 5)
                  targets   follow with rate tau

Deviations: Gaussian exploration noise with a geometric decay instead of an Ornstein-Uhlenbeck
process (the paper's is tied to time, and one-step games have none); tanh-bounded actions, with a
penalty on the outputs before tanh as in the authors' code, so that an actor in a corner of the box
keeps a gradient; learning rates decay along a cosine, and the critic's inputs and outputs are
scaled, as for every algorithm here.
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


class MADDPG(api.Algorithm):
    version = 1

    class Config(api.OffPolicyConfig):
        random_fraction: Annotated[float, api.Search(0.1, 0.5, log=False)] = Field(0.15, ge=0, le=1)
        """Share of the budget, from the start, in which actions are uniform over the action box."""
        noise_start: Annotated[float, api.Search(0.1, 3)] = Field(1.0, gt=0)
        """Standard deviation of the exploration noise at the start, in units of the action."""
        noise_end: Annotated[float, api.Search(0.01, 0.3)] = Field(0.05, gt=0)
        """Standard deviation of the exploration noise from ``noise_end_fraction`` on."""
        noise_end_fraction: Annotated[float, api.Search(0.5, 0.95, log=False)] = Field(
            0.8, gt=0, le=1
        )
        """Share of the budget at which the geometric fall of the exploration noise ends."""
        others: Literal["batch", "policy"] = "batch"
        """Where the others' actions in an actor's gradient come from: replayed, as in the paper, or
        from their current policies."""
        saturation: Annotated[float, api.Search(0.001, 1)] = Field(0.1, ge=0)
        """Weight of the actors' squared outputs before tanh in their loss, in units of reward. It
        keeps actors out of the corners of the action box, where they have no gradient."""
        actor_lr: Annotated[float, api.Search(1e-3, 0.03)] = Field(0.005, gt=0)
        """Learning rate of the actors at the start."""
        critic_lr: Annotated[float, api.Search(3e-3, 0.1)] = Field(0.02, gt=0)
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
        self, spec: api.EnvSpec, config: MADDPG.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n_seeds, n, a, o = len(seeds), spec.n_agents, spec.action_dim, spec.obs_dim
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        h = config.hidden
        self.actor = MLP((n_seeds, n), (o, h, h, a), config.actor_activation, init)
        self.critic = MLP(
            (n_seeds, n),
            (n * (o + a), h, h, 1),
            config.critic_activation,
            init,
            input_scale=config.critic_input_scale,
            output_scale=config.critic_output_scale,
        )
        self.target_actor, self.target_critic = self.actor.clone(), self.critic.clone()
        self.actor_adam = Adam(self.actor, config.actor_lr, config.max_grad_norm)
        self.critic_adam = Adam(self.critic, config.critic_lr, config.max_grad_norm)
        self.replay = Replay(spec, config.buffer_size, seeds, device)
        self.own = torch.eye(n, dtype=torch.bool, device=device)[:, None, :, None]  # [N, 1, N, 1]

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
        self.replay.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        batch = self.replay.sample(c.batch_size)
        td_loss = self._td_loss(batch)
        self.critic_adam.step(td_loss, lr_factor)
        self.actor_adam.step(self._actor_loss(batch), lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        self.target_actor.follow(self.actor, c.tau)
        return {"td_loss": td_loss.detach().mean(1)}

    def _td_loss(self, batch: api.Batch) -> Tensor:
        """Equation 6: ``[S, N]``."""
        with torch.no_grad():
            next_action = torch.tanh(self.target_actor(batch.next_obs.transpose(1, 2)))
            joint = next_action.transpose(1, 2).unsqueeze(1)  # [S, 1, B, N, A]
            next_q = self._q(self.target_critic, batch.next_obs, joint)  # [S, N, B]
            discount = self.config.gamma * (1 - batch.terminated)
            q_target = batch.reward.unsqueeze(1) + discount.unsqueeze(1) * next_q
        q = self._q(self.critic, batch.obs, batch.action.unsqueeze(1))
        return seed_mean((q - q_target).square(), keep=2)

    def _actor_loss(self, batch: api.Batch) -> Tensor:
        """Minus the objective of equation 5, and what saturated outputs cost: ``[S, N]``."""
        z = self.actor(batch.obs.transpose(1, 2))
        action = torch.tanh(z)  # [S, N, B, A]
        if self.config.others == "batch":
            others = batch.action.unsqueeze(1)  # [S, 1, B, N, A]
        else:
            others = action.detach().transpose(1, 2).unsqueeze(1)
        # Agent i's critic sees agent i's action from its actor, in a copy of the joint action.
        joint = torch.where(self.own, action.unsqueeze(3), others)  # [S, N, B, N, A]
        q = self._q(self.critic, batch.obs, joint, frozen=True)
        return self.config.saturation * seed_mean(z.square().sum(-1), keep=2) - seed_mean(q, keep=2)

    def _q(self, critic: MLP, obs: Tensor, joint: Tensor, frozen: bool = False) -> Tensor:
        """``obs [S, B, N, O]``, ``joint [S, N or 1, B, N, A]`` -> every agent's ``[S, N, B]``."""
        n = self.spec.n_agents
        rows = joint.shape[2]
        state = obs.flatten(2).unsqueeze(1).expand(-1, n, rows, -1)
        action = joint.flatten(3).expand(-1, n, -1, -1)
        return critic(torch.cat([state, action], -1), frozen=frozen).squeeze(-1)

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """The others' actions in the actors' gradient: replayed, or from their actors."""
        batch = self.replay.sample(k, streams)
        joint = batch.action
        if self.config.others == "policy":
            joint = self.act(batch.obs, "deterministic", 1.0).expand_as(joint)
        return joint[:, None, None].expand(-1, self.spec.n_agents, -1, -1, -1, -1)
