"""Tests that are exact whatever the distribution of returns, and their correction for number.

A permutation test counts how many divisions of the pooled seeds into two groups of these sizes
differ at least as much as the two samples do. If nothing differs, every division is as likely as
the observed one, so its p-value is right for any distribution, the two-peaked ones of relative
over-generalization among them. Fisher's test is the same for success rates.

Such a test has a smallest p-value, and some can never reach the level: 20 successes of 20 against
19 of 20 differ in one seed, and p is 0.5 at best. :func:`holm` makes the others pay for no test
that cannot reach what is asked of it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Alternative = Literal["two-sided", "less", "greater"]
Statistic = Literal["mean", "std"]
Attainable = float | tuple[float, ...]
"""The p-values that a test can give: all from a smallest one on, or, in ascending order, only
these. The empty tuple is a test that can show nothing."""

ENUMERATED = 50_000
"""A permutation test with at most so many divisions of the pooled seeds goes through all: 9
against 9 seeds have 48,620."""
PERMUTATIONS = 49_999
"""Random divisions that are drawn where there are more."""
SCREENING = 1_999
"""As many are drawn first, and the others only where these give a p of at most ``SCREENED``."""
SCREENED = 0.2
_ROUNDING = 1e-9
"""The same sum in another order may differ in its last digits."""


def sample(values: ArrayLike) -> Array:
    """``values [n]`` as an array; ValueError unless they are finite numbers, one per seed."""
    x = np.asarray(values, dtype=float)
    if x.ndim != 1:
        raise ValueError(f"a sample is one number per seed, got the shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("a sample holds finite numbers; leave out the seeds that diverged")
    return x


def permutation_test(a: ArrayLike, b: ArrayLike, alternative: Alternative = "two-sided") -> float:
    """p-value of the hypothesis that ``a [n]`` and ``b [m]`` come from one distribution.

    The statistic is the difference of means. All divisions of the pooled seeds into ``n`` and
    ``m`` are counted if there are at most ``ENUMERATED``. Beyond, ``PERMUTATIONS`` random ones are
    drawn and the observed one is counted with them, so that p is never 0 and the test keeps its
    level. Where every seed of one sample lies below every seed of the other, no other division
    differs as much, and p is exact again. Two-sided is twice the smaller one-sided p, as in scipy;
    ``less`` means that ``a`` is.
    """
    return permutation_tests([(a, b)], alternative)[0]


def permutation_tests(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]],
    alternative: Alternative = "two-sided",
    statistic: Statistic = "mean",
) -> list[float]:
    """:func:`permutation_test` of each pair, ten thousand of them in seconds.

    Args:
        statistic: ``std`` compares the sample standard deviations.
    """
    p_values = [1.0] * len(pairs)
    alike: dict[tuple[int, int], list[tuple[int, _Pooled]]] = {}
    for i, (a, b) in enumerate(pairs):
        x, y = sample(a), sample(b)
        if not len(x) or not len(y):
            raise ValueError("a permutation test needs at least one seed on either side")
        pooled = _pool(x, y)
        if pooled is None:
            continue
        if statistic == "mean" and _apart(x, y, alternative):
            p_values[i] = smallest_p(len(x), len(y), alternative)
        else:
            alike.setdefault((len(pooled.values), pooled.size), []).append((i, pooled))
    for (total, size), members in alike.items():
        for count in (SCREENING, PERMUTATIONS):
            choices = _choices(total, size, count)
            every = len(choices) == math.comb(total, size)
            for i, p in _count(members, choices, every, alternative, statistic):
                p_values[i] = p
            members = [member for member in members if p_values[member[0]] <= SCREENED]
            if every or not members:
                break
    return p_values


class _Pooled(NamedTuple):
    """Two samples as one, centred and scaled."""

    values: Array
    """``[n + m]``, the smaller sample first."""
    size: int
    """Of the smaller sample, whose statistic says all: the other's is its negative."""
    swapped: bool
    """Whether the smaller sample is the second one."""


def _pool(x: Array, y: Array) -> _Pooled | None:
    """None where all values are equal."""
    swapped = len(y) < len(x)
    pooled = np.concatenate([y, x] if swapped else [x, y])
    pooled = pooled - pooled.mean()
    scale = np.abs(pooled).max()
    return _Pooled(pooled / scale, min(len(x), len(y)), swapped) if scale else None


def _apart(x: Array, y: Array, alternative: Alternative) -> bool:
    """Whether all of one sample is below all of the other, on the side that is asked for."""
    below = bool(x.max() < y.min()) and alternative != "greater"
    return below or (bool(y.max() < x.min()) and alternative != "less")


def _count(
    members: Sequence[tuple[int, _Pooled]],
    choices: Array,
    every: bool,
    alternative: Alternative,
    statistic: Statistic,
) -> list[tuple[int, float]]:
    """Number and p-value of each pair over these ``choices [D, total]``."""
    extra = 0 if every else 1  # the observed division is one of all, or counted with random ones
    p_values = []
    for start in range(0, len(members), 32):  # bounds the memory
        part = members[start : start + 32]
        size = part[0][1].size
        values = np.stack([pooled.values for _, pooled in part], axis=1)  # [total, 32]
        first = (np.arange(len(values)) < size).astype(float)[None]
        observed = _statistic(first, values, size, statistic)  # [1, 32]
        found = _statistic(choices, values, size, statistic)  # [D, 32]
        at_least = (np.count_nonzero(found >= observed - _ROUNDING, axis=0) + extra).tolist()
        at_most = (np.count_nonzero(found <= observed + _ROUNDING, axis=0) + extra).tolist()
        for (i, pooled), more, fewer in zip(part, at_least, at_most, strict=True):
            less, greater = (more, fewer) if pooled.swapped else (fewer, more)
            count = {"less": less, "greater": greater}.get(alternative, 2 * min(less, greater))
            p_values.append((i, min(1.0, count / (len(choices) + extra))))
    return p_values


def _statistic(choices: Array, values: Array, size: int, statistic: Statistic) -> Array:
    """``[D, M]``, of the chosen seeds, of ``values [total, M]`` that are centred."""
    sums: Array = choices @ values
    if statistic == "mean":
        return sums
    squares: Array = choices @ values**2
    rest = len(values) - size
    chosen = (squares - sums**2 / size) / max(1, size - 1)
    others = ((values**2).sum(axis=0) - squares - sums**2 / rest) / max(1, rest - 1)
    difference: Array = np.sqrt(chosen.clip(min=0)) - np.sqrt(others.clip(min=0))
    return difference


@functools.lru_cache(maxsize=8)
def _choices(total: int, size: int, count: int) -> Array:
    """``[D, total]``: 1 where a value is chosen, of every division or of ``count`` random ones."""
    if math.comb(total, size) <= ENUMERATED:
        flat = itertools.chain.from_iterable(itertools.combinations(range(total), size))
        indices = np.fromiter(flat, dtype=np.intp).reshape(-1, size)
    else:
        random = np.random.default_rng(0)
        order = np.broadcast_to(np.arange(total), (count, total))
        indices = random.permuted(order, axis=1)[:, :size]
    chosen = np.zeros((len(indices), total))
    np.put_along_axis(chosen, indices, 1.0, axis=1)
    return chosen


def permutation_interval(a: ArrayLike, b: ArrayLike, level: float) -> tuple[float, float]:
    """The differences of means, ``a [n]`` minus ``b [m]``, that :func:`permutation_test` does not
    reject at ``level``, two-sided: an interval that holds 0 exactly if p exceeds ``level``.

    A difference is tested by taking it off ``a``. The division that exchanges some seeds of the
    two samples differs at least as much as the observed one if and only if the difference is at
    least the mean of the seeds that leave ``a`` minus the mean of those that come; so the ends are
    two of these numbers in their order. An end is infinite where so few seeds bound nothing.
    """
    x, y = sample(a), sample(b)
    if not len(x) or not len(y):
        return -math.inf, math.inf
    n, m = len(x), len(y)
    if n > m:  # choices are of the smaller sample
        low, high = permutation_interval(y, x, level)
        return -high, -low
    choices = _choices(n + m, n, PERMUTATIONS)
    extra = 0 if len(choices) == math.comb(n + m, n) else 1
    leaving = n - np.rint(choices[:, :n].sum(axis=1))
    moved = leaving > 0
    shifts = np.sort((x.sum() - choices[moved] @ np.concatenate([x, y])) / leaving[moved])
    unmoved = len(choices) - len(shifts) + extra
    rank = math.floor(level / 2 * (len(choices) + extra) * (1 + _ROUNDING)) - unmoved
    if rank >= 0:
        return float(shifts[rank]), float(shifts[-1 - rank])
    if significant(smallest_p(n, m), level):  # too few random divisions; the extreme one is known
        return float(x.min() - y.max()), float(x.max() - y.min())
    return -math.inf, math.inf


def stratified_test(pairs: Sequence[tuple[ArrayLike, ArrayLike]]) -> float:
    """Two-sided p-value of the hypothesis that ``a [n]`` and ``b [m]`` of every pair, a scenario
    each, come from one distribution.

    The statistic is the mean over scenarios of the differences of means, and seeds change sides
    within their scenario only.
    """
    if len(pairs) == 1:
        return permutation_test(*pairs[0])
    random = np.random.default_rng(0)
    observed, found = 0.0, np.zeros(PERMUTATIONS)
    for a, b in pairs:
        x, y = sample(a), sample(b)
        n, m = len(x), len(y)
        pooled = np.concatenate([x, y]) - np.concatenate([x, y]).mean()
        choices = _choices(n + m, n, PERMUTATIONS) @ pooled
        found += choices[random.integers(len(choices), size=PERMUTATIONS)] * (1 / n + 1 / m)
        observed += x.mean() - y.mean()
    slack = _ROUNDING * max(1.0, float(np.abs(found).max()))
    at_least = np.count_nonzero(found >= observed - slack) + 1
    at_most = np.count_nonzero(found <= observed + slack) + 1
    return min(1.0, 2 * min(at_least, at_most) / (PERMUTATIONS + 1))


def significant(p: float, alpha: float) -> bool:
    """Whether ``p`` is at most ``alpha``, to rounding: 3 times 0.1 is at most 0.3."""
    return p <= alpha * (1 + _ROUNDING)


def smallest_p(n: int, m: int, alternative: Alternative = "two-sided") -> float:
    """The smallest p that ``n`` against ``m`` seeds can give; two-sided 0.1 for 3 against 3."""
    return min(1.0, (2 if alternative == "two-sided" else 1) / math.comb(n + m, n))


def seeds_needed(alpha: float, alternative: Alternative = "two-sided") -> int | None:
    """Fewest seeds on either side that can give a p of ``alpha``; None if not even 99 can."""
    enough = (n for n in range(1, 100) if significant(smallest_p(n, n, alternative), alpha))
    return next(enough, None)


def fisher_test(
    successes_a: int, n: int, successes_b: int, m: int, alternative: Alternative = "two-sided"
) -> float:
    """Fisher's exact p-value of the hypothesis that two success rates are equal.

    Two-sided is twice the smaller one-sided p, as in :func:`permutation_test`.
    """
    if not (0 <= successes_a <= n and 0 <= successes_b <= m):
        raise ValueError(f"{successes_a} successes of {n} seeds, {successes_b} of {m}")
    first, p_values = _fisher(successes_a + successes_b, n, m, alternative)
    return float(p_values[successes_a - first])


@functools.lru_cache(maxsize=65_536)
def _fisher(successes: int, n: int, m: int, alternative: Alternative) -> tuple[int, Array]:
    """The fewest ``successes`` that may be among the first ``n`` of the seeds, and the p-value of
    that number and each that follows."""
    k = np.arange(max(0, successes - m), min(n, successes) + 1)
    of_all = scipy.stats.hypergeom(n + m, successes, n)
    less, greater = of_all.cdf(k), of_all.sf(k - 1)
    one_sided = {"less": less, "greater": greater}
    p_values = one_sided.get(alternative, 2 * np.minimum(less, greater))
    return int(k[0]), np.minimum(1.0, p_values)


@functools.lru_cache(maxsize=65_536)
def fisher_attainable(
    successes: int,
    n: int,
    m: int,
    alternative: Alternative = "two-sided",
    beyond: float = -1.0,
) -> tuple[float, ...]:
    """What :func:`fisher_test` can give for so many ``successes`` in ``n + m`` seeds together.

    Args:
        beyond: only where the rates differ by more than this, the first ``n`` having the lower
            one if the alternative is ``less``.
    """
    first, p_values = _fisher(successes, n, m, alternative)
    k = first + np.arange(len(p_values))
    gap = (successes - k) / m - k / n
    gap = {"less": gap, "greater": -gap}.get(alternative, np.abs(gap))
    return tuple(np.unique(p_values[gap > beyond + _ROUNDING]).tolist())


class Family:
    """Tests that are judged together, known by the p-values that each can give.

    Args:
        attainable: an entry per test.
    """

    def __init__(self, attainable: Sequence[Attainable]) -> None:
        kinds = list(dict.fromkeys(attainable))
        number = {kind: i for i, kind in enumerate(kinds)}
        self.kind = np.array([number[kind] for kind in attainable], dtype=np.intp)
        """``[T]``, of each test."""
        self.kinds = kinds
        self.counts = np.bincount(self.kind, minlength=len(kinds)).astype(float)

    def spent(self, p: ArrayLike) -> Array:
        """``[...]``: how likely any of the tests gives at most ``p [...]`` where nothing differs,
        or more: the sum of their probabilities."""
        x = np.asarray(p, dtype=float)
        parts = (
            n * largest_up_to(kind, x) for n, kind in zip(self.counts, self.kinds, strict=True)
        )
        return sum(parts, np.zeros(x.shape))


def largest_up_to(attainable: Attainable, p: ArrayLike) -> Array:
    """``[...]``: the largest attainable p-value that is at most ``p [...]``, and 0 if none is.

    It is how likely the test gives at most ``p`` where nothing differs.
    """
    x = np.asarray(p, dtype=float)
    limit = x * (1 + _ROUNDING)
    if isinstance(attainable, float):
        return np.where(limit >= attainable, x, 0.0)
    steps = _steps(attainable)
    return steps[steps.searchsorted(limit, side="right") - 1]


@functools.lru_cache(maxsize=65_536)
def _steps(attainable: tuple[float, ...]) -> Array:
    return np.array([0.0, *attainable])


def holm(p_values: Sequence[float], attainable: Sequence[Attainable] | None = None) -> list[float]:
    """p-values adjusted for their number, in the order given (Holm 1979).

    Rejecting those that are at most ``alpha`` errs in any of them with probability ``alpha`` at
    most. In the order of the p-values, each becomes the sum, over the tests that have no smaller
    one, of the probability of so small a p-value (Westfall and Wolfinger 1997). That is Holm's
    multiple where every p-value can occur, and less where tests are discrete. A test that cannot
    give so small a p-value adds nothing: Tarone's correction (1990), without its flaw that a
    larger ``alpha`` may reject less.

    Args:
        attainable: what each test can give; by default any p-value.
    """
    return [min(1.0, p) for p in _sums(p_values, attainable)]


def holm_levels(
    p_values: Sequence[float], alpha: float, attainable: Sequence[Attainable] | None = None
) -> list[float]:
    """The level of each test that its adjusted p-value amounts to at ``alpha``.

    A p-value is at most its level if and only if its adjusted one is at most ``alpha``. So an
    interval at one minus this level says what the adjusted p-value says. Tests that are not
    rejected share the level at which the first of them was not.
    """
    sums = _sums(p_values, attainable)
    kept = [i for i, total in enumerate(sums) if not significant(total, alpha)]
    first = min(kept, key=lambda i: (sums[i], p_values[i]), default=None)
    factor = 1.0 if first is None else sums[first] / p_values[first]
    return [
        alpha / (sums[i] / p if significant(sums[i], alpha) else factor)
        for i, p in enumerate(p_values)
    ]


def _sums(p_values: Sequence[float], attainable: Sequence[Attainable] | None) -> list[float]:
    """Adjusted p-values that may exceed 1."""
    if not p_values:
        return []
    p = np.asarray(p_values, dtype=float)
    family = Family([0.0] * len(p) if attainable is None else attainable)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(p < 1)]
    if not len(order):
        return [1.0] * len(p)
    at_most = np.stack([largest_up_to(kind, p[order]) for kind in family.kinds])  # [K, T]
    earlier = np.zeros(at_most.shape)
    earlier[family.kind[order], np.arange(len(order))] = 1
    left = family.counts[:, None] - earlier.cumsum(axis=1) + earlier
    sums = np.maximum((left * at_most).sum(axis=0), p[order])
    adjusted = np.full(len(p), max(1.0, float(sums.max())))
    adjusted[order] = np.maximum.accumulate(sums)
    return [float(x) for x in adjusted]
