"""Predator-prey: predators must catch a prey together, and are punished where one tries it alone.

``predators`` agents and ``prey`` move on a grid of ``size x size`` cells, a torus or a box with
walls; any number may stand on a cell. The actions are to stay, to move left, right, down or up, and
to catch, in this order, as one-hot rows ``action [..., N, 6]``. At each step, in this order:

1. A predator that catches takes hold of a prey beside it (on its cell or one of the four next to
   it); of several of the one that most predators reach for, then of the first. Two or more that
   hold the same prey capture it: ``win``. One that holds a prey alone is punished: ``punishment``.
   Catching beside no prey does nothing.
2. Captured prey and their captors leave the game.
3. All others move, a prey with probability ``motion`` to a random one of its four neighbours.

The episode ends when no further capture is possible, and is cut off at the horizon. So at most
``min(prey, predators // 2)`` prey are captured, which times ``win`` is declared as optimal return:
prey may, by chance, keep away until the horizon, so the best policy returns slightly less (with the
defaults 9.998 of 10, by value iteration). The safe behaviour, never to catch, returns 0.

A catch beside a partner that acts at random succeeds if the partner happens to catch, 1/6, and is
beside the prey as well, 5/9 on the 3x3 torus: with the defaults it is worth
``10 * 5/54 - 6 * 49/54 = -4.52``. Even where the partner is beside the prey it is worth
``win/6 + 5/6 punishment``, less than nothing for every punishment below ``-win/5``. So agents learn
to leave prey alone: relative over-generalization. With ``punishment: 0`` there is none.

Every agent observes its own cell's centre in ``[-1, 1]^2`` and whether it is still in the game,
then for each other predator and each prey the way to it, in the same units, and whether it is in
the game and in sight; with ``view: r`` only what is within r cells in both directions is. What left
the game stays where it was, for pictures.

Source: the task is that of Son et al. (ICML 2019), Boehmer et al. (ICML 2020) and Rashid et al.
(NeurIPS 2020): 10x10 cells, 8 predators and 8 prey, ``win`` 10, ``punishment`` up to -2, 200
steps, ``view: 2``. Unlike there, a cell may hold several predators and prey, and catching beside no
prey is allowed. The default is the smallest game in which RO shows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from rocompare.api import EnvSpec, Step
from rocompare.envs.base import EnvConfig, Environment, draw_arena, is_finite
from rocompare.learn.rng import Streams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOVES = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (0.0, 0.0))
"""Of each action; the last one is the catch."""
CATCH = 5


class PredatorPrey(Environment):
    """``S x E`` copies of the game. Places are ``[S, E, P, 2]`` columns and rows, of the predators
    first and then of the prey, ``P = N + prey``."""

    version = 1
    settable = ("win", "punishment")

    class Config(EnvConfig):
        size: int = Field(3, ge=3, le=30)
        """Cells along each side of the grid."""
        predators: int = Field(2, ge=2, le=16)
        """How many agents there are."""
        prey: int = Field(1, ge=1, le=16)
        """How many prey there are, which move by themselves."""
        win: float = 10.0
        """Reward for each prey that is captured."""
        punishment: float = -6.0
        """Reward for each predator that holds a prey alone, at most 0."""
        horizon: int = Field(10, gt=1)
        """Steps after which an episode is cut off."""
        torus: bool = True
        """Whether who leaves the grid at one side enters it at the other; else there are walls."""
        motion: float = Field(0.8, ge=0, le=1)
        """Probability with which a prey moves in a step."""
        view: int | None = Field(None, ge=1)
        """How many cells away others are seen, to the sides and up and down; all if not given."""

        @model_validator(mode="after")
        def _check_returns(self) -> PredatorPrey.Config:
            if self.win <= 0 or self.punishment > 0:
                raise ValueError(
                    "win must be above 0 and punishment at most 0, else leaving prey alone is not "
                    f"what is safe, got win {self.win:g} and punishment {self.punishment:g}"
                )
            far = 2 * (self.size // 2) if self.torus else 2 * (self.size - 1)
            if self.horizon < far:
                raise ValueError(
                    f"a prey may be {far} cells away, so that it takes {far} steps to stand "
                    f"beside it and to catch, more than the horizon of {self.horizon}"
                )
            return self

    def __init__(
        self,
        config: Any,
        seeds: Sequence[int],
        n_envs: int,
        stream: str = "env",
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        n, p = config.predators, config.predators + config.prey
        self.captures = min(config.prey, n // 2)
        self.spec = EnvSpec(
            n_agents=n,
            obs_dim=3 * p,
            action_dim=len(MOVES),
            horizon=config.horizon,
            optimal_return=config.win * self.captures,
            safe_return=0.0,
            basins=("optimum", "safe", "some"),
            discrete=True,
        )
        self.movers = ("predator",) * n + ("prey",) * config.prey
        """What stands at the places of :meth:`positions`."""
        self.seeds, self.stream, self.device = tuple(seeds), stream, torch.device(device)
        self.draws = Streams(seeds, stream, device)
        self.forks = 0
        self.moves = torch.tensor(MOVES, device=device)
        # Whom each agent observes beside itself, agent by agent, [N * (P - 1)].
        self.others = torch.tensor([j for i in range(n) for j in range(p) if j != i], device=device)
        shape = len(seeds), n_envs
        self.place = torch.zeros(*shape, p, 2, device=device)
        self.inside = torch.ones(*shape, p, dtype=torch.bool, device=device)
        self.age = torch.zeros(shape, dtype=torch.long, device=device)
        # Where each prey goes next is drawn a step ahead, so that forks share it.
        self.drift = torch.zeros(*shape, config.prey, 2, device=device)

    def reset(self) -> Tensor:
        self.place, self.drift = self._draw()
        self.inside = torch.ones_like(self.inside)
        self.age = torch.zeros_like(self.age)
        return self._observe(self.place, self.inside)

    def step(self, action: Tensor) -> Step:
        c, n = self.config, self.config.predators
        known = is_finite(action)  # a NaN moves nobody, and shows in the reward
        held = self._held(action[..., CATCH] > 0.5)  # [S, E, N, prey]
        captured = held.sum(2) >= 2  # [S, E, prey]
        captor = (held & captured.unsqueeze(2)).any(3)  # [S, E, N]
        alone = held.any(3) & ~captor
        reward = c.win * captured.sum(-1) + c.punishment * alone.sum(-1)
        reward = torch.where(known, reward, math.nan)

        inside = self.inside & ~torch.cat([captor, captured], -1)
        moves = torch.where(known[..., None, None], action @ self.moves, 0.0)
        moved = self._bounded(self.place + torch.cat([moves, self.drift], 2))
        place = torch.where(inside.unsqueeze(-1), moved, self.place)

        left = inside[..., n:].sum(-1)
        terminated = (left == 0) | (inside[..., :n].sum(-1) < 2)
        truncated = ~terminated & (self.age + 1 >= c.horizon)
        ended = terminated | truncated
        basin = torch.where(c.prey - left >= self.captures, 0, torch.where(left == c.prey, 1, 2))
        # Drawn for all environments: a seed's numbers must not depend on when others end.
        start, self.drift = self._draw()
        self.place = torch.where(ended[..., None, None], start, place)
        self.inside = inside | ended.unsqueeze(-1)
        self.age = torch.where(ended, 0, self.age + 1)
        both = self._observe(torch.cat([place, self.place]), torch.cat([inside, self.inside]))
        next_obs, obs = both.chunk(2)
        return Step(
            obs=obs,
            next_obs=next_obs,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            basin=basin,
        )

    def _held(self, catching: Tensor) -> Tensor:
        """``[S, E, N, prey]`` which prey each predator takes hold of, one at most."""
        n = self.config.predators
        way = self._way(self.place[:, :, None, n:] - self.place[:, :, :n, None])
        reach = (way.abs().sum(-1) <= 1) & self.inside[:, :, None, n:]
        reach &= (catching & self.inside[:, :, :n]).unsqueeze(-1)
        if self.config.prey == 1:
            return reach
        wanted = reach * reach.sum(2, keepdim=True)  # the first of the largest is chosen
        chosen = torch.zeros_like(reach).scatter_(3, wanted.argmax(3, keepdim=True), True)
        return reach & chosen

    def _way(self, difference: Tensor) -> Tensor:
        """The shortest way along ``difference [..., 2]``, which on a torus may lead round it."""
        size = self.config.size
        if not self.config.torus:
            return difference
        return (difference + size // 2).remainder(size) - size // 2

    def _bounded(self, place: Tensor) -> Tensor:
        size = self.config.size
        return place.remainder(size) if self.config.torus else place.clamp(0, size - 1)

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Places to start from ``[S, E, P, 2]``, uniform over the cells, and prey's next moves."""
        c, n_envs = self.config, self.place.shape[1]
        p = c.predators + c.prey
        u = self.draws.uniform(n_envs, 2 * p + 2 * c.prey)
        start = (u[..., : 2 * p] * c.size).floor().clamp(max=c.size - 1).unflatten(-1, (p, 2))
        direction, moves = u[..., 2 * p :].unflatten(-1, (2, c.prey)).unbind(2)  # [S, E, prey]
        drift = self.moves[1 + (direction * 4).long().clamp(max=3)]
        return start, drift * (moves < c.motion).unsqueeze(-1)

    def _observe(self, place: Tensor, inside: Tensor) -> Tensor:
        """``[S, E, N, O]`` of places and of who is in the game."""
        c, n = self.config, self.config.predators
        own, flag = place[:, :, :n], inside.to(place.dtype)
        them = place.index_select(2, self.others).unflatten(2, (n, -1))  # [S, E, N, P - 1, 2]
        seen = flag.index_select(2, self.others).unflatten(2, (n, -1)).unsqueeze(-1)
        way = self._way(them - own.unsqueeze(3))
        if c.view is not None:
            near = way.abs().amax(-1, keepdim=True) <= c.view
            way, seen = way * near, seen * near
        others = torch.cat([way * (2 / c.size), seen], -1).flatten(3)
        centre = own * (2 / c.size) + (1 / c.size - 1)
        return torch.cat([centre, flag[:, :, :n].unsqueeze(-1), others], -1)

    def positions(self, obs: Tensor) -> Tensor:
        """``[S, E, N, O]`` -> where predators and prey stand in ``[-1, 1]^2``, ``[S, E, P, 2]``.
        With a ``view`` that is what is in sight of the first predator; others are with it."""
        n = self.config.predators
        predators = obs[..., :2]
        way = obs[:, :, 0, 3 * n :].unflatten(-1, (self.config.prey, 3))[..., :2]
        prey = predators[:, :, :1] + way
        if self.config.torus:
            prey = (prey + 1).remainder(2) - 1
        return torch.cat([predators, prey], 2)

    def draw(self, ax: Axes) -> None:
        """Draw what does not move: the grid's lines."""
        size = self.config.size
        for i in range(1, size):
            ax.axhline(2 * i / size - 1, color="0.85", linewidth=0.5, zorder=0)
            ax.axvline(2 * i / size - 1, color="0.85", linewidth=0.5, zorder=0)
        draw_arena(ax)

    def fork(self, copies: int) -> PredatorPrey:
        """``S x (E * copies)`` games as these stand, the copies of each side by side. The prey's
        next step is the same in all of them; later ones are drawn anew for each copy, so that
        playing copies to their end does not tell what the prey will do here."""
        twin = copy.copy(self)  # no tensor is changed in place
        for name in ("place", "inside", "age", "drift"):
            setattr(twin, name, getattr(self, name).repeat_interleave(copies, 1))
        self.forks += 1
        twin.stream, twin.forks = f"{self.stream}/fork/{self.forks}", 0
        twin.draws = Streams(self.seeds, twin.stream, self.device)
        return twin

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "place": self.place,
            "inside": self.inside,
            "age": self.age,
            "drift": self.drift,
            "draws": self.draws.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.place, self.inside = state["place"], state["inside"]
        self.age, self.drift = state["age"], state["drift"]
        self.draws.load_state_dict(state["draws"])
