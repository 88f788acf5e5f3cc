"""Algorithms against each other: what may be said of their differences.

A difference is tested by permutation, success rates by Fisher's test, and both are corrected for
all that is compared at once (:func:`rocompare.analysis.exact.holm`): returns and successes are
a family each. The interval of a difference holds those that the test does not reject at the level
that is left after the correction, so that it holds 0 exactly if the adjusted p-value says that the
difference is not significant.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from rocompare.analysis import exact
from rocompare.analysis.exact import Array, Attainable, Family
from rocompare.analysis.stats import NO_INTERVAL, Interval

Finding = Literal["higher", "lower", "negligible", "diverged", "equal", "open", "unreachable"]
NEGLIGIBLE = 0.01
"""A difference of mean scores below this is called neither higher nor lower."""


@dataclass(frozen=True)
class Side:
    """One algorithm's seeds on one scenario."""

    scores: Array
    """``[n]``, of the seeds that did not diverge; returns where the game's safe or optimal return
    is unknown."""
    successes: int | None
    """None where there are returns for scores."""
    total: int
    """Number of seeds, diverged ones included."""


@dataclass(frozen=True)
class Contrast:
    """Algorithm ``a`` against algorithm ``b`` on one scenario."""

    difference: float
    """Mean score of ``a`` minus that of ``b``; NaN where one has none."""
    interval: Interval
    """Of the difference, at one minus ``level``."""
    level: float
    """What is left of ``alpha`` for this difference after the correction."""
    p: float
    """Adjusted, two-sided, that the scores come from one distribution."""
    finding: Finding
    """Of the mean score of ``a``: ``higher`` or ``lower`` than that of ``b``; a significant
    difference that is ``negligible``; ``diverged``, and so not told, where half of the seeds of a
    side have no score, or more; ``equal`` scores throughout. Not significant is ``open``, or
    ``unreachable`` where so few seeds cannot give a significant p-value among all that is compared.
    """
    p_success: float
    """Adjusted, two-sided, that the success rates are equal; NaN where there are none."""
    success: Finding
    """Of the success rate of ``a``, in the same words."""


def contrasts(pairs: Sequence[tuple[Side, Side]], alpha: float = 0.05) -> list[Contrast]:
    """Compare the two sides of each pair, all pairs corrected together."""
    scored = [i for i, (a, b) in enumerate(pairs) if len(a.scores) and len(b.scores)]
    p_values = [1.0] * len(pairs)
    found = exact.permutation_tests([(pairs[i][0].scores, pairs[i][1].scores) for i in scored])
    for i, p in zip(scored, found, strict=True):
        p_values[i] = p
    kinds: list[Attainable] = [_score_p_values(a, b) for a, b in pairs]
    rates = [_rates(a, b) for a, b in pairs]
    of_rates = [1.0 if counts is None else exact.fisher_test(*counts) for counts in rates]
    rate_kinds: list[Attainable] = [_rate_p_values(counts) for counts in rates]
    means = _corrected(p_values, kinds, alpha)
    successes = _corrected(of_rates, rate_kinds, alpha)
    return [
        _contrast(a, b, mean, success)
        for (a, b), mean, success in zip(pairs, means, successes, strict=True)
    ]


class _Corrected(NamedTuple):
    p: float
    level: float
    significant: bool
    reachable: bool
    """Whether the smallest p-value that this test can give would have been significant."""


def _corrected(
    p_values: Sequence[float], attainable: Sequence[Attainable], alpha: float
) -> list[_Corrected]:
    adjusted = exact.holm(p_values, attainable)
    levels = exact.holm_levels(p_values, alpha, attainable)
    rejected = [exact.significant(p, alpha) for p in adjusted]
    # The correction goes down the p-values in their order: what it rejects adds nothing more.
    left = Family([kind for kind, no in zip(attainable, rejected, strict=True) if not no])
    found = []
    for p, level, no, kind in zip(adjusted, levels, rejected, attainable, strict=True):
        smallest = kind if isinstance(kind, float) else min(kind, default=1.0)
        reachable = no or exact.significant(float(left.spent(smallest)), alpha)
        found.append(_Corrected(p, level, no, reachable))
    return found


def _score_p_values(a: Side, b: Side) -> Attainable:
    pooled = np.concatenate([a.scores, b.scores])
    if not len(a.scores) or not len(b.scores) or pooled.min() == pooled.max():
        return ()
    return exact.smallest_p(len(a.scores), len(b.scores))


def _rates(a: Side, b: Side) -> tuple[int, int, int, int] | None:
    if a.successes is None or b.successes is None:
        return None
    return a.successes, a.total, b.successes, b.total


def _rate_p_values(counts: tuple[int, int, int, int] | None) -> Attainable:
    if counts is None:
        return ()
    k, n, s, m = counts
    return exact.fisher_attainable(k + s, n, m)


def _contrast(a: Side, b: Side, mean: _Corrected, success: _Corrected) -> Contrast:
    difference, interval = math.nan, NO_INTERVAL
    if len(a.scores) and len(b.scores):
        difference = float(a.scores.mean() - b.scores.mean())
        interval = Interval(*exact.permutation_interval(a.scores, b.scores, mean.level))
    known = a.successes is not None and b.successes is not None
    finding = _finding(difference, mean, NEGLIGIBLE if known else 0.0)
    if any(2 * len(side.scores) <= side.total for side in (a, b)):
        finding = "diverged"
    counts = _rates(a, b)
    gap = math.nan if counts is None else counts[0] / counts[1] - counts[2] / counts[3]
    return Contrast(
        difference=difference,
        interval=interval,
        level=mean.level,
        p=math.nan if math.isnan(difference) else mean.p,
        finding=finding,
        p_success=math.nan if counts is None else success.p,
        success=_finding(gap, success, 0.0),
    )


def _finding(difference: float, test: _Corrected, negligible: float) -> Finding:
    if difference == 0 and test.p == 1:
        return "equal"
    if not test.significant:
        return "open" if test.reachable else "unreachable"
    if abs(difference) < negligible:
        return "negligible"
    return "higher" if difference > 0 else "lower"


def all_pairs(
    sides: Mapping[str, Mapping[str, Side]], alpha: float = 0.05
) -> dict[tuple[str, str, str], Contrast]:
    """Every two algorithms on every scenario that both have, all corrected together.

    Args:
        sides: by algorithm and scenario.

    Returns:
        By ``(a, b, scenario)``, with ``a`` before ``b`` as in ``sides``.
    """
    names = [
        (a, b, scenario)
        for a, b in itertools.combinations(sides, 2)
        for scenario in sides[a]
        if scenario in sides[b]
    ]
    pairs = [(sides[a][scenario], sides[b][scenario]) for a, b, scenario in names]
    return dict(zip(names, contrasts(pairs, alpha), strict=True))


@dataclass(frozen=True)
class Ranking:
    """What a critical-difference diagram shows."""

    ranks: dict[str, float]
    """Mean over scenarios of each algorithm's rank by mean score, the best first."""
    p: dict[tuple[str, str], float]
    """Adjusted p-value of every two, that they score alike on all scenarios; both orders."""
    groups: list[tuple[str, ...]]
    """Largest sets of algorithms of which no two can be told apart, the best first. An algorithm
    that can be told from all others is in none."""


def ranking(scores: Mapping[str, Sequence[ArrayLike]], alpha: float = 0.05) -> Ranking:
    """Rank algorithms over scenarios, and say which cannot be told apart.

    The usual diagram tests ranks over scenarios, of which benchmarks of this kind have too few
    (Demšar 2006 asks for more than ten). Here the seeds are tested: for every two algorithms the
    mean difference over all scenarios, by permuting seeds within each scenario, corrected by Holm
    over all pairs.

    Args:
        scores: by algorithm ``[n]`` per scenario, the same scenarios for all. Diverged seeds
            have a score too (:func:`rocompare.analysis.stats.fill_diverged`).
    """
    names = list(scores)
    samples = {name: [exact.sample(x) for x in scores[name]] for name in names}
    means = np.array([[x.mean() for x in samples[name]] for name in names]).round(12)
    mean_ranks = scipy.stats.rankdata(-means, axis=0).mean(axis=1)
    order = sorted(range(len(names)), key=lambda i: (mean_ranks[i], i))
    ranks = {names[i]: float(mean_ranks[i]) for i in order}
    pairs = list(itertools.combinations(ranks, 2))
    raw = [exact.stratified_test(list(zip(samples[a], samples[b], strict=True))) for a, b in pairs]
    p = dict(zip(pairs, exact.holm(raw), strict=True))
    p |= {(b, a): value for (a, b), value in p.items()}
    alike = {
        a: {b for b in ranks if b != a and not exact.significant(p[a, b], alpha)} for a in ranks
    }
    found = [tuple(name for name in ranks if name in group) for group in _cliques(alike)]
    return Ranking(ranks, p, sorted(found, key=lambda group: [*ranks].index(group[0])))


def _cliques(neighbours: Mapping[str, set[str]]) -> list[set[str]]:
    """Maximal sets of at least two of which every two are neighbours (Bron and Kerbosch 1973)."""
    found: list[set[str]] = []

    def extend(clique: set[str], candidates: set[str], done: set[str]) -> None:
        if not candidates and not done and len(clique) > 1:
            found.append(clique)
        for name in sorted(candidates):
            extend(clique | {name}, candidates & neighbours[name], done & neighbours[name])
            candidates, done = candidates - {name}, done | {name}

    extend(set(), set(neighbours), set())
    return found


def best(samples: Mapping[str, ArrayLike], alpha: float = 0.05) -> set[str]:
    """The algorithms that the test cannot tell from the best one on a scenario.

    An algorithm is left out if the one with the highest mean is significantly better, one-sided,
    at ``alpha`` over the number of others. So the algorithm that is truly best is in the set with
    probability ``1 - alpha`` at least, however many there are: the set of Gupta (1965), by
    permutation.

    Args:
        samples: by algorithm ``[n]``, larger being better: scores with a number for diverged
            seeds too (:func:`rocompare.analysis.stats.fill_diverged`), or 1 and 0 for successes.
    """
    values = {name: exact.sample(x) for name, x in samples.items() if len(np.asarray(x))}
    if not values:
        return set()
    top = max(values, key=lambda name: values[name].mean())
    others = [name for name in values if name != top]
    tests = exact.permutation_tests([(values[name], values[top]) for name in others], "less")
    return {top} | {
        name
        for name, p in zip(others, tests, strict=True)
        if not exact.significant(p * len(others), alpha)
    }
