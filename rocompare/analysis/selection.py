"""Which trial of a search is best: reliability first, then what the mean is sure to reach.

Ten tuning seeds cannot tell a success rate of 95 % from one of 100 %, so that many trials tie.
Their mean scores then say how close to the optimum the successful seeds come, which is no sign of
how many succeed. Hence ties are decided by a lower confidence bound, and the winner is taken from
a second stage, in which the best trials run again on fresh seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rocompare.analysis.exact import Array
from rocompare.analysis.stats import bounded_interval, fill_diverged
from rocompare.results.records import SUCCESS_SCORE

CONFIDENCE = 0.95
"""Of the lower bound of a score, one-sided."""
Trial = TypeVar("Trial")


class Merit(NamedTuple):
    """What trials are ranked by, in this order; larger is better."""

    success_rate: float
    """Mean over scenarios of the share of seeds that succeed."""
    lower_bound: float
    """Of the mean score over scenarios."""
    score: float
    """That mean. A diverged seed counts as the worst of its cell, and as no better than -1."""


def merit(scores: Sequence[ArrayLike]) -> Merit:
    """Of one trial, whose ``scores`` are ``[n]`` per scenario, NaN for a diverged seed.

    The bound combines those of the scenarios (:func:`rocompare.analysis.stats.bounded_interval`)
    as independent errors; it is the mean itself where a scenario has a single seed.
    """
    filled = [fill_diverged(x) for x in scores]
    rates = [float((x >= SUCCESS_SCORE - 1e-9).mean()) for x in filled]
    means = np.array([x.mean() for x in filled])
    slack = math.sqrt(sum(_below(x) ** 2 for x in filled)) / len(filled)
    return Merit(math.fsum(rates) / len(rates), float(means.mean()) - slack, float(means.mean()))


def _below(scores: Array) -> float:
    """How far the lower bound of the mean lies below the mean of ``scores [n]``."""
    if len(scores) < 2:
        return 0.0
    low, high = min(-1.0, scores.min()), max(1.0, scores.max())
    return float(scores.mean() - bounded_interval(scores, low, high, 2 * CONFIDENCE - 1)[0])


def ranked(trials: Mapping[Trial, Sequence[ArrayLike]]) -> list[Trial]:
    """The trials, the best first and the earlier of equals; ``scores`` of each as in
    :func:`merit`."""
    merits = {trial: merit(scores) for trial, scores in trials.items()}
    return sorted(merits, key=lambda trial: merits[trial], reverse=True)


class Winner(NamedTuple, Generic[Trial]):
    """The outcome of a search of two stages."""

    trial: Trial
    confirmed: Merit
    """On the fresh seeds."""
    optimism: float
    """The score of the search minus the confirmed one: how much too high the best of many is."""


def winner(
    search: Mapping[Trial, Sequence[ArrayLike]], confirmation: Mapping[Trial, Sequence[ArrayLike]]
) -> Winner[Trial]:
    """The best trial of the ``confirmation``, whose trials are among those of the ``search``."""
    trial = ranked(confirmation)[0]
    confirmed = merit(confirmation[trial])
    return Winner(trial, confirmed, merit(search[trial]).score - confirmed.score)
