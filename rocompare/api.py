"""The contracts between the engine, the algorithms and the environments.

Shape letters, used in every docstring and trailing comment of this project:

``S`` seeds, ``E`` environments, ``B`` minibatch, ``N`` agents, ``O`` observation features,
``A`` action features, ``H`` hidden units, ``K`` action samples (particles).

``S`` always comes first, then ``E`` or ``B``, then ``K``, then ``N``, then features. Inside an
algorithm, where every agent has a network of its own, the agent axis stands beside the seed axis
(``[S, N, B, ...]``) because both index networks. A scalar per item drops the last axis
(``reward [S, E]``), it never keeps a 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    runtime_checkable,
)

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

if TYPE_CHECKING:
    from rocompare.learn.rng import Streams

Mode = Literal["explore", "execute", "noiseless"]
"""How an action is chosen: while training, as the algorithm executes its policy, and as the
algorithm executes it with every noise of the policy set to zero (its deterministic limit)."""


@dataclass(frozen=True)
class Search:
    """Where ``rocompare tune`` looks for a hyperparameter, the default included.

    Stands in its field's annotation: ``actor_lr: Annotated[float, Search(1e-3, 0.1)] = 0.01``.
    Fields without one keep their value.
    """

    low: float
    high: float
    log: bool = True


class Config(BaseModel):
    """What every algorithm's ``Config`` extends: the training protocol that all share.

    The fractions are of the budget's environment steps, so that a longer budget keeps its shape.
    What algorithms name alike: ``*_lr`` is Adam's learning rate before its decay, ``*_activation``
    that of a network's hidden layers, ``critic_input_scale`` a factor on what a critic sees, and
    ``critic_output_scale`` one on its output, in units of reward.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    batch_size: int = Field(128, gt=0)
    """Transitions per update and seed."""
    updates_per_step: int = Field(2, gt=0)
    """Calls of ``update`` after each environment step."""
    random_until: Annotated[float, Search(0.1, 0.5, log=False)] = Field(0.3, ge=0, le=1)
    """Fraction of the budget in which actions are uniform over the action box."""
    learn_from: float = Field(0.1, ge=0, le=1)
    """Fraction of the budget after which updates start."""
    replay_capacity: int = Field(100_000, gt=0)
    """Transitions kept per seed; the oldest is overwritten."""
    gamma: float = Field(0.95, ge=0, le=1)
    """Discount."""
    tau: float = Field(0.01, gt=0, le=1)
    """Step of target networks."""
    lr_last: float = Field(0.02, gt=0, le=1)
    """Share of the learning rates left at the end of their cosine."""


@dataclass(frozen=True)
class EnvSpec:
    """What an algorithm may know of an environment, and what makes RO measurable in it."""

    n_agents: int
    """N"""
    obs_dim: int
    """O, the same for every agent"""
    action_dim: int
    """A, the same for every agent"""
    horizon: int
    """Steps after which an episode is cut off (truncation: the next state is bootstrapped). With 1
    the game is of one step, and nothing is bootstrapped."""
    optimal_return: float
    """Undiscounted return of the optimal joint behaviour, in units of reward."""
    safe_return: float
    """The same of the safe one, which agents over-generalize to."""
    basins: tuple[str, ...]
    """Where an episode can end; the first is the optimum's, the second the safe behaviour's."""
    constant_obs: bool = False
    """The observation never varies: replayed batches then carry it once, as ``[S, 1, N, O]``."""


class Step(NamedTuple):
    """What ``Env.step`` returns. Environments that end are reset before the next step."""

    obs: Tensor
    """``[S, E, N, O]`` to act on next: after a reset, the new episode's first observation."""
    next_obs: Tensor
    """``[S, E, N, O]`` reached by this action: the last observation of an episode that ended."""
    reward: Tensor
    """``[S, E]``, shared by the team."""
    terminated: Tensor
    """``[S, E]`` bool: the episode ended, nothing follows."""
    truncated: Tensor
    """``[S, E]`` bool: the episode was cut off at the horizon; its value is bootstrapped."""
    basin: Tensor
    """``[S, E]`` long index into ``spec.basins``, meaningful where the episode ended."""


@dataclass(frozen=True)
class Batch:
    """A minibatch of transitions. Constant observations come once, as ``[S, 1, N, O]``."""

    obs: Tensor
    """``[S, B, N, O]``"""
    action: Tensor
    """``[S, B, N, A]`` in ``[-1, 1]``"""
    reward: Tensor
    """``[S, B]``"""
    next_obs: Tensor
    """``[S, B, N, O]``"""
    terminated: Tensor
    """``[S, B]`` float, 1 where nothing follows"""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What ``note`` returned, ``[S, B, ...]`` each."""


class Env(Protocol):
    """Many copies of one environment, as a tensor program on ``[S, E]``.

    ``Config`` is a pydantic model of the environment's parameters and ``version`` an int that
    changes whenever results are no longer comparable. A game of one step may have a method
    ``reward(action [..., N, A]) -> [...]`` besides, a game of more steps ``fork(copies)``, which
    returns the environment with each of its E games so many times, ``[S, E * copies]``, the copies
    of each side by side and as it stands; then ``rocompare.learn.ro`` measures in it. An
    environment in which things move in the plane may have ``positions(obs)``, from
    ``obs [S, E, N, O]`` to where they stand, ``[S, E, P, 2]``: then an episode per seed is drawn.
    """

    spec: EnvSpec
    Config: type[BaseModel]
    version: int

    def reset(self) -> Tensor:
        """Start every environment anew and return ``obs [S, E, N, O]``."""
        ...

    def step(self, action: Tensor) -> Step:
        """Advance by ``action [S, E, N, A]`` in ``[-1, 1]``."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Believer(Protocol):
    """An algorithm that can say what its agents believe of each other: optional, and only asked
    for in games of one step, to measure perceived relative over-generalization."""

    def beliefs(self, batch: Batch, own: Tensor, streams: Streams) -> Tensor:
        """K joint actions as each agent believes them if it plays ``own``; asked without gradients.

        Args:
            batch: K replayed transitions per seed, ``action [S, K, N, A]``.
            own: ``[S, N, M, A]`` own actions.
            streams: whose numbers to use, so that training does not notice.

        Returns:
            ``[S, N, M, K, N, A]``, or with 1 for M where beliefs do not depend on the own
            action. Agent i's own entry in its draws is ignored.
        """
        ...


class Algorithm(Protocol):
    """A learner of ``S`` seeds at once.

    ``Config`` extends :class:`Config`; ``version`` is an int that changes whenever results are no
    longer comparable. Seeds must not touch each other: the helpers in ``nn``, ``rng`` and
    ``replay`` see to that, and ``tests/test_contract.py`` holds it.
    """

    Config: type[Config]
    version: int

    def act(self, obs: Tensor, mode: Mode) -> Tensor:
        """Choose ``action [S, E, N, A]`` in ``[-1, 1]`` for ``obs [S, E, N, O]``."""
        ...

    def note(self, obs: Tensor, action: Tensor) -> dict[str, Tensor]:
        """What to store beside a transition while training, ``[S, E, ...]`` each; mostly nothing.

        Called for every action executed, also for the uniform ones of the random phase.
        """
        ...

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Learn from ``batch``; ``progress`` in ``[0, 1]`` is the share of the budget used.

        Returns metrics ``[S]``; a NaN there marks a seed as diverged.
        """
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
