"""Where results differ in one number alone: scenarios in a parameter, or variants of an algorithm
in a hyperparameter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from rocompare.analysis.plots import style
from rocompare.results.reader import StoredCell
from rocompare.suite import registry


@dataclass(frozen=True)
class Sweep:
    """Scenarios that differ in one number alone."""

    name: str
    """What the scenarios' names begin with."""
    parameter: str
    points: list[tuple[float, str]]
    """The parameter's values in order, each with its scenario."""


@dataclass(frozen=True)
class Sensitivity:
    """Variants of one algorithm that differ in one hyperparameter alone."""

    algorithm: str
    """The class, by the short name that suites use."""
    parameter: str
    points: list[tuple[Any, str]]
    """The hyperparameter's values in order, each with the variant's name."""
    scenarios: list[str]


def find_sweeps(cells: list[StoredCell]) -> list[Sweep]:
    """Where three scenarios or more of a suite differ in one number of their environment alone."""
    groups: dict[tuple[str, str, str], dict[float, str]] = {}
    for cell in cells:
        scenario = cell.config["scenario"]
        for parameter, value in scenario["params"].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                others = {k: v for k, v in scenario["params"].items() if k != parameter}
                same = scenario["env"], others, cell.config["budget"], cell.config["evaluation"]
                group = cell.suite, parameter, _text(same)
                groups.setdefault(group, {}).setdefault(value, cell.label)
    found = [(suite, name, sorted(points.items())) for (suite, name, _), points in groups.items()]
    sweeps: list[Sweep] = []
    for suite, parameter, points in sorted(found, key=lambda one: -len(one[2])):
        if len(points) < 3 or any(set(points) <= set(other.points) for other in sweeps):
            continue  # suites that share scenarios have one sweep between them, the longest
        letters = zip(*(name for _, name in points), strict=False)
        alike = takewhile(lambda column: len(set(column)) == 1, letters)
        start = "".join(column[0] for column in alike).rstrip("._-+")
        start = start.removesuffix(parameter).rstrip("._-+") or parameter
        taken = any((start, parameter) == (other.name, other.parameter) for other in sweeps)
        sweeps.append(Sweep(f"{start}@{suite}" if taken else start, parameter, points))
    return sweeps


def find_sensitivities(cells: list[StoredCell]) -> list[Sensitivity]:
    """Where variants of one algorithm on one scenario differ in one hyperparameter alone: three or
    more of a number, two or more of anything else. What `rocompare tune` made is left out."""
    groups: dict[tuple[str, str, str, str], dict[str, tuple[Any, str]]] = {}
    for cell in cells:
        algorithm = cell.config["algorithm"]
        if style.untuned(cell.algorithm) != cell.algorithm:
            continue
        for parameter, value in algorithm["params"].items():
            others = {k: v for k, v in algorithm["params"].items() if k != parameter}
            group = cell.label, algorithm["use"], parameter, _text(others)
            groups.setdefault(group, {}).setdefault(_text(value), (value, cell.algorithm))
    found: dict[str, Sensitivity] = {}
    for (scenario, use, parameter, _), by_value in groups.items():
        points = list(by_value.values())
        numbers = all(type(value) in (int, float) for value, _ in points)
        if len(points) < (3 if numbers else 2):
            continue
        points.sort(key=lambda point: point[0] if numbers else 0)
        one = Sensitivity(registry.short_name("algorithm", use), parameter, points, [])
        found.setdefault(_text([use, parameter, points]), one).scenarios.append(scenario)
    return list(found.values())


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
