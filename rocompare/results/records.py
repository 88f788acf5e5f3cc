"""What is kept of one trained seed: the content of ``seed_<n>.json``.

Nothing here imports pandas or torch: the training loop fills these records, and readers take them
apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

FORMAT: Final = 2
"""Of records; a change that older readers would misread raises it."""
SUCCESS_SCORE = 0.9
"""A seed succeeds if its score in decentralised execution is at least this."""

Execution = Literal["decentralised", "deterministic", "shared"]
EXECUTIONS: tuple[Execution, ...] = ("decentralised", "deterministic", "shared")
"""Ways to execute a policy (see ``rocompare.api.Mode``); the first is the headline everywhere."""


def _moderate(value: float) -> float:
    # Numbers that 32 bits can hold, and whose squares 64 bits can: statistics never overflow.
    if not abs(value) < 3.5e38:
        raise ValueError("the number is too large")
    return value


Number = Annotated[float, AfterValidator(_moderate)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Values = list[Number | None]
"""None where a value is not finite or was not measured."""


class Curve(BaseModel):
    """A seed's evaluations while it trained, a list entry each."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    env_steps: list[Count]
    """Environment steps of the seed until then."""
    returns: dict[Execution, Values]
    """Mean over evaluation episodes."""
    in_optimum: dict[Execution, Values]
    """Share of the evaluation episodes that ended in the optimum's basin."""
    executed_ro: Values
    perceived_ro: Values


class SeedRecord(BaseModel):
    """Everything about one finished seed. Returns are undiscounted team rewards per episode."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    format: Literal[2] = FORMAT
    seed: Count
    returns: dict[Execution, Values]
    """Per episode of the last evaluation."""
    in_optimum: dict[Execution, Number]
    """Share of these episodes that ended in the optimum's basin."""
    basin: dict[Execution, str]
    """The optimum's, if more than half of the episodes ended there; else the commonest of the
    others."""
    diverged: bool
    """A loss or a return was not finite."""
    env_steps: Count
    updates: Count
    parameters: Count
    """Trainable numbers, targets not counted."""
    seconds: Annotated[Number, Field(ge=0)]
    """Wall time of the cell divided by the seeds that trained in it."""
    curve: Curve
    actions: list[list[Number]] = []
    """One-step games: joint actions of the first evaluation episodes, each ``[N*A]``."""
    positions: list[list[list[Number]]] = []
    """``[T+1][P][2]`` of one evaluation episode, of environments in which things move."""
    provenance: dict[str, Any] = {}
    """Versions, device, command and time that produced this seed."""
    policy: bytes = Field(b"", exclude=True)
    """Content of the seed's policy file, which is a file of its own."""


def mean_return(values: Sequence[float | None]) -> float:
    """Mean over episodes; NaN if there are none or one of them was not finite."""
    if not values or any(value is None for value in values):
        return math.nan
    return math.fsum(value for value in values if value is not None) / len(values)


def score(value: float, safe: float | None, optimal: float | None) -> float:
    """``(return - safe) / (optimal - safe)``: 0 is the safe behaviour, 1 the optimum; NaN where one
    of the two is unknown."""
    if safe is None or optimal is None:
        return math.nan
    return (value - safe) / (optimal - safe)


def succeeds(value: float) -> bool:
    """Whether a seed of this score is a success; a diverged one, of score NaN, is none."""
    return value >= SUCCESS_SCORE - 1e-9
