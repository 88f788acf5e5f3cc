"""Pages of the docs that are made from the program and from results, so that they cannot lie.

    python -m rocompare.cli.pages DOCS RESULTS

writes ``commands.md``, ``algorithms.md`` and ``methods.md`` into the folder DOCS.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from rocompare.analysis import stats
from rocompare.results import files
from rocompare.results.reader import Results, StoredCell
from rocompare.suite import catalog, registry

GENERATED = "<!-- made by `make docs`; change the program or the results instead -->\n"


def commands() -> str:
    """Every command: what it does, its arguments and options, and its exit codes."""
    from rocompare.cli import app

    parts = [GENERATED, "# Commands\n", f"{_words(str(app.info.epilog))}\n"]
    found = {}
    for info in app.registered_commands:
        assert info.callback is not None
        found[info.name or info.callback.__name__] = info.callback, info.epilog
    for name, (function, epilog) in sorted(found.items()):
        parts += [f"## {name}\n", f"{_words(function.__doc__)}\n"]
        hints = typing.get_type_hints(function, include_extras=True)
        rows = [
            _parameter(name, hints[name], parameter.default)
            for name, parameter in inspect.signature(function).parameters.items()
        ]
        parts.append(_table(("argument or option", "meaning"), rows))
        if epilog:
            parts.append(f"{_words(epilog)}\n")
    return "\n".join(parts)


def _parameter(name: str, hint: Any, default: Any) -> tuple[str, str]:
    kind, info = typing.get_args(hint)[:2]
    meaning = _words(info.help)
    kinds = [k for k in (kind, *typing.get_args(kind)) if inspect.isclass(k)]
    choices = [str(c.value) for k in kinds if issubclass(k, Enum) for c in k]
    if choices:
        meaning += f" One of {', '.join(choices)}."
    if default not in (None, False, "", inspect.Parameter.empty):
        meaning += f" Default: {getattr(default, 'value', default)}."
    if isinstance(info, typer.models.ArgumentInfo):
        return f"`{info.metavar or name.upper()}`", meaning
    # In an annotation typer takes the first name of an option for its default.
    named = [d for d in (info.default, *(info.param_decls or ())) if isinstance(d, str)]
    flag = [*named, f"--{name.replace('_', '-')}"][0]
    return f"`{flag} {info.metavar}`" if info.metavar else f"`{flag}`", meaning


def algorithms() -> str:
    """Every algorithm: its module's docstring and its hyperparameters."""
    parts = [GENERATED, "# Algorithms\n"]
    parts.append(
        "What each implements, with its sources and all deviations, and every hyperparameter. "
        "[Methods](methods.md) compares them on a page.\n"
    )
    told: dict[str, str] = {}
    for name, place in registry.ALGORITHMS.items():
        module = place.partition(":")[0]
        parts.append(f"## {name}\n")
        if module in told:
            parts.append(f"Described with [{told[module]}](#{told[module]}).\n")
        else:
            told[module] = name
            parts.append(_markdown(_docstring(module)))
        entry = next(e for e in catalog.find(name) if e.kind == "algorithm")
        rows = [
            (f"`{p.name}`", f"{p.type} {p.range}".strip(), f"`{p.start}`", p.meaning)
            for p in catalog.parameters(entry)
        ]
        parts.append(_table(("hyperparameter", "type", "default", "meaning"), rows))
    return "\n".join(parts)


@dataclass(frozen=True)
class _Family:
    """Games that ask the same of a method."""

    title: str
    question: str

    def holds(self, cell: StoredCell) -> bool:
        return _family(cell) is self


HILLS = _Family("narrow optimum", "Max of Three, Two and N: a wide safe hill, a narrow optimum")
MATRIX = _Family("punished, continuous", "the penalty and climbing games over continuous actions")
GATHER = _Family("several steps", "Particle Gather")
DISCRETE = _Family("punished, discrete", "the penalty, climbing and QTRAN games in their own form")
CHANCE = _Family("stochastic reward", "climbing with rewards that are drawn at random")
PREY = _Family("predator-prey", "predators that are punished for hunting alone")
FAMILIES = (HILLS, MATRIX, GATHER, DISCRETE, CHANCE, PREY)
ABLATIONS = ("svnr_sensitivity",)
"""Suites of one algorithm's variants, which have pictures of their own."""
_BY_CLASS = {
    "MaxOfThree": HILLS,
    "MaxOfN": HILLS,
    "MatrixGame": MATRIX,
    "ParticleGather": GATHER,
    "PredatorPrey": PREY,
}


def _family(cell: StoredCell) -> _Family | None:
    scenario = cell.config["scenario"]
    kind = str(scenario["env"]).rpartition(":")[2]
    if kind == "DiscreteMatrixGame":
        return CHANCE if "stochastic" in str(scenario["params"].get("game")) else DISCRETE
    return _BY_CLASS.get(kind)


def methods(results: Path) -> str:
    """Every method beside the others: its idea, its paper, what it assumes, where it works."""
    ideas = {name: catalog.about(place) for name, place in registry.ALGORITHMS.items()}
    notes = files.read_yaml(Path(__file__).with_name("methods.yaml"))
    counts = _successes(Results(results))
    parts = [GENERATED, "# Methods\n", f"{notes['intro'].strip()}\n"]
    about = [
        (f"[{name}](algorithms.md#{name})", note["idea"], note["paper"], note["assumes"])
        for name, note in notes["methods"].items()
    ]
    assert set(notes["methods"]) == set(ideas), "methods.yaml has every registered algorithm"
    parts.append(_table(("method", "idea", "paper", "assumes"), about))
    parts.append("## Where each works\n")
    parts.append(
        "Seeds that succeed, in decentralised execution, with Wilson's 95 % interval of the rate; "
        "of defaults unless the suite says otherwise, over all reference results of a family. "
        "Names in italics are variants of a method: of one hyperparameter, or with a curriculum, "
        "which is knowledge of the reward that others do not have.\n"
    )
    parts += [f"- **{family.title}**: {family.question}." for family in FAMILIES]
    names = [name for name in ideas if name in counts]
    variants = sorted(set(counts) - set(ideas))
    rows = [(f"`{name}`", *_rates(counts[name])) for name in names]
    rows += [(f"*{name}*", *_rates(counts[name])) for name in variants]
    parts.append("\n" + _table(("method", *(family.title for family in FAMILIES)), rows))
    parts.append(f"## What that says\n\n{notes['outcome'].strip()}\n")
    return "\n".join(parts)


def _successes(results: Results) -> dict[str, dict[_Family, tuple[int, int]]]:
    """By algorithm and family, seeds that succeeded and seeds in all."""
    counts: dict[str, dict[_Family, tuple[int, int]]] = {}
    for cell, rows in results.by_cell():
        family = _family(cell)
        unknown = rows["return"].isna() & ~rows["diverged"] | rows["success"].isna()
        if family is None or cell.suite in ABLATIONS or unknown.any():
            continue
        own = counts.setdefault(cell.algorithm, {})
        good, total = own.get(family, (0, 0))
        own[family] = good + int(rows["success"].sum()), total + len(rows)
    return counts


def _rates(own: dict[_Family, tuple[int, int]]) -> list[str]:
    cells = []
    for family in FAMILIES:
        if family not in own:
            cells.append("")
            continue
        good, total = own[family]
        low, high = stats.wilson_interval(good, total)
        cells.append(f"{good}/{total} [{low:.2f}, {high:.2f}]")
    return cells


def _docstring(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def _markdown(text: str) -> str:
    """A docstring as Markdown: literal blocks become fenced ones, roles plain code."""
    text = re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", text).replace("``", "`")
    lines: list[str] = []
    fenced = False
    for line in text.split("\n"):
        if fenced and line and not line.startswith("    "):
            while lines[-1] == "":
                lines.pop()
            lines += ["```", ""]
            fenced = False
        if line.endswith("::") and not fenced:
            lines += [line[:-1], "", "```text"]
            fenced = True
        elif not (fenced and not line and lines[-1] == "```text"):
            lines.append(line.removeprefix("    ") if fenced else line)
    return "\n".join([*lines, "```"] if fenced else lines) + "\n"


def _words(text: str | None) -> str:
    return " ".join((text or "").split())


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in x)} |\n" for x in lines)


def write(docs: Path, results: Path) -> None:
    for name, text in pages(results).items():
        files.write_out(docs / name, text)


def pages(results: Path) -> dict[str, str]:
    """The text of every page by its file's name."""
    return {
        "commands.md": commands(),
        "algorithms.md": algorithms(),
        "methods.md": methods(results),
    }


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:3]))
