"""Commands that train, or say what would be trained."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from rocompare.cli.shared import (
    Device,
    DeviceOption,
    JobsOption,
    LocalCodeOption,
    ResultsArgument,
    ResultsOption,
    SetOption,
    SuiteArgument,
    app,
    console,
    fail,
    import_from_here,
    load_suite,
    refuse_missing,
    say,
)
from rocompare.errors import TuneError, printable


class ExecutorName(StrEnum):
    local = "local"
    ray = "ray"


class PlayFormat(StrEnum):
    text = "text"
    json = "json"


@app.command()
def run(
    suite: SuiteArgument,
    results: ResultsOption = Path("results"),
    seeds: Annotated[
        int | None, typer.Option(help="Train seeds 0..N-1 instead of the suite's.", metavar="N")
    ] = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="Only this algorithm; repeatable.", metavar="NAME")
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this scenario; repeatable.", metavar="NAME")
    ] = None,
    jobs: JobsOption = None,
    device: DeviceOption = Device.cpu,
    executor: Annotated[
        ExecutorName, typer.Option(help="Where cells train: processes here, or a Ray cluster.")
    ] = ExecutorName.local,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to join, e.g. auto; default: start one here.", metavar="ADDRESS"
        ),
    ] = None,
    gpus_per_cell: Annotated[
        float | None,
        typer.Option(
            help="Ray: GPUs a cell asks for, e.g. 0.25; default: 1 with --device cuda.",
            metavar="N",
            min=0,
        ),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop the run once a cell has failed.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would be trained, and train nothing.")
    ] = False,
    no_policies: Annotated[
        bool, typer.Option("--no-policies", help="Keep returns only, and no trained policies.")
    ] = False,
    settings: SetOption = None,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Train what a suite still lacks. Finished seeds are kept; an interrupted run continues."""
    from rocompare.execute import provenance, runner
    from rocompare.execute.display import Display

    chosen = load_suite(suite, allow_local_code, settings).select(seeds, algorithm, scenario)
    if no_policies:
        chosen = chosen.model_copy(update={"keep_policies": False})
    if plan:
        _print_plan(chosen, results, jobs)
        return
    if executor is ExecutorName.local:
        for name, value in (("--address", address), ("--gpus-per-cell", gpus_per_cell)):
            if value is not None:
                fail(f"{name} is for --executor ray")
        refuse_missing(device)
    screen = console()
    with Display(screen) as display:
        outcome = runner.run_suite(
            chosen,
            results,
            runner.ExecutorSettings(executor.value, jobs, device.value, address, gpus_per_cell),
            fail_fast=fail_fast,
            watch=display.show,
        )
    trained = sum(len(status.missing) for status in outcome.cells if status.state == "done")
    line = f"{trained} seeds trained in {outcome.seconds:.1f} s; results in {results / chosen.name}"
    for message in outcome.messages:
        say(message)
    for status in outcome.failed:
        say(f"failed: {status.cell.label}: {printable(status.error)}")
        say(f"  see {results / status.cell.path / 'failure.json'}")
    if outcome.interrupted:
        _print_cells(outcome.cells)
        say(f"interrupted; {line}\ncontinue with: {provenance.command_line()}")
        if outcome.at_once:
            _end_at_once(outcome.exit_code)
        raise typer.Exit(outcome.exit_code)
    screen.print(line, markup=False, highlight=False, soft_wrap=True)
    if outcome.failed:
        if fail_fast:
            say(f"stopped at the first failure; continue with: {provenance.command_line()}")
        raise typer.Exit(1)


@app.command(epilog="Exit codes: 0 done, 2 no such policy, or nothing to film.")
def play(
    results: Annotated[
        Path,
        typer.Argument(metavar="RESULTS", help="Results folder, part of one, or a policy's file."),
    ],
    algorithm: Annotated[
        str | None, typer.Option(help="Whose policy, if there are several.", metavar="NAME")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="On which scenario, if there are several.", metavar="NAME")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of which seed; default: the lowest.", min=0)
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(help="Episodes; default: as many as the suite's evaluations.", min=1),
    ] = None,
    gif: Annotated[
        Path | None, typer.Option(help="Write an animated GIF of some episodes.", metavar="FILE")
    ] = None,
    form: Annotated[PlayFormat, typer.Option("--format", help="Form of the output.")] = (
        PlayFormat.text
    ),
    device: DeviceOption = Device.cpu,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Play a trained policy: fresh episodes in every way of execution."""
    import json
    import math

    from rocompare.execute import play as playing
    from rocompare.learn.policies import load_policy

    refuse_missing(device)
    import_from_here(allow_local_code)
    policy = load_policy(
        results, algorithm, scenario, seed, device=device.value, allow_local_code=allow_local_code
    )
    number = episodes or policy.cell.evaluation.episodes
    names = {
        "algorithm": policy.cell.algorithm.name,
        "scenario": policy.cell.scenario.name,
        "seed": policy.seed,
        "episodes": number,
    }
    found = playing.play(policy, number)
    if form is PlayFormat.json:
        rows = [
            {
                "execution": one.execution,
                "return": one.mean,
                "score": None if math.isnan(one.score) else one.score,
                "in_optimum": round(one.in_optimum, 6),
            }
            for one in found
        ]
        typer.echo(json.dumps({**names, "executions": rows}, indent=1))
    else:
        screen = console()
        title = "{algorithm} on {scenario}, seed {seed}: {episodes} fresh episodes".format(**names)
        screen.print(title, markup=False, highlight=False, soft_wrap=True)
        for one in found:
            score = "" if math.isnan(one.score) else f", score {one.score:.2f}"
            text = (
                f"  {one.execution:<13} {one.mean:8.2f}{score}, {one.in_optimum:.0%} in the optimum"
            )
            screen.print(text, markup=False, highlight=False, soft_wrap=True)
    if gif is not None:
        say(playing.film(policy, gif))


def _end_at_once(code: int) -> NoReturn:
    """Without waiting for a thread that still trains."""
    import os

    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _print_cells(statuses: Any) -> None:
    """A line per cell: what is done of it."""
    for status in statuses:
        total = len(status.cell.seeds)
        missing = 0 if status.state == "done" else len(status.missing)
        text = f"{status.cell.label}: {total - missing}/{total} seeds done"
        if status.state in ("stopped", "failed"):
            text += f", {status.state}"
            text += f" at {status.progress.fraction:.0%}" if status.progress else ""
        typer.echo(f"{text}  {status.cell.key}")


def _print_plan(suite: Any, results: Path, jobs: int | None) -> None:
    from rocompare.execute import runner
    from rocompare.execute.display import clock

    statuses = runner.plan(suite, results)
    jobs = jobs or runner.default_jobs()
    screen = console()
    _print_cells(statuses)
    for algorithm in suite.algorithms:
        if algorithm.curriculum is not None:
            starts = ", ".join(f"{k} from {v:g}" for k, v in algorithm.curriculum.starts.items())
            typer.echo(
                f"{algorithm.name}: curriculum, {printable(starts)}, the target from "
                f"{algorithm.curriculum.until:.0%} of the budget on"
            )
    missing = sum(len(status.missing) for status in statuses)
    text = f"{len(statuses)} cells, {missing} seeds to train"
    if missing:
        seconds = runner.estimate_seconds(statuses, results, jobs)
        known = seconds is not None and f"about {clock(seconds)} with {jobs} jobs"
        text += f", {known or 'time unknown until a first cell is finished'}"
    screen.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def validate(
    suite: SuiteArgument,
    settings: SetOption = None,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Check a suite file and the hyperparameters in it; train nothing."""
    checked = load_suite(suite, allow_local_code, settings)
    algorithms, scenarios = len(checked.algorithms), len(checked.scenarios)
    typer.echo(
        f"{printable(suite)}: valid: {algorithms} algorithms x {scenarios} scenarios = "
        f"{algorithms * scenarios} cells, {len(checked.seeds)} seeds each"
    )


@app.command()
def clean(
    results: ResultsArgument,
    suite: SuiteArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them without asking.")] = False,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Remove results of configurations that an edited suite no longer makes, after showing them."""
    from rocompare.execute import clean as cleaning

    found = cleaning.leftovers(results, load_suite(suite, allow_local_code, None))
    for one in found:
        typer.echo(f"{printable(one.folder)}: {one.seeds} seeds")
    if not found:
        typer.echo("nothing to remove: every cell is one that the suite makes")
        return
    if not yes and not typer.confirm(f"remove these {len(found)} folders?"):
        raise typer.Exit(1)
    held = cleaning.remove(found)
    typer.echo(f"{len(found) - len(held)} folders removed")
    for one in held:
        say(f"{printable(one.folder)}: another run holds it, so it stays")


@app.command()
def tune(
    suite: SuiteArgument,
    trials: Annotated[
        int, typer.Option(help="Trials of each algorithm, its defaults among them.", min=1)
    ],
    seeds: Annotated[
        int, typer.Option(help="Tuning seeds of each trial.", metavar="N", min=1, max=10_000)
    ] = 10,
    first_seed: Annotated[
        int, typer.Option(help="The first of them; none may be the suite's.", metavar="N", min=0)
    ] = 1000,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="Try on this scenario only, and give the tuned suite all; repeatable.",
            metavar="NAME",
        ),
    ] = None,
    confirm: Annotated[
        int,
        typer.Option(
            help="Fresh seeds on which the best five trials and the first are trained again; the "
            "winner is taken from those. 0: none.",
            metavar="N",
            min=0,
            max=10_000,
        ),
    ] = 30,
    search_seed: Annotated[
        int, typer.Option(help="Seed of the proposals.", metavar="N", min=0)
    ] = 0,
    search_given: Annotated[
        bool,
        typer.Option(
            "--search-given",
            help="Search also what SUITE sets, from its values on; else that stays as it is.",
        ),
    ] = False,
    results: Annotated[
        Path, typer.Option("--results", help="Folder that the trials' results go to.")
    ] = Path("tuning"),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The tuned suite; default: SUITE's name with '_tuned', beside it."
        ),
    ] = None,
    jobs: JobsOption = None,
    device: DeviceOption = Device.cpu,
    settings: SetOption = None,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Search hyperparameters, the same number of trials for every algorithm of a suite.

    Writes a suite with the best values, which `rocompare run` takes, and a table of all trials.
    An interrupted search continues.
    """
    from rocompare.execute import tune as tune_module
    from rocompare.execute import tuned
    from rocompare.execute.display import Display
    from rocompare.suite import library

    chosen = load_suite(suite, allow_local_code, settings)
    refuse_missing(device)
    if library.find(suite) != suite:  # one that ships: the tuned suite goes here
        suite = Path(f"{suite}.yaml")
    out = out or suite.with_name(f"{suite.stem}_tuned.yaml")
    tuned.refuse_other(chosen, suite, out)
    screen = console()
    csv = results / chosen.name / "trials.csv"

    def after_round(tuning: Any) -> None:
        tuned.save_trials(tuning, csv)
        screen.print(tuned.summary(tuning), markup=False, highlight=False, soft_wrap=True)

    with Display(screen) as display:
        tuning = tune_module.tune(
            chosen,
            results,
            trials,
            seeds=tuple(range(first_seed, first_seed + seeds)),
            fresh_seeds=tuple(range(first_seed + seeds, first_seed + seeds + confirm)),
            scenarios=scenario,
            search_seed=search_seed,
            search_given=search_given,
            jobs=jobs,
            device=device.value,
            watch=display.show,
            after_round=after_round,
        )
    if tuning.signal:
        say("interrupted; continue with the same command")
        raise typer.Exit(128 + tuning.signal)
    typer.echo("\n".join([*tuned.table(tuning), *tuned.explained(tuning)]))
    typer.echo(f"trials in {csv}")
    try:
        tuned.save_suite(tuning, suite, out)
    except TuneError as error:  # an algorithm has no trial that came to its end
        fail(str(error), code=1)
    typer.echo(f"tuned suite in {out}")
