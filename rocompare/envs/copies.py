"""Copies of a PettingZoo ``ParallelEnv``, numpy in and out.

Nothing here imports torch, so that the processes of ``envs/workers.py`` start fast and stay small.
Shapes begin with ``C``, the copies.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from rocompare.envs.spaces import Rows, Sizes
from rocompare.errors import UnfitEnvironment


@dataclass(frozen=True)
class Recipe:
    """How to make a copy."""

    factory: str
    """``package.module:function``"""
    arguments: dict[str, Any] = field(default_factory=dict)
    pad: bool = False
    """Whether agents may differ in the sizes of observations and actions; see ``spaces.Rows``."""

    def maker(self) -> Callable[[], Any]:
        """Raises: UnfitEnvironment: the factory cannot be found, or not be called like this."""
        function = find_factory(self.factory)
        try:
            signature = inspect.signature(function)
        except ValueError:  # some built-in callables have none
            return lambda: function(**self.arguments)
        try:
            signature.bind(**self.arguments)
        except TypeError as error:
            raise UnfitEnvironment(
                f"{self.factory}: {error}; name a function that needs no argument and makes the "
                "environment"
            ) from None
        return lambda: function(**self.arguments)


class Moves(NamedTuple):
    """One step of every copy. A copy whose episode ended has begun its next one."""

    obs: np.ndarray
    """``[C, N, O]`` float32, to act on next"""
    next_obs: np.ndarray
    """``[C, N, O]`` float32, reached"""
    reward: np.ndarray
    """``[C]`` float64"""
    terminated: np.ndarray
    """``[C]`` bool"""
    truncated: np.ndarray
    """``[C]`` bool"""


@dataclass
class _Copy:
    env: Any
    gone: set[Any] = field(default_factory=set)
    """Agents whose episode has ended, whether or not the environment still lists them."""
    age: int = 0
    """Steps since the reset."""


class Copies:
    """``n`` copies in this process.

    Raises:
        UnfitEnvironment: what the factory makes is no environment that can be a scenario.
    """

    def __init__(self, recipe: Recipe, n: int, horizon: int) -> None:
        self.factory, self.horizon = recipe.factory, horizon
        self._copies: list[_Copy] = []
        make = recipe.maker()
        try:
            for _ in range(n):
                env = make()
                if any(env is copy.env for copy in self._copies):
                    raise UnfitEnvironment(
                        f"{self.factory}: returned the same object twice; every call must make a "
                        "new environment"
                    )
                self._copies.append(_Copy(_checked(env, self.factory)))
            self._rows = Rows(self._copies[0].env, self.factory, recipe.pad)
        except BaseException:
            self.close()
            raise
        self.sizes: Sizes = self._rows.sizes

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Begin an episode in each copy, with a seed each; the observations ``[C, N, O]``."""
        return np.stack(
            [self._begin(copy, seed) for copy, seed in zip(self._copies, seeds, strict=True)]
        )

    def step(self, action: np.ndarray, seeds: Sequence[int | None]) -> Moves:
        """Advance by ``action [C, N, A]``.

        Args:
            seeds: of each copy, the seed of its next episode, should this one end. A copy whose
                seed is None rests: it is left as it is, and observes and receives 0.
        """
        moves: list[tuple[Any, ...]] = []
        finite = np.isfinite(action).all((1, 2))
        scaled = self._rows.scale(action)
        nothing = np.zeros((self.sizes.n_agents, self.sizes.obs_dim), np.float32)
        for copy, rows, seed in zip(self._copies, scaled, seeds, strict=True):
            if seed is None:
                moves.append((nothing, nothing, 0.0, False, False))
                continue
            next_obs, reward, terminated, ended = self._advance(copy, rows)
            truncated = not terminated and (ended or copy.age >= self.horizon)
            obs = self._begin(copy, seed) if terminated or truncated else next_obs
            moves.append((obs, next_obs, reward, terminated, truncated))
        made = Moves(*(np.array(column) for column in zip(*moves, strict=True)))
        # Where an action is no number its seed has diverged, and its rewards say so.
        return made._replace(reward=np.where(finite, made.reward, math.nan))

    def replay(
        self, seeds: Sequence[int | None], played: Sequence[Sequence[np.ndarray]]
    ) -> list[float]:
        """Begin each copy's episode and play ``played``, by copy ``[N, A]`` each, without an end.

        Returns:
            Of each copy the rewards. One whose seed is None is left alone.
        """
        returns = []
        for copy, seed, actions in zip(self._copies, seeds, played, strict=True):
            if seed is not None:
                self._begin(copy, seed)
            total = 0.0
            for row in actions:
                reward = self._advance(copy, self._rows.scale(row))[1]
                total += reward if np.isfinite(row).all() else math.nan
            returns.append(total)
        return returns

    def render(self) -> Any:
        """What the first environment draws of itself."""
        return self._copies[0].env.render()

    def close(self) -> None:
        """Close every environment, once; that one cannot be closed keeps no other open."""
        while self._copies:
            with contextlib.suppress(Exception):  # its episodes have been played
                self._copies.pop().env.close()

    def _begin(self, copy: _Copy, seed: int) -> np.ndarray:
        answer = copy.env.reset(seed=seed)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], dict)):
            raise UnfitEnvironment(
                f"{self.factory}: reset(seed) must return two dictionaries by agent, observations "
                "and infos; PettingZoo's older interface is not supported"
            )
        copy.gone, copy.age = set(), 0
        if not copy.env.agents:
            raise UnfitEnvironment(f"{self.factory}: after reset(seed) `agents` is empty")
        return self._rows.observations(answer[0], copy.gone)

    def _advance(self, copy: _Copy, rows: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """``(next_obs [N, O], reward, terminated, ended)`` after ``rows [N, A]``, scaled."""
        listed = list(copy.env.agents)
        acting = [agent for agent in listed if agent not in copy.gone]
        answer = copy.env.step(self._rows.actions(rows, listed))
        if not (isinstance(answer, tuple) and len(answer) == 5):
            raise UnfitEnvironment(
                f"{self.factory}: step(actions) must return five dictionaries by agent: "
                "observations, rewards, terminations, truncations and infos"
            )
        obs, rewards, terminations, truncations, _ = answer
        copy.age += 1
        reward = math.fsum(float(rewards[a]) for a in acting) / len(acting)
        next_obs = self._rows.observations(obs, copy.gone)
        copy.gone |= {a for a in acting if terminations.get(a) or truncations.get(a)}
        ended = all(agent in copy.gone for agent in copy.env.agents)
        terminated = ended and any(bool(terminations.get(a)) for a in acting)
        return next_obs, reward, terminated, ended


def probe(recipe: Recipe) -> Sizes:
    """Make one copy, play one step of it and close it.

    Raises:
        UnfitEnvironment: it cannot be a scenario, or one of its methods failed.
    """
    try:
        copies = Copies(recipe, 1, horizon=2)
        try:
            sizes = copies.sizes
            copies.reset([0])
            copies.step(np.zeros((1, sizes.n_agents, sizes.action_dim), np.float32), [1])
            return sizes
        finally:
            copies.close()
    except UnfitEnvironment:
        raise
    except Exception as error:  # foreign code may fail in any way; say which
        raise UnfitEnvironment(
            f"{recipe.factory}: one step of what it makes raised {type(error).__name__}: {error}"
        ) from error


def find_factory(name: str) -> Callable[..., Any]:
    """Import the function that ``package.module:function`` names.

    Raises:
        UnfitEnvironment: there is none.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", name, re.ASCII):
        raise UnfitEnvironment(f"'{name[:80]}' is not of the form 'package.module:function'")
    module_name, function = name.split(":")
    try:
        found = getattr(importlib.import_module(module_name), function, None)
    except Exception as error:  # a user's module may fail in any way; say which and how
        raise UnfitEnvironment(
            f"cannot import '{module_name}' of '{name}': {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise UnfitEnvironment(f"module '{module_name}' has no function '{function}'")
    return found


def _checked(env: Any, factory: str) -> Any:
    """``env``, if it looks like a ``ParallelEnv``."""
    problem = ""
    missing = [
        name
        for name in ("possible_agents", "observation_space", "action_space", "reset", "step")
        if not hasattr(env, name)
    ]
    if env is None:
        problem = "returned None; it must return the environment that it makes"
    elif hasattr(env, "agent_selection") or hasattr(env, "agent_iter"):
        problem = (
            "makes an AEC environment, in which agents take turns; a ParallelEnv is needed, where "
            "they act at once: let it return pettingzoo.utils.aec_to_parallel(env)"
        )
    elif missing:
        problem = (
            f"makes a {type(env).__name__}, which is no PettingZoo ParallelEnv: it has no "
            f"{', '.join(missing)}"
        )
    elif not env.possible_agents:
        problem = "makes an environment whose `possible_agents` is empty"
    else:
        parameters = inspect.signature(env.reset).parameters.values()
        if not any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in parameters):
            problem = (
                "reset() takes no seed; it must be reset(seed=None, options=None), and an episode "
                "must follow from its seed"
            )
    if problem:
        raise UnfitEnvironment(f"{factory}: {problem}")
    return env
