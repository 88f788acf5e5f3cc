"""Results as one self-contained HTML page: the result first, then pictures, numbers, provenance.

The page loads nothing: pictures are data URIs, and its content security policy allows the one
style and the one script that come with it, by their hashes. The same files give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np
import yaml

from rocompare import __version__
from rocompare.analysis import plots, stats
from rocompare.analysis.plots import Cell, Data, Watch
from rocompare.analysis.plots.data import in_order
from rocompare.analysis.plots.style import untuned
from rocompare.analysis.samples import differences
from rocompare.analysis.table import DEFINITION, EXECUTION_WORDS, SUCCESS, load_reference
from rocompare.errors import printable
from rocompare.results import files
from rocompare.results.reader import Results
from rocompare.results.records import SUCCESS_SCORE
from rocompare.suite import registry

TEMPLATES = Path(__file__).parent / "templates"
DPI = 200
COLORS = 96
"""Of a picture's palette."""
_RETURNS = ("return", "return_deterministic", "return_shared", "score")
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Table = dict[str, Any]
"""``heads`` and ``rows``, all of them text, and perhaps ``words`` on them."""


def write_report(
    path: str | Path,
    out: Path,
    *,
    only: Sequence[str] = (),
    against: str | Path | None = None,
    watch: Watch = lambda done, of: None,
) -> list[str]:
    """Write the page on the results below ``path`` to ``out``; returns what they lack."""
    files.check_out(out)
    page, notes = report_page(path, only=only, against=against, watch=watch)
    files.write_out(out, page)
    return notes


def report_page(
    path: str | Path,
    *,
    only: Sequence[str] = (),
    against: str | Path | None = None,
    watch: Watch = lambda done, of: None,
) -> tuple[str, list[str]]:
    """The page on the results below ``path``, and what they lack.

    Args:
        only: kinds of pictures, of ``plots.KINDS``; all if empty.
        against: a folder of older results to stand beside these.

    Raises:
        ResultsError: nothing there, or a file that is no result of this tool.
    """
    data = Data(Results(path, details=True))
    old = None if against is None else Data(Results(against))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    overall, scenarios = _pictures(data, only, watch)
    environment.filters["breakable"] = _breakable
    style, script = _part("report.css"), _part("report.js")
    suites = dict.fromkeys(cell.stored.suite for cell in data.cells.values())
    page = environment.get_template("report.html.j2").render(
        title=printable(f"rocompare: {', '.join(suites) or 'no finished seeds'}"),
        style=markupsafe.Markup(style),
        style_hash=_hash(style),
        script=markupsafe.Markup(script),
        script_hash=_hash(script),
        result=_result(data),
        notes=data.notes,
        change=old and _change(data, old, against),
        overall=overall,
        scenarios=list(scenarios.items()),
        cells=_cells(data),
        seeds=_seeds(data),
        configurations=[_configuration(cell) for cell in data.cells.values()],
        version=__version__,
    )
    return page, data.notes


def _breakable(name: str) -> markupsafe.Markup:
    """A name that a browser may break behind its underscores."""
    return markupsafe.Markup("_<wbr>").join(name.split("_"))


def _part(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _result(data: Data) -> dict[str, Any]:
    """Scenarios by algorithms: success rates, returns, and what papers published."""
    published: dict[tuple[str, str], tuple[float, float]] = {}
    names = {(untuned(cell.stored.algorithm), cell.stored.scenario) for cell in data.cells.values()}
    notes = [
        f"Large: seeds that succeed, of all; below: return. {SUCCESS} {DEFINITION} Of "
        f"{EXECUTION_WORDS['decentralised']}."
    ]
    for reference in registry.REFERENCES:
        values = load_reference(reference)
        if names & values.keys():
            published |= values
            notes.append(
                f"In italics: {reference}, as published for a scenario of this name. ↑ or ↓: our "
                "mean ± std lies wholly above or below it."
            )
    rows = []
    for scenario in data.scenarios:
        cells = data.of(scenario)
        rows.append(
            (
                printable(scenario),
                [
                    _entry(cells[name], published) if name in cells else None
                    for name in data.algorithms
                ],
            )
        )
    return {"algorithms": [printable(a) for a in data.algorithms], "rows": rows, "notes": notes}


def _entry(
    cell: Cell, published: dict[tuple[str, str], tuple[float, float]]
) -> dict[str, str | None]:
    returns = cell.returns[np.isfinite(cell.returns)]
    beside = published.get((untuned(cell.stored.algorithm), cell.stored.scenario))
    text = _mean_std(returns)
    if not cell.measured.any():
        text = "not measured"
    elif not len(returns):
        text = "diverged"
    shade = ""
    if cell.rate:
        rate = cell.rate[0] / cell.rate[1]
        limits = ("", 0), ("some", 0.5), ("half", SUCCESS_SCORE), ("most", 1 - 1e-9), ("all", 1)
        shade = next(name for name, most in limits if rate <= most)
    return {
        "rate": _rate(cell) if cell.rate else None,
        "returns": text,
        "shade": shade,
        "published": beside and _published(returns, *beside),
    }


def _published(returns: Any, mean: float, std: float) -> str:
    text = f"{_number(mean)} ± {_number(std)}"
    if not len(returns):
        return text
    ours = stats.summarise(returns)
    if abs(ours.mean - mean) <= ours.std + std:
        return text
    return f"{text} {'↑' if ours.mean > mean else '↓'}"


def _change(data: Data, old: Data, against: object) -> dict[str, Any]:
    """What became of each cell since the results in ``against``."""
    rows, notes = [], [f"there: {note}" for note in old.notes]
    scenarios = dict.fromkeys([*data.scenarios, *old.scenarios])
    algorithms = in_order([*data.algorithms, *old.algorithms])
    for scenario, algorithm in itertools.product(scenarios, algorithms):
        before, now = (each.cells.get((algorithm, scenario)) for each in (old, data))
        if not before and not now:
            continue
        difference = interval = "—"
        if before and now:
            x, y = (c.returns[np.isfinite(c.returns)] for c in (now, before))
            if len(x) and len(y):
                difference = _number(x.mean() - y.mean())
                interval = _interval(*stats.difference_interval(x, y))
            changes = differences(before.stored.config, now.stored.config)
            if changes:
                where = f"configuration differs: {scenario} · {algorithm}: "
                notes.append(printable(where + "; ".join(changes)))
        sides = [(_rate(c), _mean_std(c.returns)) if c else ("—", "—") for c in (before, now)]
        rows.append(
            [
                printable(scenario), printable(algorithm), sides[0][0], sides[1][0], sides[0][1],
                sides[1][1], difference, interval,
            ]
        )  # fmt: skip
    heads = (
        "scenario", "algorithm", "success there", "success here", "return there", "return here",
        "difference", "its 95% interval",
    )  # fmt: skip
    return {
        "against": printable(str(against)), "table": {"heads": heads, "rows": rows}, "notes": notes,
    }  # fmt: skip


def _pictures(
    data: Data, only: Sequence[str], watch: Watch
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Those of all scenarios, and by scenario those of one."""
    overall: list[dict[str, Any]] = []
    scenarios: dict[str, list[dict[str, Any]]] = {}
    for plot in plots.all_plots(data, only, watch=watch, wide=["success"]):
        width, height = plot.inches
        picture = {
            "title": printable(plot.title),
            "text": printable(plot.caption, 5_000),
            "width": round(width * DPI / 2),
            "height": round(height * DPI / 2),
            "wide": width > plots.WIDTHS["column"],
            "data": base64.b64encode(plot.render("png", DPI, COLORS)).decode(),
        }
        where = scenarios.setdefault(printable(plot.scenario), []) if plot.scenario else overall
        where.append(picture)
    return overall, scenarios


def _cells(data: Data) -> Table:
    rows = []
    for (algorithm, scenario), cell in data.cells.items():
        returns = cell.returns[np.isfinite(cell.returns)]
        numbers = stats.summarise(returns)
        low, high = stats.wilson_interval(*cell.rate) if cell.rate else (math.nan, math.nan)
        optimal = cell.stored.optimal_return
        rows.append(
            [
                printable(scenario), printable(algorithm), f"{numbers.n}/{len(cell.returns)}",
                _rate(cell), _interval(low, high), _number(numbers.mean),
                _number(numbers.std if numbers.n > 1 else math.nan), _number(numbers.median),
                _number(numbers.iqm), _number(numbers.low), _number(numbers.high),
                _number(math.nan if optimal is None else optimal - numbers.mean),
                f"{cell.updates:,}", f"{cell.parameters:,}", _number(cell.seconds),
            ]
        )  # fmt: skip
    heads = (
        "scenario", "algorithm", "seeds", "success", "rate's 95% interval", "mean", "std",
        "median", "IQM", "min", "max", "gap", "updates", "parameters", "s per seed",
    )  # fmt: skip
    words = (
        "Seeds: those with a return, of all. The interval of the success rate is Wilson's. Gap: "
        "the optimal return that the scenario declares minus the mean."
    )
    return {"heads": heads, "rows": rows, "words": words}


def _seeds(data: Data) -> Table:
    places = {name: i for i, name in enumerate(data.cells)}
    records: list[dict[str, Any]] = data.results.seeds.to_dict("records")  # type: ignore[assignment]
    rows = [
        [
            printable(row["label"]), printable(row["algorithm"]), row["seed"],
            *(_number(row[name]) for name in _RETURNS),
            "diverged" if row["diverged"] else printable(row["basin"]),
            _number(row["executed_ro"]), _number(row["perceived_ro"]), f"{row['env_steps']:,}",
            _number(row["seconds"]),
        ]
        for row in sorted(records, key=lambda row: places[row["algorithm"], row["label"]])
    ]  # fmt: skip
    heads = (
        "scenario", "algorithm", "seed", "return", "deterministic", "shared", "score",
        "episodes ended in", "executed RO", "perceived RO", "steps", "seconds",
    )  # fmt: skip
    return {"heads": heads, "rows": rows}


def _configuration(cell: Cell) -> dict[str, Any]:
    """A cell's configuration, and its provenance: seeds that have the same one together."""
    made: dict[str, list[int]] = {}
    for record in cell.records:
        made.setdefault(json.dumps(record.provenance, sort_keys=True), []).append(record.seed)
    return {
        "place": printable(cell.stored.place),
        "config": _yaml(cell.stored.config),
        "provenance": [
            (
                f"seeds {_ranges(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]}",
                _yaml(json.loads(text)),
            )
            for text, seeds in made.items()
        ],
    }


def _ranges(seeds: Sequence[int]) -> str:
    """``0 to 4, 7``."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _yaml(value: object) -> str:
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return "\n".join(line.rstrip("\n") for line in text.splitlines())


def _rate(cell: Cell) -> str:
    return "{}/{}".format(*cell.rate) if cell.rate else "—"


def _mean_std(returns: Any) -> str:
    finite = returns[np.isfinite(returns)]
    if not len(finite):
        return "—"
    numbers = stats.summarise(finite)
    return f"{_number(numbers.mean)} ± {_number(numbers.std)}"


def _interval(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}" if math.isfinite(low) else "—"


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}" if math.isfinite(value) else "—"
