"""Matrix games of two agents, made continuous: the climbing and the penalty game.

Agent 1 chooses a row of the payoff matrix, agent 2 a column. The ``m`` rows (and columns) stand at
equal distances on ``[-1 + margin, 1 - margin]``, and the reward between them is bilinear::

    reward(u) = sum_jk w_j(u_1) w_k(u_2) payoff[j][k] - fall (b(u_1) + b(u_2))

    w: linear interpolation; beyond the outermost row (or column) that one alone counts
    b(u_i) = max(0, |u_i| - (1 - margin)) / margin: how far beyond it, 1 at the box's border
    fall = optimal - safe return

So the reward is never above the matrix's largest entry, and for whatever the partner does a best
action stands on a row (or column). With ``margin: 0`` the outermost entries stand on the border
and in the corners of the box. With a margin they stand inside, and the border is worse than the
entries beside it: algorithms whose actions drift to the border are then not helped by it.

The two games of Claus and Boutilier (AAAI 1998), with ``k`` for the punishment of miscoordination
(their climbing game has -30)::

    climbing   11   k   0        penalty   10   0   k
                k   7   6                   0   2   0
                0   0   5                   k   0  10

Beside a partner that acts at random the rows of the climbing game are worth -12.25, -2.5 and 1.25
(the average of the interpolated game without margin), so agents that judge an action by such
averages choose the last row and column: 5 instead of 11. In the penalty game it is (10 + k)/4, 1
and (10 + k)/4, so they settle at 2 instead of 10 once ``k`` is below -6; it has two optima besides,
that must not be mixed. A margin m weighs the outer rows by (1 + m)/4 instead of 1/4 and the middle
one by (1 - m)/2, and subtracts the same from all rows.

The safe behaviour is that each agent plays the action whose worst case is best (of equals the one
with the best average): the entry 5 of the climbing game, 2 of the penalty game. An episode's basin
is the entry that is nearest to the joint action: ``optimum`` is each entry with the largest payoff,
``safe`` the safe one, and ``other`` all else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from rocompare.api import EnvSpec
from rocompare.envs.base import EnvConfig, OneStepGame
from rocompare.errors import UserError


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Row = Annotated[tuple[float, ...], BeforeValidator(_as_tuple), Field(min_length=2, max_length=100)]
Matrix = Annotated[tuple[Row, ...], BeforeValidator(_as_tuple), Field(min_length=2, max_length=100)]


def climbing(k: float) -> Matrix:
    return (11.0, k, 0.0), (k, 7.0, 6.0), (0.0, 0.0, 5.0)


def penalty(k: float) -> Matrix:
    return (10.0, 0.0, k), (0.0, 2.0, 0.0), (k, 0.0, 10.0)


SAFE = {"climbing": (2, 2), "penalty": (1, 1)}
"""Row and column of the safe entry in the games that have a name."""


class MatrixGame(OneStepGame):
    """``S x E`` copies of the game. Observation: a constant 0. Episodes last one step."""

    version = 1
    settable = ("k",)

    class Config(EnvConfig):
        game: Literal["climbing", "penalty"] = "climbing"
        """Which of the two published games."""
        k: float = -30.0
        """Punishment of miscoordination in these two games, below 0; of the penalty game also 0,
        with which nothing is punished."""
        payoff: Matrix | None = None
        """Rows of one's own, instead of ``game`` and ``k``."""
        margin: float = Field(0.0, ge=0, lt=1)
        """How far from the border of the box the outermost rows and columns stand."""

        @model_validator(mode="after")
        def _check_payoff(self) -> MatrixGame.Config:
            if self.payoff is None:
                check_punishment(self.game, self.k)
            elif len({len(row) for row in self.payoff}) > 1:
                raise ValueError(
                    f"payoff needs rows of one length, got {[len(row) for row in self.payoff]}"
                )
            payoff = torch.tensor(self.matrix(), dtype=torch.float64)
            check_payoff(payoff, self.safe_entry())
            return self

        def matrix(self) -> Matrix:
            if self.payoff is not None:
                return self.payoff
            return climbing(self.k) if self.game == "climbing" else penalty(self.k)

        def safe_entry(self) -> tuple[int, ...]:
            """Row and column of the safe behaviour."""
            if self.payoff is None:
                return SAFE[self.game]
            return safest(torch.tensor(self.payoff, dtype=torch.float64))

    @classmethod
    def check_set(cls, config: Any, parameters: Any) -> None:
        super().check_set(config, parameters)
        if config.payoff is not None and parameters:
            raise UserError("'k' says nothing in a game with a payoff of one's own")

    def prepare(self) -> None:
        self.payoff = torch.tensor(self.config.matrix(), device=self.device)  # [rows, columns]
        self.best = self.payoff == self.payoff.max()
        self.entry = self.config.safe_entry()
        self.basins = torch.full(self.payoff.shape, 2, device=self.device)
        self.basins[self.entry] = 1
        self.basins[self.best] = 0
        self.inner = 1 - self.config.margin  # where the outermost rows and columns stand
        self.fall = float(self.payoff.max() - self.payoff[self.entry])

    def describe(self) -> EnvSpec:
        matrix = self.config.matrix()
        row, column = self.entry
        return EnvSpec(
            n_agents=2,
            obs_dim=1,
            action_dim=1,
            horizon=1,
            optimal_return=max(map(max, matrix)),
            safe_return=matrix[row][column],
            basins=("optimum", "safe", "other"),
            constant_obs=True,
        )

    def _place(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column ``[...]``, with fractions, of joint actions ``[..., 2, 1]``."""
        rows, columns = self.payoff.shape
        inside = action.squeeze(-1).clamp(-self.inner, self.inner)
        place = (inside / self.inner + 1) / 2  # [..., 2] in [0, 1]
        return place[..., 0] * (rows - 1), place[..., 1] * (columns - 1)

    def reward(self, action: Tensor) -> Tensor:
        row, column = (
            _interpolation(at, size)
            for at, size in zip(self._place(action), self.payoff.shape, strict=True)
        )
        reward = ((row @ self.payoff.to(row.dtype)) * column).sum(-1)
        if self.config.margin == 0:
            return reward
        beyond = (action.squeeze(-1).abs() - self.inner).clamp(min=0) / self.config.margin
        return reward - self.fall * beyond.sum(-1)

    def basin(self, action: Tensor) -> Tensor:
        """``[...]`` index into ``spec.basins``: that of the nearest entry."""
        row, column = self._place(action)
        known = row.isfinite() & column.isfinite()
        nearest = (
            (torch.where(known, at, 0.0) + 0.5).long().clamp(0, size - 1)
            for at, size in zip((row, column), self.payoff.shape, strict=True)
        )
        return torch.where(known, self.basins[tuple(nearest)], 2)  # NaN is never the optimum's

    def modes(self) -> Tensor:
        return self._action(self.best.nonzero())

    def safe(self) -> Tensor:
        return self._action(torch.tensor([self.entry], device=self.device))[0]

    def _action(self, entry: Tensor) -> Tensor:
        """Joint actions ``[M, 2, 1]`` that stand on entries ``[M, 2]``."""
        last = torch.tensor(self.payoff.shape, device=self.device) - 1
        return (self.inner * (2 * entry / last - 1)).unsqueeze(-1)


def check_punishment(game: str, k: float) -> None:
    """Whether ``k`` punishes, a ``ValueError`` if not."""
    if k > 0 or (k == 0 and game != "penalty"):
        raise ValueError(
            f"k must be below 0 in the {game} game, got {k:g}: it is the punishment without which "
            "the safe entry is not what cautious agents choose"
        )


def check_payoff(payoff: Tensor, safe: tuple[int, ...]) -> None:
    """Whether the declared returns of a matrix are what they are said to be; ``ValueError`` if not.

    Args:
        payoff: a dimension per agent, of its actions.
        safe: the entry that is called safe.
    """
    if payoff[safe] >= payoff.max():
        raise ValueError(
            "the actions with the best worst cases have the largest payoff already, so there is "
            "nothing to over-generalize: the safe entry must be below the largest"
        )


def safest(payoff: Tensor) -> tuple[int, ...]:
    """The entry at which every agent plays the action whose smallest payoff is largest; of equals
    the one with the largest average, of those the first.

    Args:
        payoff: a dimension per agent, of its actions.
    """
    entry = []
    for agent in range(payoff.dim()):
        row = payoff.movedim(agent, 0).flatten(1)  # [actions, what the others may do]
        worth = list(zip(row.amin(1).tolist(), row.mean(1).tolist(), strict=True))
        entry.append(worth.index(max(worth)))
    return tuple(entry)


def _interpolation(at: Tensor, size: int) -> Tensor:
    """Weights ``[..., size]`` of the two entries beside each ``at [...]``: 1 minus the distance."""
    return (1 - (at.unsqueeze(-1) - torch.arange(size, device=at.device)).abs()).clamp(min=0)
