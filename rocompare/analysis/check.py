"""The regression gate: did NEW get worse than REFERENCE?

Reads both, matches cells by the names of their scenario and algorithm, has them judged
(:mod:`rocompare.analysis.judge`) and writes the verdicts. A cell is

- **regressed** if something that was asked for fell by more than the tolerance, significantly;
- **inconclusive** if it fell by more than the tolerance and its seeds, which could have shown a
  regression of that size, did not settle it; and if it is missing or failed in NEW;
- **unguarded** if it fell by more than the tolerance, but its seeds are so few or scatter so much
  that they could hardly have shown a regression: nothing is said against it;
- **pass** otherwise.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from rocompare.analysis import judge
from rocompare.analysis.exact import seeds_needed, smallest_p
from rocompare.analysis.judge import Answer, Cell, Seeds, Settings, State
from rocompare.analysis.samples import Name, differences
from rocompare.errors import ResultsError
from rocompare.results.reader import Results, StoredCell, score_of
from rocompare.results.records import SUCCESS_SCORE

PASS: Final = "pass"
REGRESSED: Final = "regressed"
INCONCLUSIVE: Final = "inconclusive"
UNGUARDED: Final = "unguarded"
CONDITIONS = ("scenario", "budget", "evaluation")
"""Parts of a configuration in which NEW and REFERENCE must not differ to be comparable."""
OF_CURVES = ("auc", "steps-to-success")


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one cell."""

    scenario: str
    algorithm: str
    state: State
    answers: tuple[Answer, ...] = ()
    seeds: tuple[int, int] = (0, 0)
    """Of REFERENCE and of NEW."""
    reasons: list[str] = field(default_factory=list)
    """Why it is not a pass, beyond the answers."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What ``rocompare check`` prints."""

    verdicts: list[Verdict]
    settings: Settings
    tested: int
    """Questions that p-values are adjusted for."""
    notes: list[str]

    @property
    def state(self) -> State:
        states = {verdict.state for verdict in self.verdicts}
        return (
            REGRESSED if REGRESSED in states else INCONCLUSIVE if INCONCLUSIVE in states else PASS
        )

    def exit_code(self, allow_inconclusive: bool = False) -> int:
        if self.state == REGRESSED:
            return 1
        return 3 if self.state == INCONCLUSIVE and not allow_inconclusive else 0


@dataclass(frozen=True)
class _Side:
    """One of the two results folders."""

    results: Results
    seeds: dict[Name, Seeds]
    cells: dict[Name, StoredCell]
    failures: dict[Name, str]


def check(
    new: str | Path,
    reference: str | Path,
    settings: Settings,
    ignore_configuration: bool = False,
) -> Report:
    """Compare the results below ``new`` with those below ``reference``.

    Raises:
        ResultsError: results that cannot be read, options that are no such thing, an ``alpha`` that
            these seeds cannot reach, or two folders whose games, budgets or evaluations differ.
    """
    _check_settings(settings)
    curves = any(question in OF_CURVES for question in settings.on)
    old, now = _read(reference, curves), _read(new, curves)
    if not old.cells:
        raise ResultsError(f"{reference}: no finished seeds to compare with; every cell failed")
    both = [name for name in old.cells if name in now.cells]
    if not ignore_configuration:
        _refuse_other_conditions(both, old, now)
    pairs = {name: Cell(now.seeds[name], old.seeds[name], old.cells[name].scale) for name in both}
    judged = judge.judge(pairs, settings) if pairs else None
    if judged is not None and not judged.reachable:
        raise ResultsError(_unreachable(pairs, settings.alpha, len(settings.on)))
    verdicts = [_verdict(name, old, now, judged) for name in old.cells]
    notes = [f"in NEW: {note}" for note in now.results.notes]
    notes += [
        f"not in REFERENCE, and so not checked: {algorithm} on {label}"
        for label, algorithm in dict.fromkeys([*now.cells, *now.failures])
        if (label, algorithm) not in old.cells
    ]
    notes += [
        f"failed in REFERENCE: {algorithm} on {label}: {error}"
        for (label, algorithm), error in old.failures.items()
    ]
    return Report(verdicts, settings, int(judged.tested) if judged else 0, notes)


def _check_settings(settings: Settings) -> None:
    if not 0 < settings.alpha < 1:
        raise ResultsError(f"--alpha: expected a number between 0 and 1, got {settings.alpha}")
    if not (settings.tolerance >= 0 and math.isfinite(settings.tolerance)):
        raise ResultsError(
            f"--tolerance: expected a number of at least 0, got {settings.tolerance}"
        )
    for question in settings.on:
        if question not in judge.QUESTIONS:
            known = ", ".join(judge.QUESTIONS)
            raise ResultsError(f"--on: unknown question '{question}'; known: {known}")


def _read(path: str | Path, curves: bool) -> _Side:
    results = Results(path, details=curves)
    side = _Side(results, {}, {}, {})
    frame = results.seeds
    order = frame["seed"].to_numpy()
    values = {name: frame[name].to_numpy() for name in ("return", "usable")}
    success = frame["success"].fillna(False).to_numpy(bool)
    by_cell: dict[str, pd.DataFrame] = {}
    if curves:
        places = ["suite", "scenario", "algorithm", "key"]
        groups = results.curves().groupby(places, sort=False)
        by_cell = {"/".join(map(str, names)): rows for names, rows in groups}
    for cell, rows in results.rows_of_cells():
        at = rows[np.argsort(order[rows], kind="stable")]
        good = at[values["usable"][at].astype(bool)]
        auc, steps = _of_curves(cell, by_cell.get(cell.place), order[good])
        side.cells[cell.label, cell.algorithm] = cell
        side.seeds[cell.label, cell.algorithm] = Seeds(
            returns=values["return"][good].astype(float),
            success=None if cell.scale is None else success[good].astype(float),
            total=len(rows),
            auc=auc,
            steps=steps,
        )
    places_of = {cell.place: name for name, cell in side.cells.items()}
    for failure in results.failures:
        name = places_of.get(failure.place, (failure.scenario, failure.algorithm))
        side.failures[name] = failure.error
    return side


def _of_curves(cell: StoredCell, rows: pd.DataFrame | None, seeds: Any) -> tuple[Any, Any]:
    """Mean of each seed's learning curve, and the share of the budget until its first success."""
    if rows is None:
        return None, None
    auc, steps = [], []
    for _, one in rows.set_index("seed").loc[seeds].groupby(level=0, sort=False):
        returns = one["return"].to_numpy(float)
        auc.append(float(np.nanmean(returns)) if np.isfinite(returns).any() else math.nan)
        scores = score_of(returns, cell.safe_return, cell.optimal_return)
        there = np.flatnonzero(scores >= SUCCESS_SCORE - 1e-9)
        budget = float(one["env_steps"].iloc[-1])
        steps.append(float(one["env_steps"].iloc[there[0]]) / budget if len(there) else 1.0)
    return np.array(auc), None if cell.scale is None else np.array(steps)


def _refuse_other_conditions(both: list[Name], old: _Side, now: _Side) -> None:
    for name in both:
        before, after = old.cells[name].config, now.cells[name].config
        changes = [c for part in CONDITIONS for c in differences(before[part], after[part], part)]
        if changes:
            label, algorithm = name
            raise ResultsError(
                f"{now.results.path}: {algorithm} on {label} was not trained as in "
                f"{old.results.path}: {'; '.join(changes)}; train it alike, or say "
                "--ignore-configuration"
            )


def _unreachable(pairs: dict[Name, Cell], alpha: float, questions: int) -> str:
    n, m = max(
        ((cell.new.total, cell.reference.total) for cell in pairs.values()),
        key=lambda sizes: -smallest_p(sizes[0], sizes[1], "less"),
    )
    asked = questions * len(pairs)
    over = f" over {asked} questions" if asked > 1 else ""
    needed = seeds_needed(alpha / asked, "less")
    return (
        f"--alpha {alpha:g}: these seeds can never reach it, so that no regression would ever be "
        f"found: the smallest p of {n} against {m} seeds is {smallest_p(n, m, 'less'):.2g}{over}; "
        + (f"train at least {needed} seeds on either side, or " if needed else "")
        + "give a larger --alpha"
    )


def _verdict(name: Name, old: _Side, now: _Side, judged: judge.Judgement | None) -> Verdict:
    failure = now.failures.get(name)
    if judged is None or name not in judged.verdicts:
        text = f"failed in NEW: {failure}" if failure else "missing in NEW"
        return Verdict(*name, INCONCLUSIVE, reasons=[text])
    found = judged.verdicts[name]
    state: State = found.state
    reasons = []
    if failure:
        reasons.append(f"the last attempt failed in NEW: {failure}")
        state = state if state == REGRESSED else INCONCLUSIVE
    changes = differences(old.cells[name].config["algorithm"], now.cells[name].config["algorithm"])
    notes = [f"configuration differs: {'; '.join(changes)}"] if changes else []
    seeds = old.seeds[name].total, now.seeds[name].total
    return Verdict(*name, state, found.answers, seeds, reasons, notes)


def render(report: Report, form: str) -> str:
    """The report as ``text``, ``json`` or ``junit`` XML."""
    return {"text": _text, "json": _json, "junit": _junit}[form](report)


def _text(report: Report) -> str:
    lines = []
    for v in report.verdicts:
        lines.append(f"{v.state:<12}  {v.scenario} · {v.algorithm}")
        lines += [f"{'':<12}    {line}" for line in [*_answers(v), *v.reasons, *v.notes]]
    lines += report.notes
    counts = {
        state: sum(v.state == state for v in report.verdicts)
        for state in (PASS, UNGUARDED, REGRESSED, INCONCLUSIVE)
    }
    said = ", ".join(f"{n} {state}" for state, n in counts.items())
    over = f", adjusted for {report.tested} questions" if report.tested > 1 else ""
    settings = report.settings
    lines.append(
        f"{report.state}: {said} (tolerance {settings.tolerance:g} of optimal − safe return, of "
        f"the seeds and of the budget; alpha {settings.alpha:g}{over}; success is a score of "
        f"{SUCCESS_SCORE:g}; power: the chance that a loss of {settings.size:g} would be found)"
    )
    return "\n".join(lines) + "\n"


def _answers(v: Verdict) -> list[str]:
    """A line per question: before and after, the fall, and what could have been found."""
    lines = []
    width = max((len(a.question) for a in v.answers), default=0)
    for a in v.answers:
        rate = a.question in ("success", "diverged")
        before, after = ((f"{x:.0%}" if rate else f"{x:.2f}") for x in (a.reference, a.new))
        line = f"{a.question:<{width}}  {before} → {after}"
        if a.question == "success":
            line += f" of {v.seeds[0]} and {v.seeds[1]} seeds"
        if a.beyond:
            fall = f"{a.fall:.0%}" if rate else f"{a.fall:.2f}"
            line += f", worse by {fall}, p = {a.adjusted:.2g}"
            line += "" if a.significant else ", which is not significant"
        lines.append(f"{line}; power {a.power:.2f}" if math.isfinite(a.power) else line)
    return lines


def _json(report: Report) -> str:
    settings = report.settings
    data = {
        "state": report.state,
        "tolerance": settings.tolerance,
        "alpha": settings.alpha,
        "size": settings.size,
        "on": list(settings.on),
        "success_score": SUCCESS_SCORE,
        "tested": report.tested,
        "cells": [
            {
                "scenario": v.scenario,
                "algorithm": v.algorithm,
                "state": v.state,
                "seeds": {"reference": v.seeds[0], "new": v.seeds[1]},
                "answers": [{k: _plain(x) for k, x in vars(a).items()} for a in v.answers],
                "reasons": v.reasons,
                "notes": v.notes,
            }
            for v in report.verdicts
        ],
        "notes": report.notes,
    }
    return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _junit(report: Report) -> str:
    """A test case per cell: regressed is a failure, missing or failed an error, else skipped."""
    suite = ElementTree.Element("testsuite", name="rocompare check")
    count = {"failure": 0, "error": 0, "skipped": 0}
    for v in report.verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname=v.scenario, name=v.algorithm)
        if v.state in (REGRESSED, INCONCLUSIVE):
            kind = "failure" if v.state == REGRESSED else "skipped" if v.answers else "error"
            count[kind] += 1
            worse = [line for line in _answers(v) if "worse by" in line]
            message = _NOT_XML.sub("?", "; ".join([*worse, *v.reasons]))
            ElementTree.SubElement(case, kind, message=message)
        if v.answers:
            text = "\n".join([*_answers(v), *v.notes])
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
