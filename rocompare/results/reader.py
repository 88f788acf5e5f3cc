"""A results folder, scanned once: what every table, plot and check is made of.

Nothing that results name is imported and nothing is run: all that readers need, the declared
returns among it, stands in the files.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rocompare.errors import ResultsError, printable
from rocompare.results import files
from rocompare.results.records import SUCCESS_SCORE, SeedRecord, score
from rocompare.results.store import CONFIG, FAILURE
from rocompare.results.summary import (
    Config,
    Row,
    Stamps,
    read_cell,
    read_config,
    read_record,
    row_of,
    seed_files,
    stamps_of,
)

REFERENCE_MARK = ".reference"
"""A file in the folder of the reference results that come with rocompare. They step back once
there are results of one's own beside them."""
RETURN_COLUMNS = {
    "decentralised": "return",
    "deterministic": "return_deterministic",
    "shared": "return_shared",
}
"""The column of each way of execution."""
COLUMNS = (
    "suite", "scenario", "label", "algorithm", "key", "seed",
    "return", "return_deterministic", "return_shared", "score", "success", "in_optimum", "basin",
    "diverged", "usable", "executed_ro", "perceived_ro",
    "env_steps", "updates", "parameters", "seconds",
)  # fmt: skip
CURVE_COLUMNS = (
    "suite", "scenario", "label", "algorithm", "key", "seed", "env_steps",
    "return", "return_deterministic", "return_shared", "in_optimum", "executed_ro", "perceived_ro",
)  # fmt: skip
_KEY = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class StoredCell:
    """One cell of a results folder."""

    suite: str
    scenario: str
    algorithm: str
    key: str
    folder: Path
    config: Config
    label: str
    """What tables call the scenario: its name, or ``name@suite`` where suites give one name to
    different games, budgets or evaluations."""

    @property
    def place(self) -> str:
        return f"{self.suite}/{self.scenario}/{self.algorithm}/{self.key}"

    @property
    def name(self) -> tuple[str, str]:
        """Algorithm and label: what a table's rows and columns are."""
        return self.algorithm, self.label

    @property
    def safe_return(self) -> float | None:
        return self._declared("safe_return")

    @property
    def optimal_return(self) -> float | None:
        return self._declared("optimal_return")

    @property
    def scale(self) -> float | None:
        """The optimal return minus the safe one: the unit of scores."""
        safe, optimal = self.safe_return, self.optimal_return
        return None if safe is None or optimal is None else optimal - safe

    def _declared(self, name: str) -> float | None:
        value = self.config["scenario"]["declared"].get(name)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Failure:
    """Why the last attempt at a cell failed."""

    suite: str
    scenario: str
    algorithm: str
    key: str
    error: str
    """One printable line."""
    seeds: tuple[int, ...]
    """Those that it was to train."""

    @property
    def place(self) -> str:
        return f"{self.suite}/{self.scenario}/{self.algorithm}/{self.key}"


@dataclass(frozen=True)
class _Found:
    """A cell's folder as the walk met it."""

    folder: Path
    names: tuple[str, str, str, str]
    stamps: Stamps
    failed: bool
    reference: bool


class Results:
    """Everything readable below one folder: a results folder, or a suite's, scenario's,
    algorithm's or cell's folder in it.

    Each file is opened at most once.

    Args:
        details: read every seed's whole record, for :attr:`records` and :meth:`curves`.

    Attributes:
        cells: those that have seeds, in the order of their names.
        seeds: a row per finished seed of ``cells``, with ``COLUMNS``. ``score`` is NaN and
            ``success`` NA where the game's safe or optimal return is unknown. ``usable`` says
            whether the seed has a return: it did not diverge, and the return is finite.
        failures: cells whose last attempt failed; they may have seeds all the same.
        notes: what was left out of ``cells`` and why, and what is mixed in them, a line each.
        records: with ``details``, by cell's place and seed, the whole record.

    Raises:
        ResultsError: nothing there, or a file that is no result of this tool.
    """

    def __init__(self, path: str | Path, *, details: bool = False) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self.records: dict[str, dict[int, SeedRecord]] = {}
        found = self._without_reference(list(_walk(self.path)))
        if not found:
            raise ResultsError(
                f"{self.path}: no rocompare results here; they are written by `rocompare run SUITE`"
            )
        self.failures = [_failure(one) for one in found if one.failed]
        cells: list[StoredCell] = []
        rows: dict[str, list[Row]] = {}
        for one in found:
            if CONFIG not in one.stamps:
                continue
            config, own = self._read(one, details)
            cell = StoredCell(*one.names, one.folder, config, one.names[1])
            if own:
                cells.append(cell)
                rows[cell.place] = own
        cells = self._newest(cells, rows)
        self.cells = _labelled(cells)
        self._note_mixtures(rows)
        self.seeds = _frame(self.cells, rows)
        if self.seeds.empty and not self.failures:
            raise ResultsError(
                f"{self.path}: no finished seeds here; results are written by `rocompare run SUITE`"
            )

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def algorithms(self) -> list[str]:
        return list(dict.fromkeys(cell.algorithm for cell in self.cells))

    @property
    def labels(self) -> list[str]:
        """The scenarios, as tables call them."""
        return list(dict.fromkeys(cell.label for cell in self.cells))

    def rows_of_cells(self) -> Iterator[tuple[StoredCell, NDArray[np.intp]]]:
        """Each cell with the positions of its rows in ``seeds``."""
        groups = self.seeds.groupby(["suite", "scenario", "algorithm", "key"], sort=False)
        places: dict[str, Any] = {
            "/".join(map(str, names)): at  # type: ignore[call-overload]
            for names, at in groups.indices.items()
        }
        for cell in self.cells:
            yield cell, places[cell.place]

    def by_cell(self) -> Iterator[tuple[StoredCell, pd.DataFrame]]:
        """Each cell with its rows of ``seeds``."""
        for cell, rows in self.rows_of_cells():
            yield cell, self.seeds.iloc[rows]

    def curves(self) -> pd.DataFrame:
        """Every evaluation of every seed, with ``CURVE_COLUMNS``; needs ``details``."""
        if self.cells and not self.records:
            raise ValueError("curves() needs Results(path, details=True)")
        parts: dict[str, list[Any]] = {name: [] for name in CURVE_COLUMNS}
        for cell in self.cells:
            for seed, record in sorted(self.records[cell.place].items()):
                curve = record.curve
                n = len(curve.env_steps)
                values = {
                    "suite": [cell.suite] * n,
                    "scenario": [cell.scenario] * n,
                    "label": [cell.label] * n,
                    "algorithm": [cell.algorithm] * n,
                    "key": [cell.key] * n,
                    "seed": [seed] * n,
                    "env_steps": curve.env_steps,
                    "in_optimum": curve.in_optimum.get("decentralised", []),
                    "executed_ro": curve.executed_ro,
                    "perceived_ro": curve.perceived_ro,
                    **{
                        column: curve.returns.get(mode, [])  # type: ignore[call-overload]
                        for mode, column in RETURN_COLUMNS.items()
                    },
                }
                for name, column in values.items():
                    # A way of execution that the seed was not evaluated in has no numbers.
                    parts[name] += column if len(column) == n else [None] * n
        frame = pd.DataFrame(parts)
        numbers = list(CURVE_COLUMNS[7:])
        return frame.astype(dict.fromkeys(numbers, float))

    def _without_reference(self, found: list[_Found]) -> list[_Found]:
        own = [one for one in found if not one.reference]
        if not own or len(own) == len(found):
            return found
        self.notes.append(
            f"left out: {len(found) - len(own)} cells of the reference results that come with "
            "rocompare; give their folder to read them"
        )
        return own

    def _read(self, one: _Found, details: bool) -> tuple[Config, list[Row]]:
        if not details:
            content = read_cell(one.folder, one.stamps)
            return content.config, content.rows
        records = [read_record(one.folder / name) for name in seed_files(one.stamps)]
        self.records["/".join(one.names)] = {record.seed: record for record in records}
        return read_config(one.folder), [row_of(record) for record in records]

    def _newest(self, cells: list[StoredCell], rows: dict[str, list[Row]]) -> list[StoredCell]:
        """One cell per suite, scenario and algorithm, and one set of conditions per scenario: those
        trained last. What is older was left behind when the suite was edited."""

        def trained(cell: StoredCell) -> str:
            return max(row.time for row in rows[cell.place])

        newest: dict[tuple[str, str, str], StoredCell] = {}
        leading: dict[tuple[str, str], StoredCell] = {}
        for cell in sorted(cells, key=trained):
            newest[cell.suite, cell.scenario, cell.algorithm] = cell
            leading[cell.suite, cell.scenario] = cell
        kept = []
        for cell in cells:
            if newest[cell.suite, cell.scenario, cell.algorithm] is not cell:
                why = "the algorithm was trained later with another configuration"
            elif _conditions(leading[cell.suite, cell.scenario]) != _conditions(cell):
                why = "the scenario was trained later with other parameters or another budget"
            else:
                kept.append(cell)
                continue
            self.notes.append(f"left out: {cell.place}: {why}; `rocompare clean` removes it")
        return kept

    def _note_mixtures(self, rows: dict[str, list[Row]]) -> None:
        for cell in self.cells:
            counts: dict[str, int] = {}
            for row in rows[cell.place]:
                counts[row.origin] = counts.get(row.origin, 0) + 1
            if len(counts) > 1:
                text = "; ".join(f"{n} seeds of {printable(o)}" for o, n in counts.items())
                self.notes.append(f"mixed: {cell.label} · {cell.algorithm}: {text}")


def load_results(path: str | Path) -> pd.DataFrame:
    """All finished seeds below ``path``, one row each, with the columns ``COLUMNS``.

    ``return`` is the undiscounted team reward of decentralised execution, averaged over evaluation
    episodes; ``return_deterministic`` and ``return_shared`` are those of the other ways to execute,
    NaN where an algorithm has none. ``score`` is ``(return - safe) / (optimal - safe)``, and
    ``success`` whether it is at least 0.9.

    Raises:
        ResultsError: nothing there, or a file that is no result of this tool.
    """
    return Results(path).seeds


def natural(name: str) -> list[Any]:
    """A key that sorts ``max_of_10`` behind ``max_of_2``: texts and numbers in turn."""
    parts: list[Any] = re.split(r"(\d+(?:\.\d+)?)", name)
    parts[1::2] = map(float, parts[1::2])
    return parts


def _frame(cells: list[StoredCell], rows: dict[str, list[Row]]) -> pd.DataFrame:
    lengths = [len(rows[cell.place]) for cell in cells]
    flat = [row for cell in cells for row in rows[cell.place]]
    frame = pd.DataFrame(flat, columns=list(Row._fields)).rename(
        columns={"return_decentralised": "return"}
    )

    def per_cell(values: Iterable[Any], kind: Any = object) -> Any:
        return np.repeat(np.array(list(values), dtype=kind), lengths)

    for name in ("suite", "scenario", "label", "algorithm", "key"):
        frame[name] = per_cell(getattr(cell, name) for cell in cells)
    safe = per_cell((_or_nan(cell.safe_return) for cell in cells), float)
    optimal = per_cell((_or_nan(cell.optimal_return) for cell in cells), float)
    returns = frame["return"].to_numpy(float)
    usable = ~frame["diverged"].to_numpy(bool) & np.isfinite(returns)
    frame["usable"] = usable
    scores = np.where(usable, score_of(returns, safe, optimal), math.nan)
    frame["score"] = scores
    success = pd.array(np.where(usable, scores >= SUCCESS_SCORE - 1e-9, False), dtype="boolean")
    success[np.isnan(optimal - safe)] = pd.NA
    frame["success"] = success
    return frame[list(COLUMNS)]


def score_of(returns: Any, safe: Any, optimal: Any) -> Any:
    """:func:`rocompare.results.records.score` of arrays, NaN for what is unknown."""
    return score(returns, safe, optimal)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _labelled(cells: list[StoredCell]) -> list[StoredCell]:
    """The cells with the names that tables use: a scenario's own, or ``scenario@suite`` where
    suites give one name to what must not stand side by side."""
    by_name: dict[str, dict[str, StoredCell]] = {}
    algorithms: dict[str, list[str]] = {}
    for cell in cells:
        by_name.setdefault(cell.scenario, {}).setdefault(cell.suite, cell)
        algorithms.setdefault(cell.scenario, []).append(cell.algorithm)
    apart = set()
    for name, suites in by_name.items():
        first, *others = (_conditions(cell) for cell in suites.values())
        twice = len(algorithms[name]) > len(set(algorithms[name]))
        if twice or any(other != first for other in others):
            apart.add(name)
    return [
        replace(cell, label=f"{cell.scenario}@{cell.suite}") if cell.scenario in apart else cell
        for cell in cells
    ]


def _conditions(cell: StoredCell) -> list[Any]:
    """What algorithms on one scenario must have in common to be compared."""
    return [cell.config[part] for part in ("scenario", "budget", "evaluation")]


def _failure(one: _Found) -> Failure:
    record = files.read_json(one.folder / FAILURE)
    seeds = record.get("seeds")
    listed = seeds if isinstance(seeds, list) else []
    error = printable(record.get("error", "?"))
    return Failure(*one.names, error, tuple(s for s in listed if isinstance(s, int)))


def _walk(root: Path) -> Iterator[_Found]:
    """The cells' folders below ``root``, in the natural order of their names.

    Folders whose name is no cell's key are none of ours, whatever they hold. Links to folders are
    followed, since results often lie on another disk; where a link and a real folder lead to the
    same cell, the real one is taken.

    Raises:
        ResultsError: there is no such folder, or one cannot be read.
    """
    if not root.exists():
        raise ResultsError(f"{root}: no such folder")
    if not root.is_dir():
        raise ResultsError(f"{root}: not a folder; give the folder that `rocompare run` wrote to")
    above = Path(os.path.normpath(root.absolute()))
    found: list[_Found] = []
    seen: set[tuple[int, int]] = set()
    marked = any((parent / REFERENCE_MARK).exists() for parent in above.parents)
    todo: list[tuple[Path, bool]] = [(above, marked)]
    links: list[tuple[Path, bool]] = []
    while todo or links:
        folder, reference = todo.pop() if todo else links.pop(0)
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as entries:
                inside = list(entries)
            folders = [e for e in inside if not e.name.startswith(".") and e.is_dir()]
        except OSError as error:
            raise ResultsError(f"{error.filename}: cannot be read: {error.strerror}") from None
        reference = reference or any(entry.name == REFERENCE_MARK for entry in inside)
        if _KEY.fullmatch(folder.name):
            stamps = stamps_of(inside)
            failed = any(entry.name == FAILURE for entry in inside)
            if CONFIG in stamps or failed:
                # pandas' columns of text hold no bytes that are not UTF-8, as names of folders may.
                parts = (part.encode(errors="backslashreplace").decode() for part in folder.parts)
                names = ("", "", "", "", *parts)[-4:]
                place = root / folder.relative_to(above)
                found.append(
                    _Found(
                        place, (names[0], names[1], names[2], names[3]), stamps, failed, reference
                    )
                )
        for entry in folders:
            (links if entry.is_symlink() else todo).append((Path(entry.path), reference))
    yield from sorted(found, key=lambda one: natural(str(one.folder)))
