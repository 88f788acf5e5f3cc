"""A PettingZoo ``ParallelEnv`` as a scenario.

``factory: my_pkg:make_env`` names a function without arguments that makes one copy. ``S x E``
copies are stepped in Python, which a foreign environment leaves no way around: expect a small part
of the speed of the environments that are tensor programs, and keep ``evaluation.episodes`` low, for
every evaluation makes that many copies per seed. With ``workers: 2`` two processes step them.

- Returns. What relative over-generalization is measured by cannot be read off such an environment,
  so the suite says it: ``optimal_return`` and ``safe_return``. An episode ended in the optimum's
  basin if it returned more than half way from the safe to the optimal return. Without them there is
  one basin, ``all``, and no score and no success.
- Rewards. The team's reward is the mean over the agents that are present; in a cooperative game
  they are equal.
- Observations are flattened. All agents need the same sizes. Agents that have left observe 0, and
  their actions go unused.
- Actions are all Box, with finite bounds to which ``[-1, 1]`` is stretched and which they never
  leave, or all ``Discrete(n)``: one-hot rows here.
- Ends. An episode is over when every agent's is, and is cut off at ``horizon``.
- Seeds. Every episode of every copy is reset with a seed of its own. The state that is saved is
  each copy's number of episodes and the actions since its last reset, which are played again to
  continue: so an episode must follow from the seed of its reset and from the actions alone.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field, create_model, field_validator, model_validator
from torch import Tensor

from rocompare.api import FROZEN, EnvSpec, Step
from rocompare.envs.copies import Copies, Recipe, find_factory, probe
from rocompare.envs.workers import Workers
from rocompare.learn.rng import derive

TRAINING = "env"
"""The stream of the copies that are trained in; every other one is an evaluation's."""
COPIES_PER_WORKER = 8
"""With fewer copies a process would wait for messages longer than it steps."""


class Settings(BaseModel):
    """The parameters of every environment whose copies are stepped one by one."""

    model_config = FROZEN

    horizon: int = Field(gt=0)
    """Steps after which an episode is cut off."""
    optimal_return: float | None = None
    """Return of the optimal joint behaviour; none if it is not known."""
    safe_return: float | None = None
    """Return of the safe joint behaviour; none if it is not known."""
    reward_scale: float = Field(1.0, gt=0)
    """Factor on the rewards that are learnt from. Evaluations, and so all returns that are
    reported, are in the environment's own units."""
    workers: int = Field(0, ge=0, le=256)
    """Processes that step copies, where there are enough copies for them; 0: this process steps
    them. The numbers that come out are the same."""
    render: bool = False
    """Give the factory ``render_mode="rgb_array"``, so that `rocompare play --gif` can film."""

    @model_validator(mode="after")
    def _check_returns(self) -> Settings:
        optimal, safe = self.optimal_return, self.safe_return
        if (optimal is None) != (safe is None):
            raise ValueError("optimal_return and safe_return: give both, or none if not known")
        if optimal is not None and safe is not None and not safe < optimal:
            raise ValueError("optimal_return must be larger than safe_return")
        return self

    @abstractmethod
    def recipe(self) -> Recipe:
        """How to make a copy."""

    def filming(self) -> dict[str, Any]:
        """The factory's argument if copies are to be filmed."""
        return {"render_mode": "rgb_array"} if self.render else {}


class Parallel:
    """``S x E`` copies of a user's ``ParallelEnv``."""

    version = 2
    not_in_key = ("workers", "render")
    """Parameters that no result depends on: with others, a cell need not be trained anew."""

    class Config(Settings):
        factory: str
        """``package.module:function``, which is imported and called, and makes one copy."""

        @field_validator("factory")
        @classmethod
        def _check_factory(cls, name: str) -> str:
            find_factory(name)
            return name

        def recipe(self) -> Recipe:
            return Recipe(self.factory, self.filming())

    def __init__(
        self,
        config: Settings,
        seeds: Sequence[int],
        n_envs: int,
        stream: str = TRAINING,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.seeds, self.stream, self.device = config, seeds, stream, device
        self.shape = len(seeds), n_envs
        n = len(seeds) * n_envs  # seed by seed
        workers = min(config.workers, n // COPIES_PER_WORKER)
        self.copies: Copies | Workers = (
            Workers(config.recipe(), n, config.horizon, workers)
            if workers
            else Copies(config.recipe(), n, config.horizon)
        )
        self._close = weakref.finalize(self, self.copies.close)
        sizes, known = self.copies.sizes, config.optimal_return is not None
        self.spec = EnvSpec(
            n_agents=sizes.n_agents,
            obs_dim=sizes.obs_dim,
            action_dim=sizes.action_dim,
            horizon=config.horizon,
            optimal_return=config.optimal_return,
            safe_return=config.safe_return,
            basins=("optimum", "safe") if known else ("all",),
            discrete=sizes.discrete,
        )
        self.scale = config.reward_scale if stream == TRAINING else 1.0
        self.episodes = [0] * n
        """Of each copy, the episodes begun."""
        self.played: list[list[np.ndarray]] = [[] for _ in range(n)]
        """Of each copy, the actions ``[N, A]`` since its reset."""
        self.returns = np.zeros(n)
        """Of each copy, the rewards since its reset, in the environment's own units."""
        self._next: list[int | None] = [self._seed(i, 0) for i in range(n)]
        """Of each copy, the seed of the episode that it has not begun yet; None where it rests."""

    @classmethod
    def probe(cls, config: Settings) -> None:
        """Make one copy, play one step of it and close it.

        Raises:
            UnfitEnvironment: it cannot be a scenario; the message says what to change.
        """
        probe(config.recipe())

    def reset(self) -> Tensor:
        obs = self.copies.reset([self._seed(i, episode) for i, episode in enumerate(self.episodes)])
        for i in range(len(self.episodes)):
            self._begun(i)
        return self._tensor(obs)

    def rest(self, done: Tensor) -> None:
        """Leave copies as they are until the next ``reset``: they observe and receive 0.

        An evaluation that waits for its longest episode need not step the others on.

        Args:
            done: ``[S, E]`` bool.
        """
        for i in done.flatten().nonzero().flatten().tolist():
            self._next[i] = None

    def step(self, action: Tensor) -> Step:
        # [S*E, N, A], and a copy, for it is kept.
        rows = action.detach().cpu().flatten(0, 1).numpy().astype(np.float32)
        moves = self.copies.step(rows, self._next)
        self.returns += moves.reward
        basin = np.zeros(len(rows), np.int64)
        optimal, safe = self.config.optimal_return, self.config.safe_return
        if optimal is not None and safe is not None:
            basin = np.where(self.returns > (safe + optimal) / 2, 0, 1)  # NaN is not above
        for i, ended in enumerate(moves.terminated | moves.truncated):
            if ended:
                self._begun(i)
            elif self._next[i] is not None:
                self.played[i].append(rows[i])
        return Step(
            obs=self._tensor(moves.obs),
            next_obs=self._tensor(moves.next_obs),
            reward=self._tensor((moves.reward * self.scale).astype(np.float32)),
            terminated=self._tensor(moves.terminated),
            truncated=self._tensor(moves.truncated),
            basin=self._tensor(basin),
        )

    def render(self) -> Any:
        """What the first copy draws of itself: ``[height, width, 3]``."""
        assert isinstance(self.copies, Copies), "copies of other processes are not filmed"
        return self.copies.render()

    def close(self) -> None:
        """Close every copy and end every worker. Again: nothing happens. Without it, the same
        happens when the environment is no longer used."""
        self._close()

    def _begun(self, i: int) -> None:
        """Copy ``i`` has begun its next episode."""
        self.episodes[i] += 1
        self.played[i], self.returns[i] = [], 0.0
        self._next[i] = self._seed(i, self.episodes[i])

    def _seed(self, i: int, episode: int) -> int:
        """Of the reset that begins copy ``i``'s ``episode``, counted from 0."""
        name = f"{self.stream}/copy {i % self.shape[1]}/episode {episode}"
        return derive(self.seeds[i // self.shape[1]], name) % 2**31

    def _tensor(self, rows: np.ndarray) -> Tensor:
        """``[S*E, ...]`` -> ``[S, E, ...]``"""
        tensor = torch.as_tensor(rows, device=self.device)
        return tensor.view(*self.shape, *rows.shape[1:])

    def state_dict(self) -> dict[str, Any]:
        played = [np.array(rows).tolist() for rows in self.played]
        return {"episodes": list(self.episodes), "played": played}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.episodes = list(state["episodes"])
        self.played = [[np.array(row, np.float32) for row in rows] for rows in state["played"]]
        self._next = [self._seed(i, episode) for i, episode in enumerate(self.episodes)]
        begun = [  # None: never reset
            self._seed(i, episode - 1) if episode else None
            for i, episode in enumerate(self.episodes)
        ]
        self.returns = np.array(self.copies.replay(begun, self.played))


def of_factory(factory: str, horizon: int = 25) -> type[Parallel]:
    """An environment class whose defaults are this factory and horizon, for the checks of
    ``rocompare doctor``, which make environments with their defaults."""
    config = create_model(
        "Config",
        __base__=Parallel.Config,
        factory=(str, factory),
        horizon=(int, Field(horizon, gt=0)),
    )
    return type("OfFactory", (Parallel,), {"Config": config})
