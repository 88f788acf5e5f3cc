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
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from rocompare.analysis.exact import Array, sample
from rocompare.analysis.exact import fisher_test as fisher_test
from rocompare.analysis.exact import holm as holm
from rocompare.analysis.exact import permutation_test as permutation_test
from rocompare.analysis.exact import permutation_tests as permutation_tests
from rocompare.analysis.exact import seeds_needed as seeds_needed
from rocompare.analysis.exact import significant as significant
from rocompare.analysis.exact import smallest_p as smallest_p

RESAMPLES = 9_999
"""Bootstrap resamples."""
PROFILE_RESAMPLES = 2_000
"""Those of a performance profile, whose band is only looked at."""


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
    x = sample(values)
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
    x = sample(values)
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
    x = sample(values)
    if len(x) < 2:
        return NO_INTERVAL
    half = scipy.stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    return Interval(float(x.mean() - half), float(x.mean() + half))


def fill_diverged(scores: ArrayLike) -> Array:
    """``[n]`` scores of a cell in which NaN stands for a diverged seed, with a number for each.

    A diverged seed counts as the worst of the others, and as no better than -1: as far below the
    safe behaviour as the optimum is above it. Leaving it out would reward divergence.
    """
    x = np.asarray(scores, dtype=float)
    worst = min(-1.0, float(np.nanmin(x, initial=0.0)))
    return np.where(np.isnan(x), worst, x)


def bounded_interval(
    values: ArrayLike, low: ArrayLike, high: ArrayLike, confidence: float = 0.95
) -> tuple[Array, Array]:
    """Interval of the mean of ``values [..., n]`` that cannot leave the range of the returns.

    Wilson's interval of a rate takes its variance from the rate itself, and so ends where rates
    do. This one does the same for numbers between ``low`` and ``high``: a mean at the share ``m``
    of that range is given the variance ``d m (1 - m)``, with ``d`` from the sample's own variance
    (1 if all returns lie at the two ends, 0 if they are equal), and Student's quantile instead of
    the normal one. On samples with two peaks it is narrower than Student's interval and covers as
    often (0.02 to 0.03 more or less), on returns that press against the optimum more often (0.93
    instead of 0.90 for 10 seeds). It shares the limit of every interval of a mean: of a peak that
    no seed shows it knows nothing. ``tests/simulate_intervals.py`` prints the table.

    Args:
        low: of the game; where it is unknown, the smaller of the safe return and the lowest one
            seen serves as well. ``[...]`` or one for all, as is ``high``.

    Returns:
        The two ends, ``[...]`` each; NaN where there are fewer than two seeds.

    Raises:
        ValueError: a value outside of the range.
    """
    x = np.asarray(values, dtype=float)
    n = x.shape[-1]
    bottom, top = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    if n < 2:
        return np.full(x.shape[:-1], math.nan), np.full(x.shape[:-1], math.nan)
    width = top - bottom
    scaled = (x - bottom[..., None]) / np.where(width > 0, width, 1.0)[..., None]
    if scaled.min() < -1e-9 or scaled.max() > 1 + 1e-9:
        raise ValueError("returns outside of the range between low and high")
    m = scaled.mean(axis=-1).clip(0, 1)
    spread = m * (1 - m)
    d = np.divide(scaled.var(axis=-1, ddof=1), spread, out=np.zeros_like(m), where=spread > 1e-12)
    k = scipy.stats.t.ppf((1 + confidence) / 2, n - 1) ** 2 * d / n
    centre = (m + k / 2) / (1 + k)
    half = np.sqrt(k * spread + k * k / 4) / (1 + k)
    return bottom + width * (centre - half).clip(0), bottom + width * (centre + half).clip(max=1)


def difference_interval(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Welch's interval of the mean of ``a [n]`` minus the mean of ``b [m]``."""
    x, y = sample(a), sample(b)
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
    x = np.sort(sample(values))
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
    arrays = [sample(values) for values in samples]
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


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a rate, for ``successes`` of ``n`` seeds.

    Unlike scipy's it takes fractions of either.
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
    x, y = sample(a), sample(b)
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
    n = min(len(sample(a)), len(sample(b)))
    return wilson_interval(improvement(a, b) * n, n, confidence) if n else NO_INTERVAL


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
    for values in scores:
        above = _exceeding(np.asarray(values, dtype=float), limits)  # [n, T]
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
