"""The regression gate: did the returns of NEW get worse than those of REFERENCE?

A cell, matched by the names of its scenario and algorithm, is

- **regressed** if its mean return, its rate of seeds that succeed, or its rate of seeds
  that do not diverge fell by more than the tolerance, and the fall is significant;
- **inconclusive** if one of them fell by more than the tolerance without being significant, if
  its seeds are too few for any fall to be significant, or if it failed or is missing in NEW;
- **pass** otherwise.

A fall of the mean return is measured in units of the scenario's declared optimal return minus its
declared safe one, so that one tolerance serves returns and rates, on every scenario.

Returns are tested by permutation and rates by Fisher's exact test. A p-value is two-sided: twice
that of a fall. Holm's adjustment is over the cells, for returns and for rates apart. Falls are
the only direction that counts, so either family errs with probability ``alpha / 2``, and both
together with ``alpha``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rocompare.analysis import stats
from rocompare.analysis.samples import Loaded, Name, Sample, differences, load
from rocompare.errors import ResultsError

PASS, REGRESSED, INCONCLUSIVE = "pass", "regressed", "inconclusive"
EXIT_CODES = {PASS: 0, REGRESSED: 1, INCONCLUSIVE: 3}


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one cell. Falls are positive where NEW is worse."""

    scenario: str
    algorithm: str
    reference: Sample
    new: Sample | None
    """None if NEW has no finished seed of this cell."""
    scale: float = math.nan
    """The declared optimal return minus the declared safe one."""
    return_fall: float = math.nan
    """Of the mean, in units of ``scale``; NaN where one side has no return."""
    success_fall: float = math.nan
    diverged_rise: float = math.nan
    p_return: float = math.nan
    p_success: float = math.nan
    p_diverged: float = math.nan
    """NaN where no seed diverged."""
    detectable_fall: float = math.inf
    """Fall of the mean return, in units of ``scale``, that is found four times in five."""
    detectable_successes: int | None = None
    """Successes in NEW at or below which the fall of the rate is significant; None: not even 0."""
    state: str = INCONCLUSIVE
    reasons: list[str] = field(default_factory=list)
    """Why it is not a pass."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What ``rocompare check`` prints."""

    verdicts: list[Verdict]
    tolerance: float
    alpha: float
    family: int
    """Cells that p-values are adjusted for."""
    notes: list[str]

    @property
    def state(self) -> str:
        states = {verdict.state for verdict in self.verdicts}
        return next((s for s in (REGRESSED, INCONCLUSIVE) if s in states), PASS)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.state]


def check(
    new: str | Path, reference: str | Path, tolerance: float = 0.1, alpha: float = 0.05
) -> Report:
    """Compare the results below ``new`` with those below ``reference``.

    Raises:
        ResultsError: results that cannot be read, or an ``alpha`` that these seeds cannot reach.
    """
    _check_options(tolerance, alpha)
    old, now = load(reference), load(new)
    if not old.samples:
        raise ResultsError(f"{reference}: no finished seeds to compare with; every cell failed")
    return judge(now, old, tolerance, alpha)


def _check_options(tolerance: float, alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ResultsError(f"--alpha: expected a number between 0 and 1, got {alpha}")
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise ResultsError(f"--tolerance: expected a number of at least 0, got {tolerance}")


def judge(
    new: Loaded,
    reference: Loaded,
    tolerance: float,
    alpha: float,
) -> Report:
    """The gate on results that are read.

    Raises:
        ResultsError: no cell has the seeds to reach ``alpha``.
    """
    both = [name for name in reference.samples if name in new.samples]
    pairs = {name: (new.samples[name], reference.samples[name]) for name in both}
    attainable = {name: stats.smallest_p(a.total, b.total) for name, (a, b) in pairs.items()}
    # A cell that could not be significant even alone is not tested, and so costs the others none
    # of their power. Numbers of seeds are known beforehand: leaving it out biases nothing.
    tested = [name for name in both if stats.significant(attainable[name], alpha)]
    reach = alpha / max(1, len(tested))
    firing = {name for name in tested if stats.significant(attainable[name], reach)}
    if both and not firing:
        raise ResultsError(_unreachable(pairs, alpha))
    p_values = _p_values({name: pairs[name] for name in tested})
    n_rates = max(1, sum("p_success" in p for p in p_values.values()))
    n_rates += sum("p_diverged" in p for p in p_values.values())
    verdicts = []
    for name in reference.samples:
        failure = new.failures.get(name)
        if name not in pairs:
            text = f"failed in NEW: {failure}" if failure else "missing in NEW"
            verdicts.append(Verdict(*name, reference.samples[name], None, reasons=[text]))
            continue
        verdict = _measure(name, pairs[name], p_values.get(name, {}))
        if name in firing:
            verdict = _with_detectable(verdict, tolerance, reach, alpha / n_rates)
        doubts = [] if name in firing else [_too_few(pairs[name], len(tested), alpha)]
        if failure:
            doubts.append(f"the last attempt failed in NEW: {failure}")
        changes = differences(_configuration(reference, name), _configuration(new, name))
        notes = [f"configuration differs: {'; '.join(changes)}"] if changes else []
        verdicts.append(_decide(verdict, tolerance, alpha, doubts, notes))
    notes = [f"in NEW: {note}" for note in new.notes]
    notes += [
        f"not in REFERENCE, and so not checked: {algorithm} on {scenario}"
        for scenario, algorithm in dict.fromkeys([*new.samples, *new.failures])
        if (scenario, algorithm) not in reference.samples
    ]
    notes += [
        f"failed in REFERENCE: {algorithm} on {scenario}: {error}"
        for (scenario, algorithm), error in reference.failures.items()
    ]
    return Report(verdicts, tolerance, alpha, len(tested), notes)


def _configuration(loaded: Loaded, name: Name) -> dict[str, Any] | None:
    return loaded.cells[name].config if name in loaded.cells else None


def _unreachable(pairs: Mapping[Name, tuple[Sample, Sample]], alpha: float) -> str:
    n, m = max(
        ((new.total, old.total) for new, old in pairs.values()),
        key=lambda sizes: -stats.smallest_p(*sizes),
    )
    over = f" over {len(pairs)} cells" if len(pairs) > 1 else ""
    smallest = min(1.0, stats.smallest_p(n, m) * len(pairs))
    needed = stats.seeds_needed(alpha / len(pairs))
    return (
        f"--alpha {alpha:g}: these seeds can never reach it, so that no regression would ever be "
        f"found: the smallest two-sided p of {n} against {m} seeds{over} is {smallest:.2g}; "
        + (f"train at least {needed} seeds on either side, or " if needed else "")
        + "give a larger --alpha"
    )


def _too_few(pair: tuple[Sample, Sample], family: int, alpha: float) -> str:
    new, old = pair
    smallest = min(1.0, stats.smallest_p(new.total, old.total) * max(1, family))
    return (
        f"too few seeds: the smallest p of {new.total} against {old.total} is {smallest:.2g} "
        f"after Holm, and alpha is {alpha:g}"
    )


def _p_values(pairs: Mapping[Name, tuple[Sample, Sample]]) -> dict[Name, dict[str, float]]:
    """Adjusted p-values of a fall: ``p_return``, ``p_success`` and, if any did, ``p_diverged``."""
    with_returns = [n for n, (new, old) in pairs.items() if new.returns and old.returns]
    fallen = stats.permutation_tests(
        [(pairs[name][0].returns, pairs[name][1].returns) for name in with_returns], "less"
    )
    returns = {
        (name, "p_return"): min(1.0, 2 * p) for name, p in zip(with_returns, fallen, strict=True)
    }
    rates = {}
    for name, (new, old) in pairs.items():
        p = stats.fisher_test(new.successes, new.total, old.successes, old.total, "less")
        rates[name, "p_success"] = min(1.0, 2 * p)
        if new.diverged or old.diverged:
            # The test is conditional on how many diverged on both sides together, and so may be
            # left out where none did.
            p = stats.fisher_test(new.diverged, new.total, old.diverged, old.total, "greater")
            rates[name, "p_diverged"] = min(1.0, 2 * p)
    found: dict[Name, dict[str, float]] = {name: {} for name in pairs}
    for family in (returns, rates):
        for (name, kind), p in zip(family, stats.holm(list(family.values())), strict=True):
            found[name][kind] = p
    return found


def _measure(
    name: Name,
    pair: tuple[Sample, Sample],
    p_values: dict[str, float],
) -> Verdict:
    new, old = pair
    scale = old.scale or 1.0  # where no score is known, falls are in units of reward
    before, after = old.summary, new.summary
    return Verdict(
        *name,
        reference=old,
        new=new,
        scale=scale,
        return_fall=(before.mean - after.mean) / scale,
        success_fall=old.successes / old.total - new.successes / new.total,
        diverged_rise=new.diverged / new.total - old.diverged / old.total,
        p_return=p_values.get("p_return", math.nan),
        p_success=p_values.get("p_success", math.nan),
        p_diverged=p_values.get("p_diverged", math.nan),
    )


def _with_detectable(
    verdict: Verdict, tolerance: float, level: float, rate_level: float
) -> Verdict:
    """Say what this cell's seeds could find, at the levels that are left after Holm."""
    new, old = verdict.new, verdict.reference
    assert new is not None
    fall = math.inf
    n, m = len(new.returns), len(old.returns)
    if n > 1 and m > 1:
        a, b = new.summary, old.summary
        pooled = math.sqrt(((n - 1) * a.std**2 + (m - 1) * b.std**2) / (n + m - 2))
        shift = stats.detectable_shift(pooled / verdict.scale, n, m, level)
        fall = max(shift, tolerance)
    most = stats.detectable_successes(old.successes, old.total, new.total, rate_level)
    if most is not None:
        # The fall has to exceed the tolerance as well.
        while most >= 0 and old.successes / old.total - most / new.total <= tolerance + _ROUNDING:
            most -= 1
        most = most if most >= 0 else None
    return replace(verdict, detectable_fall=fall, detectable_successes=most)


_ROUNDING = 1e-9
"""A fall of 0.1 must not exceed a tolerance of 0.1 by the last digit of a subtraction."""


def _decide(
    verdict: Verdict, tolerance: float, alpha: float, doubts: list[str], notes: list[str]
) -> Verdict:
    new, old = verdict.new, verdict.reference
    assert new is not None
    falls = [
        ("the mean return fell", verdict.return_fall, verdict.p_return),
        ("the rate of seeds that succeed fell", verdict.success_fall, verdict.p_success),
        ("the rate of seeds that diverge rose", verdict.diverged_rise, verdict.p_diverged),
    ]
    beyond = [(what, by, p) for what, by, p in falls if by > tolerance + _ROUNDING]
    proven = [
        f"{what} by {by:.2f}, p = {p:.2g}" for what, by, p in beyond if stats.significant(p, alpha)
    ]
    if proven:
        return replace(verdict, state=REGRESSED, reasons=[*proven, *doubts], notes=notes)
    reasons = [f"{what} by {by:.2f}, which is not significant" for what, by, _ in beyond]
    if new.diverged > old.diverged and verdict.diverged_rise <= tolerance + _ROUNDING:
        reasons.append(
            f"{new.diverged} of {new.total} seeds diverged ({old.diverged} of {old.total} in "
            "REFERENCE)"
        )
    if not new.returns and not old.returns:
        reasons.append("every seed diverged on both sides")
    reasons += doubts
    return replace(verdict, state=INCONCLUSIVE if reasons else PASS, reasons=reasons, notes=notes)


def render(report: Report, form: str) -> str:
    """The report as ``text``, ``json`` or ``junit`` XML."""
    return {"text": _text, "json": _json, "junit": _junit}[form](report)


def _text(report: Report) -> str:
    lines = []
    for v in report.verdicts:
        lines.append(f"{v.state:<12}  {v.scenario} · {v.algorithm}")
        details = [*_details(v), *v.reasons] if v.new else v.reasons
        lines += [f"{'':<12}    {line}" for line in [*details, *v.notes]]
    lines += report.notes
    counts = {s: sum(v.state == s for v in report.verdicts) for s in EXIT_CODES}
    over = f" after Holm over {report.family} cells" if report.family > 1 else ""
    lines.append(
        f"{report.state}: {counts[PASS]} passed, {counts[REGRESSED]} regressed, "
        f"{counts[INCONCLUSIVE]} inconclusive (tolerance {report.tolerance:g} of optimal − safe "
        f"return, and of the seeds; alpha {report.alpha:g}{over})"
    )
    return "\n".join(lines) + "\n"


def _details(v: Verdict) -> list[str]:
    """What was measured, and what could have been."""
    new, old = v.new, v.reference
    assert new is not None
    before, after = old.summary, new.summary
    means = " → ".join(f"{s.mean:.2f}" if s.n else "none" for s in (before, after))
    line = f"return   {means} (n = {before.n}, {after.n})"
    if before.n and after.n:
        line += f", {round(-v.return_fall, 2) + 0.0:+.2f} of optimal − safe{_p(v.p_return)}"
    rates = f"{old.successes}/{old.total} → {new.successes}/{new.total}"
    lines = [line, f"success  {rates} seeds{_p(v.p_success)}"]
    if old.diverged or new.diverged:
        lines.append(
            f"diverged {old.diverged}/{old.total} → {new.diverged}/{new.total} seeds"
            f"{_p(v.p_diverged)}"
        )
    found = []
    if math.isfinite(v.detectable_fall):
        found.append(f"a return lower by {v.detectable_fall:.2f} in four cases of five")
    if v.detectable_successes is not None:
        found.append(f"at most {v.detectable_successes}/{new.total} that succeed")
    lines.append(f"these seeds can find: {'; '.join(found) or 'nothing'}")
    return lines


def _p(value: float) -> str:
    return "" if math.isnan(value) else f", p = {value:.2g}"


def _json(report: Report) -> str:
    data = {
        "state": report.state,
        "tolerance": report.tolerance,
        "alpha": report.alpha,
        "family": report.family,
        "cells": [
            {
                "scenario": v.scenario,
                "algorithm": v.algorithm,
                "state": v.state,
                "reasons": v.reasons,
                "notes": v.notes,
                "reference": _sides(v.reference),
                "new": _sides(v.new),
                **{
                    key: _number(getattr(v, key))
                    for key in (
                        "return_fall", "success_fall", "diverged_rise", "p_return", "p_success",
                        "p_diverged", "detectable_fall", "detectable_successes",
                    )
                },
            }
            for v in report.verdicts
        ],
        "notes": report.notes,
    }  # fmt: skip
    return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _sides(sample: Sample | None) -> dict[str, Any] | None:
    if sample is None:
        return None
    return {
        "place": sample.place,
        "mean_return": _number(sample.summary.mean),
        "returns": list(sample.returns),
        "successes": sample.successes,
        "diverged": sample.diverged,
        "seeds": sample.total,
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _junit(report: Report) -> str:
    """A test case per cell: regressed is a failure, failed or missing an error, else skipped."""
    suite = ElementTree.Element("testsuite", name="rocompare check")
    count = {"failure": 0, "error": 0, "skipped": 0}
    for v in report.verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname=v.scenario, name=v.algorithm)
        if v.state != PASS:
            kind = "failure" if v.state == REGRESSED else "skipped" if v.new else "error"
            count[kind] += 1
            message = _NOT_XML.sub("?", "; ".join(v.reasons))
            ElementTree.SubElement(case, kind, message=message)
        if v.new:
            text = "\n".join([*_details(v), *v.notes])
            ElementTree.SubElement(case, "system-out").text = _NOT_XML.sub("?", text)
    suite.set("tests", str(len(report.verdicts)))
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(count[kind]))
    if report.notes:
        notes = ElementTree.SubElement(suite, "system-out")
        notes.text = _NOT_XML.sub("?", "\n".join(report.notes))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'
