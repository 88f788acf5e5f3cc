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
    a, b = np.arange(15.0), np.arange(15.0) + 100
    p = exact.permutation_test(a, b)
    assert p == exact.permutation_test(a, b) == 2 / 50_000 == exact.smallest_p(15, 15)


def test_random_divisions_agree_with_all_of_them(monkeypatch):
    random = np.random.default_rng(3)
    a, b = random.normal(size=8), random.normal(size=9) + 0.8
    exact = exact.permutation_test(a, b)
    monkeypatch.setattr(stats, "ENUMERATED", 10)
    assert exact.permutation_test(a, b) == pytest.approx(exact, rel=0.1)


def test_permutation_test_keeps_its_level_on_two_peaks():
    random = np.random.default_rng(4)
    alarms = [
        exact.permutation_test(two_peaks(random, 0.5, 6), two_peaks(random, 0.5, 6)) <= 0.05
        for _ in range(2000)
    ]
    assert np.mean(alarms) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_smallest_p_and_seeds_needed():
    assert exact.smallest_p(3, 3) == pytest.approx(0.1)
    assert exact.smallest_p(1, 1) == 1.0
    assert exact.smallest_p(10, 10) == pytest.approx(2 / 184_756)
    assert exact.seeds_needed(0.05) == 4
    assert exact.seeds_needed(0.01) == 5
    assert exact.seeds_needed(1e-9) is None
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
