"""What the tests of several algorithms need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rocompare import api
from rocompare.learn.engine import train_cell
from rocompare.learn.nn import MLP
from rocompare.suite.load import parse_suite
from tests.support.helpers import fill


def update(
    algorithm: Any, batch: api.Batch, progress: float, **extras: Tensor
) -> dict[str, Tensor]:
    """One update on exactly this batch, with ``extras`` beside it, which is observed before."""
    fill(algorithm, batch)
    algorithm.replay.sample_with = lambda batch_size, streams=None: (batch, extras)
    return algorithm.update(progress)


def see(algorithm: Any, obs: Tensor, action: Tensor) -> None:
    """Let the algorithm observe ``action [S, E, N, A]`` at ``obs [S, E, N, O]``, of no reward."""
    reward = action.new_zeros(action.shape[:2])
    ended = reward.bool()
    algorithm.observe(api.Transition(obs, action, reward, obs, ended, ended))


def play(env: Any, algorithm: Any, random: Any, steps: int) -> Tensor:
    """Train on a one-step game: the first 30 % of the actions are uniform, updates start after 10 %
    and are 2 a step. Returns the observation ``[S, 1, N, O]``."""
    spec, obs = env.spec, env.reset()
    for i in range(steps):
        if i < 0.3 * steps:
            action = random.uniform(1, spec.n_agents, spec.action_dim) * 2 - 1
        else:
            action = algorithm.act(obs, "explore", i / steps)
        step = env.step(action)
        ended = step.terminated | step.truncated
        algorithm.observe(
            api.Transition(obs, action, step.reward, step.next_obs, ended, step.truncated)
        )
        if i >= 0.1 * steps:
            for _ in range(2):
                algorithm.update(i / steps)
    return obs


def constant(network: MLP, *values: float) -> None:
    """Let every network of ``network`` answer ``values``, whatever it sees."""
    with torch.no_grad():
        network.flat.zero_()
        network.layers(network.flat)[-1][1][:] = torch.tensor(values) / network.output_scale


def batch_of(
    spec: api.EnvSpec, rows: Sequence[tuple[Sequence[int], float, bool]], n_seeds: int = 2
) -> api.Batch:
    """Every seed's transitions, each the number of every agent's action, the reward and whether
    the episode ended; observations are 0."""
    actions, rewards, ended = zip(*rows, strict=True)
    obs = torch.zeros(n_seeds, 1 if spec.constant_obs else len(rows), spec.n_agents, spec.obs_dim)
    return api.Batch(
        obs=obs,
        action=one_hot(torch.tensor(actions), spec.action_dim).float().expand(n_seeds, -1, -1, -1),
        reward=torch.tensor(rewards).expand(n_seeds, -1),
        next_obs=obs,
        terminated=torch.tensor(ended).float().expand(n_seeds, -1),
    )


def trained(algorithm: str, game: str, steps: int = 4000, seeds: int = 4) -> list[float]:
    """Mean returns of the seeds of an algorithm that was trained in a discrete matrix game, both as
    a suite has them."""
    cell = parse_suite(
        f"""
name: short
seeds: {seeds}
budget: {{env_steps: {steps}, envs: 4}}
evaluation: {{episodes: 1, points: 1}}
algorithms: {{it: {{{algorithm}}}}}
scenarios: {{game: {{env: discrete_matrix_game, {game}}}}}
"""
    ).cells()[0]
    return [record.returns["decentralised"][0] for record in train_cell(cell)]
