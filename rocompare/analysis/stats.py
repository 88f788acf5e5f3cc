"""Statistics of returns: pure functions on arrays, one number per seed.

The seed is the unit of replication. A sample ``values [n]`` holds one finite number per seed, its
evaluation episodes already averaged; samples that are compared may differ in length. Seeds that
diverged have no return: callers leave them out of samples of returns, and count them as failures
in success rates.

Under relative over-generalization returns are two-peaked (a seed finds the optimum's basin or it
does not), so the intervals were chosen by their measured coverage on such samples
(``tests/simulate_intervals.py``), not by habit. Whatever is random is drawn from a generator with
a fixed seed: the same sample gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from rocompare.analysis.exact import Array, sample

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
    return float(scipy.stats.trim_mean(x, 0.25)) if len(x) else math.nan


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

    It assumes nothing of the distribution. At 0.95 fewer than 6 seeds have none.
    """
    x = sample(values)
    if not len(x):
        return NO_INTERVAL
    low, high = scipy.stats.quantile_test(x, q=x[0], p=0.5).confidence_interval(confidence)
    return Interval(float(low), float(high))


def iqm_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Percentile-bootstrap interval of the interquartile mean of ``values [n]``."""
    x = sample(values)
    if len(x) < 2:
        return NO_INTERVAL
    drawn = np.random.default_rng(0).choice(x, size=(RESAMPLES, len(x)))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    return Interval(*np.quantile(scipy.stats.trim_mean(drawn, 0.25, axis=1), tails).tolist())


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a rate, for ``successes`` of ``n`` seeds.

    Unlike scipy's it takes fractions of either, as :mod:`rocompare.analysis.aggregate` needs.
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
