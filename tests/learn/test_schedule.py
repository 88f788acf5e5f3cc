"""Schedules at points worked out by hand."""

import pytest

from rocompare.learn.schedule import cosine, geometric, linear


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0, 16.0), (0.2, 16.0), (0.4, 4.0), (0.5, 2.0), (0.6, 1.0), (1.0, 1.0)],
)
def test_geometric(progress, expected):
    assert geometric(progress, 16, 1, 0.2, 0.6) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0, 1.0), (0.7, 1.0), (0.75, 0.8), (0.9, 0.2), (0.95, 0.0), (1, 0.0)]
)
def test_linear(progress, expected):
    assert linear(progress, 1, 0, 0.7, 0.95) == pytest.approx(expected)


def test_a_fall_that_begins_at_the_end_never_comes():
    assert linear(0.999, 1, 0, 1.0, 0.95) == 1


@pytest.mark.parametrize(("progress", "expected"), [(0, 1.0), (0.5, 0.6), (1, 0.2), (2, 0.2)])
def test_cosine(progress, expected):
    assert cosine(progress, 0.2) == pytest.approx(expected)
