"""Which trial of a search is best: reliability first, then what the mean is sure to reach.

Ten tuning seeds cannot tell a success rate of 95 % from one of 100 %, so that many trials tie.
Their mean scores then say how close to the optimum the successful seeds come, which is no sign of
how many succeed. Hence ties are decided by a lower confidence bound, and the winner is taken from
a second stage, in which the best trials run again on fresh seeds.

Where the optimal or the safe return is unknown there is neither a score nor success: ``scored`` is
then False, and trials are judged by their returns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import scipy.stats
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
    """Mean over scenarios of the share of seeds that succeed; by returns, of those that did not
    diverge."""
    lower_bound: float
    """Of the mean score over scenarios."""
    score: float
    """That mean. A diverged seed counts as the worst of its cell, and as no better than -1. By
    returns, the mean return of the seeds that did not diverge."""


def merit(scores: Sequence[ArrayLike], scored: bool = True) -> Merit:
    """Of one trial, whose ``scores`` (or returns) are ``[n]`` per scenario, NaN where one diverged.

    The bound combines those of the scenarios (:func:`rocompare.analysis.stats.bounded_interval`)
    as independent errors; it is the mean itself where a scenario has a single seed. Returns have
    no range that is known: their bound is Student's.
    """
    if not scored:
        return _merit_of_returns([np.asarray(x, dtype=float) for x in scores])
    filled = [fill_diverged(x) for x in scores]
    rates = [float((x >= SUCCESS_SCORE - 1e-9).mean()) for x in filled]
    means = np.array([x.mean() for x in filled])
    slack = math.sqrt(sum(_below(x) ** 2 for x in filled)) / len(filled)
    return Merit(math.fsum(rates) / len(rates), float(means.mean()) - slack, float(means.mean()))


def _merit_of_returns(returns: list[Array]) -> Merit:
    usable = [x[np.isfinite(x)] for x in returns]
    if not all(len(x) for x in usable):
        return Merit(0.0, -math.inf, -math.inf)
    rates = [len(x) / len(every) for x, every in zip(usable, returns, strict=True)]
    mean = float(np.mean([x.mean() for x in usable]))
    slack = math.sqrt(sum(_student(x) ** 2 for x in usable)) / len(usable)
    return Merit(math.fsum(rates) / len(rates), mean - slack, mean)


def _student(returns: Array) -> float:
    """How far Student's lower bound of the mean lies below the mean of ``returns [n]``."""
    if len(returns) < 2:
        return 0.0
    quantile = float(scipy.stats.t.ppf(CONFIDENCE, len(returns) - 1))
    return quantile * float(returns.std(ddof=1)) / math.sqrt(len(returns))


def _below(scores: Array) -> float:
    """How far the lower bound of the mean lies below the mean of ``scores [n]``."""
    if len(scores) < 2:
        return 0.0
    low, high = min(-1.0, scores.min()), max(1.0, scores.max())
    return float(scores.mean() - bounded_interval(scores, low, high, 2 * CONFIDENCE - 1)[0])


def ranked(trials: Mapping[Trial, Sequence[ArrayLike]], scored: bool = True) -> list[Trial]:
    """The trials, the best first and the earlier of equals; ``scores`` of each as in
    :func:`merit`."""
    merits = {trial: merit(scores, scored) for trial, scores in trials.items()}
    return sorted(merits, key=lambda trial: merits[trial], reverse=True)


class Winner(NamedTuple, Generic[Trial]):
    """The outcome of a search of two stages."""

    trial: Trial
    confirmed: Merit
    """On the fresh seeds."""
    optimism: float
    """The score of the search minus the confirmed one: how much too high the best of many is."""


def winner(
    search: Mapping[Trial, Sequence[ArrayLike]],
    confirmation: Mapping[Trial, Sequence[ArrayLike]],
    scored: bool = True,
) -> Winner[Trial]:
    """The best trial of the ``confirmation``, whose trials are among those of the ``search``."""
    trial = ranked(confirmation, scored)[0]
    confirmed = merit(confirmation[trial], scored)
    return Winner(trial, confirmed, merit(search[trial], scored).score - confirmed.score)
