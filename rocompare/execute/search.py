"""What a search tries: the hyperparameters of an algorithm, their ranges, and the next proposals.

A proposal depends on nothing but the seed of the search, the algorithm's name in the suite, and
the values of earlier rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rocompare.api import Search
from rocompare.errors import TuneError
from rocompare.learn.rng import derive
from rocompare.suite.models import AlgorithmConfig

FIRST_ROUND = 10
"""Trials that know of no values: the default and uniform ones."""
ROUND = 5
"""Trials that are proposed, and trained, side by side after that."""
DIGITS = 4
"""Significant digits of a proposed value: the tuned suite holds what was trained."""
Values = dict[str, float | int]
"""Hyperparameters by name."""


@dataclass(frozen=True)
class Dimension:
    """A hyperparameter that is searched."""

    at: Search
    start: float | int
    """Its value in trial 0."""
    whole: bool
    """Whether it is an int."""


Space = dict[str, Dimension]


def space_of(algorithm: AlgorithmConfig, search_given: bool = False) -> Space:
    """The hyperparameters that have a :class:`rocompare.api.Search` and that the suite leaves.

    With ``search_given`` also those that the suite sets to a value in the range.
    """
    model = algorithm.load().Config
    space = {}
    for name, info in model.model_fields.items():
        found = [item for item in info.metadata if isinstance(item, Search)]
        if not found:
            continue
        at, start = found[0], algorithm.params[name]
        if name in algorithm.given and not (search_given and at.low <= start <= at.high):
            continue
        what = f"algorithm '{algorithm.name}': '{name}' is searched from {at.low} to {at.high}"
        if info.annotation not in (int, float):
            raise TuneError(f"{what}, but only an int or a float can be")
        if not at.low <= start <= at.high or at.low == at.high:
            raise TuneError(f"{what}, a range that must hold its default, which is {start}")
        if at.log and at.low <= 0:
            raise TuneError(f"{what} on a logarithmic scale; begin above 0 or say log=False")
        space[name] = Dimension(at, start, info.annotation is int)
    return space


def trials_of(spaces: dict[str, Space], trials: int) -> dict[str, int]:
    """Trials of each algorithm, in proportion to how many hyperparameters are searched, so that
    none is searched more thoroughly than another: ``trials`` for the one with the fewest."""
    fewest = min((len(space) for space in spaces.values() if space), default=1)
    return {
        name: math.ceil(trials * len(space) / fewest) if space else 1
        for name, space in spaces.items()
    }


def rounds(trials: int) -> Iterator[range]:
    """Numbers of the trials of each round, of which the last may be cut short."""
    first, size = 0, FIRST_ROUND
    while first < trials:
        yield range(first, min(first + size, trials))
        first, size = first + size, ROUND


def propose(
    algorithm: str,
    space: Space,
    past: Sequence[tuple[Values, float | None]],
    numbers: range,
    search_seed: int,
) -> list[tuple[int, Values]]:
    """The trials with these numbers.

    Where nothing is searched there is but trial 0: all others would be the same.

    Args:
        past: the values of all trials of earlier rounds, and what each came to; None: it failed.
    """
    first = [(0, {name: d.start for name, d in space.items()})] if numbers[0] == 0 else []
    if not space:
        return first
    optuna = import_optuna()
    distributions = {name: _distribution(optuna, d) for name, d in space.items()}
    seed = derive(search_seed, f"tune/{algorithm}/{numbers[0]}") % 2**32
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for values, objective in past:
        known: dict[str, Any] = {"params": values, "distributions": distributions}
        if objective is None:
            known["state"] = optuna.trial.TrialState.FAIL
        else:
            known["value"] = objective
        study.add_trial(optuna.trial.create_trial(**known))
    asked = [
        (number, _rounded(study.ask(distributions).params, space))
        for number in numbers
        if number > 0
    ]
    return first + asked


def _distribution(optuna: Any, d: Dimension) -> Any:
    if d.whole:
        return optuna.distributions.IntDistribution(int(d.at.low), int(d.at.high), log=d.at.log)
    return optuna.distributions.FloatDistribution(d.at.low, d.at.high, log=d.at.log)


def _rounded(params: Values, space: Space) -> Values:
    """Values as the tuned suite will hold them; the ends of a range stay its ends."""
    return {
        name: value
        if space[name].whole
        else min(max(float(f"{value:.{DIGITS}g}"), float(space[name].at.low)), space[name].at.high)
        for name, value in params.items()
    }


def import_optuna() -> Any:
    """Optuna, which is an extra.

    Raises:
        TuneError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise TuneError(
            "tuning needs Optuna, which is not installed: pip install 'rocompare[tune]'"
        ) from None
    return optuna
