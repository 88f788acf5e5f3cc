"""Commands that read results: they import nothing that results name, and run nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rocompare.cli.shared import (
    ResultsArgument,
    app,
    console,
    fail,
    say,
)
from rocompare.errors import printable


class TableFormat(StrEnum):
    rich = "rich"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    json = "json"
    html = "html"


class Statistic(StrEnum):
    mean_std = "mean-std"
    median = "median"
    iqm = "iqm"
    success = "success"
    score = "score"
    gap = "gap"
    executed_ro = "executed-ro"
    perceived_ro = "perceived-ro"
    cost = "cost"


class ExecutionName(StrEnum):
    decentralised = "decentralised"
    deterministic = "deterministic"
    shared = "shared"


class ExportFormat(StrEnum):
    marl_eval = "marl-eval"
    rliable = "rliable"
    parquet = "parquet"


class TextOrJson(StrEnum):
    text = "text"
    json = "json"


class CheckFormat(StrEnum):
    text = "text"
    json = "json"
    junit = "junit"


@app.command()
def table(
    path: ResultsArgument,
    form: Annotated[TableFormat, typer.Option("--format", help="Form of the output.")] = (
        TableFormat.rich
    ),
    statistic: Annotated[
        Statistic, typer.Option(help="What is shown of each cell's seeds.")
    ] = Statistic.mean_std,
    reference: Annotated[
        str | None,
        typer.Option(help="Published values beside ours, e.g. paper_table1.", metavar="NAME"),
    ] = None,
    execution: Annotated[
        ExecutionName, typer.Option(help="How agents execute their policies.")
    ] = ExecutionName.decentralised,
    over_all: Annotated[
        bool,
        typer.Option("--aggregate", help="Each algorithm over all scenarios, success rates first."),
    ] = False,
) -> None:
    """Print mean ± std (or another statistic) of the returns, algorithms x scenarios."""
    from rocompare.analysis import overall, render
    from rocompare.analysis import table as tables
    from rocompare.results.reader import Results

    if over_all:
        together = overall.overall(Results(path))
        if form is TableFormat.rich:
            overall.show(together, console())
        else:
            typer.echo(overall.render(together, form.value), nl=False)
        return
    found = tables.return_table(Results(path), statistic.value, execution.value, reference)
    if form is TableFormat.rich:
        render.print_table(found, console())
    else:
        typer.echo(render.render(found, form.value), nl=False)


@app.command()
def export(
    results: ResultsArgument,
    form: Annotated[ExportFormat, typer.Option("--format", help="Who is to read it.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file.")],
    execution: Annotated[
        ExecutionName, typer.Option(help="Whose returns; parquet has all.")
    ] = ExecutionName.decentralised,
) -> None:
    """Write the results for other packages: marl-eval, rliable, or one table in Parquet."""
    from rocompare.analysis import export as exporting

    for note in exporting.export(results, form.value, out, execution.value):
        say(note)
    typer.echo(printable(f"{form.value} in {out}"))


@app.command()
def diagnose(
    results: ResultsArgument,
    form: Annotated[
        TextOrJson, typer.Option("--format", help="Form of the output.")
    ] = TextOrJson.text,
) -> None:
    """Tell when each algorithm over-generalizes: executed and perceived RO over training."""
    from rocompare.analysis import diagnose as diagnose_module

    render = diagnose_module.render_json if form is TextOrJson.json else diagnose_module.render
    typer.echo(render(results), nl=False)


@app.command()
def compare(
    results: ResultsArgument,
    a: Annotated[str, typer.Argument(metavar="A", help="An algorithm's name.")] = "",
    b: Annotated[str, typer.Argument(metavar="B", help="Another's.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every two algorithms, as a matrix, and their ranks.")
    ] = False,
    form: Annotated[
        TextOrJson, typer.Option("--format", help="Form of the output.")
    ] = TextOrJson.text,
) -> None:
    """Compare two algorithms on each scenario: difference, tests, and what they allow to say."""
    from rocompare.analysis import compare as comparing

    if every != (not a and not b) or bool(a) != bool(b):
        fail("name two algorithms, or say --all")
    if every:
        text = comparing.render_all(comparing.compare_all(results), form.value)
    else:
        text = comparing.render(comparing.compare(results, a, b), form.value)
    typer.echo(text, nl=False)


@app.command(
    epilog="Exit codes: 0 no cell regressed, 1 a cell regressed, 3 none did but one is "
    "inconclusive, 2 wrong usage or input, or an alpha that so few seeds cannot reach."
)
def check(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Results folder to judge.")],
    against: Annotated[
        Path, typer.Option(metavar="REFERENCE", help="Results folder to judge it by.")
    ],
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="T",
            help="Fall that is accepted, as a share of optimal minus safe return, of the seeds "
            "and of the budget.",
        ),
    ] = 0.1,
    alpha: Annotated[
        float, typer.Option(metavar="A", help="Accepted rate of false alarms, over all cells.")
    ] = 0.05,
    on: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="What must not get worse: return, success, auc (mean of the learning curve), "
            "steps-to-success, std.",
        ),
    ] = "return,success",
    allow_inconclusive: Annotated[
        bool, typer.Option("--allow-inconclusive", help="Exit with 0 where nothing regressed.")
    ] = False,
    ignore_configuration: Annotated[
        bool,
        typer.Option(
            "--ignore-configuration",
            help="Compare although games, budgets or evaluations differ.",
        ),
    ] = False,
    form: Annotated[
        CheckFormat, typer.Option("--format", help="Form of the output.")
    ] = CheckFormat.text,
) -> None:
    """Tell whether results got worse: a fall beyond the tolerance that is also significant."""
    from rocompare.analysis import check as checking
    from rocompare.analysis.judge import Settings

    questions = tuple(part.strip() for part in on.split(",") if part.strip())
    settings = Settings(tolerance, alpha, on=questions)
    report = checking.check(new, against, settings, ignore_configuration)
    typer.echo(checking.render(report, form.value), nl=False)
    raise typer.Exit(report.exit_code(allow_inconclusive))


class PictureWidth(StrEnum):
    column = "column"
    page = "page"


class PictureFormat(StrEnum):
    png = "png"
    pdf = "pdf"
    svg = "svg"


OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Only these kinds of pictures, with commas between: success, sweeps, profiles, "
        "ranks, curves, seeds, diagnosis, landscape, episodes.",
        metavar="KINDS",
    ),
]


@app.command()
def plot(
    results: ResultsArgument,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the pictures go.")],
    only: OnlyOption = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="Only this algorithm; repeatable.", metavar="NAME")
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this scenario; repeatable.", metavar="NAME")
    ] = None,
    width: Annotated[
        PictureWidth, typer.Option(help="A column of a two-column paper, or the whole page.")
    ] = PictureWidth.column,
    form: Annotated[
        list[PictureFormat] | None,
        typer.Option("--format", help="Of the files; repeatable. Default: png."),
    ] = None,
) -> None:
    """Draw success rates, curves, seeds, profiles, landscapes, at the size of a paper's column."""
    from rocompare.analysis import plots

    with _bar() as watch:
        written, notes = plots.save_all(
            results,
            out,
            only=_split(only),
            algorithms=_split(algorithm),
            scenarios=_split(scenario),
            width=width.value,
            formats=[one.value for one in form or (PictureFormat.png,)],
            watch=watch,
        )
    for note in notes:
        say(note)
    typer.echo(printable(f"{len(written)} files in {out}; what each shows: {out / 'captions.txt'}"))


@app.command("report")
def report_(
    results: ResultsArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("report.html"),
    only: OnlyOption = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="Results folder whose numbers stand beside these."),
    ] = None,
) -> None:
    """Write one self-contained HTML page: the result, pictures, numbers, configurations."""
    from rocompare.analysis import page

    with _bar() as watch:
        notes = page.write_report(results, out, only=_split(only), against=against, watch=watch)
    for note in notes:
        say(note)
    typer.echo(printable(f"report in {out}"))


def _split(names: list[str] | None) -> list[str]:
    return [name for part in names or () for name in part.split(",") if name]


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, which is told how much is done, and of how much."""
    from rich.console import Console
    from rich.progress import Progress

    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("drawing", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
