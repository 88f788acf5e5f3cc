"""The command line: parse, call, print.

Exit codes: 0 all is well; 1 a cell failed or, in `check`, regressed; 2 wrong usage or input; 3 a
check is inconclusive; 130 interrupted.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from rocompare.errors import SuiteError, TuneError, UnknownName, UserError, printable

app = typer.Typer(
    name="rocompare",
    help="Benchmark algorithms that mitigate relative over-generalization in cooperative "
    "multi-agent reinforcement learning.",
    epilog="Exit codes: 0 all is well, 1 a cell failed (or regressed), 2 wrong usage or input, "
    "3 a check is inconclusive, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


class ExecutorName(StrEnum):
    local = "local"
    ray = "ray"


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


class CheckFormat(StrEnum):
    text = "text"
    json = "json"
    junit = "junit"


SuiteArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SUITE",
        help="Suite file (YAML), or the name of one that ships; see `rocompare list suites`.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Another value than SUITE's, e.g. svnr.policy_lr=0.01, SCENARIO.s2=1.2 or "
        "budget.env_steps=500; repeatable.",
        metavar="NAME.KEY=VALUE",
    ),
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder that results go to.")]

LocalCodeOption = Annotated[
    bool,
    typer.Option(
        "--allow-local-code",
        help="Run code that lies here ('module:Class' in this folder, './file.py:Class' beside "
        "SUITE), with all your rights.",
    ),
]


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    del version  # main() answers it before a command is needed


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
    jobs: Annotated[
        int | None,
        typer.Option(help="Cells that train at a time; default: one per core.", metavar="N", min=1),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where tensors live.")] = Device.cpu,
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
    settings: SetOption = None,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Train what a suite still lacks. Finished seeds are kept; an interrupted run continues."""
    from rocompare.execute import provenance, runner
    from rocompare.execute.display import Display

    chosen = _load_suite(suite, allow_local_code, settings).select(seeds, algorithm, scenario)
    if plan:
        _print_plan(chosen, results, jobs)
        return
    if executor is ExecutorName.local:
        for name, value in (("--address", address), ("--gpus-per-cell", gpus_per_cell)):
            if value is not None:
                _fail(f"{name} is for --executor ray")
        _refuse_missing(device)
    console = _console()
    with Display(console) as display:
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
        _say(message)
    for status in outcome.failed:
        _say(f"failed: {status.cell.label}: {printable(status.error)}")
        _say(f"  see {results / status.cell.path / 'failure.json'}")
    if outcome.interrupted:
        _print_cells(outcome.cells)
        _say(f"interrupted; {line}\ncontinue with: {provenance.command_line()}")
        if outcome.at_once:
            _end_at_once(outcome.exit_code)
        raise typer.Exit(outcome.exit_code)
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    if outcome.failed:
        if fail_fast:
            _say(f"stopped at the first failure; continue with: {provenance.command_line()}")
        raise typer.Exit(1)


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
    console = _console()
    _print_cells(statuses)
    missing = sum(len(status.missing) for status in statuses)
    text = f"{len(statuses)} cells, {missing} seeds to train"
    if missing:
        seconds = runner.estimate_seconds(statuses, results, jobs)
        known = seconds is not None and f"about {clock(seconds)} with {jobs} jobs"
        text += f", {known or 'time unknown until a first cell is finished'}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def table(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Results folder, or part of one.")],
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
) -> None:
    """Print mean ± std (or another statistic) of the returns, algorithms x scenarios."""
    from rocompare.analysis import render
    from rocompare.analysis import table as tables
    from rocompare.results.reader import Results

    found = tables.return_table(Results(path), statistic.value, execution.value, reference)
    if form is TableFormat.rich:
        render.print_table(found, _console())
    else:
        typer.echo(render.render(found, form.value), nl=False)


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
    form: Annotated[ListFormat, typer.Option("--format", help="Form of the output.")] = (
        ListFormat.text
    ),
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
        listing.print_each(entries, _console())
    else:
        listing.print_entries(entries, _console())


@app.command()
def validate(
    suite: SuiteArgument,
    settings: SetOption = None,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Check a suite file and the hyperparameters in it; train nothing."""
    checked = _load_suite(suite, allow_local_code, settings)
    algorithms, scenarios = len(checked.algorithms), len(checked.scenarios)
    typer.echo(
        f"{printable(suite)}: valid: {algorithms} algorithms x {scenarios} scenarios = "
        f"{algorithms * scenarios} cells, {len(checked.seeds)} seeds each"
    )


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
    jobs: Annotated[
        int | None,
        typer.Option(help="Cells that train at a time; default: one per core.", metavar="N", min=1),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where tensors live.")] = Device.cpu,
    settings: SetOption = None,
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Search hyperparameters, the same number of trials for every algorithm of a suite.

    Writes a suite with the best values, which `rocompare run` takes, and a table of all trials.
    An interrupted search continues.
    """
    from rocompare.execute import tune as tune_module
    from rocompare.execute.display import Display
    from rocompare.suite import library

    chosen = _load_suite(suite, allow_local_code, settings)
    _refuse_missing(device)
    if library.find(suite) != suite:  # one that ships: the tuned suite goes here
        suite = Path(f"{suite}.yaml")
    out = out or suite.with_name(f"{suite.stem}_tuned.yaml")
    tune_module.refuse_other(chosen, suite, out)
    console = _console()
    csv = results / chosen.name / "trials.csv"

    def after_round(tuning: Any) -> None:
        tune_module.save_trials(tuning, csv)
        console.print(tune_module.summary(tuning), markup=False, highlight=False, soft_wrap=True)

    with Display(console) as display:
        tuning = tune_module.tune(
            chosen,
            results,
            trials,
            seeds=tuple(range(first_seed, first_seed + seeds)),
            scenarios=scenario,
            search_seed=search_seed,
            search_given=search_given,
            jobs=jobs,
            device=device.value,
            watch=display.show,
            after_round=after_round,
        )
    if tuning.interrupted:
        _say("interrupted; continue with the same command")
        raise typer.Exit(130)
    typer.echo("\n".join(tune_module.table(tuning)))
    typer.echo(f"trials in {csv}")
    try:
        tune_module.save_suite(tuning, suite, out)
    except TuneError as error:  # an algorithm has no trial that came to its end
        _fail(str(error), code=1)
    typer.echo(f"tuned suite in {out}")


@app.command(epilog="Exit codes: 0 every check holds, 1 one is broken, 2 no such class.")
def doctor(
    name: Annotated[
        str,
        typer.Argument(
            metavar="CLASS", help="'package.module:Class', './file.py:Class' or a name."
        ),
    ],
    allow_local_code: LocalCodeOption = False,
) -> None:
    """Examine an algorithm or an environment: which part of its contract is broken, in words."""
    from rocompare.dev import doctor as doctor_module
    from rocompare.suite import registry

    _import_from_here(allow_local_code)
    try:
        folder = Path.cwd() if allow_local_code else None
        if not allow_local_code:
            registry.refuse_local(name)
        local = registry.local_file(name, folder) if registry.is_local(name) else None
        kind = registry.kind_of(name, local)
        cls = registry.load(kind, name, local)
    except UnknownName as error:
        raise SuiteError([str(error)]) from None
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


@app.command()
def new(
    kind: Annotated[NewKind, typer.Argument(help="What to write.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the file: NAME.py.")],
) -> None:
    """Write a working skeleton, NAME.py, and its test, test_NAME.py, into this folder."""
    from rocompare.dev import new as skeleton

    for line in skeleton.write(kind.value, name, Path.cwd()):
        typer.echo(line)


@app.command()
def bench(
    seconds: Annotated[
        float, typer.Option(help="Time for each measurement.", min=0.01, max=600)
    ] = 2.0,
) -> None:
    """Measure training throughput on one core against plain one-seed code."""
    from rocompare.dev import bench as bench_module

    bench_module.main(seconds, _console())


@app.command()
def diagnose(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Results folder.")],
) -> None:
    """Tell when each algorithm over-generalizes: executed and perceived RO over training."""
    from rocompare.analysis import diagnose as diagnose_module

    typer.echo(diagnose_module.render(results), nl=False)


@app.command()
def compare(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Results folder.")],
    a: Annotated[str, typer.Argument(metavar="A", help="An algorithm's name.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another's.")],
) -> None:
    """Compare two algorithms on each scenario: difference, tests, and what they allow to say."""
    from rocompare.analysis import compare as compare_module

    typer.echo(compare_module.render(compare_module.compare(results, a, b)), nl=False)


@app.command(
    epilog="Exit codes: 0 every cell passes, 1 a cell regressed, 3 none regressed but one is "
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
            help="Fall that is accepted: of the mean return, as a share of optimal minus safe "
            "return, and of the rate of seeds in the optimum's basin.",
        ),
    ] = 0.1,
    alpha: Annotated[
        float, typer.Option(metavar="A", help="Accepted rate of false alarms, over all cells.")
    ] = 0.05,
    form: Annotated[
        CheckFormat, typer.Option("--format", help="Form of the output.")
    ] = CheckFormat.text,
) -> None:
    """Tell whether returns got worse: a fall beyond the tolerance that is also significant."""
    from rocompare.analysis import check as check_module

    report = check_module.check(new, against, tolerance, alpha)
    typer.echo(check_module.render(report, form.value), nl=False)
    raise typer.Exit(report.exit_code)


@app.command()
def plot(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Results folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder that the pictures go to.")],
) -> None:
    """Draw curves, seeds, success rates, profiles and landscapes, as PNG, SVG and PDF."""
    from rocompare.analysis import plots

    written, notes = plots.save_all(results, out)
    for note in notes:
        _say(note)
    typer.echo(f"{len(written)} files in {out}; what each shows: {out / 'captions.md'}")


@app.command("report")
def report_(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Results folder.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page: tables that sort, pictures, configurations, failures."""
    from rocompare.analysis import page as html

    for note in html.write_report(results, out):
        _say(note)
    typer.echo(f"report in {out}")


def _load_suite(path: Path, allow_local_code: bool, settings: list[str] | None) -> Any:
    from rocompare.suite.load import load_suite

    _import_from_here(allow_local_code)
    return load_suite(path, allow_local_code, settings or ())


def _refuse_missing(device: Device) -> None:
    if device is Device.cuda:
        import torch

        if not torch.cuda.is_available():
            _fail("--device cuda: this torch sees no CUDA device; use --device cpu")


def _import_from_here(allow_local_code: bool) -> None:
    """A user's own "my_pkg.my_algo:MyAlgo" may lie in the folder where the command is given.

    Only if that is allowed, and after all else: nothing there shadows what is installed.
    """
    here = str(Path.cwd())
    if allow_local_code and here not in sys.path:
        sys.path.append(here)


def _console() -> Any:
    from rich.console import Console

    return Console()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _fail(text: str, code: int = 2) -> NoReturn:
    _say(f"error: {text}")
    raise typer.Exit(code)


class _Output:
    """An output stream whose reader may leave, as `head` does: the rest is dropped.

    The command goes on, so that a run trains all the same and a check has its own exit code.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        import os

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


def main() -> None:
    """The ``rocompare`` script: every expected error ends as a message and an exit code."""
    import contextlib

    streams = sys.stdout, sys.stderr
    for stream in streams:
        # What a terminal or a pipe cannot show, an odd file name say, is no error of the command.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout, sys.stderr = (cast("Any", _Output(stream)) for stream in streams)
    try:
        _main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams


def _main() -> None:
    if sys.argv[1:] == ["--version"]:
        from rocompare import __version__

        print(__version__)
        return
    try:
        app()
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
    except UserError as error:
        for problem in error.problems:
            _say(f"error: {problem}")
        sys.exit(2)
    except OSError as error:
        _say(f"error: {printable(error)}")
        sys.exit(2)


if __name__ == "__main__":
    main()
