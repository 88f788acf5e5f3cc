"""What seeds can find: the probability that a regression of a given size becomes significant.

A question is significant if the sum over all questions of the probability of so small a p-value
is at most ``alpha`` (see :func:`rocompare.analysis.exact.holm`). Under a regression the questions
of the regressed cell can give other p-values than they can now: they are taken out of the family,
and put back as they would be then.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats

from rocompare.analysis import exact
from rocompare.analysis.exact import Array, Attainable, Family


class Moved(NamedTuple):
    """The questions of a cell that a regression of it moves."""

    now: tuple[Attainable, ...]
    """The p-values that they can give as the seeds are."""
    tests: int
    """How many of them then give the p-value that is asked about, or a larger one."""


class Lost(NamedTuple):
    """A loss of successful seeds whose power is asked for."""

    moved: Moved
    """Successes themselves are counted apart, and are not in ``tests``."""
    good: int
    """Successful seeds of ``m`` in the reference."""
    m: int
    n: int
    """New seeds."""
    share: float
    """Of the successful seeds, which is lost."""
    limit: float
    """The fall of the rate that is allowed."""
    returns: bool
    """Whether returns are tested, and tell seeds apart that are alike in success: the permutation
    test then orders them, and has p-values between those of Fisher's test."""


class Room:
    """A family of tests at the level ``alpha``, and the room that it leaves for another p-value."""

    def __init__(self, attainable: Sequence[Attainable], alpha: float) -> None:
        self.family = Family(attainable)
        self.alpha = alpha

    def levels(self, moved: Sequence[Moved]) -> list[float]:
        """Of each, the largest p-value that is significant."""
        distinct = list(dict.fromkeys(moved))
        rows = [(one, slice(i, i + 1)) for i, one in enumerate(distinct)]
        zeros = np.zeros(len(distinct))
        found = self._largest(rows, zeros, zeros + self.alpha, zeros)
        level = dict(zip(distinct, found.tolist(), strict=True))
        return [level[one] for one in moved]

    def powers(self, losses: Sequence[Lost]) -> list[float]:
        """Of each, the probability that it is significant; NaN if there is nothing to lose.

        The reference stays as it is, and the new successes are binomial. Each number of them has
        its probability of being significant: where returns are tested, their p-value is uniform
        between Fisher's for one success less and Fisher's for so many.
        """
        distinct = [loss for loss in dict.fromkeys(losses) if loss.good]
        if not distinct:
            return [math.nan] * len(losses)
        ends = np.cumsum([loss.n + 1 for loss in distinct]).tolist()
        own = [slice(end - loss.n - 1, end) for loss, end in zip(distinct, ends, strict=True)]
        rows = [(loss.moved, mine) for loss, mine in zip(distinct, own, strict=True)]
        low, high = np.concatenate([_fisher(x.good, x.m, x.n) for x in distinct], axis=1)
        shown = self._fits(rows, high, high).astype(float)
        between = (self._largest(rows, low, high, low) - low) / np.maximum(high - low, 1e-300)
        power = {}
        for loss, mine in zip(distinct, own, strict=True):
            k = np.arange(loss.n + 1)
            found = np.maximum(shown[mine], between[mine] if loss.returns else 0)
            found *= loss.good / loss.m - k / loss.n > loss.limit + 1e-9
            rate = loss.good / loss.m * (1 - loss.share)
            power[loss] = float(scipy.stats.binom.pmf(k, loss.n, rate) @ found)
        return [power.get(loss, math.nan) for loss in losses]

    def _fits(self, rows: Sequence[tuple[Moved, slice]], p: Array, already: Array) -> Array:
        """``[R]``: whether ``p [R]`` is significant, where ``already [R]`` is spent beside it.

        Args:
            rows: what each regression moves, and where in ``p`` its p-values stand.
        """
        spent = self.family.spent(p) + already
        for moved, mine in rows:
            spent[mine] += moved.tests * p[mine]
            for kind in moved.now:
                spent[mine] -= exact.largest_up_to(kind, p[mine])
        return np.asarray(spent <= self.alpha * (1 + 1e-9))

    def _largest(
        self, rows: Sequence[tuple[Moved, slice]], low: Array, high: Array, already: Array
    ) -> Array:
        """``[R]``: the largest p-value between ``low`` and ``high`` that fits, or ``low``."""
        for _ in range(30):  # what is spent grows with the p-value
            middle = (low + high) / 2
            fits = self._fits(rows, middle, already)
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        return low


@functools.lru_cache(maxsize=4_096)
def _fisher(good: int, m: int, n: int) -> Array:
    """``[2, n + 1]``: for each number of new successes, Fisher's p-value for one less among as
    many in all, and for this many."""
    k = np.arange(n + 1)
    return np.stack([scipy.stats.hypergeom.cdf(k - i, n + m, good + k, n) for i in (1, 0)])


def shift_powers(size: Array, limit: Array, level: Array, error: Array, freedom: Array) -> Array:
    """``[Q]``: probability that a fall of ``size [Q]`` is found beyond its ``limit [Q]``, at
    ``level [Q]``, as for normal samples.

    Args:
        error: standard error of the fall, with ``freedom [Q]`` degrees of freedom.
    """
    needed = np.maximum(limit, -scipy.special.stdtrit(freedom, level) * error)
    sure = np.where(size > needed, 1.0, 0.0)  # where nothing scatters
    distance = (size - needed) / np.where(error > 0, error, 1)
    return np.where(error > 0, scipy.special.ndtr(distance), sure)
