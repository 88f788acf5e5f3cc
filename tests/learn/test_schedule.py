"""Schedules at points worked out by hand."""

import pytest

from baselines.masql import MASQL
from rocompare.learn.schedule import cosine, geometric, linear, temperature


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


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (10, 510.0),
        (20, 10 + 500 / 2.718281828),
        (1666, 10.0),
        (1667, 1.0),
        (2499, 1.0),
        (2500, 0.3),
    ],
)
def test_the_published_temperature(step, expected):
    config = MASQL.Config(alpha_schedule="published")
    assert temperature(step / 5000, config) == pytest.approx(expected)


def test_the_geometric_temperature():
    config = MASQL.Config(
        alpha_start=16.0, alpha_end=1.0, alpha_start_fraction=0.2, alpha_end_fraction=0.6
    )
    assert temperature(0.4, config) == pytest.approx(4)
