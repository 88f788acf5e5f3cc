"""A replay buffer for all seeds: one packed row per transition, one ``index_select`` per batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rocompare.api import Batch, EnvSpec
from rocompare.learn.rng import Streams


class Replay:
    """The last ``capacity`` transitions of each seed; every seed draws its own batches.

    Args:
        spec: sizes of what is stored. A constant observation is stored once, not per transition.
        capacity: rows per seed.
        streams: where the sampled indices come from.
    """

    def __init__(
        self, spec: EnvSpec, capacity: int, n_seeds: int, streams: Streams, device: torch.device
    ) -> None:
        self.spec = spec
        self.capacity = capacity
        self.n_seeds = n_seeds
        self.streams = streams
        self.device = device
        self.size = 0
        self.at = 0
        self.rows: Tensor | None = None  # [S, capacity, row], once the extras' shapes are known
        self.obs: Tensor | None = None  # [S, 1, N, O] if constant
        self.fields: dict[str, tuple[slice, tuple[int, ...]]] = {}
        self.first_row = torch.arange(n_seeds, device=device)[:, None] * capacity

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        width = 0
        for name, shape in shapes.items():
            end = width + math.prod(shape)
            self.fields[name] = slice(width, end), shape
            width = end
        self.rows = torch.zeros(self.n_seeds, self.capacity, width, device=self.device)

    def add(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        extras: dict[str, Tensor],
    ) -> None:
        """Store ``E`` transitions per seed; shapes as in :class:`~rocompare.api.Step`."""
        values = {"action": action, "reward": reward, "terminated": terminated}
        if self.spec.constant_obs:
            self.obs = obs[:, :1]
        else:
            values |= {"obs": obs, "next_obs": next_obs}
        values |= {f"extra/{name}": value for name, value in extras.items()}
        n_seeds, n_envs = reward.shape
        if self.rows is None:
            self._allocate({name: tuple(value.shape[2:]) for name, value in values.items()})
        assert self.rows is not None
        row = torch.cat([v.reshape(n_seeds, n_envs, -1).float() for v in values.values()], -1)
        for lo in range(0, n_envs, self.capacity):
            part = row[:, lo : lo + self.capacity]
            head = min(part.shape[1], self.capacity - self.at)
            self.rows[:, self.at : self.at + head] = part[:, :head]
            self.rows[:, : part.shape[1] - head] = part[:, head:]
            self.at = (self.at + part.shape[1]) % self.capacity
            self.size = min(self.size + part.shape[1], self.capacity)

    def sample(self, batch_size: int, streams: Streams | None = None) -> Batch:
        """A batch per seed, uniform with replacement; with numbers of ``streams`` if given."""
        assert self.rows is not None, "sample() needs at least one add()"
        index = (streams or self.streams).index(self.size, batch_size) + self.first_row
        rows = self.rows.flatten(0, 1).index_select(0, index.flatten())
        rows = rows.view(self.n_seeds, batch_size, -1)

        def get(name: str) -> Tensor:
            where, shape = self.fields[name]
            return rows[:, :, where].view(self.n_seeds, batch_size, *shape)

        extras = {n.removeprefix("extra/"): get(n) for n in self.fields if n.startswith("extra/")}
        obs = self.obs if self.obs is not None else get("obs")
        next_obs = self.obs if self.obs is not None else get("next_obs")
        return Batch(obs, get("action"), get("reward"), next_obs, get("terminated"), extras)

    def state_dict(self) -> dict[str, Any]:
        rows = None if self.rows is None else self.rows[:, : self.size].clone()
        shapes = {name: list(shape) for name, (_, shape) in self.fields.items()}
        return {
            "rows": rows,
            "shapes": shapes,
            "obs": self.obs,
            "at": self.at,
            "size": self.size,
            "streams": self.streams.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at, self.size, self.obs = state["at"], state["size"], state["obs"]
        self.streams.load_state_dict(state["streams"])
        if state["rows"] is not None:
            self._allocate({name: tuple(shape) for name, shape in state["shapes"].items()})
            assert self.rows is not None
            self.rows[:, : self.size] = state["rows"]
