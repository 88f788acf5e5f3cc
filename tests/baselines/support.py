"""What the tests of several algorithms need."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rocompare import api
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
