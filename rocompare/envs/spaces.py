"""How the observations and actions of a PettingZoo environment pass to rows of numbers and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rocompare.errors import UnfitEnvironment


@dataclass(frozen=True)
class Sizes:
    """What algorithms know of an environment: rows of these sizes for each agent."""

    n_agents: int
    obs_dim: int
    action_dim: int
    """Of discrete actions their number."""
    discrete: bool


class Rows:
    """Observations of all agents as ``[N, O]``, and ``[N, A]`` as their actions.

    Args:
        env: a ``ParallelEnv``.
        factory: its name, for messages.
        pad: whether agents may differ in sizes. Observations are then padded with zeros, and an
            agent with fewer numbers in its action ignores the last ones of its row.

    Raises:
        UnfitEnvironment: its spaces are none that algorithms can take.
    """

    def __init__(self, env: Any, factory: str, pad: bool) -> None:
        self.factory = factory
        self.agents = list(env.possible_agents)
        self._actions = [env.action_space(agent) for agent in self.agents]
        self._observed: list[int] = []
        acted, discrete = [], [_is(space, "Discrete") for space in self._actions]
        for i, agent in enumerate(self.agents):
            self._observed.append(self._obs_size(agent, env.observation_space(agent)))
            if discrete[i] != discrete[0]:
                raise self._unfit(
                    f"actions of '{self.agents[0]}' are {self._actions[0]}, of '{agent}' "
                    f"{self._actions[i]}; either all must be Box or all Discrete"
                )
            acted.append(self._action_size(agent, self._actions[i]))
        if discrete[0]:
            self._check_equal("number of actions", acted)
        elif not pad:
            self._check_equal("size of actions", acted)
        if not pad:
            self._check_equal("size of observations", self._observed)
        n, a = len(self.agents), max(acted)
        self.sizes = Sizes(n, max(self._observed), a, discrete[0])
        # Bounds [N, A]; exact, for float64 holds every number of the spaces' own types.
        self._low, self._high = np.zeros((n, a)), np.zeros((n, a))
        if not discrete[0]:
            for i, space in enumerate(self._actions):
                self._low[i, : acted[i]] = np.reshape(space.low, -1)
                self._high[i, : acted[i]] = np.reshape(space.high, -1)
        self._taken = [
            (size, s.dtype, s.shape) for size, s in zip(acted, self._actions, strict=True)
        ]

    def observations(self, obs: dict[Any, Any], gone: set[Any]) -> np.ndarray:
        """``[N, O]`` of observations by agent; 0 for those who have left."""
        rows = np.zeros((self.sizes.n_agents, self.sizes.obs_dim), np.float32)
        for row, agent, size in zip(rows, self.agents, self._observed, strict=True):
            if agent in obs and agent not in gone:
                values = np.asarray(obs[agent], np.float32).reshape(-1)
                if len(values) != size:
                    raise self._unfit(
                        f"'{agent}' observes {len(values)} numbers, and its observation space says "
                        f"{size}"
                    )
                row[:size] = values
        return rows

    def scale(self, action: np.ndarray) -> np.ndarray:
        """``[..., N, A]`` between the bounds of the spaces, from numbers in ``[-1, 1]``; those
        beyond count as -1 or 1, NaN as 0. One-hot rows stay as they are."""
        rows: np.ndarray = np.nan_to_num(action, nan=0.0, posinf=1.0, neginf=-1.0)
        if not self.sizes.discrete:
            share = (rows.clip(-1, 1).astype(np.float64) + 1) / 2
            rows = (self._low + share * (self._high - self._low)).clip(self._low, self._high)
        return rows

    def actions(self, rows: np.ndarray, acting: list[Any]) -> dict[Any, Any]:
        """By agent the action that its row of ``[N, A]``, as ``scale`` gives it, stands for."""
        given: dict[Any, Any] = {}
        for agent, row, (size, dtype, shape), space in zip(
            self.agents, rows, self._taken, self._actions, strict=True
        ):
            if agent not in acting:
                continue
            if self.sizes.discrete:
                given[agent] = int(row.argmax()) + int(getattr(space, "start", 0))
            else:  # rounded to the space's own type, which steps over none of its bounds
                given[agent] = row[:size].astype(dtype).reshape(shape)
        return given

    def _obs_size(self, agent: Any, space: Any) -> int:
        if not _is(space, "Box"):
            raise self._unfit(
                f"observations of '{agent}' are {_short(space)}; only numbers (Box) can be: let "
                "the factory wrap the environment so that it flattens them"
            )
        if len(space.shape) >= 3:
            raise self._unfit(
                f"observations of '{agent}' are images of shape {tuple(space.shape)}, which the "
                "networks here cannot read: let the factory reduce them to vectors of features"
            )
        return math.prod(space.shape)

    def _action_size(self, agent: Any, space: Any) -> int:
        if _is(space, "Discrete"):
            return int(space.n)
        if not _is(space, "Box"):
            raise self._unfit(
                f"actions of '{agent}' are {_short(space)}; only Box, of real numbers, or Discrete "
                "can be: let the factory wrap the environment so that it takes one of these"
            )
        if not np.issubdtype(space.dtype, np.floating):
            raise self._unfit(
                f"actions of '{agent}' are whole numbers, {_short(space)}: make the space Discrete,"
                " or a Box of float32"
            )
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise self._unfit(
                f"actions of '{agent}' are {_short(space)}; they need finite bounds, to which "
                "[-1, 1] is stretched"
            )
        return math.prod(space.shape)

    def _check_equal(self, what: str, sizes: list[int]) -> None:
        for agent, size in zip(self.agents, sizes, strict=True):
            if size != sizes[0]:
                raise self._unfit(
                    f"'{agent}' differs from '{self.agents[0]}' in the {what}, {size} and "
                    f"{sizes[0]}; make them equal, by padding (SuperSuit's pad_observations_v0 "
                    "and pad_action_space_v0 do)"
                )

    def _unfit(self, problem: str) -> UnfitEnvironment:
        return UnfitEnvironment(f"{self.factory}: {problem}")


def _is(space: Any, name: str) -> bool:
    """By name, for the space may be Gymnasium's or the older Gym's, which need not be installed."""
    return any(cls.__name__ == name for cls in type(space).__mro__)


def _short(space: Any) -> str:
    return " ".join(str(space).split())[:200]
