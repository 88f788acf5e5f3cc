"""Result records: written atomically, loaded into one long DataFrame.

A cell's folder ``<results>/<suite>/<scenario>/<algorithm>/<key>/`` holds

- ``config.yaml``: the resolved configuration, whose hash is the key,
- ``seed_<n>.json``: a record per finished seed,
- ``curve.csv``: every evaluation of every finished seed,
- ``diagnosis.csv``: executed and perceived RO at these evaluations, in games that allow it,
- ``episodes.json``: positions in one evaluation episode of each seed, where there are any,
- ``provenance.json``: what produced the newest records,
- ``failure.json``: why the last attempt failed, if it did,
- ``summary.json``: what a table needs of the files above, for reading very many cells at once,
- ``checkpoint.pt``: the state of an unfinished run,
- ``pending.json``: a whole result while the files above are being written from it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rocompare.errors import ResultsError
from rocompare.suite import registry
from rocompare.suite.models import Cell

FORMAT = 1
CHECKPOINT = "checkpoint.pt"
PENDING = "pending.json"
EPISODES = "episodes.json"
SUMMARY = "summary.json"
COLUMNS = (
    "suite", "scenario", "algorithm", "key", "seed", "return", "return_noiseless", "basin",
    "basin_noiseless", "diverged", "env_steps", "updates", "parameters", "seconds",
)  # fmt: skip
CURVE_COLUMNS = (
    "seed", "env_steps", "return", "return_noiseless", "in_optimum", "in_optimum_noiseless",
)  # fmt: skip
DIAGNOSIS_COLUMNS = ("seed", "env_steps", "executed_ro", "perceived_ro")
_KEY = re.compile(r"[0-9a-f]{12}")
_SEED_FILE = re.compile(r"seed_(\d+)\.json", re.ASCII)


@dataclass(frozen=True)
class SeedResult:
    """What is reported of one seed. Returns are undiscounted team rewards per episode."""

    seed: int
    returns: list[float | None]
    """Per evaluation episode, as the algorithm executes its policy; None where not finite."""
    returns_noiseless: list[float | None]
    """The same with every noise of the policy set to zero."""
    basin: str
    """The optimum's, if more than half of the evaluation episodes ended there; else the commonest
    of the others."""
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
    diagnosis: list[tuple[int, int, float, float]] = field(default_factory=list)
    """Rows as in ``DIAGNOSIS_COLUMNS``; none where nothing can be measured."""
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
    stamps = _stamps(folder)
    summary = _read_summary(folder, stamps)
    return {row[0] for row in (summary[1] if summary else _read_rows(folder, stamps))}


def save(root: Path, cell: Cell, result: CellResult, provenance: dict[str, Any]) -> None:
    """Add the result's seeds to the cell's folder under ``root``.

    All of it goes into one file first. A kill between two seeds' records must not part them, for
    a seed that is trained without its neighbours may differ from itself in the last digits.
    """
    folder = root / cell.path
    config = cell.resolved()
    if registry.is_foreign(cell.scenario.env):
        # Whoever reads the results may not have its code, or may not want to run it.
        config["scenario"]["declared"] = cell.scenario.declared()
    record = {
        "format": FORMAT,
        "config": config,
        "provenance": provenance,
        "curve": result.curve,
        "diagnosis": result.diagnosis,
        "episodes": result.episodes,
        "seeds": [vars(seed) for seed in result.seeds],
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
        # Absent from what an earlier version left behind.
        diagnosis = pd.DataFrame(record.get("diagnosis", []), columns=list(DIAGNOSIS_COLUMNS))
        episodes = dict(record.get("episodes", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: not a pending result ({error}); delete it and rerun the suite"
        ) from None
    write_atomic(folder / "config.yaml", config)
    write_atomic(folder / "provenance.json", provenance)
    _add_rows(folder / "curve.csv", curve)
    if len(diagnosis):
        _add_rows(folder / "diagnosis.csv", diagnosis)
    if episodes:
        if (folder / EPISODES).exists():
            episodes = {**_read_json(folder / EPISODES), **episodes}
        text = json.dumps({**episodes, "format": FORMAT}, sort_keys=True) + "\n"
        write_atomic(folder / EPISODES, text)
    # Last, for a seed counts as finished once its record is there.
    for seed in seeds:
        text = json.dumps({"format": FORMAT, **vars(seed)}, allow_nan=False) + "\n"
        write_atomic(folder / f"seed_{seed.seed}.json", text)
    _write_summary(folder, record["config"])
    (folder / "failure.json").unlink(missing_ok=True)
    path.unlink()


def _add_rows(path: Path, curve: pd.DataFrame) -> None:
    """Add curves to a file of them, in place of the same seeds' old ones."""
    header, *rows = curve.to_csv(index=False, lineterminator="\n").splitlines()
    if path.exists():
        _read_curve(path, tuple(curve.columns))  # refuses what is no curve
        new = {row.split(",")[0] for row in rows}
        # Taken over as text, to the last digit.
        old = path.read_text(encoding="utf-8").splitlines()[1:]
        rows = [row for row in old if row.split(",")[0] not in new] + rows
    try:
        rows.sort(key=lambda row: tuple(int(number) for number in row.split(",")[:2]))
    except ValueError:
        raise _no_curve(path) from None
    write_atomic(path, "\n".join([header, *rows, ""]))


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
    return load(path)[0]


Config = dict[str, Any]
"""A cell's resolved configuration."""


def load(path: str | Path) -> tuple[pd.DataFrame, dict[tuple[str, str, str, str], Config]]:
    """:func:`load_results` and :func:`load_configs` in one reading."""
    frame, configs = _read_cells(_cell_folders(Path(path)))
    if frame.empty:
        raise _no_seeds(path)
    return frame, configs


def load_with_failures(
    path: str | Path,
) -> tuple[pd.DataFrame, dict[tuple[str, str, str, str], Config], list[tuple[str, str]]]:
    """:func:`load` and :func:`load_failures` in one walk; the frame is empty, and that is no error,
    where cells failed and no seed was finished."""
    root = Path(path)
    folders, failed = _folders_with(root, "config.yaml", "failure.json")
    failures = _errors(_own(root, failed, folders))
    if failures and not folders:
        return pd.DataFrame(columns=list(COLUMNS)), {}, failures
    frame, configs = _read_cells(_cell_folders(root, folders))
    if frame.empty and not failures:
        raise _no_seeds(path)
    return frame, configs, failures


def _no_seeds(path: str | Path) -> ResultsError:
    return ResultsError(
        f"{path}: no finished seeds here; results are written by `rocompare run SUITE`"
    )


def _read_cells(
    cells: list[tuple[Path, tuple[str, str, str, str]]],
) -> tuple[pd.DataFrame, dict[tuple[str, str, str, str], Config]]:
    rows, configs = [], {}
    for folder, names in cells:
        configs[names], found = _read_cell(folder)
        rows += [names + row for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS)), configs


def cell_folders(path: str | Path) -> dict[Names, Path]:
    """The folder of each cell below ``path``."""
    return {names: folder for folder, names in _cell_folders(Path(path))}


def load_configs(path: str | Path) -> dict[tuple[str, str, str, str], Config]:
    """The resolved configuration of each cell: ``(suite, scenario, algorithm, key) -> config``."""
    return {names: _read_cell(folder)[0] for folder, names in _cell_folders(Path(path))}


Names = tuple[str, str, str, str]
"""A cell's suite, scenario, algorithm and key."""


def cells_of(frame: pd.DataFrame) -> list[Names]:
    """The cells that ``frame`` has seeds of."""
    columns = (frame[name].tolist() for name in ("suite", "scenario", "algorithm", "key"))
    return list(dict.fromkeys(zip(*columns, strict=True)))


def refuse_namesakes(cells: Iterable[Names], path: str | Path, *, across_suites: bool) -> None:
    """One name must stand for one configuration: different ones are never averaged silently.

    Raises:
        ResultsError: two cells (of one suite, or of any) have the same scenario and algorithm.
    """
    first: dict[tuple[str, ...], Names] = {}
    for cell in cells:
        known = first.setdefault(cell[1:3] if across_suites else cell[:3], cell)
        if known != cell:
            instead = "give the folder of one suite, or " if across_suites else ""
            raise ResultsError(
                f"{path}: '{cell[2]}' on '{cell[1]}' has results of two configurations "
                f"({'/'.join(known)}, {'/'.join(cell)}); {instead}remove the outdated ones"
            )


def shown_scenarios(
    cells: list[Names], configs: dict[Names, Config], path: str | Path
) -> dict[tuple[str, str], str]:
    """Under which name to show each suite's scenario: ``(suite, scenario) -> name``.

    Its own, or ``scenario@suite`` where suites give one name to what must not stand side by side:
    other parameters, another budget or evaluation, or one algorithm twice.

    Raises:
        ResultsError: a suite itself has two configurations under one name.
    """
    refuse_namesakes(cells, path, across_suites=False)
    first: dict[tuple[str, str], Names] = {}
    algorithms: dict[str, list[str]] = {}
    for cell in cells:
        suite, scenario, algorithm, _ = cell
        algorithms.setdefault(scenario, []).append(algorithm)
        known = first.setdefault((suite, scenario), cell)
        if _conditions(configs[known]) != _conditions(configs[cell]):
            raise ResultsError(
                f"{path}: scenario '{scenario}' differs between {'/'.join(known)} and "
                f"{'/'.join(cell)}; remove the outdated one"
            )
    conditions: dict[str, list[Any]] = {}
    for (_, scenario), cell in first.items():
        conditions.setdefault(scenario, []).append(_conditions(configs[cell]))
    apart = {
        scenario
        for scenario, found in conditions.items()
        if any(other != found[0] for other in found)
        or len(algorithms[scenario]) > len(set(algorithms[scenario]))
    }
    return {
        (suite, scenario): f"{scenario}@{suite}" if scenario in apart else scenario
        for suite, scenario in first
    }


def _conditions(config: Config) -> list[Any]:
    return [config[part] for part in ("scenario", "budget", "evaluation")]


def with_shown(frame: pd.DataFrame, shown: dict[tuple[str, str], str]) -> pd.DataFrame:
    """``frame`` with its scenarios' names as :func:`shown_scenarios` has them."""
    pairs = zip(frame["suite"], frame["scenario"], strict=True)
    return frame.assign(scenario=[shown.get(pair, pair[1]) for pair in pairs])


def load_curves(path: str | Path) -> pd.DataFrame:
    """All learning curves below ``path``: the cell's names and ``CURVE_COLUMNS``."""
    frames = _load_rows(Path(path), "curve.csv", CURVE_COLUMNS)
    if not frames:
        raise ResultsError(f"{path}: no learning curves here")
    return _concat(frames)


def load_diagnosis(path: str | Path) -> pd.DataFrame:
    """All RO diagnostics below ``path``: the cell's names and ``DIAGNOSIS_COLUMNS``; no rows where
    there are none."""
    frames = _load_rows(Path(path), "diagnosis.csv", DIAGNOSIS_COLUMNS)
    names = ["suite", "scenario", "algorithm", "key"]
    frames = frames or [pd.DataFrame(columns=[*DIAGNOSIS_COLUMNS, *names])]
    return _concat(frames)


def last_diagnosis(path: str | Path) -> pd.DataFrame:
    """The rows of :func:`load_diagnosis` at the end of training, one per seed."""
    rows = load_diagnosis(path).sort_values("env_steps", kind="stable")
    return rows.drop_duplicates(["suite", "scenario", "algorithm", "key", "seed"], keep="last")


def _load_rows(path: Path, file_name: str, columns: tuple[str, ...]) -> list[pd.DataFrame]:
    """A frame per cell below ``path`` that has the file."""
    frames = []
    for folder, names in _cell_folders(path):
        _read_config(folder / "config.yaml")  # refuses what is no cell
        file = folder / file_name
        if file.exists():
            cell = dict(zip(("suite", "scenario", "algorithm", "key"), names, strict=True))
            frames.append(_read_curve(file, columns).assign(**cell))
    return frames


def _concat(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows; empty frames have no say in the columns' types (pandas 2 warns of them)."""
    full = [frame for frame in frames if not frame.empty]
    return pd.concat(full or frames, ignore_index=True)


def load_failures(path: str | Path) -> list[tuple[str, str]]:
    """``(cell, error)`` of each cell below ``path`` whose last attempt failed."""
    return _errors(_failed(Path(path)))


def load_failed_seeds(path: str | Path) -> dict[str, set[int]]:
    """Per cell below ``path`` whose last attempt failed, the seeds that it was to train."""
    found = {}
    for place, record in _failures(_failed(Path(path))):
        seeds = record.get("seeds")
        listed = seeds if isinstance(seeds, list) else []
        found[place] = {seed for seed in listed if isinstance(seed, int)}
    return found


def _errors(folders: list[Path]) -> list[tuple[str, str]]:
    return [(place, str(record.get("error", "?"))) for place, record in _failures(folders)]


def _failures(folders: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in folders:
        file = folder / "failure.json"
        yield "/".join(_absolute(file).parts[-5:-1]), _read_json(file)


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


def _cell_folders(
    root: Path, folders: list[Path] | None = None
) -> list[tuple[Path, tuple[str, str, str, str]]]:
    """Each cell's folder below ``root`` with its suite, scenario, algorithm and key.

    Args:
        folders: those with a configuration, if they are known already.
    """
    if folders is None:
        (folders,) = _folders_with(root, "config.yaml")
    if not folders:
        raise ResultsError(
            f"{root}: no rocompare results here; they are written by `rocompare run SUITE`"
        )
    above = _absolute(root).parts
    found = []
    for folder in _own(root, folders):
        # One that lies higher than any cell can is refused when its content is read.
        names = ("", "", "", "", *above, *folder.relative_to(root).parts)[-4:]
        found.append((folder, (names[0], names[1], names[2], names[3])))
    return found


def _failed(root: Path) -> list[Path]:
    """The folders of cells whose last attempt failed."""
    folders, failed = _folders_with(root, "config.yaml", "failure.json")
    return _own(root, failed, folders)


def _own(root: Path, folders: list[Path], others: Sequence[Path] = ()) -> list[Path]:
    """``folders`` without the reference results that come with a clone: they step back once there
    are results of one's own, among these or ``others``."""
    own = [folder for folder in folders if not _in_reference(folder.relative_to(root))]
    if own or any(not _in_reference(folder.relative_to(root)) for folder in others):
        return own
    return folders


def _folders_with(root: Path, *names: str) -> list[list[Path]]:
    """For each file name, the folders below ``root`` that have it; one walk for all.

    Folders whose name is no cell's key are none of ours, whatever they hold. Links are followed:
    results often lie on another disk.

    Raises:
        ResultsError: there is no such folder, or one cannot be read.
    """
    if not root.exists():
        raise ResultsError(f"{root}: no such folder")
    if not root.is_dir():
        raise ResultsError(f"{root}: not a folder; give the folder that `rocompare run` wrote to")

    def unreadable(error: OSError) -> None:
        raise ResultsError(f"{error.filename}: cannot be read: {error.strerror}")

    found: list[list[Path]] = [[] for _ in names]
    seen = set[tuple[int, int]]()
    above = _absolute(root)
    for place, inner, files in os.walk(above, followlinks=True, onerror=unreadable):
        folder = Path(place)
        if inner or folder.is_symlink():
            about = folder.stat()
            if (about.st_dev, about.st_ino) in seen:  # a link to a folder above it, or to another
                inner.clear()
                continue
            seen.add((about.st_dev, about.st_ino))
        if not _KEY.fullmatch(folder.name):
            continue
        for name, having in zip(names, found, strict=True):
            if name in files:
                having.append(root / folder.relative_to(above))
    return [sorted(having, key=lambda folder: natural(str(folder))) for having in found]


def _absolute(path: Path) -> Path:
    """Without following links: a cell's names are those of the folders that lead to it."""
    return Path(os.path.normpath(path.absolute()))


def one_line(text: str) -> str:
    """An exception's text may hold anything; one printable line of it is kept."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def natural(name: str) -> list[Any]:
    """A key that sorts ``max_of_10`` behind ``max_of_2``: texts and numbers in turn."""
    parts: list[Any] = re.split(r"(\d+(?:\.\d+)?)", name)
    parts[1::2] = map(float, parts[1::2])
    return parts


def _read_cell(folder: Path) -> tuple[Config, list[tuple[Any, ...]]]:
    """A cell's configuration, and of each finished seed the columns from ``seed`` on."""
    stamps = _stamps(folder)
    summary = _read_summary(folder, stamps)
    return summary or (_read_config(folder / "config.yaml"), _read_rows(folder, stamps))


def _read_config(path: Path) -> Config:
    try:
        configuration = yaml.load(path.read_bytes(), Loader=_YAML_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: not readable: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    for place, kind in _CONFIG_KINDS.items():
        value = configuration
        for name in place.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise ResultsError(
                f"{path}: not the configuration of a rocompare cell: '{place}' is missing or of a "
                "wrong type; delete the folder and rerun the suite"
            )
    return dict(configuration)


_CONFIG_KINDS = {
    "algorithm.name": str,
    "algorithm.use": str,
    "algorithm.params": dict,
    "scenario.name": str,
    "scenario.env": str,
    "scenario.params": dict,
    "budget.env_steps": int,
    "evaluation.episodes": int,
}


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Size and time of a cell's configuration and records, by name."""
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name == "config.yaml" or _SEED_FILE.fullmatch(e.name)]
        return {e.name: [(s := e.stat()).st_size, s.st_mtime_ns] for e in found}


def _read_rows(folder: Path, names: Iterable[str]) -> list[tuple[Any, ...]]:
    """The columns from ``seed`` on of each record among ``names``, by seed."""
    records = [_read_seed(folder / name) for name in names if _SEED_FILE.fullmatch(name)]
    return [
        (
            r.seed, _mean(r.returns), _mean(r.returns_noiseless), r.basin, r.basin_noiseless,
            r.diverged, r.env_steps, r.updates, r.parameters, r.seconds,
        )
        for r in sorted(records, key=lambda r: r.seed)
    ]  # fmt: skip


def _write_summary(folder: Path, configuration: Config) -> None:
    """Reading a cell's records costs a file a seed; its summary is one, and smaller."""
    stamps = _stamps(folder)
    rows = _read_rows(folder, stamps)
    content = {"columns": COLUMNS[4:], "stamps": stamps, "config": configuration, "rows": rows}
    text = json.dumps(content)
    write_atomic(folder / SUMMARY, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")


def _read_summary(
    folder: Path, stamps: dict[str, list[int]]
) -> tuple[Config, list[tuple[Any, ...]]] | None:
    """A cell's summary if it is whole and no file that it was made from changed since."""
    try:
        digest, _, text = (folder / SUMMARY).read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(text.rstrip(b"\n")).hexdigest().encode() != digest:
        return None
    content = json.loads(text)
    if content["columns"] != list(COLUMNS[4:]) or content["stamps"] != stamps:
        return None
    return content["config"], list(map(tuple, content["rows"]))


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
        value: Any = record.get(entry.name)
        kind = _KINDS.get(str(entry.type), list)
        good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if good and kind is list:
            if entry.name == "actions":
                good = all(isinstance(row, list) and all(map(_finite, row)) for row in value)
            else:
                good = all(item is None or _finite(item) for item in value)
        if good and kind == (int, float):
            good = _finite(value)
        if good and kind is int:
            good = 0 <= value < 2**63
        if not good:
            raise ResultsError(f"{path}: '{entry.name}' is missing or of a wrong type")
    unknown = set(record) - {entry.name for entry in fields(SeedResult)}
    if unknown:
        raise ResultsError(f"{path}: unknown entry '{sorted(unknown)[0]}'")
    return SeedResult(**record)


def _finite(value: object) -> bool:
    """Whether it is a number that 32 bits can hold, and whose square 64 can."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return good and abs(value) < 3.5e38  # type: ignore[arg-type]


def _read_curve(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        curve = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from None
    numbers = all(pd.api.types.is_numeric_dtype(kind) for kind in curve.dtypes)
    if list(curve.columns) != list(columns) or not (numbers or curve.empty):
        raise _no_curve(path)
    if curve[["seed", "env_steps"]].isna().to_numpy().any():  # a line that was cut short
        raise _no_curve(path)
    return curve


def _no_curve(path: Path) -> ResultsError:
    return ResultsError(f"{path}: not a learning curve of rocompare; delete it and rerun")


def _mean(values: list[float | None]) -> float:
    """Mean over episodes; NaN if any of them was not finite."""
    if not values or any(value is None for value in values):
        return math.nan
    return math.fsum(value for value in values if value is not None) / len(values)
