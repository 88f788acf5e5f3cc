"""Results as one self-contained HTML page: tables that sort, pictures, configurations, failures.

The page loads nothing: pictures are data URIs, and its content security policy forbids the
network. The same files give the same bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import yaml

from rocompare import __version__
from rocompare.analysis import plots, stats
from rocompare.analysis.table import DEFINITION
from rocompare.errors import ResultsError
from rocompare.results import store as results

_SVG_LIMIT = 300_000
"""Bytes; thousands of markers are smaller, and faster to show, as pixels."""

Cell = str | float | tuple[str, float]
"""Of a table: text, a number, or text with the number that it sorts by."""


def write_report(path: str | Path, out: Path) -> list[str]:
    """Write the page on the results below ``path`` to ``out``; returns what they lack."""
    if out.is_dir():
        raise ResultsError(f"{out}: is a folder; give a file, as in {out / 'report.html'}")
    page, notes = report_page(path)
    results.write_atomic(out, page)
    return notes


def report_page(path: str | Path) -> tuple[str, list[str]]:
    """The page on the results below ``path``, and what they lack.

    Raises:
        ResultsError: nothing there, or one name stands for two configurations.
    """
    data = plots.load(path)
    suites = ", ".join(dict.fromkeys(data.seeds["suite"])) or "no finished seeds"
    sections = [
        ("Missing or failed", _list(data.notes) if data.notes else "<p>Nothing.</p>"),
        ("Returns", _summary(data)),
        ("Pictures", _pictures(data)),
        ("Seeds", _seeds(data)),
        ("Configuration and provenance", _cells(data, path)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{content}</section>\n" for title, content in sections)
    page = _PAGE.format(
        title=escape(f"rocompare: {suites}"), body=body, style=_STYLE, script=_SCRIPT,
        version=escape(__version__),
    )  # fmt: skip
    return page, data.notes


def _summary(data: plots.Data) -> str:
    rows: list[list[Cell]] = []
    for scenario in data.scenarios:
        for algorithm in data.present(scenario):
            cell = data.of(algorithm, scenario)
            finite = plots.finite(cell)
            reached, total = plots.reached(cell)
            numbers = stats.summarise(finite["return"])
            low, high = stats.wilson_interval(reached, total)
            mean_low, mean_high = stats.t_interval(finite["return"])
            optimal = data.returns.get(scenario, (math.nan, math.nan))[1]
            rows.append(
                [
                    scenario,
                    algorithm,
                    (f"{numbers.n}/{total}" if numbers.n != total else str(total), numbers.n),
                    (f"{reached}/{total}", reached / total),
                    (f"{low:.2f} to {high:.2f}", low),
                    numbers.mean,
                    (f"{_text(mean_low)} to {_text(mean_high)}", mean_low),
                    numbers.std if numbers.n > 1 else math.nan,
                    numbers.median,
                    numbers.iqm,
                    numbers.low,
                    numbers.high,
                    optimal - numbers.mean,
                    float(cell["seconds"].mean()),
                ]
            )
    heads = (
        "scenario", "algorithm", "seeds", "at optimum", "rate's 95% interval", "mean",
        "its 95% interval", "std", "median", "IQM", "min", "max", "gap", "s per seed",
    )  # fmt: skip
    words = (
        f"{DEFINITION} At optimum: seeds whose evaluation ended mostly in the optimum's basin, "
        "with Wilson's interval; seeds that diverged count as not there, and as seeds without a "
        "return (finite/all). Intervals of the mean are Student's, over seeds. Gap: the optimal "
        "return that the scenario declares, minus the mean."
    )
    return f"<p>{escape(words)}</p>{_table(heads, rows)}"


def _seeds(data: plots.Data) -> str:
    frame = data.seeds
    rows: list[list[Cell]] = [
        [
            row["scenario"], row["algorithm"], (str(row["seed"]), row["seed"]),
            row["return"], row["basin"], row["return_noiseless"], row["basin_noiseless"],
            "diverged" if row["diverged"] else "",
            *((f"{row[name]:,}", row[name]) for name in ("env_steps", "updates", "parameters")),
            row["seconds"],
        ]
        for row in frame.to_dict("records")
    ]  # fmt: skip
    heads = (
        "scenario", "algorithm", "seed", "return", "basin", "return without noise",
        "basin without noise", "", "steps", "updates", "parameters", "seconds",
    )  # fmt: skip
    return _details(f"All {len(rows)} seeds", _table(heads, rows))


def _cells(data: plots.Data, path: str | Path) -> str:
    if data.seeds.empty:
        return "<p>None: no cell finished.</p>"
    parts = []
    for cell, folder in results.cell_folders(path).items():
        config = (folder / "config.yaml").read_text(encoding="utf-8")
        text = f"{config}\n# provenance\n{_provenance(folder)}"
        parts.append(_details(" · ".join(cell), f"<pre>{escape(text)}</pre>"))
    return "".join(parts)


def _provenance(folder: Path) -> str:
    try:
        record = json.loads((folder / "provenance.json").read_bytes())
    except (OSError, ValueError) as error:
        return f"# not readable: {error.__class__.__name__}\n"
    return str(yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def _pictures(data: plots.Data) -> str:
    groups: dict[str, list[str]] = {}
    for plot in plots.all_plots(data):
        groups.setdefault(plot.scenario, []).append(_figure(plot))
    return "".join(
        f'<h3>{escape(scenario or "all scenarios")}</h3><div class="figures">{"".join(found)}</div>'
        for scenario, found in groups.items()
    )


def _figure(plot: plots.Plot) -> str:
    kind, image = "svg+xml", plot.render("svg")
    if len(image) > _SVG_LIMIT:
        kind, image = "png", plot.render("png")
    source = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
    return (
        f'<figure><img src="{source}" alt="{escape(plot.name)}">'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>\n"
    )


def _table(heads: Iterable[str], rows: Iterable[list[Cell]]) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{escape(name)}</button></th>' if name
        else "<td></td>"
        for name in heads
    )  # fmt: skip
    lines = [f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows]
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
        "</div>"
    )


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    text, number = value if isinstance(value, tuple) else (_text(value), value)
    # An empty key sorts last, whichever way.
    key = repr(float(number)) if math.isfinite(number) else ""
    return f'<td class="number" data-key="{key}">{escape(text)}</td>'


def _text(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}" if math.isfinite(value) else "—"


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _details(title: str, content: Any) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>\n"


_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
h3 { font-size: 1rem; }
p { max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; }
th, td { padding: .2rem .4rem; text-align: left; white-space: nowrap; }
thead th { white-space: normal; vertical-align: bottom; }
tbody tr { border-top: 1px solid #8884; }
tbody tr:hover { background: #8882; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  padding: .2rem 0; cursor: pointer; text-align: left; }
th button::after { content: " \\2195"; opacity: .35; }
th[aria-sort=ascending] button::after { content: " \\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: " \\2193"; opacity: 1; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
figure { margin: 0; width: 24rem; max-width: 100%; break-inside: avoid; }
img { width: 100%; background: white; }
figcaption { font-size: .8rem; }
summary { cursor: pointer; } pre { overflow-x: auto; font-size: .8rem; }
footer { margin-top: 2rem; font-size: .8rem; opacity: .8; }
@media print {
  :root { color-scheme: light; font-size: 10px; } body { max-width: none; padding: 0; }
  th, td { padding: .1rem .3rem; white-space: normal; } .scroll { overflow: visible; }
  th button::after { content: none; } figure { width: 48%; }
  h2, h3, summary { break-after: avoid; } pre { white-space: pre-wrap; columns: 2; }
  tr { break-inside: avoid; }
}
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("thead tr > *")];
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "key" in cell.dataset
      ? (cell.dataset.key === "" ? null : Number(cell.dataset.key)) : cell.textContent;
  };
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map(row => [key(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
  }));
}
// Closed details would be missing on paper.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach(details => details.open = true);
});
addEventListener("afterprint", () => closed.forEach(details => details.open = false));
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
<footer>Written by rocompare {version}. A column's name sorts by it.</footer>
<script>{script}</script>
</body>
</html>
"""
