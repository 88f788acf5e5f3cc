"""Matrix games of two agents, made continuous: the climbing and the penalty game.

Agent 1 chooses a row of the payoff matrix, agent 2 a column. The ``m`` rows (and columns) stand at
equal distances on ``[-1, 1]``, and the reward between them is bilinear::

    reward(u) = sum_jk w_j(u_1) w_k(u_2) payoff[j][k]        w: linear interpolation

So the reward is never above the matrix's largest entry, and for whatever the partner does a best
action stands on a row (or column). The two games of Claus and Boutilier (AAAI 1998), with ``k`` for
the punishment of miscoordination (their climbing game has -30)::

    climbing   11   k   0        penalty   10   0   k
                k   7   6                   0   2   0
                0   0   5                   k   0  10

Beside a partner that acts at random the rows of the climbing game are worth -12.25, -2.5 and 1.25
(the average of the interpolated game), so agents that judge an action by such averages choose the
last row and column: 5 instead of 11. In the penalty game it is (10 + k)/4, 1 and (10 + k)/4, so
they settle at 2 instead of 10 once ``k`` is below -6; it has two optima besides, that must not be
mixed.

The safe behaviour, of any payoff, is that each agent plays the action whose worst case is best: the
entry 5 of the climbing game, 2 of the penalty game. An episode's basin is the entry that is nearest
to the joint action: ``optimum`` is each entry with the largest payoff, ``safe`` the safe one, and
``other`` all else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import Tensor

from rocompare.api import EnvSpec, Step


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Row = Annotated[tuple[float, ...], BeforeValidator(_as_tuple), Field(min_length=2, max_length=100)]
Matrix = Annotated[tuple[Row, ...], BeforeValidator(_as_tuple), Field(min_length=2, max_length=100)]


def climbing(k: float) -> Matrix:
    return (11.0, k, 0.0), (k, 7.0, 6.0), (0.0, 0.0, 5.0)


def penalty(k: float) -> Matrix:
    return (10.0, 0.0, k), (0.0, 2.0, 0.0), (k, 0.0, 10.0)


class MatrixGame:
    """``S x E`` copies of the game. Observation: a constant 0. Episodes last one step."""

    version = 1

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

        game: Literal["climbing", "penalty"] = "climbing"
        k: float = Field(-30.0, lt=0)
        """Punishment of miscoordination in these two games."""
        payoff: Matrix | None = None
        """Rows of one's own, instead of ``game`` and ``k``."""

        @model_validator(mode="after")
        def _check_payoff(self) -> MatrixGame.Config:
            matrix = self.matrix()
            if len({len(row) for row in matrix}) > 1:
                raise ValueError(f"rows of one length are needed, got {[len(r) for r in matrix]}")
            row, column = safe_entry(matrix)
            if matrix[row][column] >= max(map(max, matrix)):
                raise ValueError(
                    "here the actions with the best worst case are optimal: nothing to "
                    "over-generalize"
                )
            return self

        def matrix(self) -> Matrix:
            if self.payoff is not None:
                return self.payoff
            return climbing(self.k) if self.game == "climbing" else penalty(self.k)

    def __init__(
        self,
        config: MatrixGame.Config,
        seeds: Sequence[int],
        n_envs: int,
        stream: str = "env",
        device: torch.device | str = "cpu",
    ) -> None:
        # The game draws no random numbers, so ``stream`` goes unused.
        matrix = config.matrix()
        row, column = safe_entry(matrix)
        self.config = config
        self.payoff = torch.tensor(matrix, device=device)  # [rows, columns]
        self.spec = EnvSpec(
            n_agents=2,
            obs_dim=1,
            action_dim=1,
            horizon=1,
            optimal_return=max(map(max, matrix)),
            safe_return=matrix[row][column],
            basins=("optimum", "safe", "other"),
            constant_obs=True,
        )
        self.basins = torch.full(self.payoff.shape, 2, device=device)
        self.basins[row, column] = 1
        self.basins[self.payoff == self.payoff.max()] = 0
        shape = (len(seeds), n_envs, 2, 1)
        self.obs = torch.zeros(1, device=device).expand(shape)
        self.ended = torch.ones(1, dtype=torch.bool, device=device).expand(shape[:2])

    def _place(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column ``[...]``, with fractions, of joint actions ``[..., 2, 1]``."""
        rows, columns = self.payoff.shape
        place = (action.squeeze(-1) + 1) / 2  # [..., 2] in [0, 1]
        return place[..., 0] * (rows - 1), place[..., 1] * (columns - 1)

    def reward(self, action: Tensor) -> Tensor:
        """``[...]`` rewards of joint actions ``[..., N, 1]`` in ``[-1, 1]``."""
        row, column = (
            _interpolation(at, size)
            for at, size in zip(self._place(action), self.payoff.shape, strict=True)
        )
        return ((row @ self.payoff.to(row.dtype)) * column).sum(-1)

    def basin(self, action: Tensor) -> Tensor:
        """``[...]`` index into ``spec.basins``: that of the nearest entry."""
        row, column = self._place(action)
        known = row.isfinite() & column.isfinite()
        nearest = (
            (torch.where(known, at, 0.0) + 0.5).long().clamp(0, size - 1)
            for at, size in zip((row, column), self.payoff.shape, strict=True)
        )
        return torch.where(known, self.basins[tuple(nearest)], 2)  # NaN is never the optimum's

    def reset(self) -> Tensor:
        return self.obs

    def step(self, action: Tensor) -> Step:
        return Step(
            obs=self.obs,
            next_obs=self.obs,
            reward=self.reward(action),
            terminated=self.ended,
            truncated=~self.ended,
            basin=self.basin(action),
        )

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


def safe_entry(matrix: Matrix) -> tuple[int, int]:
    """Row and column whose smallest payoff is largest; the first of equals."""
    row_worst = [min(row) for row in matrix]
    column_worst = [min(column) for column in zip(*matrix, strict=False)]
    return row_worst.index(max(row_worst)), column_worst.index(max(column_worst))


def _interpolation(at: Tensor, size: int) -> Tensor:
    """Weights ``[..., size]`` of the two entries beside each ``at [...]``: 1 minus the distance."""
    return (1 - (at.unsqueeze(-1) - torch.arange(size, device=at.device)).abs()).clamp(min=0)
