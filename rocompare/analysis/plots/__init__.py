"""Results as pictures that fit a paper: a module per kind of picture.

Every picture is a :class:`Plot`, a matplotlib figure with the caption that explains it. An
algorithm has the same colour and marker in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rocompare.analysis.plots import (
    curves,
    diagnosis,
    episodes,
    landscape,
    profiles,
    ranks,
    seeds,
    success,
)
from rocompare.analysis.plots.data import Cell, Data
from rocompare.analysis.plots.style import FORMATS, WIDTHS, Plot, drawing
from rocompare.errors import ResultsError, printable
from rocompare.results import files
from rocompare.results.reader import Results
from rocompare.suite import registry

__all__ = [
    "FORMATS", "KINDS", "WIDTHS", "Cell", "Data", "Plot", "Watch", "all_plots", "save_all",
]  # fmt: skip

_OF_ALL: dict[str, Callable[[Data, str], list[Plot]]] = {
    "success": success.rates,
    "sweeps": success.sweeps,
    "profiles": profiles.pictures,
    "ranks": ranks.pictures,
}
_OF_ONE: dict[str, Callable[[Data, str, str], list[Plot]]] = {
    "curves": curves.pictures,
    "seeds": seeds.pictures,
    "diagnosis": diagnosis.pictures,
    "landscape": landscape.pictures,
    "episodes": episodes.pictures,
}
KINDS = (*_OF_ALL, *_OF_ONE)
"""What ``--only`` names: kinds of pictures of all scenarios, then of one."""
Watch = Callable[[int, int], None]
"""Told how much is drawn, and of how much."""


def all_plots(
    data: Data,
    only: Sequence[str] = (),
    width: str = "column",
    watch: Watch = lambda done, of: None,
    wide: Sequence[str] = (),
) -> Iterator[Plot]:
    """Every picture that the data allow, one at a time.

    Args:
        only: kinds of pictures, of ``KINDS``; all if empty.
        width: one of ``WIDTHS``.
        wide: kinds that fill a page's width whatever ``width`` is.

    Raises:
        ResultsError: a kind that there is not, or a record that cannot be drawn.
    """
    for name in only:
        if name not in KINDS:
            raise ResultsError(
                f"--only: no picture is called '{name[:80]}'{registry.nearest(name, KINDS)}"
            )
    wanted = [name for name in KINDS if not only or name in only]
    widths = {name: "page" if name in wide else width for name in wanted}
    jobs = [partial(_OF_ALL[name], data, widths[name]) for name in wanted if name in _OF_ALL]
    jobs += [
        partial(_OF_ONE[name], data, scenario, widths[name])
        for scenario in data.scenarios
        for name in wanted
        if name in _OF_ONE
    ]
    for done, job in enumerate(jobs):
        watch(done, len(jobs))
        with drawing():
            found = job()
        yield from found
    watch(len(jobs), len(jobs))


def save_all(
    path: str | Path,
    out: Path,
    *,
    only: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    scenarios: Sequence[str] = (),
    width: str = "column",
    formats: Sequence[str] = ("png",),
    watch: Watch = lambda done, of: None,
) -> tuple[list[Path], list[str]]:
    """Write pictures of the results below ``path``, and ``captions.txt``, to the folder ``out``.

    Returns the files written, and what the results lack.
    """
    results = Results(path, details=True)
    data = Data(results, algorithms, scenarios)
    if not data.cells:
        raise ResultsError(f"{path}: no finished seeds to draw; {data.notes[0]}")
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{out}: is a file; give a folder for the pictures")
    written, captions = [], []
    for plot in all_plots(data, only, width, watch):
        for form in formats:
            file = out / f"{plot.name}.{form}"
            files.write_out(file, plot.render(form))
            written.append(file)
        captions.append(f"{plot.name}: {printable(f'{plot.title}. {plot.caption}', 5_000)}\n")
    if not written:
        raise ResultsError(f"{path}: nothing of what was asked for can be drawn of these results")
    captions += [f"- {note}" for note in data.notes]
    files.write_out(out / "captions.txt", "\n".join(captions).rstrip() + "\n")
    return [*written, out / "captions.txt"], data.notes
