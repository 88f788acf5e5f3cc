"""Pareto-AC: Pareto actor-critic, whose agents expect the others to do what is best for all.

Christianos, Papoudakis and Albrecht, "Pareto Actor-Critic for Equilibrium Selection in Multi-Agent
Reinforcement Learning", TMLR 2023 (arXiv 2209.14344). In a game of common reward an action is worth
what it brings together with the best that the others could do. The loop::

    every step:   u_i ~ pi_i(. | o_i); execute u, keep the transition
    every rollout_steps steps, once, from them alone:
        P_i(s, u_i) = max over u_-i of Q_i(s, u_i, u_-i)
        A_i = P_i(s, u_i) - V_i(s)
        y_i = r + .. + gamma^n P_i'(s_n, u_i,n), after up to n steps
        critic i  minimise (Q_i(s, u) - y_i)^2
        value i   minimise (V_i(s) - y_i)^2
        agent i   ascend A_i log pi_i(u_i | o_i) + entropy * H(pi_i)
        targets   follow with rate tau

The entropy's weight falls along a line from a value at which all actions are as good as alike, so
that critics have seen every joint action before policies choose. Of several optima that must not be
mixed each agent may choose another: nothing but the noise of its gradient makes it choose at all.

The critic of agent i sees the state and the others' actions and has an output for each of its own;
every joint action of the others is tried, so that games in which there are more than ``MOST`` of
them are refused. Formulas are those of the public code (EPyMARL's ``pac`` learner).

Deviations: what follows the n steps is ``P_i'`` in expectation over agent i's policy instead of at
the action that it took next, which is not known where an episode was cut off; rewards are not
standardised, critics' outputs are scaled instead; feed-forward networks; parameters are not shared;
the state is the observations of all agents; learning rates decay along a cosine, as for every
algorithm here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from rocompare import api
from rocompare.learn import discrete
from rocompare.learn.nn import MLP, Activation, Adam, beside, seed_mean
from rocompare.learn.rng import Streams
from rocompare.learn.rollout import Rollout, n_step_returns
from rocompare.learn.schedule import cosine, linear

MOST = 1296
"""Joint actions of an agent's partners."""


class ParetoAC(api.Algorithm):
    version = 1
    actions = ("discrete",)

    class Config(api.OnPolicyConfig):
        rollout_steps: Annotated[int, api.Search(2, 64)] = Field(8, gt=0)
        """Environment steps between updates, of each of the environments side by side."""
        n_steps: int = Field(5, gt=0)
        """Rewards that are summed before a value stands for the rest."""
        tau: float = Field(0.05, gt=0, le=1)
        """Share of the way that the target critics move towards the critics at each update."""
        entropy_start: Annotated[float, api.Search(1, 100)] = Field(20.0, ge=0)
        """Weight of the policies' entropy in their objective at the start, in units of reward."""
        entropy_end: Annotated[float, api.Search(1e-3, 0.3)] = Field(0.01, ge=0)
        """The same from ``entropy_end_fraction`` on."""
        entropy_end_fraction: Annotated[float, api.Search(0.3, 0.95, log=False)] = Field(
            0.5, gt=0, le=1
        )
        """Share of the budget at which the linear fall of the entropy's weight ends."""
        actor_lr: Annotated[float, api.Search(1e-3, 0.05)] = Field(0.02, gt=0)
        """Learning rate of the actors at the start."""
        critic_lr: Annotated[float, api.Search(3e-4, 0.03)] = Field(0.01, gt=0)
        """Learning rate of critics and values at the start."""
        max_grad_norm: float = Field(10.0, gt=0)
        """Largest norm of a seed's gradient, over all agents' networks of a kind; a longer gradient
        is shortened to it."""
        hidden: int = Field(64, gt=0)
        """Units in each of a network's two hidden layers."""
        actor_activation: Activation = "tanh"
        """Activation of the actors' hidden layers."""
        critic_activation: Activation = "silu"
        """Activation of the hidden layers of critics and values."""
        critic_output_scale: Annotated[float, api.Search(1, 100)] = Field(10.0, gt=0)
        """Factor on the outputs of critics and values, in units of reward: about the size of the
        returns."""

    config: Config
    executes_with = ("actor",)

    @classmethod
    def unfit(cls, spec: api.EnvSpec, config: Config) -> str:
        if spec.n_agents < 2:
            return "it asks what the other agents could do at best, and there are none"
        joint = spec.action_dim ** (spec.n_agents - 1)
        if joint > MOST:
            return (
                f"it tries all joint actions of an agent's partners, of which there are {joint:,} "
                f"here, more than {MOST:,}"
            )
        return ""

    def __init__(
        self, spec: api.EnvSpec, config: ParetoAC.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n, a, o, h = spec.n_agents, spec.action_dim, spec.obs_dim, config.hidden
        groups, c = (len(seeds), n), config
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.execute = Streams(seeds, "execute", device)
        scale = c.critic_output_scale
        self.actor = MLP(groups, (o, h, h, a), c.actor_activation, init)
        critic_sizes = n * o + (n - 1) * a, h, h, a
        self.critic = MLP(groups, critic_sizes, c.critic_activation, init, output_scale=scale)
        value_sizes = n * o, h, h, 1
        self.value = MLP(groups, value_sizes, c.critic_activation, init, output_scale=scale)
        self.target_critic = self.critic.clone()
        self.actor_adam = Adam(self.actor, c.actor_lr, c.max_grad_norm)
        self.critic_adam = Adam(self.critic, c.critic_lr, c.max_grad_norm)
        self.value_adam = Adam(self.value, c.critic_lr, c.max_grad_norm)
        self.rollout = Rollout(c.rollout_steps)
        others = [[j for j in range(n) if j != i] for i in range(n)]
        self.others = torch.tensor(others, device=device)  # [N, N-1]
        choices = torch.cartesian_prod(*[torch.arange(a)] * (n - 1)).view(-1, n - 1)
        self.joint = one_hot(choices, a).flatten(1).float().to(device)  # [J, (N-1)*A]

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        with torch.no_grad():
            logits = self.actor(obs.transpose(1, 2)).transpose(1, 2)  # [S, E, N, A]
        if mode == "deterministic":
            return discrete.greedy(logits)
        return discrete.draw(logits, self.explore if mode == "explore" else self.execute)

    def observe(self, transition: api.Transition) -> None:
        self.rollout.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        if not self.rollout.full():
            return {}
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        entropy = linear(progress, c.entropy_start, c.entropy_end, 0, c.entropy_end_fraction)
        rollout = self.rollout.take()
        target = self._target(rollout)
        obs, action = rollout.obs.flatten(1, 2), rollout.action.flatten(1, 2)  # [S, M, N, ...]
        policy_loss = self._policy_loss(obs, action, entropy)
        critic_loss = self._critic_loss(obs, action, target)
        value_loss = self._value_loss(obs, target)
        self.actor_adam.step(policy_loss, lr_factor)
        self.critic_adam.step(critic_loss, lr_factor)
        self.value_adam.step(value_loss, lr_factor)
        self.target_critic.follow(self.critic, c.tau)
        losses = {"policy": policy_loss, "critic": critic_loss, "value": value_loss}
        return {f"{name}_loss": loss.detach().mean(1) for name, loss in losses.items()}

    @torch.no_grad()
    def _target(self, rollout: api.Transition) -> Tensor:
        """What the critics and values of each agent should return: ``[S, N, M]``."""
        c, shape = self.config, rollout.reward.shape[1:]
        next_obs = rollout.next_obs.flatten(1, 2)
        policy = discrete.outputs(self.actor, next_obs).softmax(-1)
        expected = (policy * self._at_best(self.target_critic, next_obs)).sum(-1)  # [S, N, M]
        next_value = expected.unflatten(2, shape).transpose(0, 1)  # [N, S, T, E]
        returns = n_step_returns(rollout, next_value, c.gamma, c.n_steps)
        return returns.transpose(0, 1).flatten(2)

    @torch.no_grad()
    def _at_best(self, critic: MLP, obs: Tensor) -> Tensor:
        """Values of own actions beside the others' best ones: ``[S, M, N, O] -> [S, N, M, A]``."""
        joint = self.joint.expand(obs.shape[0], self.spec.n_agents, obs.shape[1], -1, -1)
        best: Tensor = critic(beside(obs, joint)).amax(3)
        return best

    def _policy_loss(self, obs: Tensor, action: Tensor, entropy_weight: float) -> Tensor:
        """Minus the objective of each agent: ``[S, N]``."""
        own = action.transpose(1, 2)  # [S, N, M, A]
        with torch.no_grad():
            advantage = discrete.chosen(self._at_best(self.critic, obs), own) - self._value(obs)
        log_policy = discrete.outputs(self.actor, obs).log_softmax(-1)
        entropy = -(log_policy.exp() * log_policy).sum(-1)
        gain = advantage * discrete.chosen(log_policy, own) + entropy_weight * entropy
        return -seed_mean(gain, keep=2)

    def _critic_loss(self, obs: Tensor, action: Tensor, target: Tensor) -> Tensor:
        """``[S, N]``"""
        others = action[:, :, self.others].flatten(3).transpose(1, 2)  # [S, N, M, (N-1)*A]
        q = discrete.chosen(self.critic(beside(obs, others)), action.transpose(1, 2))
        return seed_mean((q - target).square(), keep=2)

    def _value_loss(self, obs: Tensor, target: Tensor) -> Tensor:
        """``[S, N]``"""
        return seed_mean((self._value(obs) - target).square(), keep=2)

    def _value(self, obs: Tensor) -> Tensor:
        """Every agent's value of the state: ``[S, M, N, O] -> [S, N, M]``."""
        state = obs.flatten(2).unsqueeze(1).expand(-1, self.spec.n_agents, -1, -1)
        return self.value(state).squeeze(-1)
