"""Permutation tests, Fisher's test and Holm's correction against numbers worked out by hand,
against scipy, and against simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rocompare.analysis import exact
from tests.support.peaks import two_peaks

FEW = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=5)


def test_permutation_test_of_known_numbers():
    assert exact.permutation_test([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)
    assert exact.permutation_test([1, 2, 3], [4, 5, 6], "less") == pytest.approx(1 / 20)
    assert exact.permutation_test([1, 2, 3], [4, 5, 6], "greater") == 1.0
    assert exact.permutation_test([1], [2, 3, 4]) == pytest.approx(2 / 4)
    assert exact.permutation_test([2.5] * 3, [2.5] * 7) == 1.0
    # 10 against 10, all above: two of 184,756 divisions
    assert exact.permutation_test(range(10), range(10, 20)) == pytest.approx(2 / 184_756)


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
    assert exact.permutation_test(a, b, alternative) == pytest.approx(expected)


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
    p = exact.permutation_test(a, b)
    assert p == pytest.approx(exact.permutation_test(b, a))
    assert p == pytest.approx(exact.permutation_test(a[::-1], b))
    a, b = (1e6 + 1e3 * np.array(x) for x in (a, b))
    assert p == pytest.approx(exact.permutation_test(a, b))


def test_beyond_enumeration_the_observed_division_is_counted():
    a, b = np.arange(15.0), np.arange(15.0) + 13.5  # one seed of each on the other's side
    p = exact.permutation_test(a, b)
    assert p == exact.permutation_test(a, b) == 2 / 50_000


def test_samples_apart_have_an_exact_p_value_however_many_seeds():
    a, b = np.arange(15.0), np.arange(15.0) + 100
    assert exact.permutation_test(a, b) == pytest.approx(2 / math.comb(30, 15))
    assert exact.permutation_test(a, b, "less") == pytest.approx(1 / math.comb(30, 15))
    assert exact.permutation_test(a, b, "greater") == 1.0


def test_random_divisions_agree_with_all_of_them(monkeypatch):
    random = np.random.default_rng(3)
    a, b = random.normal(size=8), random.normal(size=9) + 0.8
    all_of_them = exact.permutation_test(a, b)
    of_std = exact.permutation_tests([(a, 2 * b)], "less", "std")[0]
    monkeypatch.setattr(exact, "ENUMERATED", 10)
    exact._choices.cache_clear()
    assert exact.permutation_test(a, b) == pytest.approx(all_of_them, rel=0.1)
    assert exact.permutation_tests([(a, 2 * b)], "less", "std")[0] == pytest.approx(of_std, rel=0.1)
    exact._choices.cache_clear()


def test_screening_changes_no_small_p_value(monkeypatch):
    random = np.random.default_rng(6)
    pairs = [(random.normal(size=12), random.normal(shift, size=12)) for shift in (0, 0.5, 1, 1.5)]
    screened = exact.permutation_tests(pairs)
    monkeypatch.setattr(exact, "SCREENING", exact.PERMUTATIONS)
    for p, whole in zip(screened, exact.permutation_tests(pairs), strict=True):
        assert p == whole if whole < 0.15 else p == pytest.approx(whole, abs=0.06)


def test_standard_deviations_are_tested_too():
    # Of the 20 divisions of these six values none has so small a spread in its first group.
    (p,) = exact.permutation_tests([([4.9, 5.0, 5.1], [0.0, 5.2, 10.0])], "less", "std")
    assert p == pytest.approx(1 / 20)
    (p,) = exact.permutation_tests([([4.9, 5.0, 5.1], [0.0, 5.2, 10.0])], "greater", "std")
    assert p == 1.0
    same = [(np.arange(5.0), np.arange(5.0))]
    assert exact.permutation_tests(same, "two-sided", "std") == [1.0]


def test_permutation_test_keeps_its_level_on_two_peaks():
    random = np.random.default_rng(4)
    alarms = [
        exact.permutation_test(two_peaks(random, 0.5, 6), two_peaks(random, 0.5, 6)) <= 0.05
        for _ in range(2000)
    ]
    assert np.mean(alarms) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_smallest_p_and_seeds_needed():
    assert exact.smallest_p(3, 3) == pytest.approx(0.1)
    assert exact.smallest_p(3, 3, "less") == pytest.approx(0.05)
    assert exact.smallest_p(1, 1) == 1.0
    assert exact.smallest_p(10, 10) == pytest.approx(2 / 184_756)
    assert exact.seeds_needed(0.05) == 4
    assert exact.seeds_needed(0.05, "less") == 3
    assert exact.seeds_needed(0.01) == 5
    assert exact.seeds_needed(1e-70) is None
    assert exact.significant(0.1 * 3, 0.3)
    assert not exact.significant(0.1001, 0.1)


def test_holm():
    assert exact.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert exact.holm([0.9, 0.8]) == [1.0, 1.0]
    assert exact.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_no_weaker_than_bonferroni_and_keeps_the_order(p):
    adjusted = exact.holm(p)
    assert all(x <= y <= min(1.0, len(p) * x) or x == y for x, y in zip(p, adjusted, strict=True))
    ranks = sorted(range(len(p)), key=lambda i: p[i])
    assert all(adjusted[i] <= adjusted[j] for i, j in itertools.pairwise(ranks))


def test_fisher():
    # Fisher's tea: 3 of 4 against 1 of 4
    assert exact.fisher_test(3, 4, 1, 4, "greater") == pytest.approx(17 / 70)
    assert exact.fisher_test(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert exact.fisher_test(5, 5, 0, 5) == pytest.approx(2 / 252)
    assert exact.fisher_test(2, 4, 2, 4) == 1.0
    with pytest.raises(ValueError, match="5 successes of 4"):
        exact.fisher_test(5, 4, 0, 4)


def test_fisher_agrees_with_scipys():
    for k in range(7):
        for s in range(6):
            counts = [[k, 6 - k], [s, 5 - s]]
            less = scipy.stats.fisher_exact(counts, "less").pvalue
            assert exact.fisher_test(k, 6, s, 5, "less") == pytest.approx(less)


def test_what_fishers_test_can_give():
    # One failure among 20 and 20 seeds: it is on either side with probability 1/2.
    assert exact.fisher_attainable(39, 20, 20, "less") == pytest.approx((0.5, 1.0))
    # 16 successes of 20, 10 on each side: 6 to 10 of them among the first 10, in C(10, k) C(10, 16
    # - k) of 4845 ways.
    ways = np.array([210, 1200, 2025, 1200, 210]).cumsum() / 4845
    assert exact.fisher_attainable(16, 10, 10, "less") == pytest.approx(ways.tolist())
    # 6 against 10 and 7 against 9 are more than 0.1 apart.
    assert exact.fisher_attainable(16, 10, 10, "less", beyond=0.1) == pytest.approx(
        ways[:2].tolist()
    )
    assert exact.fisher_attainable(39, 20, 20, "less", beyond=0.1) == ()
    two_sided = np.unique(np.round(exact.fisher_attainable(16, 10, 10), 12))
    assert two_sided == pytest.approx([2 * ways[0], 2 * ways[1], 1.0])


def test_the_largest_attainable_p_value():
    values = (0.01, 0.04, 1.0)
    found = exact.largest_up_to(values, [0.005, 0.01, 0.03, 0.04, 0.5, 1.0])
    assert found.tolist() == [0.0, 0.01, 0.01, 0.04, 0.04, 1.0]
    assert exact.largest_up_to(0.02, [0.01, 0.02, 0.5]).tolist() == [0.0, 0.02, 0.5]
    assert exact.largest_up_to((), [0.5, 1.0]).tolist() == [0.0, 0.0]


def test_holm_pays_for_no_test_that_cannot_reach():
    """Tarone's correction: of 21 tests 18 have 0.5 at best, and one is at 0.01."""
    p, can = [0.01, 0.6, 0.7, *[0.5] * 18], [0.001, 0.001, 0.001, *[(0.5, 1.0)] * 18]
    assert exact.holm(p)[0] == pytest.approx(0.21)
    assert exact.holm(p, can)[0] == pytest.approx(0.03)


def test_holm_counts_a_discrete_test_by_its_own_probability():
    # Where the first test says 0.02, the second gives at most 0.02 with probability 0.005 only.
    assert exact.holm([0.02, 1.0], [(0.02, 1.0), (0.005, 0.3, 1.0)]) == pytest.approx([0.025, 1.0])
    # Then the second is alone.
    adjusted = exact.holm([0.02, 0.3], [(0.02, 1.0), (0.005, 0.3, 1.0)])
    assert adjusted == pytest.approx([0.025, 0.3])


def test_holm_on_discrete_tests_keeps_the_level():
    """Eight pairs of success rates that are equal, some near 1, some not."""
    random = np.random.default_rng(7)
    rates, errors = (1.0, 0.97, 0.95, 0.9, 0.7, 0.5, 0.2, 0.05), 0
    for _ in range(400):
        counts = random.binomial(12, rates, size=(2, 8))
        p = [exact.fisher_test(int(a), 12, int(b), 12) for a, b in counts.T]
        can = [exact.fisher_attainable(int(a + b), 12, 12) for a, b in counts.T]
        errors += min(exact.holm(p, can)) <= 0.05
    assert errors / 400 <= 0.05
    assert errors > 0


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_levels_say_what_adjusted_p_values_say(p, alpha):
    adjusted = exact.holm(p)
    for raw, corrected, level in zip(p, adjusted, exact.holm_levels(p, alpha), strict=True):
        assert level <= alpha * (1 + 1e-9)
        if abs(corrected - alpha) > 1e-6:
            assert (raw <= level * (1 + 1e-7)) == (corrected <= alpha)


def test_levels_of_known_numbers():
    # Holm at 0.05: 0.01 times 3 is rejected; 0.03 times 2 is not, and the others share its level.
    assert exact.holm_levels([0.03, 0.01, 0.04], 0.05) == pytest.approx([0.025, 0.05 / 3, 0.025])
    assert exact.holm_levels([0.01], 0.05) == [0.05]


def test_permutation_interval_of_known_numbers():
    # 3 against 3: at 0.1 one division of 20 may be beyond on either side, which exchanges the
    # lowest of a and the highest of b, or the other way round.
    assert exact.permutation_interval([7.0, 8.0, 9.0], [1.0, 2.0, 4.0], 0.1) == (3.0, 8.0)
    assert exact.permutation_interval([7.0, 8.0, 9.0], [1.0, 2.0, 4.0], 0.05) == (
        -math.inf,
        math.inf,
    )
    assert exact.permutation_interval([], [1.0], 0.05) == (-math.inf, math.inf)


@settings(deadline=None)
@given(
    st.lists(st.integers(-40, 40), min_size=3, max_size=5),
    st.lists(st.integers(-40, 40), min_size=3, max_size=5),
    st.sampled_from([0.05, 0.1, 0.3]),
)
def test_permutation_interval_is_what_the_test_does_not_reject(a, b, level):
    a, b = np.array(a) / 8, np.array(b) / 8
    low, high = exact.permutation_interval(a, b, level)
    assert exact.permutation_interval(b, a, level) == (-high, -low)
    for shift in (-3.3, -0.7, 0.0, 0.7, 3.3):
        if min(abs(shift - low), abs(shift - high)) > 1e-6:
            p = exact.permutation_test(a - shift, b)
            assert (low <= shift <= high) == (p > level * (1 + 1e-9))


def test_permutation_interval_covers_the_difference_of_two_peaked_means():
    random = np.random.default_rng(8)
    true, held = (0.9 - 0.5) * (9.7 + 1.0), 0
    for _ in range(120):
        low, high = exact.permutation_interval(
            two_peaks(random, 0.9, 8), two_peaks(random, 0.5, 8), 0.05
        )
        held += low <= true <= high
    assert held / 120 >= 0.93


def test_the_ends_are_known_where_random_divisions_are_too_few():
    a, b = np.arange(20.0) + 50, np.arange(20.0)
    low, high = exact.permutation_interval(a, b, 1e-9)
    assert (low, high) == (50.0 - 19.0, 69.0 - 0.0)


def test_stratified_test():
    a, b = [5.0, 6.0, 7.0], [1.0, 2.0, 3.0]
    assert exact.stratified_test([(a, b)]) == exact.permutation_test(a, b)
    # On two scenarios one division of 400 is at least as extreme, on either side.
    assert exact.stratified_test([(a, b), (a, b)]) == pytest.approx(2 / 400, rel=0.1)
    # A scenario the other way round takes it back.
    assert exact.stratified_test([(a, b), (b, a)]) == 1.0
    assert exact.stratified_test([(a, a), (b, b)]) == 1.0


def test_stratified_test_keeps_its_level():
    random = np.random.default_rng(9)
    rates = (0.9, 0.5, 0.1)
    p = [
        exact.stratified_test([(two_peaks(random, x, 8), two_peaks(random, x, 8)) for x in rates])
        for _ in range(200)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
