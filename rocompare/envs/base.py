"""What the environments share: the model of their parameters, curricula, games of one step."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ValidationError, create_model
from torch import Tensor

from rocompare.api import FROZEN, EnvSpec, Step
from rocompare.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

LAND = ("#ffffff", "#f3f3f3", "#e4e4e4", "#d2d2d2", "#bdbdbd", "#fbf0b8", "#f2d957")
"""Shades of a reward: greys below the safe return, yellows above it, on which colours show."""
LEVELS = (-4, -2, -1, -0.5, 0, 0.5, 1)
"""Where the shades change, as scores: 0 is the safe return, 1 the optimal one."""
DRAWN = 121
"""Points along each side of a drawn landscape."""


class EnvConfig(BaseModel):
    """What every environment's ``Config`` extends: the parameters of a game.

    A field's own constraints (``gt=0``) say with which values the game can be computed at all. The
    validators of the whole model say which games are worth learning: those whose declared optimal
    and safe returns are what they are said to be. A curriculum may pass through games that the
    validators refuse, such as ones that reward what the target punishes, but its values must meet
    the constraints.
    """

    model_config = FROZEN


class Environment:
    """An environment some of whose parameters may change while it runs.

    ``self.config`` holds the parameters that are in force; a subclass sets it when it is made.
    """

    Config: type[EnvConfig] = EnvConfig
    settable: ClassVar[tuple[str, ...]] = ()
    """Fields of ``Config`` that :meth:`set` may change. Only rewards may depend on them."""
    config: Any

    def prepare(self) -> None:
        """Compute from ``self.config`` what rewards need; called after every change of it."""

    @classmethod
    def check_set(cls, config: Any, parameters: Mapping[str, Any]) -> None:
        """Whether :meth:`set` takes ``parameters`` in an environment that was made with ``config``.

        Raises:
            UserError: a name that cannot be set, or a value with which the game cannot be computed.
        """
        for name, value in parameters.items():
            if name not in cls.settable:
                known = ", ".join(cls.settable) or "none"
                raise UserError(f"'{name[:80]}' cannot be changed while training; can be: {known}")
            try:
                _model_of(cls.Config, name).model_validate({name: value})
            except ValidationError as error:
                message = error.errors()[0]["msg"]
                raise UserError(f"'{name}' cannot be set to {value!r}: {message}") from None

    def set(self, **parameters: float) -> None:
        """Change parameters of all running copies at once: a curriculum's steps while training.

        Episodes go on, and ``spec`` stays that of the game that was asked for. Evaluations make
        environments of their own, and so are always on the target.

        Raises:
            UserError: see :meth:`check_set`; nothing is changed then.
        """
        self.check_set(self.config, parameters)
        self.config = self.config.model_copy(update=parameters)
        self.prepare()

    def state_dict(self) -> dict[str, Any]:
        return {"set": {name: getattr(self.config, name) for name in self.settable}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.config = self.config.model_copy(update=state["set"])
        self.prepare()


@functools.cache
def _model_of(config: type[EnvConfig], name: str) -> type[BaseModel]:
    """A model with one field of ``config``, its constraints and none of the validators."""
    field = config.model_fields[name]
    fields: dict[str, Any] = {name: (field.annotation, field)}
    return create_model(name, __config__=FROZEN, **fields)


class OneStepGame(Environment):
    """``S x E`` copies of a game of one step. Every agent observes a constant 0.

    A subclass writes :meth:`describe`, :meth:`reward`, :meth:`basin`, :meth:`modes` and
    :meth:`safe`, and :meth:`prepare` if the reward needs more than ``self.config``.
    """

    unit: ClassVar[float] = 1.0
    """What an action of 1 is called on a picture's axes."""

    def __init__(
        self,
        config: Any,
        seeds: Sequence[int],
        n_envs: int,
        stream: str = "env",
        device: torch.device | str = "cpu",
    ) -> None:
        # ``stream`` names the random numbers of an environment; this game draws none.
        self.config = config
        self.device = torch.device(device)
        self.prepare()
        self.spec = self.describe()
        shape = (len(seeds), n_envs, self.spec.n_agents, 1)
        self.obs = torch.zeros(1, device=device).expand(shape)
        self.ended = torch.ones(1, dtype=torch.bool, device=device).expand(shape[:2])

    def describe(self) -> EnvSpec:
        """The game's sizes and declared returns: ``horizon`` 1, ``obs_dim`` 1, ``constant_obs``."""
        raise NotImplementedError

    def reward(self, action: Tensor) -> Tensor:
        """Rewards ``[...]`` of joint actions ``[..., N, A]``; NaN where an action is NaN. Where
        chance has a say it is the mean."""
        raise NotImplementedError

    def basin(self, action: Tensor) -> Tensor:
        """Indices ``[...]`` into ``spec.basins`` of joint actions ``[..., N, A]``; never the
        optimum's where an action is NaN."""
        raise NotImplementedError

    def modes(self) -> Tensor:
        """The optimal joint actions of the game in force, ``[M, N, A]``."""
        raise NotImplementedError

    def safe(self) -> Tensor:
        """The safe joint action, ``[N, A]``."""
        raise NotImplementedError

    def mode(self, action: Tensor) -> Tensor:
        """Which of :meth:`modes` a joint action ``[..., N, A]`` belongs to: the nearest where it is
        in the optimum's basin, else -1. How many of them a distribution of joint actions holds is
        the count of different numbers."""
        distance = (action.unsqueeze(-3) - self.modes()).square().sum((-2, -1))  # [..., M]
        return torch.where(self.basin(action) == 0, distance.argmin(-1), -1)

    def reset(self) -> Tensor:
        return self.obs

    def step(self, action: Tensor) -> Step:
        return Step(
            obs=self.obs,
            next_obs=self.obs,
            reward=self.sample(action),
            terminated=self.ended,
            truncated=~self.ended,
            basin=self.basin(action),
        )

    def sample(self, action: Tensor) -> Tensor:
        """The rewards ``[S, E]`` that a step gives: those of :meth:`reward`, or drawn around it."""
        return self.reward(action)

    def plane(self) -> tuple[int, int]:
        """The two agents whose actions are the axes of :meth:`draw`."""
        return 0, 1

    def slice(self, x: Tensor, y: Tensor) -> Tensor:
        """Joint actions ``[..., N, A]`` in which the agents of :meth:`plane` play ``x`` and
        ``y [..., A]``, and the others as :meth:`slice_text` says."""
        first, second = self.plane()
        joint = self.modes()[0].to(x.dtype).expand(*x.shape[:-1], -1, -1).clone()
        joint[..., first, :], joint[..., second, :] = x, y
        return joint

    def slice_text(self) -> str:
        """A caption's sentence on what agents beside those of :meth:`plane` do; "" without any."""
        return "The other agents play their optimal actions." if self.spec.n_agents > 2 else ""

    def on_axes(self, action: Tensor) -> Tensor:
        """Where joint actions ``[..., N, A]`` stand on the axes of :meth:`draw`, ``[..., 2]``."""
        return self.unit * action[..., list(self.plane()), 0]

    def levels(self) -> list[float]:
        """The rewards at which a drawn landscape changes its shade, the optimal one the last."""
        safe, optimal = self.spec.safe_return, self.spec.optimal_return
        assert safe is not None and optimal is not None  # games of one step declare both
        return [safe + level * (optimal - safe) for level in LEVELS]

    def draw(self, ax: Axes, names: tuple[str, str] | None = None) -> ScalarMappable:
        """Draw the reward over the actions of two agents, for games of two agents or more.

        Args:
            names: texts below the safe joint action and below each optimal one; None for none.

        Returns:
            What a colour bar is made from.
        """
        side = torch.linspace(-1, 1, DRAWN, dtype=torch.float64)
        y, x = torch.meshgrid(side, side, indexing="ij")
        reward = self.reward(self.slice(x.unsqueeze(-1), y.unsqueeze(-1)).to(self.device))
        levels = self.levels()
        # A reward that rounding lifts above the optimal one would be left without a shade.
        land = (self.unit * x, self.unit * y, reward.clamp(max=levels[-1]).cpu())
        shades = ax.contourf(*land, levels, colors=LAND, extend="min")
        ax.contour(*land, levels, colors="0.55", linewidths=0.4, linestyles="solid")
        self.mark(ax, names)
        ax.set_aspect("equal")
        ticks = np.linspace(-self.unit, self.unit, 5)
        ax.set_xticks(ticks)
        ax.set_yticks(ticks)
        return shades

    def mark(self, ax: Axes, names: tuple[str, str] | None) -> None:
        """Mark the safe and the optimal joint actions, and write their names below them."""
        from matplotlib.patheffects import withStroke

        points = torch.cat([self.safe().unsqueeze(0), self.modes()])  # [1 + M, N, A]
        for i, (x, y) in enumerate(self.on_axes(points).tolist()):
            ax.plot(x, y, "+", color="black", ms=6, mew=0.8)
            if names is not None:
                ax.annotate(
                    names[min(i, 1)], (x, y), (0, -5), textcoords="offset points", zorder=5,
                    ha="center", va="top", linespacing=1.1, fontsize=7,
                    path_effects=[withStroke(linewidth=1.5, foreground="white", alpha=0.8)],
                )  # fmt: skip


def draw_arena(ax: Axes) -> None:
    """The square ``[-1, 1]^2`` in a frame and without ticks, for games in the plane."""
    ax.set_xlim(-1, 1)
    ax.set_ylim(-1, 1)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)


def is_finite(action: Tensor) -> Tensor:
    """``[...]`` whether every number of joint actions ``[..., N, A]`` is one."""
    return action.isfinite().flatten(-2).all(-1)
