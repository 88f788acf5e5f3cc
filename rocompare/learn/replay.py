"""A replay buffer for all seeds: one packed row per transition, one ``index_select`` per batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rocompare.api import Batch, EnvSpec, Transition
from rocompare.learn.rng import Streams

FIRST_ROWS = 1024
"""Rows per seed that memory is taken for at first; it is doubled when they are full."""


class Replay:
    """The last ``capacity`` transitions of each seed; every seed draws its own batches.

    Args:
        spec: sizes of what is stored. A constant observation is stored once, not per transition,
            and one that all agents share once per transition, not per agent.
        capacity: rows per seed.
        extras: shapes of further tensors that are stored beside each transition, by name.
    """

    def __init__(
        self,
        spec: EnvSpec,
        capacity: int,
        seeds: Sequence[int],
        device: torch.device,
        extras: dict[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.spec = spec
        self.capacity = capacity
        self.n_seeds = len(seeds)
        self.streams = Streams(seeds, "replay", device)
        self.size = 0
        self.at = 0
        self.obs: Tensor | None = None  # [S, 1, N, O] if constant
        shapes: dict[str, tuple[int, ...]] = {
            "action": (spec.n_agents, spec.action_dim), "reward": (), "terminated": (),
        }  # fmt: skip
        if not spec.constant_obs:
            observers = 1 if spec.shared_obs else spec.n_agents
            shapes |= dict.fromkeys(("obs", "next_obs"), (observers, spec.obs_dim))
        self.fields: dict[str, tuple[slice, tuple[int, ...]]] = {}
        width = 0
        for name, shape in (shapes | (extras or {})).items():
            end = width + math.prod(shape)
            self.fields[name] = slice(width, end), shape
            width = end
        self.rows = torch.zeros(self.n_seeds, min(FIRST_ROWS, capacity), width, device=device)

    def add(self, transition: Transition, **extras: Tensor) -> None:
        """Store ``E`` transitions per seed, and ``extras [S, E, ...]`` beside them."""
        n_seeds, n_envs = transition.reward.shape
        values = transition._asdict() | extras
        if self.spec.constant_obs:
            self.obs = transition.obs[:, :1]
        elif self.spec.shared_obs:
            values |= {name: values[name][:, :, :1] for name in ("obs", "next_obs")}
        row = torch.cat([values[f].reshape(n_seeds, n_envs, -1).float() for f in self.fields], -1)
        self._grow(min(self.size + n_envs, self.capacity))
        for lo in range(0, n_envs, self.capacity):
            part = row[:, lo : lo + self.capacity]
            head = min(part.shape[1], self.capacity - self.at)
            self.rows[:, self.at : self.at + head] = part[:, :head]
            self.rows[:, : part.shape[1] - head] = part[:, head:]
            self.at = (self.at + part.shape[1]) % self.capacity
            self.size = min(self.size + part.shape[1], self.capacity)

    def _grow(self, needed: int) -> None:
        have = self.rows.shape[1]
        if needed <= have:
            return
        while have < needed:
            have = min(2 * have, self.capacity)
        rows = self.rows.new_zeros(self.n_seeds, have, self.rows.shape[2])
        rows[:, : self.size] = self.rows[:, : self.size]
        self.rows = rows

    def forget(self, newest: int) -> None:
        """Keep none but the ``newest`` transitions of each seed."""
        kept = min(newest, self.size)
        index = torch.arange(self.at - kept, self.at, device=self.rows.device) % self.capacity
        self.rows[:, :kept] = self.rows[:, index]
        self.size, self.at = kept, kept % self.capacity

    def relabel(self, reward: Callable[[Tensor], Tensor]) -> None:
        """Replace the rewards by those of another game of one step.

        Args:
            reward: ``[S, R, N, A]`` joint actions -> ``[S, R]``.
        """
        if not self.size:
            return
        where, shape = self.fields["action"]
        rows = self.rows[:, : self.size]
        rows[:, :, self.fields["reward"][0]] = reward(rows[:, :, where].unflatten(-1, shape))[
            ..., None
        ]

    def sample(self, batch_size: int, streams: Streams | None = None) -> Batch:
        """A batch per seed, uniform with replacement; with numbers of ``streams`` if given."""
        return self.sample_with(batch_size, streams)[0]

    def sample_with(
        self, batch_size: int, streams: Streams | None = None
    ) -> tuple[Batch, dict[str, Tensor]]:
        """The same and its extras, ``[S, B, ...]`` each."""
        if not self.size:
            raise ValueError("sample() needs at least one add()")
        first_row = torch.arange(self.n_seeds, device=self.rows.device) * self.rows.shape[1]
        index = (streams or self.streams).index(self.size, batch_size) + first_row[:, None]
        rows = self.rows.flatten(0, 1).index_select(0, index.flatten())
        rows = rows.view(self.n_seeds, batch_size, -1)
        found = {
            name: rows[:, :, where].view(self.n_seeds, batch_size, *shape)
            for name, (where, shape) in self.fields.items()
        }
        if self.obs is not None:
            obs = next_obs = self.obs
        else:
            shape = -1, -1, self.spec.n_agents, -1
            obs, next_obs = (found.pop(name).expand(shape) for name in ("obs", "next_obs"))
        action, reward, terminated = (found.pop(n) for n in ("action", "reward", "terminated"))
        return Batch(obs, action, reward, next_obs, terminated), found

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows[:, : self.size].clone(),
            "obs": self.obs,
            "at": self.at,
            "size": self.size,
            "streams": self.streams.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at, self.size, self.obs = state["at"], state["size"], state["obs"]
        self.streams.load_state_dict(state["streams"])
        self._grow(self.size)
        self.rows[:, : self.size] = state["rows"]
