"""Statistics of returns: pure functions on arrays, one number per seed.

The seed is the unit of replication. A sample ``values [n]`` holds one finite number per seed, its
evaluation episodes already averaged; samples that are compared may differ in length. Seeds that
diverged have no return: callers leave them out of samples of returns, and count them as failures
in success rates.

Under relative over-generalization returns are two-peaked (a seed finds the optimum's basin or it
does not), so the intervals were chosen by their measured coverage on such samples
(``tests/test_stats.py``), not by habit. Whatever is random is drawn from a generator with a fixed
seed: the same sample gives the same numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Alternative = Literal["two-sided", "less", "greater"]

RESAMPLES = 9_999
"""Bootstrap resamples."""
PROFILE_RESAMPLES = 2_000
"""Those of a performance profile, whose band is only looked at."""
ENUMERATED = 200_000
"""A permutation test with at most so many divisions of the pooled seeds goes through all: 10
against 10 seeds have 184,756."""
PERMUTATIONS = 49_999
"""Random divisions that are drawn where there are more."""


class Interval(NamedTuple):
    """Both ends; NaN where so few seeds bound nothing."""

    low: float
    high: float


NO_INTERVAL = Interval(math.nan, math.nan)


class Summary(NamedTuple):
    """A sample of returns in numbers; all but ``n`` are NaN for an empty one."""

    n: int
    mean: float
    std: float
    """Of the sample, with ``n - 1``; 0 for a single seed."""
    median: float
    iqm: float
    low: float
    high: float


def summarise(values: ArrayLike) -> Summary:
    """Describe ``values [n]``."""
    x = _sample(values)
    if not len(x):
        return Summary(0, *[math.nan] * 6)
    return Summary(
        n=len(x),
        mean=float(x.mean()),
        std=float(x.std(ddof=1)) if len(x) > 1 else 0.0,
        median=float(np.median(x)),
        iqm=iqm(x),
        low=float(x.min()),
        high=float(x.max()),
    )


def iqm(values: ArrayLike) -> float:
    """Interquartile mean of ``values [n]``: the mean without ``floor(n / 4)`` at either end.

    With fewer than four seeds nothing is cut off and it is the mean.
    """
    x = _sample(values)
    cut = len(x) // 4
    return float(np.sort(x)[cut : len(x) - cut].mean()) if len(x) else math.nan


def normalise(values: ArrayLike, safe: float, optimal: float) -> Array:
    """Scores ``[...]`` of returns ``[...]``: 0 for the safe behaviour, 1 for the optimum.

    ``safe`` and ``optimal`` are what the scenario declares, never the data's own extremes: one
    more algorithm changes nobody's score. NaN (a diverged seed) stays NaN.
    """
    if not optimal > safe:
        raise ValueError(f"the optimal return ({optimal}) must exceed the safe one ({safe})")
    return (np.asarray(values, dtype=float) - safe) / (optimal - safe)


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's interval of the mean of ``values [n]``; one seed bounds nothing."""
    x = _sample(values)
    if len(x) < 2:
        return NO_INTERVAL
    half = scipy.stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    return Interval(float(x.mean() - half), float(x.mean() + half))


def difference_interval(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Welch's interval of the mean of ``a [n]`` minus the mean of ``b [m]``."""
    x, y = _sample(a), _sample(b)
    if min(len(x), len(y)) < 2:
        return NO_INTERVAL
    difference = float(x.mean() - y.mean())
    vx, vy = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if vx + vy == 0:
        return Interval(difference, difference)
    freedom = (vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, freedom) * math.sqrt(vx + vy))
    return Interval(difference - half, difference + half)


def median_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Exact interval of the median of ``values [n]``, between two of the sorted values.

    It assumes nothing of the distribution. At 0.95 fewer than 6 seeds bound nothing.
    """
    x = np.sort(_sample(values))
    # As many seeds lie below the median as a fair coin shows heads.
    rank = int(scipy.stats.binom.ppf((1 - confidence) / 2, len(x), 0.5)) if len(x) else 0
    if rank < 1:
        return NO_INTERVAL
    return Interval(float(x[rank - 1]), float(x[len(x) - rank]))


def bootstrap_interval(
    samples: Sequence[ArrayLike],
    statistic: Callable[..., NDArray[np.float64]],
    confidence: float = 0.95,
    method: Literal["percentile", "BCa"] = "percentile",
) -> Interval:
    """Bootstrap interval of a statistic of one or more independent ``samples``, ``[n_i]`` each.

    Args:
        statistic: takes as many arrays as there are samples, and ``axis``, along which it reduces.
        method: BCa has no value where the resamples do not vary or all lie on one side, as with
            identical returns; the percentile interval is given there.
    """
    arrays = [_sample(sample) for sample in samples]
    if min(len(x) for x in arrays) < 2:
        return NO_INTERVAL
    if all(x.min() == x.max() for x in arrays):
        # Nothing to resample; scipy would warn of it, and its BCa answers NaN.
        value = float(statistic(*arrays, axis=-1))
        return Interval(value, value)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")  # that BCa has no value, which is seen below
        ends = scipy.stats.bootstrap(
            arrays, statistic, n_resamples=RESAMPLES, confidence_level=confidence,
            method=method, vectorized=True, axis=-1, random_state=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
    if method == "BCa" and not (math.isfinite(ends.low) and math.isfinite(ends.high)):
        return bootstrap_interval(samples, statistic, confidence)
    return Interval(float(ends.low), float(ends.high))


def iqm_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Percentile-bootstrap interval of the interquartile mean of ``values [n]``."""

    def statistic(x: Array, axis: int) -> Array:
        return np.asarray(scipy.stats.trim_mean(x, 0.25, axis=axis))

    return bootstrap_interval([values], statistic, confidence)


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a rate, for ``successes`` of ``n`` seeds.

    Unlike scipy's it takes a fractional number of successes.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} seeds")
    if n == 0:
        return Interval(0.0, 1.0)
    z = float(scipy.stats.norm.ppf((1 + confidence) / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    return Interval(low, 1.0 if successes == n else centre + half)


def improvement(a: ArrayLike, b: ArrayLike) -> float:
    """Probability that a seed of ``a [n]`` beats a seed of ``b [m]``, ties counted as half."""
    x, y = _sample(a), _sample(b)
    if not len(x) or not len(y):
        return math.nan
    wins = float(scipy.stats.mannwhitneyu(x, y, method="asymptotic").statistic)
    return wins / (len(x) * len(y))


def improvement_interval(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Wilson's interval of :func:`improvement`, with the smaller sample's seeds as trials.

    The estimate's variance is at most ``p (1 - p) / min(n, m)`` whatever the two distributions
    (van Dantzig 1951), so that this holds for two-peaked ones too. A bootstrap would shrink to a
    point as soon as every seed of one algorithm beats every seed of the other.
    """
    n = min(len(_sample(a)), len(_sample(b)))
    return wilson_interval(improvement(a, b) * n, n, confidence) if n else NO_INTERVAL


def permutation_test(a: ArrayLike, b: ArrayLike, alternative: Alternative = "two-sided") -> float:
    """p-value of the hypothesis that ``a [n]`` and ``b [m]`` come from one distribution.

    The statistic is the difference of means. All divisions of the pooled seeds into ``n`` and
    ``m`` are counted if there are at most ``ENUMERATED``. Beyond, ``PERMUTATIONS`` random ones are
    drawn and the observed one is counted with them, so that p is never 0 and the test keeps its
    level. Two-sided is twice the smaller one-sided p, as in scipy; ``less`` means that ``a`` is.
    """
    return permutation_tests([(a, b)], alternative)[0]


def permutation_tests(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]], alternative: Alternative = "two-sided"
) -> list[float]:
    """:func:`permutation_test` of each pair, thousands of them in seconds."""
    p_values = [1.0] * len(pairs)
    alike: dict[tuple[int, int], list[tuple[int, _Pooled]]] = {}
    for i, (a, b) in enumerate(pairs):
        pooled = _pool(a, b)
        if pooled is not None:
            alike.setdefault((len(pooled.values), pooled.size), []).append((i, pooled))
    for (total, size), members in alike.items():
        choices = _choices(total, size)
        # The observed division is one of all, or counted with the random ones.
        extra = 0 if math.comb(total, size) <= ENUMERATED else 1
        for start in range(0, len(members), 32):  # bounds the memory
            part = members[start : start + 32]
            sums = choices @ np.stack([pooled.values for _, pooled in part], axis=1)
            observed = np.array([pooled.observed for _, pooled in part])
            # The same sum in another order may differ in its last digits.
            at_least = (np.count_nonzero(sums >= observed - 1e-9, axis=0) + extra).tolist()
            at_most = (np.count_nonzero(sums <= observed + 1e-9, axis=0) + extra).tolist()
            for (i, pooled), more, fewer in zip(part, at_least, at_most, strict=True):
                less, greater = (more, fewer) if pooled.swapped else (fewer, more)
                count = {"less": less, "greater": greater}.get(alternative, 2 * min(less, greater))
                p_values[i] = min(1.0, count / (len(choices) + extra))
    return p_values


class _Pooled(NamedTuple):
    """Two samples as one, centred and scaled."""

    values: Array
    size: int
    """Of the smaller sample, whose sum says all: the other's is its negative."""
    observed: float
    """That sum."""
    swapped: bool
    """Whether it is the second one's."""


def _pool(a: ArrayLike, b: ArrayLike) -> _Pooled | None:
    """None where all values are equal."""
    x, y = _sample(a), _sample(b)
    if not len(x) or not len(y):
        raise ValueError("a permutation test needs at least one seed on either side")
    pooled = np.concatenate([x, y])
    pooled = pooled - pooled.mean()
    scale = np.abs(pooled).max()
    if scale == 0:
        return None
    pooled /= scale
    swapped = len(y) < len(x)
    observed = pooled[len(x) :].sum() if swapped else pooled[: len(x)].sum()
    return _Pooled(pooled, min(len(x), len(y)), float(observed), swapped)


@functools.lru_cache(maxsize=4)
def _choices(total: int, size: int) -> Array:
    """``[D, total]``: 1 where a value is chosen, of every division or of random ones."""
    if math.comb(total, size) <= ENUMERATED:
        flat = itertools.chain.from_iterable(itertools.combinations(range(total), size))
        indices = np.fromiter(flat, dtype=np.intp).reshape(-1, size)
    else:
        random = np.random.default_rng(0)
        order = np.broadcast_to(np.arange(total), (PERMUTATIONS, total))
        indices = random.permuted(order, axis=1)[:, :size]
    chosen = np.zeros((len(indices), total))
    np.put_along_axis(chosen, indices, 1.0, axis=1)
    return chosen


def significant(p: float, alpha: float) -> bool:
    """Whether ``p`` is at most ``alpha``, to rounding: 3 times 0.1 is at most 0.3."""
    return p <= alpha * (1 + 1e-9)


def smallest_p(n: int, m: int) -> float:
    """The smallest two-sided p that ``n`` against ``m`` seeds can give: 0.1 for 3 against 3."""
    divisions = math.comb(n + m, n)
    return min(1.0, 2 / (divisions if divisions <= ENUMERATED else PERMUTATIONS + 1))


def seeds_needed(alpha: float) -> int | None:
    """Fewest seeds on either side that can give a two-sided p of ``alpha``; None if none can."""
    return next((n for n in range(1, 100) if significant(smallest_p(n, n), alpha)), None)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given (Holm 1979).

    Rejecting those that are at most ``alpha`` errs in any of them with probability ``alpha``.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


@functools.lru_cache(maxsize=4096)
def fisher_test(
    successes_a: int, n: int, successes_b: int, m: int, alternative: Alternative = "two-sided"
) -> float:
    """Fisher's exact p-value of the hypothesis that two success rates are equal.

    Two-sided is twice the smaller one-sided p, as in :func:`permutation_test`.
    """
    if not (0 <= successes_a <= n and 0 <= successes_b <= m):
        raise ValueError(f"{successes_a} successes of {n} seeds, {successes_b} of {m}")
    counts = [[successes_a, n - successes_a], [successes_b, m - successes_b]]
    if alternative != "two-sided":
        return float(scipy.stats.fisher_exact(counts, alternative).pvalue)
    sides = [float(scipy.stats.fisher_exact(counts, side).pvalue) for side in ("less", "greater")]
    return min(1.0, 2 * min(sides))


def detectable_shift(std: float, n: int, m: int, alpha: float, power: float = 0.8) -> float:
    """Smallest difference of means that ``n`` against ``m`` seeds find with ``power``.

    For a standard deviation ``std`` on either side and a two-sided level ``alpha``, in the normal
    approximation; infinite where the test can never reach ``alpha``.
    """
    if not significant(smallest_p(n, m), alpha):
        return math.inf
    return _shift_in_errors(n + m - 2, alpha, power) * std * math.sqrt(1 / n + 1 / m)


@functools.lru_cache(maxsize=256)
def _shift_in_errors(freedom: int, alpha: float, power: float) -> float:
    """The detectable difference in standard errors of a difference of means."""
    t = scipy.stats.t(freedom)
    return float(t.ppf(1 - alpha / 2) + t.ppf(power))


@functools.lru_cache(maxsize=1024)
def detectable_successes(successes: int, n: int, m: int, alpha: float) -> int | None:
    """Most successes in ``m`` new seeds that are significantly fewer than ``successes`` of ``n``.

    For a two-sided level ``alpha``; None where even 0 are not.
    """
    for k in range(m, -1, -1):
        fewer = k * n < successes * m
        if fewer and significant(2 * fisher_test(k, m, successes, n, "less"), alpha):
            return k
    return None


def performance_profile(scores: Sequence[ArrayLike], thresholds: ArrayLike) -> Array:
    """``[T]``: share of seeds whose score exceeds each of ``thresholds [T]``.

    ``scores`` has a normalised sample ``[n_i]`` per scenario. Scenarios weigh the same, whatever
    their number of seeds. A diverged seed (NaN) exceeds no threshold.
    """
    limits = np.asarray(thresholds, dtype=float)
    shares = [_exceeding(np.asarray(x, dtype=float), limits).mean(0) for x in scores]
    return np.mean(shares, axis=0)


def profile_interval(
    scores: Sequence[ArrayLike], thresholds: ArrayLike, confidence: float = 0.95
) -> tuple[Array, Array]:
    """Pointwise percentile-bootstrap band ``([T], [T])`` of :func:`performance_profile`.

    Seeds are resampled within their scenario.
    """
    random = np.random.default_rng(0)
    limits = np.asarray(thresholds, dtype=float)
    total = np.zeros((PROFILE_RESAMPLES, len(limits)))
    for sample in scores:
        above = _exceeding(np.asarray(sample, dtype=float), limits)  # [n, T]
        n = len(above)
        # How often each seed is drawn, in each resample.
        drawn = random.multinomial(n, np.full(n, 1 / n), size=PROFILE_RESAMPLES)
        total += drawn @ above / n
    low, high = np.quantile(
        total / len(scores), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0
    )
    return low, high


def _exceeding(x: Array, limits: Array) -> Array:
    """``[n, T]``: 1 where ``x [n]`` exceeds ``limits [T]``."""
    return (x[:, None] > limits).astype(float)


def _sample(values: ArrayLike) -> Array:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1:
        raise ValueError(f"a sample is one number per seed, got the shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("a sample holds finite numbers; leave out the seeds that diverged")
    return x
