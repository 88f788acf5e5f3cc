"""Commands for who writes an algorithm or a game, and what there is to choose from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rocompare.cli.shared import (
    LocalCodeOption,
    app,
    console,
    fail,
    import_from_here,
)


class ListFormat(StrEnum):
    text = "text"
    json = "json"


@app.command("list")
def list_(
    name: Annotated[
        str | None,
        typer.Argument(
            help="An algorithm or environment, for all its parameters; or algorithms, "
            "environments, references or suites.",
            metavar="[NAME]",
        ),
    ] = None,
    form: Annotated[
        ListFormat, typer.Option("--format", help="Form of the output.")
    ] = ListFormat.text,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON schema of suite files, for editors."),
    ] = False,
) -> None:
    """List what ships: algorithms, environments, published values and suites."""
    import json

    from rocompare.suite import catalog, listing
    from rocompare.suite import schema as schemas

    if schema:
        typer.echo(json.dumps(schemas.schema(), indent=1))
        return
    kind = (name or "").removesuffix("s")
    named = name and kind not in catalog.KINDS
    entries = catalog.find(name) if name and named else catalog.overview(kind or None)
    if form is ListFormat.json:
        typer.echo(json.dumps([catalog.as_data(entry) for entry in entries], indent=1))
    elif named:
        listing.print_each(entries, console())
    else:
        listing.print_entries(entries, console())


@app.command(epilog="Exit codes: 0 every check holds, 1 one is broken, 2 no such class.")
def doctor(
    name: Annotated[
        str,
        typer.Argument(
            metavar="CLASS",
            help="'package.module:Class', './file.py:Class', a name, or a function that makes a "
            "PettingZoo environment.",
        ),
    ],
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Examine an algorithm or an environment: which part of its contract is broken, in words."""
    from rocompare.dev import doctor as doctor_module

    import_from_here(allow_local_code)
    cls, kind = doctor_module.find(name, Path.cwd() if allow_local_code else None)
    findings = doctor_module.examine(cls, kind)
    for finding in findings:
        typer.echo(f"{'BROKEN' if finding.problem else 'holds '}  {finding.check}")
        if finding.problem:
            typer.echo(f"        {finding.problem}")
    broken = sum(finding.problem is not None for finding in findings)
    typer.echo(f"{name}: {'sound' if not broken else f'{broken} of {len(findings)} checks broken'}")
    raise typer.Exit(1 if broken else 0)


class NewKind(StrEnum):
    algorithm = "algorithm"
    environment = "environment"
    suite = "suite"


@app.command()
def new(
    kind: Annotated[NewKind, typer.Argument(help="What to write.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the file: NAME.py or NAME.yaml.")],
    algorithm: Annotated[
        list[str] | None,
        typer.Option(help="Suite: an algorithm to compare; repeatable.", metavar="CLASS"),
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option(help="Suite: an environment to learn in; repeatable.", metavar="CLASS"),
    ] = None,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Write a working skeleton into this folder: a class and its test, or a suite for a class.

    CLASS is 'package.module:Class', './file.py:Class', a name of `rocompare list`, or a function
    that makes a PettingZoo environment.
    """
    from rocompare.dev import new as skeleton

    here, classes = Path.cwd(), (algorithm or [], environment or [])
    if kind is NewKind.suite:
        import_from_here(allow_local_code)
        lines = skeleton.write_suite(name, here, *classes, allow_local_code)
    elif any(classes) or allow_local_code:
        fail(f"--algorithm, --environment and --allow-local-code are for a suite, not {kind}")
    else:
        lines = skeleton.write(kind.value, name, here)
    for line in lines:
        typer.echo(line)


@app.command()
def bench(
    seconds: Annotated[
        float, typer.Option(help="Time for each measurement.", min=0.01, max=600)
    ] = 2.0,
) -> None:
    """Measure training throughput on one core against plain one-seed code."""
    from rocompare.dev import bench as bench_module

    bench_module.main(seconds, console())
