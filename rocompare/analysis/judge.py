"""Whether a cell got worse: the judgement of the regression gate on samples that are read.

Each cell is asked several questions. Did the mean return fall? Did the rate of successful seeds?
Did the mean return of those that succeed, so that seeds which all still get there, but return
less, are noticed? Did the rate of seeds that do not diverge? Where wanted also: did the mean of the
learning curve fall, are successes later, do returns scatter more?

A fall counts if it exceeds the tolerance *and* is significant. All questions of all cells are one
family: the probability that any is answered wrongly is at most ``alpha`` where nothing changed.
Three things keep this from costing the power to find anything. The tests are one-sided. A p-value
is 1 unless the fall exceeds the tolerance, so that a question whose numbers could not fall so far,
however the seeds were divided, is none of the family's (see :func:`rocompare.analysis.exact.holm`);
of a cell with all seeds at the optimum no question is. And rates are tested by Fisher's test and
not by Boschloo's: alone, Boschloo's finds 16 of 20 against 20 of 20 where Fisher's needs 15, but
its p-values do not depend on how many seeds succeed, so that every cell of a suite would count.

What a cell's seeds could have found is measured too: :attr:`Answer.power` is the probability that
the question is answered by *worse* if a share ``size`` of the successful seeds is lost, or if all
values are worse by ``size``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from rocompare.analysis import exact
from rocompare.analysis.exact import Alternative, Array, Attainable, Statistic
from rocompare.analysis.power import Lost, Moved, Room, shift_powers

State = Literal["pass", "regressed", "inconclusive", "unguarded"]
Question = Literal[
    "return", "success", "return of successes", "diverged", "auc", "steps-to-success", "std"
]
QUESTIONS = ("return", "success", "auc", "steps-to-success", "std")
"""What may be asked for. The others follow: the return of successes if returns and successes are
asked for, and divergence always."""
GUARDED = 0.8
"""A question has a say if its power is at least this: in four cases of five it would have found a
regression of the size asked for."""
AMONG_SUCCESSES = 0.25
"""The tolerance for the return of successes, and the size of its regression, are this share of the
others': scores of successful seeds lie between 0.9 and 1, and could never fall by 0.1."""


@dataclass(frozen=True)
class Seeds:
    """The finished seeds of one cell in one run; diverged ones are in ``total`` alone."""

    returns: Array
    """``[n]``"""
    success: Array | None
    """``[n]``: 1 for a success, else 0; None where the game's safe or optimal return is unknown."""
    total: int
    """Number of seeds, diverged ones included."""
    auc: Array | None = None
    """``[n]``: mean of the learning curve, in units of return."""
    steps: Array | None = None
    """``[n]``: share of the budget that was used until the first success; 1 if there was none."""


@dataclass(frozen=True)
class Cell:
    """What is compared."""

    new: Seeds
    reference: Seeds
    scale: float | None = None
    """The optimal return minus the safe one. Where it is unknown, the size of the reference's mean
    return takes its place."""


@dataclass(frozen=True)
class Settings:
    """What counts as a regression."""

    tolerance: float = 0.1
    """A fall must exceed this share of ``Cell.scale``, of the seeds, or of the budget."""
    alpha: float = 0.05
    """Probability that anything is called regressed where nothing changed."""
    size: float = 0.2
    """The regression that power is measured for: so much of the scale, or one seed in five."""
    on: tuple[str, ...] = ("return", "success")
    """Of ``QUESTIONS``."""


@dataclass(frozen=True)
class Answer:
    """What the two samples say to one question."""

    question: Question
    reference: float
    """The mean, the rate, or the standard deviation; NaN where no seed has a value."""
    new: float
    fall: float
    """How much NEW is worse, in the same unit, whichever direction is worse; NaN if unknown."""
    limit: float
    """The fall that the tolerance allows."""
    p: float
    """One-sided; NaN where the fall is within the tolerance, and so not tested."""
    adjusted: float
    """The same, for all questions that could be answered by *worse*."""
    power: float
    """For a regression of the size asked for; an approximation but for rates."""
    significant: bool

    @property
    def beyond(self) -> bool:
        """Whether the fall exceeds the tolerance."""
        return _exceeds(self.fall, self.limit)


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one cell.

    ``regressed``: a question is answered by *worse*. ``inconclusive``: a fall exceeds the tolerance
    and is not significant, though the question has a say (``GUARDED``). ``unguarded``: such a fall
    where it has none, so that these seeds could hardly have shown it. ``pass``: no fall exceeds
    the tolerance.
    """

    state: State
    answers: tuple[Answer, ...]

    @property
    def lost_seed_power(self) -> float:
        """Probability that a loss of a share ``size`` of the successful seeds is found."""
        return next((a.power for a in self.answers if a.question == "success"), math.nan)


@dataclass(frozen=True)
class Judgement:
    verdicts: dict[tuple[str, str], Verdict]
    tested: int
    """Questions of the family: those that some division of the seeds would answer by *worse*."""
    reachable: bool
    """Whether the seeds of any cell could give a significant p-value at all."""


class _Asked(NamedTuple):
    """A question to one cell, in values of which the larger is better."""

    cell: int
    question: Question
    new: Array
    """``[n]``; of rates 1 for a good seed and 0 for a bad one."""
    reference: Array
    """``[m]``"""
    limit: float
    size: float
    """Of the regression that power is measured for, in the unit of the values."""

    @property
    def is_rate(self) -> bool:
        return self.question in ("success", "diverged")

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Of a rate: good seeds and all seeds, of NEW and of REFERENCE."""
        return int(self.new.sum()), len(self.new), int(self.reference.sum()), len(self.reference)

    def measure(self, values: Array) -> float:
        """The quantity that is compared, larger being better."""
        if self.question == "std":
            return -float(values.std(ddof=1)) if len(values) > 1 else math.nan
        return float(values.sum()) / len(values) if len(values) else math.nan


_SHOWN: dict[Question, Callable[[float], float]] = {
    "std": lambda x: -x,
    "steps-to-success": lambda x: -x,
    "diverged": lambda x: 1 - x,
}
"""What is shown of quantities that are turned so that the larger is better."""


def judge(cells: Mapping[tuple[str, str], Cell], settings: Settings) -> Judgement:
    """Judge all cells, whose questions are one family."""
    asked = [one for i, cell in enumerate(cells.values()) for one in _questions(i, cell, settings)]
    totals = [(cell.new.total, cell.reference.total) for cell in cells.values()]
    measured = [(one.measure(one.reference), one.measure(one.new)) for one in asked]
    falls = [before - after for before, after in measured]
    attainable = [_attainable(one, *totals[one.cell]) for one in asked]
    p_values = _p_values(asked, falls)
    adjusted = exact.holm(p_values, attainable)
    powers, levels = _powers(asked, attainable, settings.alpha)
    answers: list[list[Answer]] = [[] for _ in cells]
    for i, one in enumerate(asked):
        before, after = (_SHOWN.get(one.question, lambda x: x)(x) for x in measured[i])
        beyond = _exceeds(falls[i], one.limit)
        answers[one.cell].append(
            Answer(
                question=one.question,
                reference=before,
                new=after,
                fall=falls[i],
                limit=one.limit,
                p=p_values[i] if beyond else math.nan,
                adjusted=adjusted[i] if beyond else math.nan,
                power=powers[i],
                significant=beyond and exact.significant(adjusted[i], settings.alpha),
            )
        )
    verdicts = {
        name: Verdict(_state(own), tuple(own)) for name, own in zip(cells, answers, strict=True)
    }
    tested = sum(bool(kind) and np.min(kind) <= settings.alpha for kind in attainable)
    reachable = any(
        exact.significant(exact.smallest_p(*totals[one.cell], "less"), level)
        for one, level in zip(asked, levels, strict=True)
    )
    return Judgement(verdicts, tested, reachable)


def _state(answers: Sequence[Answer]) -> State:
    if any(answer.significant for answer in answers):
        return "regressed"
    fallen = {answer.question: answer.power for answer in answers if answer.beyond}
    if "return" in fallen:  # lost seeds show in the mean return too
        fallen |= {a.question: a.power for a in answers if a.question == "success"}
    if any(power >= GUARDED for power in fallen.values()):
        return "inconclusive"
    return "unguarded" if fallen else "pass"


def _exceeds(fall: float, limit: float) -> bool:
    """Beyond rounding: a fall of 0.1 is within a tolerance of 0.1. False for NaN."""
    return fall > limit + 1e-9 * max(1.0, abs(limit))


def _questions(number: int, cell: Cell, settings: Settings) -> list[_Asked]:
    new, old, on = cell.new, cell.reference, settings.on
    scale = cell.scale
    if scale is None:
        scale = abs(float(old.returns.mean())) if len(old.returns) else 1.0

    def ask(question: Question, a: Array, b: Array, unit: float) -> _Asked:
        limit, size = settings.tolerance * unit, settings.size * unit
        return _Asked(number, question, a, b, limit, size)

    found = []
    if "return" in on:
        found.append(ask("return", new.returns, old.returns, scale))
    if new.success is not None and old.success is not None:
        if "success" in on:
            a, b = _filled(new.success, new.total), _filled(old.success, old.total)
            found.append(ask("success", a, b, 1.0))
        if "return" in on and "success" in on:
            a, b = new.returns[new.success > 0], old.returns[old.success > 0]
            found.append(ask("return of successes", a, b, AMONG_SUCCESSES * scale))
    a, b = (_filled(np.ones(len(x.returns)), x.total) for x in (new, old))
    found.append(ask("diverged", a, b, 1.0))
    if "auc" in on and new.auc is not None and old.auc is not None:
        found.append(ask("auc", new.auc, old.auc, scale))
    if "steps-to-success" in on and new.steps is not None and old.steps is not None:
        found.append(ask("steps-to-success", -new.steps, -old.steps, 1.0))
    if "std" in on:
        found.append(ask("std", new.returns, old.returns, scale))
    return found


def _filled(values: Array, total: int) -> Array:
    """``[total]``: the values, and 0 for each seed without one."""
    filled = np.zeros(total)
    filled[: len(values)] = values
    return filled


def _attainable(one: _Asked, n: int, m: int) -> Attainable:
    """The p-values that the pooled seeds allow; ``n`` and ``m`` are the numbers trained.

    Nothing here depends on how the pooled seeds are divided, or the family would, and the sum of
    its probabilities would bound nothing.
    """
    if one.is_rate:
        good = int(one.new.sum() + one.reference.sum())
        return exact.fisher_attainable(good, n, m, "less", one.limit)
    pooled = np.concatenate([one.new, one.reference])
    if len(pooled) < 2 or not _exceeds(float(np.ptp(pooled)), one.limit):
        return ()
    return exact.smallest_p(n, m, "less")


def _p_values(asked: Sequence[_Asked], falls: Sequence[float]) -> list[float]:
    """One-sided, and 1 where the fall is within the tolerance."""
    p_values = [1.0] * len(asked)
    fallen = [i for i, one in enumerate(asked) if _exceeds(falls[i], one.limit)]
    for i in fallen:
        if asked[i].is_rate:
            p_values[i] = exact.fisher_test(*asked[i].counts, "less")
    sides: list[tuple[Statistic, Alternative]] = [("mean", "less"), ("std", "greater")]
    for statistic, side in sides:
        which = [
            i
            for i in fallen
            if not asked[i].is_rate and (asked[i].question == "std") == (statistic == "std")
        ]
        pairs = [(asked[i].new, asked[i].reference) for i in which]
        for i, p in zip(which, exact.permutation_tests(pairs, side, statistic), strict=True):
            p_values[i] = p
    return p_values


def _powers(
    asked: Sequence[_Asked], attainable: Sequence[Attainable], alpha: float
) -> tuple[list[float], list[float]]:
    """Of each question the power, and the level at which it would be significant."""
    room = Room(attainable, alpha)
    own: dict[int, list[int]] = {}
    for i, one in enumerate(asked):
        own.setdefault(one.cell, []).append(i)
    moved, losses = [], []
    for one in asked:
        mine = [j for j in own[one.cell] if _moves(one.question, asked[j].question)]
        now = tuple(attainable[j] for j in mine)
        moved.append(Moved(now, len(mine)))
        if one.is_rate:
            _, n, good, m = one.counts
            first = asked[own[one.cell][0]]
            returns = one.question == "success" and first.question == "return"
            returns = returns and _tells_apart(first.reference)
            rest = Moved(now, len(mine) - 1)
            losses.append(Lost(rest, good, m, n, one.size, one.limit, returns))
    levels, lost = room.levels(moved), iter(room.powers(losses))
    shifted = _shift_powers(asked, levels)
    powers = [next(lost) if one.is_rate else shifted[i] for i, one in enumerate(asked)]
    return powers, levels


def _moves(regression: Question, question: Question) -> bool:
    """Whether the regression that is measured for one question changes the values of another."""
    if regression == "diverged":
        return question in ("diverged", "success")
    if regression == "success":  # the seeds that are left return what they did
        return question not in ("diverged", "return of successes")
    return question != "diverged"


def _tells_apart(returns: Array) -> bool:
    """Whether most of the returns are different."""
    return len(np.unique(returns)) > len(returns) / 2


def _shift_powers(asked: Sequence[_Asked], levels: Sequence[float]) -> list[float]:
    """NaN where a sample has fewer than two seeds."""
    powers = np.full(len(asked), math.nan)
    rows = [i for i, one in enumerate(asked) if min(len(one.new), len(one.reference)) > 1]
    if rows:
        error, freedom = np.array([_error(asked[i]) for i in rows]).T
        size, limit = np.array([(asked[i].size, asked[i].limit) for i in rows]).T
        level = np.array([levels[i] for i in rows])
        powers[rows] = shift_powers(size, limit, level, error, freedom)
    return [float(power) for power in powers]


def _error(one: _Asked) -> tuple[float, float]:
    """Standard error of the fall, and its degrees of freedom."""
    n, m = len(one.new), len(one.reference)
    freedom = n + m - 2
    pooled = ((n - 1) * one.new.var(ddof=1) + (m - 1) * one.reference.var(ddof=1)) / freedom
    per_seed = 1 / (2 * n - 2) + 1 / (2 * m - 2) if one.question == "std" else 1 / n + 1 / m
    return math.sqrt(pooled * per_seed), freedom
