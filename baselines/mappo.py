"""MAPPO: multi-agent PPO with a centralised value; OptiMAPPO: the same with optimistic advantages.

Yu, Velu, Vinitsky, Gao, Wang, Bayen and Wu, "The Surprising Effectiveness of PPO in Cooperative
Multi-Agent Games", NeurIPS 2022 (datasets and benchmarks); Zhao, Chen, Du, Wang, Zhang, Kannala
and Pajarinen, "Optimistic Multi-Agent Policy Gradient", 2023 (arXiv 2311.01953). The loop::

    every step:   u_i ~ pi_i(. | o_i); execute u, keep the transition
    every rollout_steps steps, from them alone:
        A = GAE of V(o_1..o_N), whose outputs are in units of the returns' deviation
        A <- max(leak * A, A)                     OptiMAPPO: leak 0; MAPPO: 1, nothing changes
        A <- (A - mean A) / std A
        for each of a few epochs, for each minibatch:
            agent i  ascend min(w_i A, clip(w_i, 1 +- clip) A) + entropy * H(pi_i),
                     w_i = pi_i(u_i | o_i) / pi_i,old(u_i | o_i)
            value    minimise (V - (A_GAE + V_old))^2, in normalised units

An optimist does not unlearn an action because partners failed beside it. The authors' code clips
advantages first and normalises then, by which clipped ones become negative again; ``order`` has
that order and the other.

Policies are Gaussians before tanh, or categorical where actions are discrete. Returns are
normalised as in the authors' code (a running mean and deviation that forget, without a correction
of the output weights when they move).

Deviations: agents share no parameters; the standard deviation is an output of the policy's
network; Gaussians are squashed by tanh instead of clipped at the border, and the entropy is that
before tanh; the value's loss is a plain square, neither Huber's nor clipped; feed-forward networks;
learning rates decay along a cosine, as for every algorithm here. A rollout that the budget's end
leaves unfinished is not learnt from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from rocompare import api
from rocompare.learn import discrete
from rocompare.learn.nn import MLP, Activation, Adam, seed_mean
from rocompare.learn.rng import Streams
from rocompare.learn.rollout import Rollout, gae
from rocompare.learn.schedule import cosine, linear

BORDER = 1 - 1e-6
"""Actions nearer to the box's border are taken for this one, whose inverse tanh is finite."""
FARTHEST = 4.0
"""Largest mean of a policy before tanh, after which it is 0.999: farther out, tanh rounds samples
that the policy tells apart to the same action."""
LOG_STD = -4.0, 2.0
"""Within which the logarithm of a policy's standard deviation before tanh stays."""
LOG_RATIO = 20.0
"""Largest logarithm of a ratio of probabilities, so that none is infinite."""


class MAPPO(api.Algorithm):
    version = 1
    actions = ("continuous", "discrete")

    class Config(api.OnPolicyConfig):
        leak: float = Field(1.0, ge=0, le=1)
        """What is left of negative advantages, as a factor: 1 is MAPPO, 0 full optimism."""
        order: Literal["clip_first", "normalise_first"] = "clip_first"
        """Whether negative advantages are shortened before all are normalised, as in OptiMAPPO's
        code, or after. With a leak of 1 there is no difference."""
        gae_lambda: float = Field(0.95, ge=0, le=1)
        """Weight of longer advantage estimates: 0 takes one step, 1 the whole return."""
        epochs: Annotated[int, api.Search(3, 15)] = Field(10, gt=0)
        """How often each rollout is learnt from."""
        minibatches: int = Field(1, gt=0)
        """Parts into which a rollout is shuffled in each epoch, one update each."""
        clip: Annotated[float, api.Search(0.05, 0.3)] = Field(0.2, gt=0)
        """How far a ratio of probabilities may leave 1 before its gradient ends."""
        entropy_start: Annotated[float, api.Search(1e-3, 0.3)] = Field(0.01, ge=0)
        """Weight of the policies' entropy in their objective at the start."""
        entropy_end: float = Field(0.0, ge=0)
        """The same at the end of its fall along a line, which lasts the whole budget."""
        std_start: Annotated[float, api.Search(0.3, 2)] = Field(1.0, gt=0)
        """Standard deviation of the policies before tanh at the start, about. Continuous actions
        alone."""
        value_norm_decay: Annotated[float, api.Search(0.5, 0.99, log=False)] = Field(
            0.9, ge=0, lt=1
        )
        """What the running mean and deviation of returns keep of themselves at each rollout."""
        actor_lr: Annotated[float, api.Search(3e-4, 0.02)] = Field(0.003, gt=0)
        """Learning rate of the actors at the start."""
        critic_lr: Annotated[float, api.Search(3e-4, 0.02)] = Field(0.005, gt=0)
        """Learning rate of the value at the start."""
        max_grad_norm: float = Field(10.0, gt=0)
        """Largest norm of a seed's gradient, over all agents' networks of a kind; a longer gradient
        is shortened to it."""
        hidden: int = Field(64, gt=0)
        """Units in each of a network's two hidden layers."""
        actor_activation: Activation = "tanh"
        """Activation of the actors' hidden layers."""
        critic_activation: Activation = "tanh"
        """Activation of the value's hidden layers."""

    config: Config
    executes_with = ("actor",)

    def __init__(
        self, spec: api.EnvSpec, config: MAPPO.Config, seeds: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(spec, config, seeds, device)
        n, o, h = spec.n_agents, spec.obs_dim, config.hidden
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        self.execute = Streams(seeds, "execute", device)
        self.shuffle = Streams(seeds, "shuffle", device)
        outputs = spec.action_dim * (1 if spec.discrete else 2)
        self.actor = MLP((len(seeds), n), (o, h, h, outputs), config.actor_activation, init)
        self.critic = MLP((len(seeds),), (n * o, h, h, 1), config.critic_activation, init)
        self.actor_adam = Adam(self.actor, config.actor_lr, config.max_grad_norm)
        self.critic_adam = Adam(self.critic, config.critic_lr, config.max_grad_norm)
        self.rollout = Rollout(config.rollout_steps)
        # Running sums of weights, of returns and of their squares.
        self.moments = torch.zeros(3, len(seeds), device=device)
        self.seed = torch.arange(len(seeds), device=device)[:, None]

    def act(self, obs: Tensor, mode: api.Mode, progress: float) -> Tensor:
        streams = self.explore if mode == "explore" else self.execute
        with torch.no_grad():
            out = self.actor(obs.transpose(1, 2)).transpose(1, 2)  # [S, E, N, A or 2 A]
            if self.spec.discrete:
                quiet = mode == "deterministic"
                return discrete.greedy(out) if quiet else discrete.draw(out, streams)
            mean, log_std = self._gaussian(out)
            if mode != "deterministic":
                mean = mean + log_std.exp() * streams.normal(*mean.shape[1:])
            return torch.tanh(mean)

    def observe(self, transition: api.Transition) -> None:
        self.rollout.add(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        if not self.rollout.full():
            return {}
        c, lr_factor = self.config, cosine(progress, self.config.lr_end_factor)
        entropy = linear(progress, c.entropy_start, c.entropy_end, 0, 1)
        rollout = self.rollout.take()
        advantage, value_target = self._targets(rollout)
        with torch.no_grad():
            obs, action = rollout.obs.flatten(1, 2), rollout.action.flatten(1, 2)  # [S, M, N, ...]
            old = self._log_prob(obs, action)[0].transpose(1, 2)  # [S, M, N]
        rows = obs, action, old, advantage.flatten(1), value_target.flatten(1)
        for _ in range(c.epochs):
            for index in self._minibatches(old.shape[1]):
                batch = [part[self.seed, index] for part in rows]
                policy_loss = self._policy_loss(entropy, *batch[:4])
                self.actor_adam.step(policy_loss, lr_factor)
                value_loss = self._value_loss(batch[0], batch[4])
                self.critic_adam.step(value_loss, lr_factor)
        return {"policy_loss": policy_loss.detach().mean(1), "value_loss": value_loss.detach()}

    @torch.no_grad()
    def _targets(self, rollout: api.Transition) -> tuple[Tensor, Tensor]:
        """Advantages, shaped and normalised, and what the value should return: ``[S, T, E]``."""
        c = self.config
        mean, std = self._normaliser()
        both = torch.cat([rollout.obs, rollout.next_obs], 2)  # [S, T, 2 E, N, O]
        value, next_value = (mean + std * self._value(both)).chunk(2, 2)
        advantage = gae(rollout, value, next_value, c.gamma, c.gae_lambda)
        returns = advantage + value
        squares = seed_mean(returns.square())
        moments = torch.stack([torch.ones_like(squares), seed_mean(returns), squares])
        self.moments = moments.lerp(self.moments, c.value_norm_decay)
        mean, std = self._normaliser()
        return shaped(advantage, c.leak, c.order), (returns - mean) / std

    def _normaliser(self) -> tuple[Tensor, Tensor]:
        """Running mean and standard deviation of returns, ``[S, 1, 1]`` each."""
        weight, total, squares = self.moments[:, :, None, None]
        mean, square = total / weight.clamp(min=1e-8), squares / weight.clamp(min=1e-8)
        return mean, (square - mean.square()).clamp(min=1e-2).sqrt()

    def _value(self, obs: Tensor) -> Tensor:
        """``obs [S, ..., N, O]`` -> values in normalised units, ``[S, ...]``."""
        return self.critic(obs.flatten(-2)).squeeze(-1)

    def _minibatches(self, rows: int) -> Iterator[Tensor]:
        """Indices ``[S, B]`` of the parts of a rollout, which each seed shuffles for itself."""
        order = self.shuffle.uniform(rows).argsort(stable=True, dim=1)
        yield from order.chunk(self.config.minibatches, 1)

    def _policy_loss(
        self, entropy_weight: float, obs: Tensor, action: Tensor, old: Tensor, advantage: Tensor
    ) -> Tensor:
        """Minus the clipped objective and the entropy bonus: ``[S, N]``.

        Args:
            old: ``[S, B, N]`` log-probabilities of the actions when they were taken.
            advantage: ``[S, B]``
        """
        log_prob, entropy = self._log_prob(obs, action)
        ratio = (log_prob - old.transpose(1, 2)).clamp(max=LOG_RATIO).exp()  # [S, N, B]
        clipped = ratio.clamp(1 - self.config.clip, 1 + self.config.clip)
        advantage = advantage.unsqueeze(1)
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        return -seed_mean(gain + entropy_weight * entropy, keep=2)

    def _log_prob(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of ``action [S, B, N, A]`` and the policies' entropies, ``[S, N, B]``.

        Those of continuous actions are of what they were before tanh: a ratio of probabilities is
        the same on either side of it.
        """
        out, action = self.actor(obs.transpose(1, 2)), action.transpose(1, 2)
        if self.spec.discrete:
            log_policy = out.log_softmax(-1)
            return (log_policy * action).sum(-1), -(log_policy.exp() * log_policy).sum(-1)
        mean, log_std = self._gaussian(out)
        noise = (action.clamp(-BORDER, BORDER).atanh() - mean) / log_std.exp()
        constant = 0.5 * math.log(2 * math.pi)
        log_prob = (-0.5 * noise.square() - log_std - constant).sum(-1)
        return log_prob, (log_std + constant + 0.5).sum(-1)

    def _gaussian(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log standard deviations before tanh of the actors' ``out [..., 2 A]``."""
        mean, log_std = out.chunk(2, -1)
        log_std = (log_std + math.log(self.config.std_start)).clamp(*LOG_STD)
        return FARTHEST * torch.tanh(mean / FARTHEST), log_std

    def _value_loss(self, obs: Tensor, target: Tensor) -> Tensor:
        """``[S]``"""
        return seed_mean((self._value(obs) - target).square())


class OptiMAPPO(MAPPO):
    class Config(MAPPO.Config):
        leak: Annotated[float, api.Search(0, 0.9, log=False)] = Field(0.0, ge=0, le=1)
        """What is left of negative advantages, as a factor: 1 is MAPPO, 0 full optimism."""


def shaped(advantage: Tensor, leak: float, order: str) -> Tensor:
    """``advantage [S, ...]`` with negative ones times ``leak``, normalised for each seed, in either
    order."""

    def clip(x: Tensor) -> Tensor:
        return torch.maximum(leak * x, x)

    def normalise(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
        return flat.view_as(x)

    return normalise(clip(advantage)) if order == "clip_first" else clip(normalise(advantage))
