"""A PettingZoo ``ParallelEnv`` with continuous actions as a scenario.

``factory: my_pkg:make_env`` names a function without arguments that makes one copy. ``S x E``
copies are stepped one after another in Python loops, which a foreign environment leaves no way
around: expect a small part of the speed of the environments that are tensor programs, and keep
``evaluation.episodes`` low, for every evaluation makes that many copies per seed.

What RO is measured by cannot be read off such an environment, so the suite says it: the optimal
and the safe return. An episode ended in the optimum's basin if it returned more than half way from
the safe to the optimal return.

- The team's reward is the mean over the agents that are present; in a cooperative game they are
  equal. Agents that have left observe 0, and their actions go unused.
- Observations are flattened. All agents need the same shapes, and actions finite bounds, to which
  ``[-1, 1]`` is stretched.
- An episode that its environment does not end is cut off at ``horizon``.
- Every episode of every copy is reset with a seed of its own. The state that is saved is each
  copy's number of episodes and the actions since its last reset, which are played again to
  continue: so the environment must be deterministic given the seed of its reset.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor

from rocompare.api import EnvSpec, Step
from rocompare.learn.rng import derive


class Parallel:
    """``S x E`` copies of a user's ``ParallelEnv``."""

    version = 1

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

        factory: str
        """``package.module:function``, which is imported and called, and makes one copy."""
        optimal_return: float
        """Return of the optimal joint behaviour."""
        safe_return: float
        """Return of the safe joint behaviour."""
        horizon: int = Field(gt=0)
        """Steps after which an episode is cut off."""

        @field_validator("factory")
        @classmethod
        def _check_factory(cls, name: str) -> str:
            find_factory(name)
            return name

        @model_validator(mode="after")
        def _check_returns(self) -> Parallel.Config:
            if not self.safe_return < self.optimal_return:
                raise ValueError("optimal_return must be larger than safe_return")
            return self

    def __init__(
        self,
        config: Parallel.Config,
        seeds: Sequence[int],
        n_envs: int,
        stream: str = "env",
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.seeds, self.stream, self.device = config, seeds, stream, device
        make = find_factory(config.factory)
        self.copies = [make() for _ in range(len(seeds) * n_envs)]  # seed by seed
        self.shape = len(seeds), n_envs
        first = self.copies[0]
        self.agents = list(first.possible_agents)
        obs_dim, self.low, self.high = _sizes(first, config.factory)
        self.spec = EnvSpec(
            n_agents=len(self.agents),
            obs_dim=obs_dim,
            action_dim=len(self.low),
            horizon=config.horizon,
            optimal_return=config.optimal_return,
            safe_return=config.safe_return,
            basins=("optimum", "safe"),
        )
        self.episodes = [0] * len(self.copies)
        """Of each copy, the episodes begun."""
        self.played: list[list[np.ndarray]] = [[] for _ in self.copies]
        """Of each copy, the actions ``[N, A]`` since its reset."""
        self.returns = [0.0] * len(self.copies)
        """Of each copy, the rewards since its reset."""

    def reset(self) -> Tensor:
        return self._tensor([self._begin(i) for i in range(len(self.copies))], 2)

    def step(self, action: Tensor) -> Step:
        rows = action.detach().cpu().flatten(0, 1).numpy()  # [S*E, N, A]
        columns: list[list[Any]] = [[], [], [], [], [], []]
        for i, row in enumerate(rows):
            for column, value in zip(columns, self._step_one(i, row), strict=True):
                column.append(value)
        obs, next_obs, reward, terminated, truncated, basin = columns
        return Step(
            obs=self._tensor(obs, 2),
            next_obs=self._tensor(next_obs, 2),
            reward=self._tensor(reward),
            terminated=self._tensor(terminated, dtype=torch.bool),
            truncated=self._tensor(truncated, dtype=torch.bool),
            basin=self._tensor(basin, dtype=torch.long),
        )

    def _begin(self, i: int) -> np.ndarray:
        """Reset copy ``i`` for its next episode; its observation ``[N, O]``."""
        seed = self.seeds[i // self.shape[1]]
        name = f"{self.stream}/copy {i % self.shape[1]}/episode {self.episodes[i]}"
        self.episodes[i] += 1
        self.played[i], self.returns[i] = [], 0.0
        obs, _ = self.copies[i].reset(seed=derive(seed, name) % 2**31)
        return self._rows(obs)

    def _step_one(
        self, i: int, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float, bool, bool, int]:
        """Advance copy ``i`` by ``action [N, A]``; the parts of a ``Step``."""
        self.played[i].append(action)
        next_obs, reward, terminated, ended = self._advance(i, action)
        truncated = not terminated and (ended or len(self.played[i]) >= self.config.horizon)
        self.returns[i] += reward
        half_way = (self.config.safe_return + self.config.optimal_return) / 2
        basin = 0 if self.returns[i] > half_way else 1  # NaN is not above
        obs = self._begin(i) if terminated or truncated else next_obs
        return obs, next_obs, reward, terminated, truncated, basin

    def _advance(self, i: int, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """``(next_obs [N, O], reward, terminated, ended)`` of copy ``i``."""
        copy = self.copies[i]
        acting = list(copy.agents)
        finite = bool(np.isfinite(action).all())
        # Its seed has diverged, and its rewards say so; the environment need not know.
        action = np.nan_to_num(action, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1, 1)
        scaled = self.low + (action + 1) / 2 * (self.high - self.low)
        given = {a: scaled[self.agents.index(a)].astype(np.float32) for a in acting}
        obs, rewards, terminations, _, _ = copy.step(given)
        reward = math.fsum(float(rewards[a]) for a in acting) / len(acting) if finite else math.nan
        ended = not copy.agents
        terminated = ended and any(terminations[a] for a in acting)
        return self._rows(obs), reward, terminated, ended

    def _rows(self, obs: dict[Any, Any]) -> np.ndarray:
        """Observations by agent -> ``[N, O]``."""
        rows = np.zeros((len(self.agents), self.spec.obs_dim), np.float32)
        for i, agent in enumerate(self.agents):
            if agent in obs:
                rows[i] = np.asarray(obs[agent], np.float32).reshape(-1)
        return rows

    def _tensor(self, rows: list[Any], extra: int = 0, dtype: Any = torch.float32) -> Tensor:
        """A row per copy -> ``[S, E, ...]``, with ``extra`` further axes."""
        array = torch.as_tensor(np.array(rows), dtype=dtype, device=self.device)
        return array.view(*self.shape, *array.shape[1 : 1 + extra])

    def state_dict(self) -> dict[str, Any]:
        played = [np.array(rows).tolist() for rows in self.played]
        return {"episodes": list(self.episodes), "played": played}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for i, (episodes, played) in enumerate(
            zip(state["episodes"], state["played"], strict=True)
        ):
            self.episodes[i] = episodes
            if episodes == 0:  # never reset
                continue
            self.episodes[i] -= 1
            self._begin(i)
            for row in played:
                action = np.array(row, np.float32)
                self.played[i].append(action)
                self.returns[i] += self._advance(i, action)[1]


def find_factory(name: str) -> Callable[[], Any]:
    """Import the function that ``package.module:function`` names."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError(f"'{name[:80]}' is not of the form 'package.module:function'")
    module_name, function = name.split(":")
    try:
        found = getattr(importlib.import_module(module_name), function, None)
    except Exception as error:  # a user's module may fail in any way; say which and how
        raise ValueError(
            f"cannot import '{module_name}' of '{name}': {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ValueError(f"module '{module_name}' has no function '{function}'")
    return found


def _sizes(env: Any, name: str) -> tuple[int, np.ndarray, np.ndarray]:
    """``obs_dim``, and the bounds ``[A]`` of actions, the same for every agent.

    Raises:
        ValueError: the environment is none that can be a scenario.
    """
    seen = []
    for agent in env.possible_agents:
        obs, action = env.observation_space(agent), env.action_space(agent)
        for what, space in (("observations", obs), ("actions", action)):
            if not hasattr(space, "low"):
                raise ValueError(
                    f"{name}: {what} of '{agent}' are {space}; only continuous ones (Box) can be"
                )
        low, high = (np.asarray(x, np.float32).reshape(-1) for x in (action.low, action.high))
        if len(action.shape) != 1 or not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ValueError(f"{name}: actions of '{agent}' are {action}; a finite [A] is needed")
        seen.append((int(np.prod(obs.shape)), low.tolist(), high.tolist()))
    for agent, sizes in zip(env.possible_agents, seen, strict=True):
        if sizes != seen[0]:
            raise ValueError(
                f"{name}: '{agent}' differs from '{env.possible_agents[0]}' in the size of its "
                "observations or in the bounds of its actions; make them equal, by padding"
            )
    return seen[0][0], np.array(seen[0][1], np.float32), np.array(seen[0][2], np.float32)
