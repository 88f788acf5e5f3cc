"""Statistics against numbers worked out by hand, against scipy, and against simulation.

``python tests/test_stats.py`` prints the measured coverage of the intervals.
"""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rocompare.analysis import stats

FEW = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=5)


def test_summary_of_known_numbers():
    s = stats.summarise([4.0, 1.0, 2.0, 3.0, 10.0])
    assert (s.n, s.mean, s.median, s.low, s.high) == (5, 4.0, 3.0, 1.0, 10.0)
    assert s.std == pytest.approx(math.sqrt(50 / 4))
    assert s.iqm == 3.0  # of 2, 3 and 4


def test_summary_of_few_seeds():
    assert stats.summarise([7.0]) == (1, 7.0, 0.0, 7.0, 7.0, 7.0, 7.0)
    empty = stats.summarise([])
    assert empty.n == 0
    assert all(math.isnan(x) for x in empty[1:])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], 4.5),
        ([0, 0, 10], 10 / 3),  # nothing to cut off
        ([-1000, 1, 2, 1000], 1.5),
        ([0, 0, 0, 0, 0, 10, 10, 10, 10, 10], 5.0),
    ],
)
def test_interquartile_mean(values, expected):
    assert stats.iqm(values) == pytest.approx(expected)


def test_scores_use_declared_returns_and_not_the_data():
    scores = stats.normalise([0.0, 10.0, 5.0, -10.0], safe=0.0, optimal=10.0)
    assert scores.tolist() == [0.0, 1.0, 0.5, -1.0]
    assert stats.normalise([3.0], safe=-1.0, optimal=7.0).tolist() == [0.5]
    with pytest.raises(ValueError, match="must exceed"):
        stats.normalise([1.0], safe=2.0, optimal=2.0)


def test_samples_must_be_finite_and_flat():
    with pytest.raises(ValueError, match="diverged"):
        stats.summarise([1.0, math.nan])
    with pytest.raises(ValueError, match="shape"):
        stats.iqm([[1.0, 2.0]])


def test_t_interval():
    low, high = stats.t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert (low, high) == pytest.approx((3 - half, 3 + half))
    assert stats.t_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert math.isnan(stats.t_interval([2.0]).low)


@given(FEW.filter(lambda x: len(set(x)) > 1), FEW.filter(lambda x: len(set(x)) > 1))
def test_welch_interval_is_scipys(a, b):
    expected = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert stats.difference_interval(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_welch_interval_of_constant_samples():
    assert stats.difference_interval([3.0, 3.0], [1.0, 1.0, 1.0]) == (2.0, 2.0)
    assert math.isnan(stats.difference_interval([3.0], [1.0, 2.0]).low)


def test_median_interval_lies_between_sorted_values():
    assert stats.median_interval([5, 3, 1, 2, 4, 6]) == (1, 6)  # 1 - 2 / 2**6 covers 0.969
    assert stats.median_interval(range(10)) == (1, 8)  # 1 - 2 * 11 / 2**10 covers 0.979
    assert math.isnan(stats.median_interval([1, 2, 3, 4, 5]).low)
    assert math.isnan(stats.median_interval([]).low)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(counts):
    expected = scipy.stats.binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert stats.wilson_interval(*counts) == pytest.approx((expected.low, expected.high))


def test_wilson_interval_of_known_numbers():
    assert stats.wilson_interval(7, 10) == pytest.approx((0.39677815, 0.89220872))
    assert stats.wilson_interval(0, 10).low == 0.0
    assert stats.wilson_interval(10, 10).high == 1.0
    assert stats.wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 successes of 10"):
        stats.wilson_interval(11, 10)


def test_bootstrap_is_the_same_each_time():
    values = [0.1, 9.8, 9.9, -0.3, 10.0]
    first = stats.bootstrap_interval([values], np.mean)
    assert first == stats.bootstrap_interval([values], np.mean)
    assert min(values) < first.low < np.mean(values) < first.high < max(values)
    assert stats.iqm_interval(values) == stats.iqm_interval(values)


def test_bootstrap_of_identical_returns_is_a_point():
    for method in ("percentile", "BCa"):
        assert stats.bootstrap_interval([[5.0] * 4], np.mean, method=method) == (5.0, 5.0)
    assert math.isnan(stats.bootstrap_interval([[5.0]], np.mean).low)


def test_bca_without_a_value_gives_the_percentile_interval():
    # The median of nearly identical returns: every jackknifed median is the same.
    values = [5.0] * 9 + [0.0]
    found = stats.bootstrap_interval([values], np.median, method="BCa")
    assert found == stats.bootstrap_interval([values], np.median)
    assert not math.isnan(found.low)


def test_bootstrap_of_two_samples():
    def difference(a, b, axis):
        return a.mean(axis) - b.mean(axis)

    low, high = stats.bootstrap_interval([[9.0, 10.0, 9.5], [0.0, 1.0, 0.5, 0.2]], difference)
    assert 8 < low < high < 10


def test_probability_of_improvement():
    assert stats.improvement([1, 2, 3], [2]) == pytest.approx(0.5)  # a loss, a tie, a win
    assert stats.improvement([5, 6], [1, 2, 3]) == 1.0
    assert stats.improvement([1, 1], [1, 1, 1]) == 0.5
    assert math.isnan(stats.improvement([], [1.0]))


def test_improvement_interval_never_shrinks_to_a_point():
    low, high = stats.improvement_interval([5, 6, 7, 8, 9], [1, 2, 3])
    assert (low, high) == pytest.approx(stats.wilson_interval(3, 3))
    assert low < 0.5  # three seeds prove nothing


def test_permutation_test_of_known_numbers():
    assert stats.permutation_test([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)
    assert stats.permutation_test([1, 2, 3], [4, 5, 6], "less") == pytest.approx(1 / 20)
    assert stats.permutation_test([1, 2, 3], [4, 5, 6], "greater") == 1.0
    assert stats.permutation_test([1], [2, 3, 4]) == pytest.approx(2 / 4)
    assert stats.permutation_test([2.5] * 3, [2.5] * 7) == 1.0
    # 10 against 10, all above: two of 184,756 divisions
    assert stats.permutation_test(range(10), range(10, 20)) == pytest.approx(2 / 184_756)


@settings(deadline=None)
@given(FEW, FEW, st.sampled_from(["two-sided", "less", "greater"]))
def test_permutation_test_is_scipys(a, b, alternative):
    def difference(x, y, axis):
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    if len(a) + len(b) < 3 or len(set(a + b)) == 1:
        return
    # Multiples of 1/8 add up without rounding, so that both see the same ties.
    a, b = (np.round(np.array(x) * 8) / 8 for x in (a, b))
    if np.ptp(np.concatenate([a, b])) == 0:
        return
    expected = _scipy_permutation(a, b, difference, alternative)
    assert stats.permutation_test(a, b, alternative) == pytest.approx(expected)


def _scipy_permutation(a, b, statistic, alternative):
    # scipy needs two values a sample; a single one is handled by counting as it documents.
    if min(len(a), len(b)) >= 2:
        return scipy.stats.permutation_test(
            (a, b), statistic, vectorized=True, n_resamples=np.inf, alternative=alternative
        ).pvalue
    single, others = (a, b) if len(a) == 1 else (b, a)
    pooled = np.concatenate([single, others])
    below, above = np.mean(pooled <= single[0]), np.mean(pooled >= single[0])
    less, greater = (below, above) if len(a) == 1 else (above, below)
    two_sided = min(1.0, 2 * min(less, greater))
    return {"less": less, "greater": greater, "two-sided": two_sided}[alternative]


@given(FEW, FEW)
def test_permutation_test_does_not_care_for_order_scale_or_shift(a, b):
    p = stats.permutation_test(a, b)
    assert p == pytest.approx(stats.permutation_test(b, a))
    assert p == pytest.approx(stats.permutation_test(a[::-1], b))
    a, b = (1e6 + 1e3 * np.array(x) for x in (a, b))
    assert p == pytest.approx(stats.permutation_test(a, b))


def test_beyond_enumeration_the_observed_division_is_counted():
    a, b = np.arange(15.0), np.arange(15.0) + 100
    p = stats.permutation_test(a, b)
    assert p == stats.permutation_test(a, b) == 2 / 50_000 == stats.smallest_p(15, 15)


def test_random_divisions_agree_with_all_of_them(monkeypatch):
    random = np.random.default_rng(3)
    a, b = random.normal(size=8), random.normal(size=9) + 0.8
    exact = stats.permutation_test(a, b)
    monkeypatch.setattr(stats, "ENUMERATED", 10)
    assert stats.permutation_test(a, b) == pytest.approx(exact, rel=0.1)


def test_permutation_test_keeps_its_level_on_two_peaks():
    random = np.random.default_rng(4)
    alarms = [
        stats.permutation_test(two_peaks(random, 0.5, 6), two_peaks(random, 0.5, 6)) <= 0.05
        for _ in range(2000)
    ]
    assert np.mean(alarms) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_smallest_p_and_seeds_needed():
    assert stats.smallest_p(3, 3) == pytest.approx(0.1)
    assert stats.smallest_p(1, 1) == 1.0
    assert stats.smallest_p(10, 10) == pytest.approx(2 / 184_756)
    assert stats.seeds_needed(0.05) == 4
    assert stats.seeds_needed(0.01) == 5
    assert stats.seeds_needed(1e-9) is None
    assert stats.significant(0.1 * 3, 0.3)
    assert not stats.significant(0.1001, 0.1)


def test_holm():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_no_weaker_than_bonferroni_and_keeps_the_order(p):
    adjusted = stats.holm(p)
    assert all(x <= y <= min(1.0, len(p) * x) or x == y for x, y in zip(p, adjusted, strict=True))
    ranks = sorted(range(len(p)), key=lambda i: p[i])
    assert all(adjusted[i] <= adjusted[j] for i, j in itertools.pairwise(ranks))


def test_fisher():
    # Fisher's tea: 3 of 4 against 1 of 4
    assert stats.fisher_test(3, 4, 1, 4, "greater") == pytest.approx(17 / 70)
    assert stats.fisher_test(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert stats.fisher_test(5, 5, 0, 5) == pytest.approx(2 / 252)
    assert stats.fisher_test(2, 4, 2, 4) == 1.0
    with pytest.raises(ValueError, match="5 successes of 4"):
        stats.fisher_test(5, 4, 0, 4)


def test_detectable_successes_are_the_boundary_of_the_test():
    k = stats.detectable_successes(10, 10, 10, 0.05)
    assert k == 5
    assert 2 * stats.fisher_test(5, 10, 10, 10, "less") == pytest.approx(2 * 252 / 15_504)
    assert 2 * stats.fisher_test(6, 10, 10, 10, "less") > 0.05
    assert stats.detectable_successes(3, 3, 3, 0.05) is None
    assert stats.detectable_successes(3, 3, 3, 0.1) == 0
    assert stats.detectable_successes(0, 10, 10, 0.05) is None


def test_detectable_shift_is_found_four_times_in_five():
    random = np.random.default_rng(5)
    shift = stats.detectable_shift(2.0, 9, 9, 0.05)
    found = [
        stats.permutation_test(random.normal(0, 2, 9), random.normal(shift, 2, 9)) <= 0.05
        for _ in range(150)
    ]
    assert 0.7 <= np.mean(found) <= 0.9
    assert stats.detectable_shift(2.0, 3, 3, 0.05) == math.inf
    assert stats.detectable_shift(0.0, 5, 5, 0.05) == 0.0


def test_performance_profile_weighs_scenarios_alike():
    scores = [[0.0, 1.0], [1.0, 1.0, 1.0, math.nan]]
    profile = stats.performance_profile(scores, [-0.5, 0.5, 1.0])
    assert profile.tolist() == [(1 + 0.75) / 2, (0.5 + 0.75) / 2, 0.0]
    low, high = stats.profile_interval(scores, [-0.5, 0.5, 1.0])
    assert low.shape == high.shape == (3,)
    assert (low <= profile).all()
    assert (profile <= high).all()
    again = stats.profile_interval(scores, [-0.5, 0.5, 1.0])
    assert (again[0] == low).all()
    assert (again[1] == high).all()


# Two peaks, as returns under relative over-generalization have them: with probability p the
# optimum's basin (a little below 10), else the safe one (somewhat below 0).
NEAR_OPTIMUM, NEAR_SAFE = 10 - 0.3, 0 - 1.0


def two_peaks(random, p, n):
    reached = random.random(n) < p
    return np.where(reached, 10 - random.exponential(0.3, n), -random.exponential(1.0, n))


INTERVALS = {
    "t, mean": lambda x, y: stats.t_interval(x),
    "percentile bootstrap, mean": lambda x, y: stats.bootstrap_interval([x], np.mean),
    "BCa bootstrap, mean": lambda x, y: stats.bootstrap_interval([x], np.mean, method="BCa"),
    "exact, median": lambda x, y: stats.median_interval(x),
    "percentile bootstrap, IQM": lambda x, y: stats.iqm_interval(x),
    "Wilson, success rate": lambda x, y: stats.wilson_interval(int((x > 5).sum()), len(x)),
    "Welch, difference of means": lambda x, y: stats.difference_interval(x, y),
    "Wilson bound, improvement": lambda x, y: stats.improvement_interval(x, y),
}


def coverage(p, n, trials, names=tuple(INTERVALS)):
    """Share of intervals at 0.95 that hold the true value; against another sample with p = 0.5."""
    random = np.random.default_rng(0)
    population = two_peaks(random, p, 1_000_000)
    mean = p * NEAR_OPTIMUM + (1 - p) * NEAR_SAFE
    truth = {
        "median": np.median(population),
        "IQM": scipy.stats.trim_mean(population, 0.25),
        "mean": mean,
        "success rate": p,
        "difference of means": mean - (0.5 * NEAR_OPTIMUM + 0.5 * NEAR_SAFE),
        "improvement": 0.5 + (p - 0.5) / 2,
    }
    held = dict.fromkeys(names, 0)
    for _ in range(trials):
        x, y = two_peaks(random, p, n), two_peaks(random, 0.5, n)
        for name in names:
            low, high = INTERVALS[name](x, y)
            held[name] += low <= truth[name.split(", ")[1]] <= high  # False for NaN
    return {name: count / trials for name, count in held.items()}


@pytest.mark.parametrize("p", [0.5, 0.8])
def test_intervals_cover_two_peaks(p, monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 499)
    measured = coverage(p, 20, 300)
    noise = 3 * math.sqrt(0.95 * 0.05 / 300)
    for name, share in measured.items():
        nominal = 0.90 if "bootstrap" in name else 0.93  # what bootstraps are known to lack
        assert share >= nominal - noise, name


def test_rates_are_covered_where_means_are_not():
    """With five seeds and a rare peak most samples show one peak only, and no interval of the
    mean can know of the other. Success rates are right even there: report them first."""
    names = ("t, mean", "Wilson, success rate", "Wilson bound, improvement")
    measured = coverage(0.9, 5, 400, names)
    assert measured["t, mean"] < 0.6
    assert measured["Wilson, success rate"] > 0.88
    assert measured["Wilson bound, improvement"] > 0.93


if __name__ == "__main__":
    stats.RESAMPLES = 1_999
    for share in (0.1, 0.5, 0.9):
        for seeds in (5, 10, 20, 50):
            for name, value in coverage(share, seeds, 2000).items():
                print(f"p={share}  n={seeds:<3} {name:<28} {value:.3f}", flush=True)
