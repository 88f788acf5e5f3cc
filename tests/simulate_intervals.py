"""How often intervals at 0.95 hold the mean of samples such as seeds of this tool give.

    python tests/simulate_intervals.py [SAMPLES]

prints, for samples with two peaks (a share of the seeds a little below the optimal return 10, the
others somewhat below the safe return 0) and with one, the share of intervals that hold the true
mean, their mean width, and the share that reaches beyond the optimal return. Then the same for
success rates, of one scenario and of the mean of several.
"""

import math
import sys
from collections.abc import Callable, Iterator

import numpy as np
import scipy.stats

from rocompare.analysis import aggregate, stats

OPTIMAL, SAFE, LOWEST = 10.0, 0.0, -20.0
RESAMPLES = 1_999


def below(random, mean, most, shape):
    """Exponential distances below a peak, and their true mean."""
    return random.exponential(mean, shape).clip(max=most), mean * (1 - math.exp(-most / mean))


def samples(n: int, count: int, seed: int = 0) -> Iterator[tuple[str, np.ndarray, float]]:
    """Kinds of samples: a name, ``[count, n]`` and the true mean."""
    random = np.random.default_rng(seed)
    for share in (0.9, 0.7, 0.5, 0.3, 0.1):
        near, of_near = below(random, 0.3, 5.0, (count, n))
        far, of_far = below(random, 1.0, 8.0, (count, n))
        found = random.random((count, n)) < share
        mean = share * (OPTIMAL - of_near) + (1 - share) * (SAFE - of_far)
        yield f"{share:.0%} near 10", np.where(found, OPTIMAL - near, SAFE - far), mean
    near, of_near = below(random, 0.1, 5.0, (count, n))
    yield "all near 10", OPTIMAL - near, OPTIMAL - of_near
    yield "normal, 5 ± 1", random.normal(5, 1, (count, n)).clip(0, 10), 5.0


def student(x):
    half = scipy.stats.t.ppf(0.975, x.shape[1] - 1) * x.std(1, ddof=1) / math.sqrt(x.shape[1])
    return x.mean(1) - half, x.mean(1) + half


def resampled(x):
    """Means and standard errors of bootstrap resamples, ``[RESAMPLES, count]``."""
    n = x.shape[1]
    drawn = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    means = drawn @ x.T
    return means, np.sqrt(np.maximum(drawn @ x.T**2 - means**2, 0) / (n - 1))


def percentile(x):
    return np.quantile(resampled(x)[0], [0.025, 0.975], axis=0)


def studentised(x):
    """The bootstrap-t interval, cut at the ends of the range."""
    means, errors = resampled(x)
    mean, error = x.mean(1), x.std(1, ddof=1) / math.sqrt(x.shape[1])
    away = means - mean
    t = np.where(errors > 0, away / np.where(errors > 0, errors, 1), np.sign(away) * 1e9)
    low, high = np.quantile(t, [0.025, 0.975], axis=0)
    return (mean - high * error).clip(min=LOWEST), (mean - low * error).clip(max=OPTIMAL)


INTERVALS: dict[str, Callable] = {
    "Student's t": student,
    "percentile bootstrap": percentile,
    "bootstrap-t, cut": studentised,
    "bounded": lambda x: stats.bounded_interval(x, LOWEST, OPTIMAL),
    "bounded, lowest seen": lambda x: stats.bounded_interval(x, x.min(1).clip(max=SAFE), OPTIMAL),
}


def measured(name: str, x: np.ndarray, mean: float) -> tuple[float, float, float]:
    """Coverage, mean width, and share that reaches beyond the optimal return."""
    low, high = INTERVALS[name](x)
    held = (low <= mean) & (mean <= high)
    return held.mean(), (high - low).mean(), (high > OPTIMAL + 1e-9).mean()


def rates(count: int) -> Iterator[str]:
    """Coverage of the intervals of a success rate, and of the mean rate of several scenarios."""
    random = np.random.default_rng(2)
    for n in (5, 10, 20):
        k = np.arange(n + 1)
        low, high = np.array([stats.wilson_interval(x, n) for x in k]).T
        shares = [
            scipy.stats.binom.pmf(k, n, p)[(low <= p) & (p <= high)].sum() for p in (0.1, 0.5, 0.9)
        ]
        yield f"Wilson, {n} seeds, rates 0.1, 0.5, 0.9: {' '.join(f'{x:.2f}' for x in shares)}"
    for several in ((0.98,) * 6, (1, 1, 1, 1, 0.9, 0.9), (0.9, 0.9, 0.9), (0.9, 0.5, 0.1)):
        found = random.binomial(10, several, size=(count, len(several)))
        drawn = random.binomial(10, found / 10, size=(RESAMPLES, *found.shape)).mean(2) / 10
        by_wilson = np.array([aggregate.stratified_wilson(k, [10] * len(several)) for k in found])
        line = f"10 seeds on each of {len(several)} scenarios, rates {several}:"
        for name, ends in (
            ("stratified Wilson", by_wilson.T),
            ("bootstrap", np.quantile(drawn, [0.025, 0.975], axis=0)),
        ):
            held = (ends[0] <= np.mean(several) + 1e-9) & (np.mean(several) - 1e-9 <= ends[1])
            line += f" {name} {held.mean():.2f},"
        yield line.rstrip(",")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    for n in (5, 10, 20):
        print(f"\n{n} seeds{'':<14}{''.join(f'{name:>26}' for name in INTERVALS)}")
        for kind, x, mean in samples(n, count):
            found = [measured(name, x, mean) for name in INTERVALS]
            cells = (f"{a:.2f}, width {b:5.2f}, {c:4.0%}" for a, b, c in found)
            print(f"{kind:<18}{''.join(f'{cell:>26}' for cell in cells)}", flush=True)
    print("\nin each cell: coverage, mean width, share that reaches beyond the optimal return")
    for line in rates(min(count, 500)):
        print(line, flush=True)
