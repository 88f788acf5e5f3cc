"""Powers against numbers worked out by hand and against simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from rocompare.analysis import exact
from rocompare.analysis.power import Lost, Moved, Room, shift_powers

ALONE = Moved((), 0)


def test_a_lost_seed_alone_in_its_family():
    """Ten of ten against k of ten: Fisher's p is C(10, k) ... 0.0163 for 5 and 0.0433 for 6."""
    room = Room([], 0.05)
    loss = Lost(ALONE, good=10, m=10, n=10, share=0.2, limit=0.1, returns=False)
    assert room.powers([loss]) == pytest.approx([scipy.stats.binom.cdf(6, 10, 0.8)])
    assert Room([], 0.04).powers([loss]) == pytest.approx([scipy.stats.binom.cdf(5, 10, 0.8)])


def test_returns_tell_seeds_apart_that_fishers_test_does_not():
    """With no seed lost in the reference, p is uniform between 0 and Fisher's 0.0433, 0.1053, ..."""
    room = Room([], 0.05)
    loss = Lost(Moved((), 1), good=10, m=10, n=10, share=0.2, limit=0.1, returns=True)
    pmf = scipy.stats.binom.pmf([7, 8], 10, 0.8)
    # 0.1 is no fall beyond the tolerance, so that 9 of 10 never counts.
    expected = scipy.stats.binom.cdf(6, 10, 0.8) + pmf @ [0.05 / (2 / 19), 0.05 / (9 / 38)]
    assert room.powers([loss]) == pytest.approx([expected], rel=1e-4)


def test_nothing_can_be_lost_of_nothing():
    loss = Lost(ALONE, good=0, m=10, n=10, share=0.2, limit=0.1, returns=False)
    assert math.isnan(Room([], 0.05).powers([loss])[0])
    assert Room([], 0.05).powers([]) == []


def test_others_take_from_the_level_and_ones_own_do_not():
    others = [0.0] * 4
    assert Room(others, 0.05).levels([Moved((), 1)]) == pytest.approx([0.01])
    # Two of the four are the cell's own, and then give the p-value in question.
    assert Room(others, 0.05).levels([Moved((0.0, 0.0), 1)]) == pytest.approx([0.05 / 3])
    # A test that gives 0.02 or 0.5 takes 0.02 from 0.02 on, and nothing below.
    assert Room([(0.02, 0.5)], 0.05).levels([Moved((), 1)]) == pytest.approx([0.03])
    assert Room([(0.02, 0.5)], 0.03).levels([Moved((), 1)]) == pytest.approx([0.02])


def test_shift_power_is_about_that_of_the_permutation_test():
    random = np.random.default_rng(0)
    one = np.ones(1)
    (claimed,) = shift_powers(
        2.5 * one, 0.5 * one, 0.05 * one, math.sqrt(2 * 4 / 9) * one, 16 * one
    )
    found = exact.permutation_tests(
        [(random.normal(0, 2, 9), random.normal(2.5, 2, 9)) for _ in range(400)], "less"
    )
    assert claimed == pytest.approx(np.mean(np.array(found) <= 0.05), abs=0.08)


def test_shift_power_needs_a_fall_beyond_the_limit():
    found = shift_powers(
        np.array([1.0, 1.0, 2.0]),
        np.ones(3),
        np.full(3, 0.05),
        np.array([1e-6, 0, 0]),
        np.full(3, 8.0),
    )
    assert found == pytest.approx([0.5, 0.0, 1.0])
