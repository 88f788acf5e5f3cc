"""Two algorithms side by side: what the results allow to say about their difference."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rocompare.analysis import stats
from rocompare.analysis.samples import Loaded, Sample, differences, load
from rocompare.errors import ResultsError
from rocompare.suite import registry

ALPHA = 0.05
"""Level of the tests, and one minus the confidence of the intervals."""


@dataclass(frozen=True)
class Comparison:
    """Algorithm ``a`` against ``b`` on one scenario; p-values are two-sided and Holm-adjusted."""

    scenario: str
    a: Sample
    b: Sample
    p_return: float
    """Permutation test of the returns; NaN where an algorithm has no return at all."""
    p_success: float
    """Fisher's test of the rates of seeds that succeed."""
    family: int
    """Scenarios that the p-values are adjusted for."""


@dataclass(frozen=True)
class Report:
    """What ``rocompare compare`` prints."""

    a: str
    b: str
    comparisons: list[Comparison]
    notes: list[str]


def compare(path: str | Path, a: str, b: str) -> Report:
    """Compare the algorithms ``a`` and ``b`` on every scenario that both have seeds on.

    Raises:
        ResultsError: an algorithm without results, or none that the two share.
    """
    loaded = load(path)
    algorithms = list(dict.fromkeys(name for _, name in loaded.samples))
    for name in (a, b):
        if name not in algorithms:
            failed = [s for s, algorithm in loaded.failures if algorithm == name]
            hint = f"; it failed on {', '.join(failed)}" if failed else ""
            hint = hint or registry.nearest(name, algorithms)
            raise ResultsError(f"{path}: no finished seeds of '{name[:80]}'{hint}")
    if a == b:
        raise ResultsError(f"'{a}' cannot be compared with itself; name two algorithms")
    scenarios = list(dict.fromkeys(scenario for scenario, _ in loaded.samples))
    shared = [s for s in scenarios if {(s, a), (s, b)} <= set(loaded.samples)]
    if not shared:
        raise ResultsError(f"{path}: '{a}' and '{b}' share no scenario")
    pairs = [(loaded.samples[s, a], loaded.samples[s, b]) for s in shared]
    with_returns = [i for i, (x, y) in enumerate(pairs) if x.returns and y.returns]
    p_returns = [math.nan] * len(pairs)
    found = [stats.permutation_test(pairs[i][0].returns, pairs[i][1].returns) for i in with_returns]
    for i, p in zip(with_returns, stats.holm(found), strict=True):
        p_returns[i] = p
    p_successes = stats.holm(
        [stats.fisher_test(x.successes, x.total, y.successes, y.total) for x, y in pairs]
    )
    comparisons = [
        Comparison(scenario, x, y, p_return, p_success, len(pairs))
        for scenario, (x, y), p_return, p_success in zip(
            shared, pairs, p_returns, p_successes, strict=True
        )
    ]
    return Report(a, b, comparisons, _notes(loaded, a, b, scenarios, shared))


def _notes(
    loaded: Loaded, a: str, b: str, scenarios: Iterable[str], shared: list[str]
) -> list[str]:
    notes = list(loaded.notes)
    for scenario in scenarios:
        for present, absent in ((a, b), (b, a)):
            if (scenario, present) in loaded.samples and (scenario, absent) not in loaded.samples:
                notes.append(f"not compared: {absent} has no finished seeds on {scenario}")
    for scenario in shared:
        first, second = loaded.cells[scenario, a].config, loaded.cells[scenario, b].config
        for part in ("scenario", "budget", "evaluation"):
            changes = differences(first.get(part), second.get(part), part)
            if changes:
                notes.append(f"not alike on {scenario}: {'; '.join(changes)}")
    for (scenario, algorithm), error in loaded.failures.items():
        if algorithm in (a, b):
            notes.append(f"failed: {algorithm} on {scenario}: {error}")
    return notes


def render(report: Report) -> str:
    """The report as text: a paragraph for each scenario, then what is missing."""
    lines = []
    width = max(len(report.a), len(report.b))
    for c in report.comparisons:
        lines.append(c.scenario)
        for name, sample in ((report.a, c.a), (report.b, c.b)):
            lines.append(f"  {name:<{width}}  {_described(sample)}")
        lines += [f"  {line}" for line in [*_measured(report, c), *in_words(report, c)]]
        lines.append("")
    return "\n".join([*lines, *report.notes]).rstrip("\n") + "\n"


def _described(sample: Sample) -> str:
    low, high = stats.wilson_interval(sample.successes, sample.total)
    rate = f"success {sample.successes}/{sample.total} [{low:.2f}, {high:.2f}]"
    s = sample.summary
    if not s.n:
        return f"no return: all of {sample.total} seeds diverged; {rate}"
    text = f"mean {_n(s.mean)} ± {_n(s.std)}, median {_n(s.median)}, IQM {_n(s.iqm)}, "
    text += f"{_n(s.low)} to {_n(s.high)}, n={s.n}"
    return f"{text}{f'/{sample.total}' if sample.diverged else ''}; {rate}"


def _measured(report: Report, c: Comparison) -> list[str]:
    rates = f"success: Fisher p = {_p(c.p_success)}"
    over = f" (Holm over {c.family} scenarios)" if c.family > 1 else ""
    if math.isnan(c.p_return):
        return [f"{rates}{over}"]
    difference = c.a.summary.mean - c.b.summary.mean
    low, high = stats.difference_interval(c.a.returns, c.b.returns, 1 - ALPHA)
    ends = f"95% interval [{_n(low)}, {_n(high)}]"
    if math.isnan(low):
        ends = "no interval from a single seed"
    better = stats.improvement(c.a.returns, c.b.returns)
    least, most = stats.improvement_interval(c.a.returns, c.b.returns, 1 - ALPHA)
    return [
        f"{report.a} − {report.b}: {_n(difference)}, {ends}",
        f"probability that a seed of {report.a} beats one of {report.b}: {better:.2f} "
        f"[{least:.2f}, {most:.2f}]",
        f"returns: permutation p = {_p(c.p_return)}; {rates}{over}",
    ]


def in_words(report: Report, c: Comparison) -> list[str]:
    """What the data allow to say, a sentence each."""
    n, m = len(c.a.returns), len(c.b.returns)
    words = []
    if n and m:
        words.append(_returns_in_words(report, c, n, m))
    else:
        words.append("Returns cannot be compared: every seed of an algorithm diverged.")
    rates = c.a.successes / c.a.total - c.b.successes / c.b.total
    if stats.significant(c.p_success, ALPHA):
        words.append(f"{report.a if rates > 0 else report.b} succeeds more often.")
    elif rates:
        words.append("These seeds do not show which succeeds more often.")
    for name, sample in ((report.a, c.a), (report.b, c.b)):
        if sample.diverged:
            words.append(
                f"{sample.diverged} of {sample.total} seeds of {name} diverged: they count as "
                "no success, and returns are of the others alone."
            )
    return words


def _returns_in_words(report: Report, c: Comparison, n: int, m: int) -> str:
    if stats.significant(c.p_return, ALPHA):
        low, high = stats.difference_interval(c.a.returns, c.b.returns, 1 - ALPHA)
        if low <= 0 <= high:  # the test is of equal distributions, not of equal means
            return (
                "Returns differ, but not surely in the mean: a few seeds far from the others "
                "decide that."
            )
        higher = c.a.summary.mean > c.b.summary.mean
        return f"{report.a if higher else report.b} has the higher mean return."
    smallest = stats.smallest_p(n, m)
    if not stats.significant(smallest * c.family, ALPHA):
        needed = stats.seeds_needed(ALPHA / c.family)
        seeds = f"{n} against {m} {'seed' if n == m == 1 else 'seeds'}"
        return (
            f"{seeds} cannot show a difference in returns at {ALPHA}, however large: the smallest "
            f"p is {_p(smallest * c.family)}. "
            + (f"Train at least {needed} seeds of each." if needed else "Compare fewer scenarios.")
        )
    low, high = stats.difference_interval(c.a.returns, c.b.returns, 1 - ALPHA)
    if low == high == 0:
        return "Every seed of both has the same return."
    if math.isnan(low):
        return "These seeds do not show which has the higher mean return."
    return (
        "These seeds do not show which has the higher mean return: differences from "
        f"{_n(low)} to {_n(high)} are compatible with them."
    )


def _n(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # adding 0.0 turns -0.00 into 0.00


def _p(value: float) -> str:
    value = min(1.0, value)
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"
