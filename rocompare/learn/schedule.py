"""Schedules over training; ``progress`` in ``[0, 1]`` is the share of the budget used."""

from __future__ import annotations

import math


def geometric(progress: float, first: float, last: float, begin: float, end: float) -> float:
    """``first`` until ``begin``, then by a constant factor down (or up) to ``last`` at ``end``."""
    if progress <= begin:
        return first
    if progress >= end:
        return last
    return first * (last / first) ** ((progress - begin) / (end - begin))


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
