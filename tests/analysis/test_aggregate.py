"""Aggregates over scenarios against numbers of rliable 1.2.0 and numbers worked out by hand."""

import math

import numpy as np
import pytest

from rocompare.analysis import aggregate, stats

A = np.array(
    [
        [0.98, 0.10, 0.95],
        [0.97, 0.99, -0.40],
        [1.02, 0.98, 0.96],
        [0.02, 0.97, 0.91],
        [0.99, 0.05, 0.94],
    ]
)
B = np.array([[0.50, 0.10, 0.30], [0.98, 0.00, 0.20], [0.60, 0.05, 0.96], [0.01, 0.20, 0.25]])
STATISTICS = (aggregate.mean, aggregate.median, aggregate.iqm, aggregate.optimality_gap)


def twenty_runs_of_six_tasks():
    i, t = np.arange(20)[:, None], np.arange(6)[None]
    found = (7 * i + 3 * t) % 10 < 6 + t % 3
    return np.where(found, 1 - ((i * i + 5 * t) % 17) / 100, ((3 * i + t * t) % 13) / 50 - 0.2)


def test_numbers_are_those_of_rliable():
    # metrics.aggregate_mean, _median, _iqm and _optimality_gap
    of_a = [0.69533333, 0.672, 0.86222222, 0.306]
    of_b = [0.34583333, 0.4275, 0.25833333, 0.65416667]
    of_c = [0.629, 0.636, 0.81483333, 0.371]
    for scores, expected in ((A, of_a), (B, of_b), (twenty_runs_of_six_tasks(), of_c)):
        assert [float(f(scores)) for f in STATISTICS] == pytest.approx(expected)


def test_intervals_are_those_of_rliable():
    # library.get_interval_estimates(..., reps=50000, random_state=RandomState(0)); ours has 2,000
    low = [0.54566667, 0.53124375, 0.66183333, 0.29191458]
    high = [0.70808542, 0.73275, 0.91166667, 0.45433333]
    c = twenty_runs_of_six_tasks()
    found = aggregate.aggregate({"c": c}, {"c": c >= 0.9})["c"]
    ours = [found.mean, found.median, found.iqm, found.optimality_gap]
    assert [x.low for x in ours] == pytest.approx(low, abs=0.01)
    assert [x.high for x in ours] == pytest.approx(high, abs=0.01)


def test_probability_of_improvement_is_rliables():
    # metrics.probability_of_improvement, and its interval with 20,000 resamples
    found = aggregate.improvement(A, B)
    assert found.value == pytest.approx(0.73333333)
    assert (found.low, found.high) == pytest.approx((0.525, 0.91666667), abs=0.02)
    assert aggregate.improvement(B, A).value == pytest.approx(1 - 0.73333333)


def test_aggregates_of_a_statistic_do_not_depend_on_how_many_are_stacked():
    stacked = np.stack([A, A + 1])
    for statistic in STATISTICS:
        assert statistic(stacked)[0] == pytest.approx(float(statistic(A)))


def test_scores_above_the_optimum_do_not_close_the_gap():
    assert float(aggregate.optimality_gap(np.array([[1.5], [0.5]]))) == 0.25


def test_the_interquartile_mean_hides_lost_seeds_and_the_success_rate_does_not():
    scores = np.array([[1.0]] * 15 + [[0.0]] * 5)
    found = aggregate.aggregate({"a": scores}, {"a": scores})["a"]
    assert found.iqm.value == 1.0
    assert found.success_rate.value == 0.75
    # Wilson's interval of 15 of 20: (0.75 + 3.8415/40 ± 1.96 sqrt(.75 .25/20 + 3.8415/1600)) / ...
    assert (found.success_rate.low, found.success_rate.high) == pytest.approx(
        (0.53130, 0.88814), abs=1e-5
    )


def test_ranks_share_ties():
    scores = {"a": np.array([[1.0, 0.5]]), "b": np.array([[0.0, 0.5]]), "c": np.array([[0.5, 0.4]])}
    found = aggregate.aggregate(scores, {name: x >= 0.9 for name, x in scores.items()})
    assert [found[name].rank.value for name in "abc"] == [(1 + 1.5) / 2, (3 + 1.5) / 2, (2 + 3) / 2]
    # a beats b on the first task and ties on the second; it beats c on both
    assert found["a"].improvement.value == pytest.approx(((1 + 0.5) / 2 + 1) / 2)
    assert found["a"].rank.low <= found["a"].rank.value <= found["a"].rank.high


def test_a_single_algorithm_has_nothing_to_improve_on():
    found = aggregate.aggregate({"a": A}, {"a": A >= 0.9})["a"]
    assert math.isnan(found.improvement.value)
    assert found.rank.value == 1.0


def test_aggregates_are_the_same_each_time():
    first, second = (
        aggregate.aggregate({"a": A, "b": B}, {"a": A >= 0.9, "b": B >= 0.9}) for _ in "xy"
    )
    assert first == second


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": np.array([1.0, 2.0])}, "a: scores are a finite matrix"),
        ({"a": np.array([[math.nan]])}, "a: scores are a finite matrix"),
        ({"a": A, "b": A[:, :2]}, "different numbers of tasks"),
    ],
)
def test_what_is_no_matrix_of_scores(scores, message):
    with pytest.raises(ValueError, match=message):
        aggregate.aggregate(scores, scores)


def test_stratified_wilson():
    # Of one task it is Wilson's.
    assert aggregate.stratified_wilson([7], [10]) == pytest.approx(stats.wilson_interval(7, 10))
    # Tasks with one rate are one task: Wilson's interval of 80 of 80, z^2 / (80 + z^2) wide.
    low, high = aggregate.stratified_wilson([20] * 4, [20] * 4)
    assert (low, high) == pytest.approx((1 - 3.841459 / 83.841459, 1.0), abs=1e-6)
    # 0/10 and 10/10: rates of 1/12 and 11/12 have the variance 11/144/10 each, so the mean has
    # 11/2880, and 0.25 / (11/2880) = 65.45 runs would have it: z^2 / n = 0.058691
    low, high = aggregate.stratified_wilson([0, 10], [10, 10])
    half = math.sqrt(0.058691 / 4 * (1 + 0.058691)) / 1.058691
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)


@pytest.mark.parametrize(
    "rates", [(1.0, 1.0, 0.95), (0.9, 0.5, 0.1), (0.98,) * 6, (0.9, 0.9, 0.9), (1.0, 0.0, 0.5)]
)
def test_stratified_wilson_covers(rates):
    random = np.random.default_rng(0)
    counts = random.binomial(10, rates, size=(1000, len(rates)))
    ends = np.array([aggregate.stratified_wilson(k, [10] * len(rates)) for k in counts])
    held = (ends[:, 0] <= np.mean(rates)) & (np.mean(rates) <= ends[:, 1])
    assert held.mean() >= 0.91  # Wilson's own for 10 runs at 0.95


def test_bootstrap_of_the_rate_would_not_cover_a_sure_success():
    """Why success rates have Wilson's interval: with 10 of 10 on each task a bootstrap is a point."""
    ones = np.ones((10, 3))
    found = aggregate.aggregate({"a": ones}, {"a": ones})["a"]
    assert (found.mean.low, found.mean.high) == (1.0, 1.0)
    assert found.success_rate.low < 0.9
