"""Where results lie, and how they are written.

A cell's folder ``<results>/<suite>/<scenario>/<algorithm>/<key>/`` holds

- ``config.yaml``: the resolved configuration, whose hash is the key, and beside it the returns that
  the environment declares and what the search for the hyperparameters took, where that is known,
- ``seed_<n>.json``: everything about a finished seed (``results.records.SeedRecord``),
- ``policy_<n>.safetensors``: its trained policy, if it was kept (``learn.policies``),
- ``summary.json``: a cache of what tables need of these; it may be deleted at any time,
- ``failure.json``: why the last attempt failed, if it did,
- ``checkpoint.pt``: the state of an unfinished run.

A seed is a file, so folders of two machines can be copied into each other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rocompare.results import files
from rocompare.results.records import SeedRecord
from rocompare.results.summary import read_cell, scan, seed_files
from rocompare.suite.models import Cell

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.yaml"
FAILURE = "failure.json"
STAGED = ".staged"
"""Folder in a cell's folder in which a save collects its files, and is whole once it has this
name: whoever finds it finishes the save."""


def policy_file(seed: int) -> str:
    """Name of the file of a seed's policy."""
    return f"policy_{seed}.safetensors"


def finished_seeds(root: Path, cell: Cell) -> set[int]:
    """Seeds of the cell that have a record under ``root``."""
    folder = root / cell.path
    if not folder.is_dir():
        return set()
    stamps = scan(folder)
    return {row.seed for row in read_cell(folder, stamps).rows} if seed_files(stamps) else set()


def save(
    root: Path,
    cell: Cell,
    records: Sequence[SeedRecord],
    provenance: dict[str, Any],
    policies: bool = False,
) -> None:
    """Add finished seeds to the cell's folder under ``root``, and their policies if asked.

    They are staged first, and then moved: a kill in between must not part them, for a seed that is
    trained again without its neighbours may differ from itself in the last digits.
    """
    folder = root / cell.path
    config = cell.resolved()
    config["scenario"]["declared"] = cell.scenario.declared()
    if cell.algorithm.search:
        config["search"] = cell.algorithm.search.model_dump(mode="json")
    contents: dict[str, str | bytes] = {
        CONFIG: yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    }
    for record in records:
        record = record.model_copy(update={"provenance": provenance})
        contents[f"seed_{record.seed}.json"] = record.model_dump_json() + "\n"
        if policies and record.policy:
            contents[policy_file(record.seed)] = record.policy
    building = folder / f"{STAGED}.tmp"
    shutil.rmtree(building, ignore_errors=True)
    for name, content in contents.items():
        files.write(building / name, content)
    building.replace(folder / STAGED)
    _finish_save(folder)


def _finish_save(folder: Path) -> None:
    """Move what a save staged into the cell's folder."""
    staged = folder / STAGED
    if not staged.is_dir():
        return
    for path in sorted(staged.iterdir()):  # the configuration first, the records last
        path.replace(folder / path.name)
    staged.rmdir()
    (folder / FAILURE).unlink(missing_ok=True)
    read_cell(folder, scan(folder))  # makes the summary anew


def unfinished(folder: Path) -> bool:
    """Whether a run that was killed left something to do or to clean up in a cell's folder."""
    return any((folder / name).exists() for name in (STAGED, CHECKPOINT))


def clean(folder: Path) -> None:
    """Finish the save that a killed run began, and drop its half-written files.

    Only for the holder of the cell's lock: another's half-written files are not left over.
    """
    for path in folder.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    _finish_save(folder)


def save_failure(root: Path, cell: Cell, error: str, trace: str) -> None:
    """Record why the cell failed."""
    record = {"seeds": list(cell.seeds), "error": error, "traceback": trace}
    files.write(root / cell.path / FAILURE, json.dumps(record, indent=1) + "\n")
