"""Result records: written atomically, loaded into one long DataFrame.

A cell's folder ``<results>/<suite>/<scenario>/<algorithm>/<key>/`` holds

- ``config.yaml``: the resolved configuration, whose hash is the key,
- ``seed_<n>.json``: a record per finished seed,
- ``curve.csv``: every evaluation of every finished seed,
- ``episodes.json``: positions in one evaluation episode of each seed, where there are any,
- ``provenance.json``: what produced the newest records,
- ``failure.json``: why the last attempt failed, if it did,
- ``checkpoint.pt``: the state of an unfinished run,
- ``pending.json``: a whole result while the files above are being written from it.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rocompare.config import Cell

FORMAT = 1
CHECKPOINT = "checkpoint.pt"
PENDING = "pending.json"
EPISODES = "episodes.json"
COLUMNS = (
    "suite", "scenario", "algorithm", "key", "seed", "return", "return_noiseless", "basin",
    "basin_noiseless", "diverged", "env_steps", "updates", "parameters", "seconds",
)  # fmt: skip
CURVE_COLUMNS = (
    "seed", "env_steps", "return", "return_noiseless", "in_optimum", "in_optimum_noiseless",
)  # fmt: skip
_SEED_FILE = re.compile(r"seed_(\d+)\.json", re.ASCII)


class ResultsError(ValueError):
    """Results that cannot be read; the message names the file and says what to do."""


@dataclass(frozen=True)
class SeedResult:
    """What is reported of one seed. Returns are undiscounted team rewards per episode."""

    seed: int
    returns: list[float | None]
    """Per evaluation episode, as the algorithm executes its policy; None where not finite."""
    returns_noiseless: list[float | None]
    """The same with every noise of the policy set to zero."""
    basin: str
    """Where most evaluation episodes ended."""
    basin_noiseless: str
    diverged: bool
    """A loss or a return was not finite."""
    env_steps: int
    updates: int
    parameters: int
    """Trainable numbers, targets not counted."""
    seconds: float
    """Wall time of the cell divided by the seeds that trained in it."""
    actions: list[list[float]] = field(default_factory=list)
    """One-step games: joint actions of the first evaluation episodes."""


@dataclass(frozen=True)
class CellResult:
    """What training a cell yields: a record per seed and the rows of its learning curves."""

    seeds: list[SeedResult]
    curve: list[tuple[int, int, float, float, float, float]]
    """Rows as in ``CURVE_COLUMNS``."""
    episodes: dict[int, list[Any]] = field(default_factory=dict)
    """By seed, positions ``[T+1][P][2]`` in one evaluation episode; mostly none."""


def write_atomic(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def finished_seeds(root: Path, cell: Cell) -> set[int]:
    """Seeds of the cell that have a complete record under ``root``."""
    folder = root / cell.path
    if not folder.is_dir():
        return set()
    found = set()
    for path in folder.iterdir():
        match = _SEED_FILE.fullmatch(path.name)
        if match:
            _read_seed(path)
            found.add(int(match[1]))
    return found


def save(root: Path, cell: Cell, result: CellResult, provenance: dict[str, Any]) -> None:
    """Add the result's seeds to the cell's folder under ``root``.

    All of it goes into one file first. A kill between two seeds' records must not part them, for
    a seed that is trained without its neighbours may differ from itself in the last digits.
    """
    folder = root / cell.path
    record = {
        "format": FORMAT,
        "config": cell.resolved(),
        "provenance": provenance,
        "curve": result.curve,
        "episodes": result.episodes,
        "seeds": [asdict(seed) for seed in result.seeds],
    }
    write_atomic(folder / PENDING, json.dumps(record))
    finish_save(folder)


def finish_save(folder: Path) -> None:
    """Write a cell's files from its pending result, if it has one."""
    path = folder / PENDING
    if not path.exists():
        return
    record = _read_json(path)
    try:
        seeds = [_seed_result({"format": FORMAT, **seed}, path) for seed in record["seeds"]]
        config = yaml.safe_dump(dict(record["config"]), sort_keys=False, allow_unicode=True)
        provenance = json.dumps(dict(record["provenance"]), indent=1) + "\n"
        curve = pd.DataFrame(record["curve"], columns=list(CURVE_COLUMNS))
        episodes = dict(record.get("episodes", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: not a pending result ({error}); delete it and rerun the suite"
        ) from None
    write_atomic(folder / "config.yaml", config)
    write_atomic(folder / "provenance.json", provenance)
    if (folder / "curve.csv").exists():
        old = _read_curve(folder / "curve.csv")
        curve = pd.concat([old[~old["seed"].isin(curve["seed"])], curve])
    curve = curve.sort_values(["seed", "env_steps"], kind="stable")
    write_atomic(folder / "curve.csv", curve.to_csv(index=False, lineterminator="\n"))
    if episodes:
        if (folder / EPISODES).exists():
            episodes = {**_read_json(folder / EPISODES), **episodes}
        text = json.dumps({**episodes, "format": FORMAT}, sort_keys=True) + "\n"
        write_atomic(folder / EPISODES, text)
    # Last, for a seed counts as finished once its record is there.
    for seed in seeds:
        text = json.dumps({"format": FORMAT, **asdict(seed)}, allow_nan=False) + "\n"
        write_atomic(folder / f"seed_{seed.seed}.json", text)
    (folder / "failure.json").unlink(missing_ok=True)
    path.unlink()


def unfinished(folder: Path) -> bool:
    """Whether a run that was killed left something to do or to clean up in a cell's folder."""
    return any((folder / name).exists() for name in (PENDING, CHECKPOINT))


def clean(folder: Path) -> None:
    """Finish the save that a killed run began, and drop its half-written files.

    Only for the holder of the cell's lock: another's half-written files are not left over.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    finish_save(folder)


def save_failure(root: Path, cell: Cell, error: str, trace: str) -> None:
    """Record why the cell failed."""
    record = {"format": FORMAT, "seeds": list(cell.seeds), "error": error, "traceback": trace}
    write_atomic(root / cell.path / "failure.json", json.dumps(record, indent=1) + "\n")


def load_results(path: str | Path) -> pd.DataFrame:
    """All finished seeds below ``path``, one row each, with the columns ``COLUMNS``.

    ``path`` is a results folder, or one suite's, scenario's, algorithm's or cell's folder in it.

    Raises:
        ResultsError: nothing there, or a file that is no result of this tool.
    """
    rows = []
    for folder, configuration in _cell_folders(Path(path)):
        suite, scenario, algorithm, key = folder.resolve().parts[-4:]
        for file in sorted(folder.iterdir(), key=lambda p: (len(p.name), p.name)):
            if not _SEED_FILE.fullmatch(file.name):
                continue
            record = _read_seed(file)
            rows.append(
                {
                    "suite": suite,
                    "scenario": scenario,
                    "algorithm": algorithm,
                    "key": key,
                    "seed": record.seed,
                    "return": _mean(record.returns),
                    "return_noiseless": _mean(record.returns_noiseless),
                    "basin": record.basin,
                    "basin_noiseless": record.basin_noiseless,
                    "diverged": record.diverged,
                    "env_steps": record.env_steps,
                    "updates": record.updates,
                    "parameters": record.parameters,
                    "seconds": record.seconds,
                }
            )
        del configuration
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if frame.empty:
        raise ResultsError(
            f"{path}: no finished seeds here; results are written by `rocompare run SUITE`"
        )
    return frame


def load_configs(path: str | Path) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    """The resolved configuration of each cell: ``(suite, scenario, algorithm, key) -> config``."""
    found = {}
    for folder, configuration in _cell_folders(Path(path)):
        suite, scenario, algorithm, key = folder.resolve().parts[-4:]
        found[suite, scenario, algorithm, key] = configuration
    return found


def load_curves(path: str | Path) -> pd.DataFrame:
    """All learning curves below ``path``: the cell's names and ``CURVE_COLUMNS``."""
    frames = []
    for folder, _ in _cell_folders(Path(path)):
        file = folder / "curve.csv"
        if file.exists():
            suite, scenario, algorithm, key = folder.resolve().parts[-4:]
            names = {"suite": suite, "scenario": scenario, "algorithm": algorithm, "key": key}
            frames.append(_read_curve(file).assign(**names))
    if not frames:
        raise ResultsError(f"{path}: no learning curves here")
    return pd.concat(frames, ignore_index=True)


def load_failures(path: str | Path) -> list[tuple[str, str]]:
    """``(cell, error)`` of each cell below ``path`` whose last attempt failed."""
    failures = []
    for file in sorted(Path(path).rglob("failure.json")):
        record = _read_json(file)
        failures.append(("/".join(file.resolve().parts[-5:-1]), str(record.get("error", "?"))))
    return failures


def load_actions(folder: Path) -> dict[int, list[list[float]]]:
    """Per seed, the joint actions that a one-step game's final evaluation executed."""
    files = [file for file in folder.iterdir() if _SEED_FILE.fullmatch(file.name)]
    records = [_read_seed(file) for file in files]
    return {record.seed: record.actions for record in records}


def load_episodes(folder: Path) -> dict[int, Any]:
    """Per seed, the positions ``[T+1][P][2]`` of one evaluation episode, if the cell has any."""
    path = folder / EPISODES
    record = _read_json(path) if path.exists() else {}
    return {int(seed): episode for seed, episode in record.items() if seed.isdecimal()}


def _cell_folders(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    if not root.exists():
        raise ResultsError(f"{root}: no such folder")
    if not root.is_dir():
        raise ResultsError(f"{root}: not a folder; give the folder that `rocompare run` wrote to")
    found = []
    for file in sorted(root.rglob("config.yaml")):
        try:
            configuration = yaml.load(file.read_bytes(), Loader=_YAML_LOADER)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ResultsError(f"{file}: not readable: {' '.join(str(error).split())}") from None
        except OSError as error:
            raise ResultsError(f"{file}: cannot be read: {error.strerror}") from None
        if not isinstance(configuration, dict) or not {"algorithm", "scenario"} <= set(
            configuration
        ):
            raise ResultsError(f"{file}: not the configuration of a rocompare cell")
        found.append((file.parent, configuration))
    # The reference results that come with a clone step back once there are results of one's own.
    own = [entry for entry in found if not _in_reference(entry[0].relative_to(root))]
    found = own or found
    if not found:
        raise ResultsError(
            f"{root}: no rocompare results here; they are written by `rocompare run SUITE`"
        )
    return found


def _in_reference(folder: Path) -> bool:
    """Whether ``.../reference/<suite>/<scenario>/<algorithm>/<key>`` is what ``folder`` is."""
    return len(folder.parts) >= 5 and folder.parts[-5] == "reference"


_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ResultsError(
            f"{path}: corrupt ({error}); delete it and rerun the suite to train this seed again"
        ) from None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(record, dict):
        raise ResultsError(f"{path}: not a rocompare record")
    version = record.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise ResultsError(
            f"{path}: written by a later rocompare (format {version}, this one reads {FORMAT})"
        )
    if version != FORMAT:
        raise ResultsError(f"{path}: not a rocompare record")
    return record


_KINDS: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
}


def _read_seed(path: Path) -> SeedResult:
    result = _seed_result(_read_json(path), path)
    if path.name != f"seed_{result.seed}.json":
        raise ResultsError(f"{path}: holds seed {result.seed}; was the file renamed?")
    return result


def _seed_result(record: dict[str, Any], path: Path) -> SeedResult:
    """The checked record; ``path`` is where it stands."""
    del record["format"]
    for entry in fields(SeedResult):
        value = record.get(entry.name)
        kind = _KINDS.get(str(entry.type), list)
        good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if good and kind is list:
            number = (int, float, list) if entry.name == "actions" else (int, float, type(None))
            good = all(isinstance(item, number) for item in value)  # type: ignore[union-attr]
        if not good:
            raise ResultsError(f"{path}: '{entry.name}' is missing or of a wrong type")
    unknown = set(record) - {entry.name for entry in fields(SeedResult)}
    if unknown:
        raise ResultsError(f"{path}: unknown entry '{sorted(unknown)[0]}'")
    return SeedResult(**record)


def _read_curve(path: Path) -> pd.DataFrame:
    try:
        # Read to the last digit, for a curve that seeds are added to is written again.
        curve = pd.read_csv(path, float_precision="round_trip")
    except (ValueError, OSError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from None
    if list(curve.columns) != list(CURVE_COLUMNS):
        raise ResultsError(f"{path}: not a learning curve of rocompare; delete it and rerun")
    return curve


def _mean(values: list[float | None]) -> float:
    """Mean over episodes; NaN if any of them was not finite."""
    if not values or any(value is None for value in values):
        return math.nan
    return math.fsum(value for value in values if value is not None) / len(values)
