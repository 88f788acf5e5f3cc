"""Schedules over training; ``progress`` in ``[0, 1]`` is the share of the budget used."""

from __future__ import annotations

import math
from typing import Any, Literal

AlphaSchedule = Literal["geometric", "published"]


def geometric(progress: float, first: float, last: float, begin: float, end: float) -> float:
    """``first`` until ``begin``, then by a constant factor down (or up) to ``last`` at ``end``."""
    if progress <= begin:
        return first
    if progress >= end:
        return last
    return first * (last / first) ** ((progress - begin) / (end - begin))


def temperature(progress: float, c: Any) -> float:
    """Alpha of the samplers, SVNR, MASQL and PR2-Soft, whose ``Config`` c names alike.

    ``geometric``: see :func:`geometric`. ``published``: that of the SVNR paper's first public code,
    which has 5,000 steps t: ``10 + 500 exp(-(t - 10)/10)`` for a third of them, 1 until half, then
    0.3.
    """
    if c.alpha_schedule == "geometric":
        span = c.alpha_start_fraction, c.alpha_end_fraction
        return geometric(progress, c.alpha_start, c.alpha_end, *span)
    if progress < 1 / 3:
        return 10 + 500 * math.exp(-(5000 * progress - 10) / 10)
    return 1.0 if progress < 0.5 else 0.3


def linear(progress: float, first: float, last: float, begin: float, end: float) -> float:
    """``first`` until ``begin``, then along a line to ``last`` at ``end``."""
    if progress <= begin:
        return first
    if progress >= end:
        return last
    return first + (last - first) * (progress - begin) / (end - begin)


def cosine(progress: float, last: float) -> float:
    """From 1 at the start along half a cosine to ``last`` at the end."""
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
