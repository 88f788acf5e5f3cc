"""Training throughput on one core, against plain one-seed code and the machine's GEMM peak.

Every figure is of this run alone: on a shared machine compare ratios, never times of two runs.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rocompare.api import Batch, EnvSpec, Transition
from rocompare.learn.schedule import cosine
from rocompare.suite import registry

if TYPE_CHECKING:
    from rich.console import Console

CPU = torch.device("cpu")
HIDDEN = 100
SEEDS = 10
ROUNDS = 5
"""Measurements are taken in turns, so that a noisy moment of the machine meets all of them."""


def spec(n_agents: int, constant_obs: bool, horizon: int = 25) -> EnvSpec:
    """Scalar observations and actions. More than one step, so that targets are computed."""
    return EnvSpec(n_agents, 1, 1, horizon, 1.0, 0.0, ("optimum", "safe"), constant_obs)


def game_for(name: str) -> EnvSpec:
    """A game of one step with 3 agents, and 3 actions if the algorithm takes none but discrete."""
    game = spec(3, True, 1)
    if "continuous" in registry.load("algorithm", name).actions:
        return game
    return replace(game, action_dim=3, discrete=True)


def batch(of: EnvSpec, n_seeds: int, size: int) -> Batch:
    """A batch of random numbers."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(n_seeds, *shape, generator=generator) * 2 - 1

    rows = 1 if of.constant_obs else size
    obs, next_obs = draw(rows, of.n_agents, 1), draw(rows, of.n_agents, 1)
    action, reward = draw(size, of.n_agents, of.action_dim), draw(size)
    if of.discrete:
        action = nn.functional.one_hot(action.argmax(-1), of.action_dim).float()
    return Batch(obs, action, reward, next_obs, (draw(size) > 0).float())


def updater(name: str, of: EnvSpec, n_seeds: int, size: int, **config: Any) -> Callable[[], None]:
    """One call is one update of ``n_seeds`` seeds of a registered algorithm."""
    cls = registry.load("algorithm", name)
    algorithm = cls(of, cls.Config(batch_size=size, **config), range(n_seeds), CPU)
    data = batch(of, n_seeds, size)
    obs, next_obs = (x.expand(-1, size, -1, -1) for x in (data.obs, data.next_obs))
    ended = data.terminated.bool()
    algorithm.observe(Transition(obs, data.action, data.reward, next_obs, ended, ~ended))
    return lambda: algorithm.update(0.5)


class PlainMADDPG:
    """One seed of ``baselines.maddpg`` as one would write it: a module and an optimiser for every
    network.

    The same update from the same weights, halfway through training, but for one thing: gradients
    are clipped network by network, not over a seed's networks of a kind.
    """

    def __init__(self, of: EnvSpec, config: Any) -> None:
        n, self.config = of.n_agents, config

        def net(inputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
                nn.Linear(HIDDEN, 1),
            )  # fmt: skip

        self.actors = [net(1) for _ in range(n)]
        self.critics = [net(2 * n) for _ in range(n)]
        self.target_actors = copy.deepcopy(self.actors)
        self.target_critics = copy.deepcopy(self.critics)
        left = cosine(0.5, config.lr_end_factor)
        self.actor_adams, self.critic_adams = (
            [torch.optim.Adam(net.parameters(), lr * left) for net in nets]
            for nets, lr in ((self.actors, config.actor_lr), (self.critics, config.critic_lr))
        )
        generator = torch.Generator().manual_seed(0)
        size = config.batch_size
        self.obs, self.action, self.next_obs = (
            torch.rand(size, n, 1, generator=generator) for _ in range(3)
        )
        self.reward, self.terminated = (torch.rand(size, 1, generator=generator) for _ in range(2))

    def q(self, critic: nn.Module, obs: Tensor, action: Sequence[Tensor]) -> Tensor:
        x = torch.cat([obs.flatten(1), *action], 1)
        return self.config.critic_output_scale * critic(self.config.critic_input_scale * x)

    def update(self) -> None:
        c, n = self.config, len(self.actors)
        replayed = [self.action[:, j] for j in range(n)]
        with torch.no_grad():
            next_action = [
                torch.tanh(actor(self.next_obs[:, i])) for i, actor in enumerate(self.target_actors)
            ]
        for i in range(n):
            with torch.no_grad():
                next_q = self.q(self.target_critics[i], self.next_obs, next_action)
                target = self.reward + c.gamma * (1 - self.terminated) * next_q
            loss = nn.functional.mse_loss(self.q(self.critics[i], self.obs, replayed), target)
            self.critic_adams[i].zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.critics[i].parameters(), c.max_grad_norm)
            self.critic_adams[i].step()
            z = self.actors[i](self.obs[:, i])
            action = [*replayed[:i], torch.tanh(z), *replayed[i + 1 :]]
            loss = c.saturation * z.square().mean()
            loss = loss - self.q(self.critics[i], self.obs, action).mean()
            self.actor_adams[i].zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.actors[i].parameters(), c.max_grad_norm)
            self.actor_adams[i].step()
        for online, target_nets in (
            (self.actors, self.target_actors),
            (self.critics, self.target_critics),
        ):
            for net, twin in zip(online, target_nets, strict=True):
                for p, q in zip(net.parameters(), twin.parameters(), strict=True):
                    q.data.lerp_(p.data, c.tau)


def rates(calls: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """Calls per second of each, the median of ``ROUNDS`` interleaved measurements."""
    found: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(ROUNDS):
        for call, measured in zip(calls, found, strict=True):
            count, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds / ROUNDS:
                call()
                count += 1
            measured.append(count / elapsed)
    return [statistics.median(measured) for measured in found]


def gemm(n_seeds: int, size: int) -> Callable[[], Any]:
    """The hidden layer's product, ``[S, H, H] x [S, H, B]``: the peak at these shapes."""
    w, x = torch.rand(n_seeds, HIDDEN, HIDDEN), torch.rand(n_seeds, HIDDEN, size)
    out = torch.empty(n_seeds, HIDDEN, size)
    return lambda: torch.bmm(w, x, out=out)


def maddpg_products(n_agents: int, constant_obs: bool) -> int:
    """Hidden-layer products per seed and update: what the GEMM peak is compared with.

    A forward pass is one, a backward pass two, or one where the parameters are frozen. Critic: 3
    and 1 for the target; actor's objective: 2; actor: 3 and 1 for the target. With a constant
    observation, actors and targets run on one row, which is next to nothing.
    """
    return n_agents * (5 if constant_obs else 10)


def main(seconds: float, console: Console) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    console.print(
        f"One core, {SEEDS} seeds, hidden {HIDDEN}; seed-updates per second.", highlight=False
    )
    for size in (256, 1024):
        varying, constant = spec(2, False), spec(2, True)
        options = {"hidden": HIDDEN, "critic_activation": "relu"}
        config = registry.load("algorithm", "maddpg").Config(batch_size=size, **options)
        plain, each, once, peak = rates(
            [
                PlainMADDPG(varying, config).update,
                updater("maddpg", varying, SEEDS, size, **options),
                updater("maddpg", constant, SEEDS, size, **options),
                gemm(SEEDS, size),
            ],
            seconds,
        )
        console.print(f"maddpg, 2 agents, batch {size}:", highlight=False)
        # Libraries choose instructions by the processor's maker, so machines differ most in this.
        gigaflops = peak * SEEDS * 2 * HIDDEN**2 * size / 1e9
        console.print(f"  GEMM peak                {gigaflops:8,.0f} GFLOP/s", highlight=False)
        console.print(f"  plain one-seed code      {plain:8,.0f}", highlight=False)
        for label, rate, is_constant in (
            ("rocompare", each, False),
            ("  constant observation", once, True),
        ):
            share = rate * maddpg_products(2, is_constant) / peak
            console.print(
                f"  {label:<24} {rate * SEEDS:8,.0f}  {rate * SEEDS / plain:.2f}x  "
                f"{share:4.0%} of the GEMM peak",
                highlight=False,
            )
    ten, fifty = rates(
        [updater("maddpg", spec(2, False), n, 256, hidden=HIDDEN) for n in (10, 50)], seconds
    )
    console.print(
        f"maddpg, batch 256, 50 seeds against 10, per seed: {fifty * 50 / (ten * 10):.2f}x",
        highlight=False,
    )
    # Those that learn from whole rollouts have no update of a batch to be timed.
    names = [
        name
        for name in registry.ALGORITHMS
        if "batch_size" in registry.load("algorithm", name).Config.model_fields
    ]
    speeds = rates([updater(name, game_for(name), SEEDS, 128) for name in names], seconds)
    console.print("Defaults on a one-step game with 3 agents, batch 128:", highlight=False)
    for name, rate in zip(names, speeds, strict=True):
        console.print(f"  {name:<24} {rate * SEEDS:8,.0f}", highlight=False)
