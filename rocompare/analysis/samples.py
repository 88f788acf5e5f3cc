"""What comparisons are made of: the seeds of each cell as a sample of returns and of successes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rocompare.analysis import stats
from rocompare.results.reader import Results, StoredCell

Name = tuple[str, str]
"""A scenario, as tables call it, and an algorithm."""


@dataclass(frozen=True)
class Sample:
    """The finished seeds of one cell."""

    returns: tuple[float, ...]
    """``[n]`` of decentralised execution, of the seeds that have one: those that diverged have
    none."""
    successes: int
    """Seeds whose score is a success; those that diverged are none, nor is any where the game's
    safe or optimal return is unknown."""
    total: int
    """Seeds with a record, diverged ones included."""
    place: str = ""
    """``suite/scenario/algorithm/key``"""
    scale: float | None = None
    """The declared optimal return minus the declared safe one; None if one is unknown."""

    @property
    def diverged(self) -> int:
        return self.total - len(self.returns)

    @functools.cached_property
    def summary(self) -> stats.Summary:
        return stats.summarise(self.returns)


@dataclass(frozen=True)
class Loaded:
    """What a results folder holds, whatever the suite."""

    samples: dict[Name, Sample]
    cells: dict[Name, StoredCell]
    failures: dict[Name, str]
    """Why the last attempt at a cell failed, which may have finished seeds all the same."""
    notes: list[str] = field(default_factory=list)
    """Failures of other configurations than those with seeds, and what reading left out."""


def load(path: str | Path) -> Loaded:
    """Read the results below ``path``; a folder in which every cell failed is no error.

    Raises:
        ResultsError: nothing there, or a file that is no result of this tool.
    """
    results = Results(path)
    loaded = Loaded({}, {}, {}, list(results.notes))
    # Arrays, not frames: there may be ten thousand cells.
    frame = results.seeds.sort_values("seed", kind="stable")
    order = frame.index.to_numpy()
    rank = order.argsort()
    returns, usable = frame["return"].to_numpy(float), frame["usable"].to_numpy(bool)
    success = frame["success"].fillna(False).to_numpy(bool)
    for cell, rows in results.rows_of_cells():
        at = sorted(rank[rows].tolist())
        good = [i for i in at if usable[i]]
        name = cell.label, cell.algorithm
        loaded.samples[name] = Sample(
            returns=tuple(returns[good].tolist()),
            successes=int(success[good].sum()),
            total=len(rows),
            place=cell.place,
            scale=cell.scale,
        )
        loaded.cells[name] = cell
    places = {sample.place: name for name, sample in loaded.samples.items()}
    for failure in results.failures:
        name = failure.scenario, failure.algorithm
        if failure.place in places:
            loaded.failures[places[failure.place]] = failure.error
        elif name in loaded.samples:
            loaded.notes.append(
                f"failed with another configuration: {failure.place}: {failure.error}"
            )
        else:
            loaded.failures[name] = failure.error
    return loaded


def differences(first: Any, second: Any, key: str = "") -> list[str]:
    """``key old → new`` for each entry in which two configurations differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        lines = []
        for name in dict.fromkeys([*first, *second]):
            path = f"{key}.{name}" if key else str(name)
            lines += differences(first.get(name), second.get(name), path)
        return lines
    return [] if first == second else [f"{key} {first} → {second}"]
