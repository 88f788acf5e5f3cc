"""What commands share: the application, common options, and how they speak."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rocompare.suite.models import Suite

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


def _print_version(wanted: bool) -> None:
    if wanted:
        from rocompare import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    del version  # its callback answers it before a command is looked for


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


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

JobsOption = Annotated[
    int | None,
    typer.Option(help="Cells that train at a time; default: one per core.", metavar="N", min=1),
]
DeviceOption = Annotated[Device, typer.Option(help="Where tensors live.")]
ResultsArgument = Annotated[
    Path, typer.Argument(metavar="RESULTS", help="Results folder, or part of one.")
]


def load_suite(
    path: Path, allow_local_code: bool, settings: list[str] | None, build: bool = False
) -> Suite:
    """The suite with the options that change it."""
    from rocompare.suite import load

    import_from_here(allow_local_code)
    return load.load_suite(path, allow_local_code, settings or (), build)


def refuse_missing(device: Device) -> None:
    """End here where there is no such device."""
    if device is Device.cuda:
        import torch

        if not torch.cuda.is_available():
            fail("--device cuda: this torch sees no CUDA device; use --device cpu")


def import_from_here(allow_local_code: bool) -> None:
    """A user's own "my_pkg.my_algo:MyAlgo" may lie in the folder where the command is given.

    Only if that is allowed, and after all else: nothing there shadows what is installed.
    """
    here = str(Path.cwd())
    if allow_local_code and here not in sys.path:
        sys.path.append(here)


def console() -> Console:
    """A terminal that is at least as wide as it says; some say 0."""
    from rich.console import Console

    if os.environ.get("COLUMNS") == "0":
        del os.environ["COLUMNS"]
    return Console(emoji=False)  # ':smile:' in a path is no emoji


def say(text: str) -> None:
    """To standard error, where it does not mix with results."""
    typer.echo(text, err=True)


def fail(text: str, code: int = 2) -> NoReturn:
    """End with a message."""
    say(f"error: {text}")
    raise typer.Exit(code)
