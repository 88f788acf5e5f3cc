"""Samples as returns under relative over-generalization are: with two peaks."""

import numpy as np

NEAR_OPTIMUM, NEAR_SAFE = 10 - 0.3, 0 - 1.0
"""Mean of either peak."""


def two_peaks(random, p, n):
    """``[n]``: with probability ``p`` a little below 10, else somewhat below 0."""
    reached = random.random(n) < p
    return np.where(reached, 10 - random.exponential(0.3, n), -random.exponential(1.0, n))
