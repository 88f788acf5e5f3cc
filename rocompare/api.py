"""The contracts between the training loop, the algorithms and the environments.

Shape letters, used in every docstring and trailing comment of this project:

``S`` seeds, ``E`` environments, ``B`` minibatch, ``N`` agents, ``O`` observation features,
``A`` action features, ``H`` hidden units, ``K`` action samples (particles).

``S`` always comes first, then ``E`` or ``B``, then ``K``, then ``N``, then features. Inside an
algorithm, where every agent has a network of its own, the agent axis stands beside the seed axis
(``[S, N, B, ...]``) because both index networks. A scalar per item drops the last axis
(``reward [S, E]``), it never keeps a 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    runtime_checkable,
)

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

if TYPE_CHECKING:
    from rocompare.learn.rng import Streams

Mode = Literal["explore", "decentralised", "deterministic", "shared"]
"""How actions are chosen. ``explore``: while training. The other three execute the policy without
exploration. ``decentralised``: every agent draws its own random numbers and hears nobody, so that
the joint policy is the product of the agents' policies. ``deterministic``: every noise of the
policy is zero. ``shared``: agents act on common random numbers; only algorithms with
``shares_noise`` have it."""

ActionKind = Literal["continuous", "discrete"]

FROZEN = ConfigDict(
    extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)
"""Of every model of hyperparameters or parameters: unknown keys are refused, nothing changes after
the check, and the docstring under a field is its description."""


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

    Names mean the same in all algorithms: ``*_fraction`` is a share of the budget's environment
    steps, so that a longer budget keeps its shape; ``*_start`` and ``*_end`` are values before and
    after a fall; ``*_lr`` is Adam's learning rate before its decay; ``*_activation`` that of a
    network's hidden layers; ``critic_input_scale`` is a factor on what a critic sees, and
    ``critic_output_scale`` one on its output, in units of reward.
    """

    model_config = FROZEN

    updates_per_step: int = Field(2, gt=0)
    """Calls of ``update`` after each environment step."""
    random_fraction: Annotated[float, Search(0.1, 0.5, log=False)] = Field(0.3, ge=0, le=1)
    """Share of the budget, from the start, in which actions are uniform over the action space."""
    learning_starts_fraction: float = Field(0.1, ge=0, le=1)
    """Share of the budget after which updates start."""
    gamma: float = Field(0.95, ge=0, le=1)
    """Discount."""
    lr_end_factor: Annotated[float, Search(0.01, 1)] = Field(0.02, gt=0, le=1)
    """What is left of the learning rates at the end of their cosine decay, as a factor."""


class OffPolicyConfig(Config):
    """The same for algorithms that learn from a replay buffer."""

    batch_size: Annotated[int, Search(32, 512)] = Field(128, gt=0)
    """Transitions per update and seed."""
    buffer_size: int = Field(100_000, gt=0)
    """Transitions kept per seed; the oldest is overwritten."""
    tau: float = Field(0.01, gt=0, le=1)
    """Share of the way that target networks move towards their networks at each update."""


class OnPolicyConfig(Config):
    """The same for algorithms that learn from what the newest policy did, and from that alone.

    ``update`` is called after each step all the same, and learns when a rollout is full. Learning
    needs actions of the policy, so there is no uniform phase.
    """

    updates_per_step: int = Field(1, ge=1, le=1)
    """Calls of ``update`` after each environment step: it learns from each rollout once."""
    random_fraction: float = Field(0.0, ge=0, le=0)
    """There are no uniform actions at the start: it learns from its policy's own."""
    learning_starts_fraction: float = Field(0.0, ge=0, le=0)
    """The first rollout is learnt from as well."""
    rollout_steps: Annotated[int, Search(16, 256)] = Field(64, gt=0)
    """Environment steps between updates, of each of the environments side by side."""


@dataclass(frozen=True)
class EnvSpec:
    """What an algorithm may know of an environment, and what makes RO measurable in it."""

    n_agents: int
    """N"""
    obs_dim: int
    """O, the same for every agent"""
    action_dim: int
    """A, the same for every agent; of discrete actions their number"""
    horizon: int
    """Steps after which an episode is cut off (truncation: the next state is bootstrapped). With 1
    the game is of one step, and nothing is bootstrapped."""
    optimal_return: float | None
    """Undiscounted return of the optimal joint behaviour, in units of reward; None if unknown."""
    safe_return: float | None
    """The same of the safe one, which agents over-generalize to; None if unknown. A score, and so
    success, exists only where both are known."""
    basins: tuple[str, ...]
    """Where an episode can end; the first is the optimum's, the second the safe behaviour's."""
    constant_obs: bool = False
    """The observation never varies: replayed batches then carry it once, as ``[S, 1, N, O]``."""
    shared_obs: bool = False
    """Every agent observes the same: the replay buffer then stores one agent's observation."""
    discrete: bool = False
    """Actions are one-hot, ``[S, E, N, A]``, instead of numbers in ``[-1, 1]``."""


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


class Transition(NamedTuple):
    """One step of every environment, as ``Algorithm.observe`` is given it while training."""

    obs: Tensor
    """``[S, E, N, O]`` that was acted on."""
    action: Tensor
    """``[S, E, N, A]`` that was executed."""
    reward: Tensor
    """``[S, E]``"""
    next_obs: Tensor
    """``[S, E, N, O]`` reached: the last observation of an episode that ended."""
    terminated: Tensor
    """``[S, E]`` bool: nothing follows. In a game of one step nothing ever does."""
    truncated: Tensor
    """``[S, E]`` bool: the episode was cut off; what would have followed is bootstrapped."""


@dataclass(frozen=True)
class Batch:
    """A minibatch of transitions. Constant observations come once, as ``[S, 1, N, O]``."""

    obs: Tensor
    """``[S, B, N, O]``"""
    action: Tensor
    """``[S, B, N, A]``"""
    reward: Tensor
    """``[S, B]``"""
    next_obs: Tensor
    """``[S, B, N, O]``"""
    terminated: Tensor
    """``[S, B]`` float, 1 where nothing follows"""


class Env(Protocol):
    """Many copies of one environment, as a tensor program on ``[S, E]``.

    ``Config`` is a pydantic model of the environment's parameters and ``version`` an int that
    changes whenever results are no longer comparable. An environment is made by
    ``cls(config, seeds, n_envs, stream, device)`` and draws all its random numbers from
    ``rng.Streams(seeds, stream, device)``.

    Optional methods: ``reward(action [..., N, A]) -> [...]``, of a game of one step;
    ``fork(copies)``, of longer games, returns the environment with each of its E games so many
    times, ``[S, E * copies]``, the copies of each side by side and as it stands (both let
    ``rocompare.learn.ro`` measure in it); ``set(**parameters)`` changes settable parameters of the
    running copies, for a curriculum; ``positions(obs)`` maps ``obs [S, E, N, O]`` to points in the
    plane, ``[S, E, P, 2]``, so that episodes are drawn; ``draw(ax)`` draws the game itself;
    ``rest(done [S, E])`` leaves copies out of the steps until the next reset, for an evaluation
    that has seen their episode; ``close()`` frees what is no tensor.
    """

    spec: EnvSpec
    Config: type[BaseModel]
    version: int

    def reset(self) -> Tensor:
        """Start every environment anew and return ``obs [S, E, N, O]``."""
        ...

    def step(self, action: Tensor) -> Step:
        """Advance by ``action [S, E, N, A]``: in ``[-1, 1]``, or one-hot if discrete."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Algorithm(ABC):
    """A learner of ``S`` seeds at once, and the owner of its memory.

    The training loop calls ``act`` for every action, ``observe`` for every transition, also those
    of the uniform phase at the start, and ``update`` a fixed number of times after each step once
    learning has begun. Seeds must not touch each other: the helpers in ``learn`` see to that, and
    ``rocompare doctor`` checks it.
    """

    Config: type[Config] = Config
    version: int = 1
    """Changes whenever results are no longer comparable."""
    actions: ClassVar[tuple[ActionKind, ...]] = ("continuous",)
    """The kinds of actions that it takes."""
    shares_noise: ClassVar[bool] = False
    """Whether it can execute on common random numbers, mode ``shared``."""
    executes_with: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes, networks or tensors ``[S, ...]``, that ``act`` needs to execute the
    policy, and so what a kept policy holds; none named: every network that is trained."""

    def __init__(
        self, spec: EnvSpec, config: Any, seeds: Sequence[int], device: torch.device
    ) -> None:
        kind: ActionKind = "discrete" if spec.discrete else "continuous"
        reason = self.unfit(spec, config)
        if kind not in self.actions:
            reason = f"its actions are {kind}, and {' or '.join(self.actions)} ones are needed"
        if reason:
            raise ValueError(f"{type(self).__name__} cannot play here: {reason}")
        self.spec = spec
        self.config = config
        self.seeds = tuple(seeds)
        self.device = device

    @classmethod
    def unfit(cls, spec: EnvSpec, config: Any) -> str:
        """Why the algorithm cannot play in such an environment with these hyperparameters, or
        nothing. A suite that pairs the two is refused with this reason."""
        return ""

    @abstractmethod
    def act(self, obs: Tensor, mode: Mode, progress: float) -> Tensor:
        """Choose ``action [S, E, N, A]`` for ``obs [S, E, N, O]``.

        Args:
            mode: see :data:`Mode`. Executing must change nothing but a random stream of its own.
            progress: share of the budget that was used at the newest update; 0 before the first.
        """

    @abstractmethod
    def observe(self, transition: Transition) -> None:
        """Take in what happened: remember it, or learn its statistics."""

    @abstractmethod
    def update(self, progress: float) -> dict[str, Tensor]:
        """Learn from what was observed.

        Args:
            progress: share of the budget used, in ``[0, 1]``.

        Returns:
            Metrics ``[S]``, nothing if nothing was learnt yet; a NaN marks a seed as diverged.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that training continues from: each attribute that is a tensor, or that has a
        ``state_dict`` (networks, optimisers, random streams, memories)."""
        state = {}
        for name, part in vars(self).items():
            if hasattr(part, "state_dict"):
                state[name] = part.state_dict()
            elif isinstance(part, Tensor):
                state[name] = part
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        for name, value in state.items():
            part = getattr(self, name)
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(value)
            else:
                setattr(self, name, value.clone())  # the state may be used again


@runtime_checkable
class Believer(Protocol):
    """An algorithm that can say what its agents believe of each other: optional, and only asked
    for in games of one step, to measure perceived relative over-generalization."""

    def beliefs(self, own: Tensor, k: int, streams: Streams) -> Tensor:
        """K joint actions as each agent believes them if it plays ``own``; asked without gradients.

        Args:
            own: ``[S, N, M, A]`` own actions.
            k: draws K of each belief.
            streams: whose numbers to use, also for sampling a memory, so that training does not
                notice.

        Returns:
            ``[S, N, M, K, N, A]``, or with 1 for M where beliefs do not depend on the own
            action. Agent i's own entry in its draws is ignored.
        """
        ...
