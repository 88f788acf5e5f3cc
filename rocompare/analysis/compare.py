"""Algorithms side by side: what the results allow to say about their differences."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rocompare.analysis import escape as escapes
from rocompare.analysis import pairwise, stats
from rocompare.analysis.pairwise import Contrast, Finding, Ranking, Side
from rocompare.analysis.samples import Loaded, Sample, differences, load
from rocompare.errors import ResultsError
from rocompare.results.records import SUCCESS_SCORE
from rocompare.suite import registry

ALPHA = 0.05
"""Level of the tests over all that is compared, and one minus the confidence of the intervals."""


@dataclass(frozen=True)
class Comparison:
    """Algorithm ``a`` against ``b`` on one scenario."""

    scenario: str
    a: Sample
    b: Sample
    contrast: Contrast
    in_scores: bool
    """Whether differences are in units of optimal minus safe return; else in units of return."""
    chance: float
    """Probability that a seed of ``a`` returns more than one of ``b``."""


@dataclass(frozen=True)
class Report:
    """What ``rocompare compare`` prints of two algorithms."""

    a: str
    b: str
    comparisons: list[Comparison]
    notes: list[str]


@dataclass(frozen=True)
class Matrix:
    """What ``rocompare compare --all`` prints."""

    algorithms: list[str]
    contrasts: dict[tuple[str, str, str], Contrast]
    """By ``(a, b, scenario)``, all corrected together."""
    ranking: Ranking | None
    """Over the scenarios that all of them have; None if there is none."""
    scenarios: list[str]
    """These scenarios."""
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
    found = pairwise.contrasts([(_side(x, loaded, s, a), _side(y, loaded, s, b)) for s, (x, y) in
                                zip(shared, pairs, strict=True)], ALPHA)  # fmt: skip
    comparisons = [
        Comparison(s, x, y, contrast, x.scale is not None, stats.improvement(x.returns, y.returns))
        for s, (x, y), contrast in zip(shared, pairs, found, strict=True)
    ]
    return Report(a, b, comparisons, _notes(loaded, a, b, scenarios, shared))


def compare_all(path: str | Path) -> Matrix:
    """Compare every two algorithms on every scenario that both have seeds on.

    Raises:
        ResultsError: fewer than two algorithms.
    """
    loaded = load(path)
    sides: dict[str, dict[str, Side]] = {}
    for (scenario, algorithm), sample in loaded.samples.items():
        side = _side(sample, loaded, scenario, algorithm)
        sides.setdefault(algorithm, {})[scenario] = side
    if len(sides) < 2:
        raise ResultsError(f"{path}: there is one algorithm only, so nothing to compare")
    common = [s for s in next(iter(sides.values())) if all(s in own for own in sides.values())]
    scored = [s for s in common if all(own[s].successes is not None for own in sides.values())]
    ranking = None
    if scored:
        scores = {
            name: [stats.fill_diverged(_with_diverged(own[s])) for s in scored]
            for name, own in sides.items()
        }
        ranking = pairwise.ranking(scores, ALPHA)
    notes = list(loaded.notes)
    if len(scored) < len({s for own in sides.values() for s in own}):
        notes.append(
            f"ranked on the {len(scored)} scenarios that all algorithms have and whose optimal and "
            "safe returns are known"
        )
    return Matrix(list(sides), pairwise.all_pairs(sides, ALPHA), ranking, scored, notes)


def _side(sample: Sample, loaded: Loaded, scenario: str, algorithm: str) -> Side:
    """Scores where the game's returns are known, else returns."""
    returns = np.array(sample.returns, dtype=float)
    cell = loaded.cells[scenario, algorithm]
    if cell.safe_return is None or sample.scale is None:
        return Side(returns, None, sample.total)
    return Side((returns - cell.safe_return) / sample.scale, sample.successes, sample.total)


def _with_diverged(side: Side) -> Any:
    return np.concatenate([side.scores, np.full(side.total - len(side.scores), np.nan)])


def _notes(loaded: Loaded, a: str, b: str, scenarios: list[str], shared: list[str]) -> list[str]:
    notes = list(loaded.notes)
    for scenario in scenarios:
        for present, absent in ((a, b), (b, a)):
            if (scenario, present) in loaded.samples and (scenario, absent) not in loaded.samples:
                notes.append(f"not compared: {absent} has no finished seeds on {scenario}")
    for scenario in shared:
        first, second = (loaded.cells[scenario, name].config for name in (a, b))
        for part in ("scenario", "budget", "evaluation"):
            changes = differences(first.get(part), second.get(part), part)
            if changes:
                notes.append(f"not alike on {scenario}: {'; '.join(changes)}")
    for (scenario, algorithm), error in loaded.failures.items():
        if algorithm in (a, b):
            notes.append(f"failed: {algorithm} on {scenario}: {error}")
    return notes


def render(report: Report, form: str = "text") -> str:
    """The report as ``text`` or ``json``."""
    if form == "json":
        return _as_json(
            {
                "a": report.a,
                "b": report.b,
                "alpha": ALPHA,
                "success_score": SUCCESS_SCORE,
                "scenarios": [
                    {
                        "scenario": c.scenario,
                        "in_scores": c.in_scores,
                        "chance": c.chance,
                        **_plain(c.contrast),
                        "words": in_words(report, c),
                    }
                    for c in report.comparisons
                ],
                "notes": report.notes,
            }
        )
    lines = []
    width = max(len(report.a), len(report.b))
    for c in report.comparisons:
        lines.append(c.scenario)
        for name, sample in ((report.a, c.a), (report.b, c.b)):
            lines.append(f"  {name:<{width}}  {_described(sample)}")
        lines += [f"  {line}" for line in [*_measured(report, c), *in_words(report, c)]]
        lines.append("")
    foot = (
        f"p-values are adjusted for all scenarios that can be tested ({ALPHA:g} for all together), "
        "and intervals agree with them: one holds 0 exactly if its difference is not significant. "
        f"Success is a score of {SUCCESS_SCORE:g}."
    )
    return escapes.terminal([*lines, foot, *report.notes]).rstrip("\n") + "\n"


def _described(sample: Sample) -> str:
    rate = ""
    if sample.scale is not None:
        low, high = stats.wilson_interval(sample.successes, sample.total)
        rate = f"; success {sample.successes}/{sample.total} [{low:.2f}, {high:.2f}]"
    s = sample.summary
    if not s.n:
        return f"no return: all of {sample.total} seeds diverged{rate}"
    text = f"mean {_n(s.mean)} ± {_n(s.std)}, median {_n(s.median)}, IQM {_n(s.iqm)}, "
    text += f"{_n(s.low)} to {_n(s.high)}, n={s.n}"
    return f"{text}{f'/{sample.total}' if sample.diverged else ''}{rate}"


def _measured(report: Report, c: Comparison) -> list[str]:
    found = c.contrast
    if math.isnan(found.difference):
        return []
    unit = " of optimal − safe" if c.in_scores else " in units of return"
    line = f"{report.a} − {report.b}: {found.difference:+.3f}{unit}"
    if math.isfinite(found.interval.low):
        line += f", interval [{found.interval.low:+.3f}, {found.interval.high:+.3f}]"
    p = f"adjusted p = {_p(found.p)}"
    if math.isfinite(found.p_success):
        p += f"; of success rates {_p(found.p_success)}"
    return [
        f"{line}, {p}",
        f"a seed of {report.a} returns more than one of {report.b} with probability {c.chance:.2f}",
    ]


_OF_MEANS: dict[Finding, str] = {
    "higher": "{a} has the higher mean return.",
    "lower": "{b} has the higher mean return.",
    "negligible": "The mean returns differ, by less than 0.01 of optimal − safe return.",
    "equal": "Every seed of both has the same return.",
    "open": "These seeds do not show which has the higher mean return.",
    "unreachable": "So few seeds could not show a difference in returns, however large.",
    "diverged": "Returns are not compared: half of the seeds of one diverged, or more.",
}
_OF_RATES: dict[Finding, str] = {
    "higher": "{a} succeeds more often.",
    "lower": "{b} succeeds more often.",
    "open": "These seeds do not show which succeeds more often.",
    "unreachable": "So few seeds could not show which succeeds more often.",
}


def in_words(report: Report, c: Comparison) -> list[str]:
    """What the data allow to say, a sentence each."""
    words = [_OF_MEANS[c.contrast.finding]]
    if math.isfinite(c.contrast.p_success):
        words.append(_OF_RATES.get(c.contrast.success, ""))
    for name, sample in ((report.a, c.a), (report.b, c.b)):
        if sample.diverged:
            words.append(
                f"{sample.diverged} of {sample.total} seeds of {name} diverged: they are no "
                "successes, and returns are of the others alone."
            )
    return [word.format(a=report.a, b=report.b) for word in words if word]


_SIGNS: dict[Finding, str] = {
    "higher": ">", "lower": "<", "negligible": "≈", "equal": "=", "open": "·", "unreachable": "·",
    "diverged": "!",
}  # fmt: skip


def render_all(matrix: Matrix, form: str = "text") -> str:
    """The matrix as ``text`` or ``json``."""
    if form == "json":
        ranking = matrix.ranking
        return _as_json(
            {
                "algorithms": matrix.algorithms,
                "alpha": ALPHA,
                "pairs": [
                    {"a": a, "b": b, "scenario": scenario, **_plain(contrast)}
                    for (a, b, scenario), contrast in matrix.contrasts.items()
                ],
                "ranks": ranking.ranks if ranking else None,
                "groups": [list(group) for group in ranking.groups] if ranking else None,
                "notes": matrix.notes,
            }
        )
    lines = []
    width = max(map(len, matrix.algorithms))
    for scenario in dict.fromkeys(s for _, _, s in matrix.contrasts):
        lines += [scenario, "  " + " " * width + "  return / success against the column"]
        lines.append(
            "  " + " " * width + "".join(f"{i + 1:>6}" for i in range(len(matrix.algorithms)))
        )
        for i, a in enumerate(matrix.algorithms):
            cells = (_sign(matrix, a, b, scenario) for b in matrix.algorithms)
            lines.append(f"  {a:<{width}}" + "".join(f"{cell:>6}" for cell in cells) + f"  {i + 1}")
        lines.append("")
    if matrix.ranking:
        lines.append(f"mean rank over {len(matrix.scenarios)} scenarios")
        lines += [f"  {name:<{width}}  {rank:.2f}" for name, rank in matrix.ranking.ranks.items()]
        lines += [f"  not told apart: {', '.join(group)}" for group in matrix.ranking.groups]
    foot = "> more, < less, ≈ less than 0.01 of optimal − safe, = equal, · not shown, ! diverged"
    return escapes.terminal([*lines, foot, *matrix.notes])


_TURNED: dict[Finding, Finding] = {"higher": "lower", "lower": "higher"}


def _sign(matrix: Matrix, a: str, b: str, scenario: str) -> str:
    if (a, b, scenario) in matrix.contrasts:
        found = matrix.contrasts[a, b, scenario]
        return f"{_SIGNS[found.finding]} {_SIGNS[found.success]}"
    if (b, a, scenario) in matrix.contrasts:
        found = matrix.contrasts[b, a, scenario]
        mean, rate = (_TURNED.get(f, f) for f in (found.finding, found.success))
        return f"{_SIGNS[mean]} {_SIGNS[rate]}"
    return ""


def _plain(contrast: Contrast) -> dict[str, Any]:
    values = vars(contrast) | {"interval": list(contrast.interval)}
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(part) for part in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _n(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # adding 0.0 turns -0.00 into 0.00


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
