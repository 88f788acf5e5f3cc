"""Matrix games in their own, discrete form: the games in which RO was first described.

Every agent chooses one of A actions, a one-hot row of ``action [..., N, A]``, and the team is paid
the entry of the payoff matrix at which they meet. For two agents the rows are agent 1's actions::

    climbing   11   k   0        penalty   10   0   k        qtran    8  -12  -12
                k   7   6                   0   2   0               -12    0    0
                0   0   5                   k   0  10               -12    0    0

``climbing`` and ``penalty`` are the games of Claus and Boutilier (AAAI 1998). Kapetanakis and
Kudenko (AAAI 2002) make the climbing game stochastic: an entry is then two rewards that are drawn
with equal chances, and whose mean is the climbing game's, with ``k = -30``::

    partially_stochastic_climbing: the 7 is 14 or 0
    fully_stochastic_climbing:   10/12    5/-65    8/-8
                                 5/-65   14/0     12/0
                                 5/-5     5/-5     7/3

Optimistic learners, which believe the best that an action has ever brought, solve the climbing game
and fail in these. ``qtran`` is the matrix of Son et al. (ICML 2019), whose optimum no monotone
mixing of values represents.

``payoff`` is a game of one's own, of two agents or more: lists nested once for each agent, as many
entries at each level as there are actions. With ``spread`` it is stochastic: the reward is
``payoff + spread`` or ``payoff - spread``, with equal chances.

The safe behaviour is that each agent plays the action whose worst case is best, of equals the one
with the best average: 5 in the climbing games, 2 in the penalty game, 0 in QTRAN's. Declared
returns are means. An episode's basin is its entry: ``optimum`` is each with the largest payoff,
``safe`` the safe one, and ``other`` all else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, model_validator
from torch import Tensor
from torch.nn.functional import one_hot

from rocompare.api import EnvSpec
from rocompare.envs.base import LAND, EnvConfig, OneStepGame, is_finite
from rocompare.envs.matrix_game import (
    SAFE,
    check_payoff,
    check_punishment,
    climbing,
    penalty,
    safest,
)
from rocompare.errors import UserError
from rocompare.learn.rng import Streams

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

MAX_AGENTS = 16
MAX_ENTRIES = 100_000
"""Of a payoff of one's own."""

Game = Literal[
    "climbing",
    "partially_stochastic_climbing",
    "fully_stochastic_climbing",
    "penalty",
    "qtran",
]
QTRAN = ((8.0, -12.0, -12.0), (-12.0, 0.0, 0.0), (-12.0, 0.0, 0.0))
SPREADS = {
    "partially_stochastic_climbing": ((0.0, 0.0, 0.0), (0.0, 7.0, 0.0), (0.0, 0.0, 0.0)),
    "fully_stochastic_climbing": ((1.0, 35.0, 8.0), (35.0, 7.0, 6.0), (5.0, 5.0, 2.0)),
}
"""Half of the difference between the two rewards of an entry."""


def _nested(value: Any, depth: int = 0) -> Any:
    """Nested lists of numbers as nested tuples of floats."""
    if isinstance(value, list | tuple) and depth <= MAX_AGENTS:
        return tuple(_nested(item, depth + 1) for item in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise ValueError(
            "lists of finite numbers are needed, nested once for each agent (up to "
            f"{MAX_AGENTS}), got {str(value)[:40]!r}"
        )
    return float(value)


def _shape(nested: Any) -> tuple[int, ...]:
    """How many entries lists have at each level; a ``ValueError`` where neighbours differ."""
    if isinstance(nested, float):
        return ()
    shapes = {_shape(item) for item in nested}
    if len(shapes) != 1:
        raise ValueError("lists beside each other must have the same length, and none be empty")
    return (len(nested), *shapes.pop())


Nested = Annotated[tuple[Any, ...], BeforeValidator(lambda value: _nested(value))]


class DiscreteMatrixGame(OneStepGame):
    """``S x E`` copies of the game. Observation: a constant 0. Episodes last one step."""

    version = 1
    settable = ("k",)

    class Config(EnvConfig):
        game: Game = "climbing"
        """Which of the published games."""
        k: float = -30.0
        """Punishment of miscoordination in the climbing games, below 0, and in the penalty game,
        where it may be 0 as well: then nothing is punished. QTRAN's game has none."""
        payoff: Nested | None = None
        """The mean payoffs of a game of one's own, lists nested once for each agent, instead of
        ``game`` and ``k``."""
        spread: Nested | None = None
        """How far the two rewards of each entry of ``payoff`` lie from their mean; without it the
        reward is the payoff."""

        @model_validator(mode="after")
        def _check_payoff(self) -> DiscreteMatrixGame.Config:
            if self.payoff is None:
                if self.spread is not None:
                    raise ValueError("spread is that of a payoff of one's own, which is missing")
                if self.game != "qtran":
                    check_punishment(self.game, self.k)
            else:
                _check_shape(_shape(self.payoff))
                if self.spread is not None and _shape(self.spread) != _shape(self.payoff):
                    raise ValueError(
                        f"spread needs the lengths of payoff, {_shape(self.payoff)}, got "
                        f"{_shape(self.spread)}"
                    )
            check_payoff(self.means(), self.safe_entry())
            return self

        def means(self) -> Tensor:
            """The mean payoffs, a dimension per agent."""
            matrix: Any = self.payoff
            if matrix is None and self.game == "qtran":
                matrix = QTRAN
            elif matrix is None:
                matrix = penalty(self.k) if self.game == "penalty" else climbing(self.k)
            return torch.tensor(matrix, dtype=torch.float64)

        def spreads(self) -> Tensor | None:
            """How far rewards lie from the means, or None where nothing is drawn."""
            spread = SPREADS.get(self.game) if self.payoff is None else self.spread
            return None if spread is None else torch.tensor(spread, dtype=torch.float64)

        def safe_entry(self) -> tuple[int, ...]:
            """The action of each agent in the safe behaviour."""
            if self.payoff is not None or self.game == "qtran":
                return safest(self.means())
            return SAFE["penalty" if self.game == "penalty" else "climbing"]

    @classmethod
    def check_set(cls, config: Any, parameters: Any) -> None:
        super().check_set(config, parameters)
        if parameters and (config.payoff is not None or config.game == "qtran"):
            raise UserError("'k' says nothing in QTRAN's game or with a payoff of one's own")

    def __init__(
        self,
        config: Any,
        seeds: Sequence[int],
        n_envs: int,
        stream: str = "env",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, seeds, n_envs, stream, device)
        self.coins = Streams(seeds, stream, device)

    def prepare(self) -> None:
        means = self.config.means()
        self.n_agents, self.n_actions = means.dim(), means.shape[0]
        self.entry = self.config.safe_entry()
        basins = torch.full(means.shape, 2)
        basins[self.entry] = 1
        basins[means == means.max()] = 0
        # On the device, as tables that an entry's number, digits to the base A, is looked up in.
        self.payoff = means.float().to(self.device)
        self.basins = basins.flatten().to(self.device)
        self.best = (means == means.max()).nonzero().to(self.device)  # [M, N]
        spreads = self.config.spreads()
        self.spread = None if spreads is None else spreads.float().to(self.device)
        powers = [self.n_actions**power for power in range(self.n_agents)]
        self.powers = torch.tensor(powers[::-1], device=self.device)

    def describe(self) -> EnvSpec:
        means = self.config.means()
        return EnvSpec(
            n_agents=self.n_agents,
            obs_dim=1,
            action_dim=self.n_actions,
            horizon=1,
            optimal_return=means.max().item(),
            safe_return=means[self.entry].item(),
            basins=("optimum", "safe", "other"),
            constant_obs=True,
            discrete=True,
        )

    def reward(self, action: Tensor) -> Tensor:
        """Mean rewards ``[...]`` of joint actions ``[..., N, A]``. Rows that are not one-hot are
        taken for the probabilities with which an agent chooses, independently of the others."""
        return _mean_entry(self.payoff, action)

    def sample(self, action: Tensor) -> Tensor:
        reward = self.reward(action)
        if self.spread is None:
            return reward
        up = self.coins.uniform(action.shape[1]) < 0.5  # [S, E]
        spread = _mean_entry(self.spread, action)
        return reward + torch.where(up, spread, -spread)

    def basin(self, action: Tensor) -> Tensor:
        place = (action.argmax(-1) * self.powers).sum(-1)
        return torch.where(is_finite(action), self.basins[place], 2)

    def modes(self) -> Tensor:
        return one_hot(self.best, self.n_actions).float()

    def safe(self) -> Tensor:
        return one_hot(torch.tensor(self.entry, device=self.device), self.n_actions).float()

    def on_axes(self, action: Tensor) -> Tensor:
        return action[..., list(self.plane()), :].argmax(-1).to(action.dtype)

    def draw(self, ax: Axes, names: tuple[str, str] | None = None) -> ScalarMappable:
        """Draw the mean payoffs over the actions of two agents, a number in each cell.

        Args:
            names: texts below the numbers of the safe joint action and of each optimal one; None
                for none.

        Returns:
            What a colour bar is made from.
        """
        from matplotlib.colors import BoundaryNorm, ListedColormap

        each = torch.eye(self.n_actions, device=self.device)
        x = each.expand(self.n_actions, -1, -1)
        payoff = self.reward(self.slice(x, x.transpose(0, 1))).tolist()  # [y][x]
        shades = ax.imshow(
            payoff, origin="lower", cmap=ListedColormap(LAND),
            norm=BoundaryNorm(self.levels(), len(LAND), extend="min"),
        )  # fmt: skip
        for y, row in enumerate(payoff):
            for x_, value in enumerate(row):
                ax.annotate(
                    f"{value:g}", (x_, y), (0, 4), textcoords="offset points", ha="center",
                    va="bottom", fontsize=7,
                )  # fmt: skip
        self.mark(ax, names)
        ax.set_xticks(range(self.n_actions))
        ax.set_yticks(range(self.n_actions))
        return shades

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "coins": self.coins.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.coins.load_state_dict(state["coins"])


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        raise ValueError("payoff needs lists nested at least twice, once for each agent")
    if min(shape) < 2 or len(set(shape)) > 1:
        raise ValueError(
            "payoff needs the same number of actions for every agent, 2 or more, got "
            f"{' x '.join(map(str, shape))}; repeat a row for an agent with fewer"
        )
    if math.prod(shape) > MAX_ENTRIES:
        raise ValueError(f"payoff has {math.prod(shape):,} entries, more than {MAX_ENTRIES:,}")


def _mean_entry(table: Tensor, action: Tensor) -> Tensor:
    """The entries ``[...]`` of ``table [A, ..., A]`` at one-hot ``action [..., N, A]``, or their
    means under probabilities. A NaN in an action makes the entry NaN, which an argmax would not."""
    value = action[..., 0, :] @ table.to(action.dtype).flatten(1)
    for agent in range(1, table.dim()):
        choices = value.unflatten(-1, (table.shape[agent], -1))
        value = (action[..., agent, :, None] * choices).sum(-2)
    return value.squeeze(-1)
