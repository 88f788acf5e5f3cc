"""What comparisons say: against numbers worked out by hand and by simulation."""

import math

import numpy as np
import pytest

from rocompare.analysis import exact, pairwise
from rocompare.analysis.pairwise import Side
from tests.support.peaks import two_peaks

HIGH = [0.95, 0.96, 0.97, 0.98, 0.99, 1.0]
LOW = [-0.01, -0.02, -0.03, -0.04, -0.05, -0.06]


def side(scores, total=None):
    """None is a diverged seed."""
    x = np.array([s for s in scores if s is not None], dtype=float)
    return Side(x, int((x >= 0.9).sum()), len(scores) if total is None else total)


def contrast(a, b, **options):
    (found,) = pairwise.contrasts([(side(a), side(b))], **options)
    return found


def test_a_clear_difference():
    found = contrast(HIGH, LOW)
    assert found.difference == pytest.approx(0.975 + 0.035)
    assert found.p == found.p_success == pytest.approx(2 / 924)
    assert (found.finding, found.success) == ("higher", "higher")
    assert found.level == 0.05
    assert tuple(found.interval) == exact.permutation_interval(HIGH, LOW, 0.05)
    other = contrast(LOW, HIGH)
    assert (other.finding, other.success) == ("lower", "lower")
    assert other.interval == pytest.approx((-found.interval.high, -found.interval.low))


def test_a_difference_below_a_hundredth_of_the_range_is_neither_higher_nor_lower():
    found = contrast(HIGH, [x - 0.009 for x in HIGH])
    assert found.finding == "open"
    close = [0.990, 0.991, 0.992, 0.993, 0.994, 0.995]
    found = contrast([x + 0.007 for x in close], close)
    assert found.p < 0.05
    assert found.finding == "negligible"
    assert contrast([x + 0.02 for x in close], close).finding == "higher"
    # Returns whose scale is unknown are not scores.
    a, b = (Side(np.array(close) + shift, None, 6) for shift in (0.007, 0))
    (found,) = pairwise.contrasts([(a, b)])
    assert found.finding == "higher"
    assert math.isnan(found.p_success)


def test_no_mean_is_higher_where_most_seeds_diverged():
    assert contrast(HIGH, [*LOW, *[None] * 5]).finding == "higher"
    found = contrast(HIGH, [*LOW, *[None] * 6])
    assert found.finding == "diverged"
    assert found.success == "higher"
    found = contrast(HIGH, [None] * 6)
    assert (found.finding, found.success) == ("diverged", "higher")
    assert math.isnan(found.difference)
    assert math.isnan(found.p)
    assert math.isnan(found.interval.low)


def test_equal_scores():
    found = contrast([1.0] * 6, [1.0] * 6)
    assert (found.finding, found.success) == ("equal", "equal")
    assert (found.difference, found.p) == (0.0, 1.0)


def test_so_few_seeds_can_show_nothing():
    found = contrast(HIGH[:3], LOW[:3])
    assert found.p == pytest.approx(0.1)
    assert (found.finding, found.success) == ("unreachable", "unreachable")
    assert contrast(HIGH[:4], LOW[:4]).finding == "higher"
    # One more seed: it could have, but these samples overlap.
    assert contrast(HIGH[:4], [*LOW[:3], 1.1]).finding == "open"


def test_only_scenarios_that_can_be_tested_are_corrected_for():
    sure = (side([1.0] * 6), side([1.0] * 6))
    found = pairwise.contrasts(
        [(side(HIGH), side(LOW)), sure, sure, (side(HIGH[:3]), side(LOW[:3]))]
    )
    # 2/924 is in reach of the first alone, the fourth has 0.1 at best.
    assert found[0].p == pytest.approx(2 / 924)
    assert found[0].p_success == pytest.approx(2 / 924)
    assert [c.finding for c in found] == ["higher", "equal", "equal", "unreachable"]


def test_a_test_is_in_reach_once_the_others_are_rejected():
    # Two questions at 2/70 each are beyond 0.05 together; the first one's rejection frees the level.
    few = (side(HIGH[:4]), side([*LOW[:3], 0.97]))
    found = pairwise.contrasts([(side(HIGH), side(LOW)), few])
    assert found[0].finding == "higher"
    assert found[1].finding == "open"
    assert pairwise.contrasts([few, few])[0].finding == "unreachable"


def test_intervals_say_what_adjusted_p_values_say():
    random = np.random.default_rng(0)
    pairs = [
        (side(two_peaks(random, p, 8) / 10), side(two_peaks(random, 0.4, 8) / 10))
        for p in (0.95, 0.9, 0.8, 0.6, 0.4, 0.4)
    ]
    found = pairwise.contrasts(pairs)
    for one in found:
        assert (one.p <= 0.05) == (not one.interval.low <= 0 <= one.interval.high)
    assert len({one.p <= 0.05 for one in found}) == 2
    assert all(one.level <= 0.05 for one in found)


def test_comparisons_keep_their_level():
    """Six scenarios on which two algorithms are alike: any is told apart in 5 % of cases."""
    random, wrong = np.random.default_rng(1), 0
    for _ in range(150):
        pairs = [
            (side(two_peaks(random, p, 7) / 10), side(two_peaks(random, p, 7) / 10))
            for p in (1.0, 0.95, 0.8, 0.5, 0.3, 0.0)
        ]
        wrong += any(c.p <= 0.05 for c in pairwise.contrasts(pairs))
    assert wrong / 150 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)


def test_all_pairs_are_corrected_together():
    sides = {
        "a": {"x": side(HIGH), "y": side(HIGH)},
        "b": {"x": side(LOW), "y": side(LOW)},
        "c": {"x": side([h - 0.5 for h in HIGH])},
    }
    found = pairwise.all_pairs(sides)
    assert list(found) == [("a", "b", "x"), ("a", "b", "y"), ("a", "c", "x"), ("b", "c", "x")]
    assert [c.p for c in found.values()] == pytest.approx([4 * 2 / 924] * 4)
    assert [c.finding for c in found.values()] == ["higher", "higher", "higher", "lower"]
    # Neither b nor c has a success: only the three others count.
    assert found["a", "c", "x"].p_success == pytest.approx(3 * 2 / 924)
    assert found["b", "c", "x"].success == "equal"


def test_ranking_and_what_cannot_be_told_apart():
    random = np.random.default_rng(2)

    def scores(*rates):
        return [two_peaks(random, p, 10) / 10 for p in rates]

    found = pairwise.ranking(
        {
            "bad": scores(0, 0, 0),
            "good": scores(1, 1, 1),
            "also good": scores(1, 1, 1),
            "fair": scores(0.6, 0.5, 0.6),
        }
    )
    assert set(list(found.ranks)[:2]) == {"good", "also good"}
    assert list(found.ranks)[2:] == ["fair", "bad"]
    assert found.ranks["bad"] == 4.0
    assert found.p["bad", "good"] == found.p["good", "bad"] < 0.01
    assert found.p["good", "also good"] > 0.05
    assert found.groups == [tuple(list(found.ranks)[:2])]


def test_groups_overlap_where_only_the_ends_can_be_told_apart():
    neighbours = {"a": {"b"}, "b": {"a", "c"}, "c": {"b"}, "d": set()}
    assert sorted(map(sorted, pairwise._cliques(neighbours))) == [["a", "b"], ["b", "c"]]
    everyone = {name: set("abc") - {name} for name in "abc"}
    assert pairwise._cliques(everyone) == [{"a", "b", "c"}]


def test_ranks_share_ties():
    found = pairwise.ranking({"a": [[1.0, 1.0]], "b": [[1.0, 1.0]], "c": [[0.0, 0.5]]})
    assert found.ranks == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert found.groups == [("a", "b", "c")]  # two seeds tell nothing


def test_best_is_all_that_cannot_be_told_from_the_best():
    samples = {"a": HIGH, "b": [x - 0.001 for x in HIGH], "c": LOW, "d": []}
    assert pairwise.best(samples) == {"a", "b"}
    assert pairwise.best({"a": HIGH[:2], "c": LOW[:2]}) == {"a", "c"}
    assert pairwise.best({"d": []}) == set()
    # Success as 1 and 0: Fisher's one-sided p of 10 against 4 of 10 is 0.0054, against 6 it is
    # 0.0433, and 0.0867 for two others.
    ones = {"a": [1] * 10, "b": [1] * 6 + [0] * 4, "c": [1] * 4 + [0] * 6}
    assert pairwise.best(ones) == {"a", "b"}
    assert pairwise.best({"a": ones["a"], "b": ones["b"]}) == {"a"}


def test_the_truly_best_is_nearly_always_marked():
    random, marked = np.random.default_rng(3), 0
    for _ in range(200):
        samples = {name: two_peaks(random, 0.8, 8) for name in "abcde"}
        marked += "a" in pairwise.best(samples)
    assert marked / 200 >= 0.95
