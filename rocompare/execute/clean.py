"""Removing what an edited suite left behind: results of cells that it no longer makes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rocompare.errors import ResultsError
from rocompare.results.summary import scan, seed_files
from rocompare.suite.models import Suite


@dataclass(frozen=True)
class Leftover:
    """A cell's folder that no cell of the suite has."""

    folder: Path
    seeds: int
    """Finished seeds in it."""


def leftovers(root: Path, suite: Suite) -> list[Leftover]:
    """Cells below ``root`` that have the suite's name, but that the suite no longer makes."""
    made = {root / cell.path for cell in suite.cells()}
    below = root / suite.name
    if not below.is_dir():
        raise ResultsError(f"{below}: no such folder; suite '{suite.name}' has no results there")
    folders = sorted(
        path.parent for path in below.glob("*/*/*/config.yaml") if path.parent not in made
    )
    return [Leftover(folder, len(seed_files(scan(folder)))) for folder in folders]


def remove(found: list[Leftover]) -> list[Leftover]:
    """Delete these folders; returns those that another run holds, which stay."""
    held = []
    for one in found:
        lock = FileLock(one.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            held.append(one)
            continue
        try:
            shutil.rmtree(one.folder)
        finally:
            lock.release()
        for parent in (one.folder.parent, one.folder.parent.parent):
            if not any(parent.iterdir()):
                parent.rmdir()
    return held
