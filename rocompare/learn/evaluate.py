"""Evaluations: fresh episodes in every way of executing a policy, and RO measured beside them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rocompare.api import Algorithm, Believer, Env, EnvSpec, Mode
from rocompare.learn import ro
from rocompare.learn.rng import Streams
from rocompare.results.records import EXECUTIONS, Execution


@dataclass(frozen=True)
class Evaluation:
    """Episodes of all seeds under one way of execution; tensors ``[S, episodes]``."""

    returns: Tensor
    basin: Tensor
    """Index into ``spec.basins`` of where each ended."""
    actions: Tensor | None
    """``[S, episodes, N*A]`` in one-step games."""
    path: Tensor | None = None
    """``[S, T+1, P, 2]`` positions in the first episode, NaN after its end, where an environment
    has positions."""

    def in_optimum(self) -> Tensor:
        """``[S]`` share of the episodes that ended in the optimum's basin."""
        return (self.basin == 0).float().mean(1)


def executions(algorithm: Algorithm) -> tuple[Execution, ...]:
    """The ways in which ``algorithm`` can execute its policy, the headline's first."""
    return EXECUTIONS if algorithm.shares_noise else EXECUTIONS[:2]


@torch.no_grad()
def play(
    env: Env,
    algorithm: Algorithm,
    mode: Mode,
    progress: float,
    episodes: int,
    look: Callable[[Env], None] = lambda env: None,
) -> Evaluation:
    """Play ``env``, which has ``episodes`` copies, to the end of an episode each.

    Where a game of one step knows the mean reward of its actions that is the return, and not a
    reward drawn around it.

    Args:
        look: called before each step.
    """
    spec = env.spec
    obs = env.reset()
    shape = obs.shape[0], episodes
    returns = torch.zeros(shape, device=obs.device)
    basin = torch.zeros(shape, dtype=torch.long, device=obs.device)
    running = torch.ones(shape, dtype=torch.bool, device=obs.device)
    rest = getattr(env, "rest", None)
    mean_reward = getattr(env, "reward", None) if spec.horizon == 1 else None
    positions = getattr(env, "positions", None)
    path = [] if positions is None else [positions(obs)[:, 0]]
    action = algorithm.act(obs, mode, progress)
    first = action.flatten(2)
    # However long episodes last, an evaluation takes the numbers of one action: a seed's must
    # not depend on when others' episodes end.
    with aside(algorithm) if spec.horizon > 1 else contextlib.nullcontext():
        for left in range(spec.horizon - 1, -1, -1):
            look(env)
            step = env.step(action)
            reward = step.reward if mean_reward is None else mean_reward(action)
            returns += torch.where(running, reward, 0.0)
            if positions is not None:
                moved = positions(step.next_obs)[:, 0]  # [S, P, 2]
                path.append(torch.where(running[:, :1, None], moved, math.nan))
            ended = running & (step.terminated | step.truncated)
            basin = torch.where(ended, step.basin, basin)
            running = running & ~ended
            if not left or not running.any():
                break
            if rest is not None:  # copies that are no tensors need not go on to the longest's end
                rest(~running)
            action = algorithm.act(step.obs, mode, progress)
    return Evaluation(
        returns,
        basin,
        first if spec.horizon == 1 else None,
        torch.stack(path, 1) if path else None,
    )


@contextlib.contextmanager
def aside(algorithm: Algorithm) -> Iterator[None]:
    """Put the algorithm's random streams back afterwards: executing changes nothing else."""
    streams = [part for part in vars(algorithm).values() if isinstance(part, Streams)]
    before = [part.state_dict() for part in streams]
    try:
        yield
    finally:
        for part, state in zip(streams, before, strict=True):
            part.load_state_dict(state)


class RO:
    """Measures executed and perceived RO of an algorithm in training, where its game allows it."""

    def __init__(self, spec: EnvSpec, env: Env, algorithm: Algorithm, device: torch.device) -> None:
        self.spec, self.algorithm, self.device = spec, algorithm, device
        self.measurable = not ro.executed_unavailable(spec, env)
        self.reward: Any = getattr(env, "reward", None)
        self.grid: ro.Grid | None = None
        if not ro.perceived_unavailable(spec, env, algorithm):
            self.grid = ro.grid_of(spec, env, device)

    def due(self, later: int) -> bool:
        """Whether to measure at an evaluation that ``later`` others follow: where a game lasts, it
        is not done every time."""
        return self.measurable and (self.spec.horizon == 1 or later % ro.ROLLOUT_EVERY == 0)

    @torch.no_grad()
    def executed(self, evaluation: Evaluation, answers: Any, progress: float) -> Tensor:
        """``[S]``, of the decentralised joint policy.

        Args:
            evaluation: a decentralised one, whose actions are answered in a game of one step.
            answers: makes copies of a longer game to answer in.
        """
        if evaluation.actions is not None:
            joint = evaluation.actions[:, : ro.EXECUTED].unflatten(2, (self.spec.n_agents, -1))
            return ro.executed_ro(self.reward, joint, ro.answers_of(self.spec, ro.ANSWERS, joint))
        env = answers()
        algorithm = self.algorithm
        try:
            with aside(algorithm):
                return ro.rollout_ro(
                    env,
                    lambda obs: algorithm.act(obs, "decentralised", progress),
                    lambda: aside(algorithm),
                )
        finally:
            close(env)

    @torch.no_grad()
    def perceived(self, streams: Streams, n_seeds: int) -> Tensor:
        """``[S]``; NaN where it cannot be measured. Numbers are drawn from ``streams`` alone."""
        if self.grid is None or not isinstance(self.algorithm, Believer):
            return torch.full((n_seeds,), math.nan, device=self.device)
        own = self.grid.actions.expand(n_seeds, self.spec.n_agents, -1, -1)  # [S, N, G, A]
        return self.grid.perceived_ro(self.algorithm.beliefs(own, ro.DRAWS, streams))


def close(env: Env) -> None:
    """Free what an environment holds besides tensors, such as processes."""
    end = getattr(env, "close", None)
    if end is not None:
        end()
