"""Every environment as a PettingZoo ``ParallelEnv``. The other way round: ``envs/parallel.py``.

>>> from rocompare.envs.pettingzoo import parallel_env
>>> env = parallel_env("max_of_three", s2=1.5)
>>> obs, infos = env.reset(seed=0)
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import torch

from rocompare.learn.evaluate import close
from rocompare.suite import registry

try:
    from gymnasium.spaces import Box, Discrete
    from pettingzoo import ParallelEnv
except ImportError as error:
    raise ImportError(
        "rocompare.envs.pettingzoo needs PettingZoo: pip install 'rocompare[pettingzoo]'"
    ) from error


class RocompareParallelEnv(ParallelEnv):  # type: ignore[misc]
    """One copy of an environment for one seed.

    Observations are ``[O]`` and actions ``[A]`` in ``[-1, 1]``, float32, or, in a game of discrete
    actions, numbers from 0 to A-1; every agent gets the team's reward. At the end of an episode
    each agent's info names the ``basin`` that it ended in.
    """

    def __init__(self, env_class: Any, config: Any, name: str) -> None:
        self.metadata = {"name": name, "render_modes": []}
        self.render_mode = None
        self._class, self._config = env_class, config
        self._env = env_class(config, [secrets.randbits(31)], 1)
        self.spec = spec = self._env.spec
        self.possible_agents = [f"agent_{i}" for i in range(spec.n_agents)]
        self.agents: list[str] = []
        # One space an agent, always the same object: users seed them.
        self.observation_spaces = {
            agent: Box(-np.inf, np.inf, (spec.obs_dim,), np.float32)
            for agent in self.possible_agents
        }
        self.action_spaces = {
            agent: Discrete(spec.action_dim)
            if spec.discrete
            else Box(-1.0, 1.0, (spec.action_dim,), np.float32)
            for agent in self.possible_agents
        }

    def observation_space(self, agent: str) -> Any:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode; with ``seed`` the first of that seed, else the next one."""
        if seed is not None:
            self.close()
            self._env = self._class(self._config, [seed], 1)
        self.agents = list(self.possible_agents)
        obs = self._env.reset()
        return self._by_agent(obs), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Advance the team by one action of each agent."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        if self.spec.discrete:
            rows = np.eye(self.spec.action_dim, dtype=np.float32)[[actions[a] for a in self.agents]]
        else:
            rows = np.stack([np.asarray(actions[a], np.float32) for a in self.agents]).clip(-1, 1)
        with torch.no_grad():
            step = self._env.step(torch.from_numpy(rows)[None, None])
        terminated, truncated = bool(step.terminated), bool(step.truncated)
        ended = terminated or truncated
        info = {"basin": self.spec.basins[int(step.basin)]} if ended else {}
        outcome = (
            self._by_agent(step.next_obs),
            dict.fromkeys(self.agents, float(step.reward)),
            dict.fromkeys(self.agents, terminated),
            dict.fromkeys(self.agents, truncated),
            {agent: dict(info) for agent in self.agents},
        )
        if ended:
            self.agents = []
        return outcome

    def _by_agent(self, obs: torch.Tensor) -> dict[str, Any]:
        """``obs [1, 1, N, O]`` -> an ``[O]`` of its own for each agent."""
        rows = obs[0, 0].to(torch.float32).numpy()
        return {agent: row.copy() for agent, row in zip(self.agents, rows, strict=True)}

    def render(self) -> None:
        return None

    def close(self) -> None:
        """Free what the environment holds besides tensors, as one that was imported may."""
        close(self._env)


def parallel_env(env: str = "max_of_three", **params: Any) -> RocompareParallelEnv:
    """An environment by its name in suites (or ``"module:Class"``), with its parameters."""
    env_class = registry.load("environment", env)
    return RocompareParallelEnv(env_class, env_class.Config.model_validate(params), env)
