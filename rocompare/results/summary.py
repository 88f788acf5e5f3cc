"""A cell's folder in short: its configuration and a row per seed, cached in ``summary.json``.

Reading a cell's records costs a file a seed. Its summary is one file, and smaller; it is used only
if it is whole and no file that it was made from changed since, and is made anew otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from rocompare.errors import ResultsError
from rocompare.results import files
from rocompare.results.records import FORMAT, SeedRecord, mean_return

SUMMARY = "summary.json"
_SEED_FILE = re.compile(r"seed_(\d{1,19})\.json", re.ASCII)
Config = dict[str, Any]
"""A cell's resolved configuration."""
Stamps = dict[str, list[int]]
"""By name, size and time of the files that a summary is made from."""


class Row(NamedTuple):
    """What tables need of a seed. Returns are means over the last evaluation's episodes, NaN where
    there are none."""

    seed: int
    return_decentralised: float
    return_deterministic: float
    return_shared: float
    in_optimum: float
    """Of decentralised execution, as the basin."""
    basin: str
    diverged: bool
    executed_ro: float
    """At the last evaluation that measured it."""
    perceived_ro: float
    env_steps: int
    updates: int
    parameters: int
    seconds: float
    origin: str
    """What produced it, where that may change numbers: versions and device."""
    time: str
    """When it was finished, in ISO form."""


@dataclass(frozen=True)
class Content:
    """What a cell's folder holds."""

    config: Config
    rows: list[Row]


_ROWS = TypeAdapter(list[Row])
_CONFIG_KINDS: dict[str, type | tuple[type, ...]] = {
    "algorithm.name": str,
    "algorithm.use": str,
    "algorithm.params": dict,
    "scenario.name": str,
    "scenario.env": str,
    "scenario.params": dict,
    "scenario.declared": dict,
    "scenario.declared.basins": list,
    "budget.env_steps": int,
    "evaluation.episodes": int,
}


def scan(folder: Path) -> Stamps:
    """Size and time of a cell's configuration and records, by name."""
    with os.scandir(folder) as entries:
        return stamps_of(list(entries))


def stamps_of(entries: list[os.DirEntry[str]]) -> Stamps:
    found = {}
    for entry in entries:
        if entry.name == "config.yaml" or _SEED_FILE.fullmatch(entry.name):
            about = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(about.st_mode):
                found[entry.name] = [about.st_size, about.st_mtime_ns]
    return found


def read_cell(folder: Path, stamps: Stamps) -> Content:
    """A cell's configuration and rows, from its summary where that is up to date."""
    content = _read(folder, stamps)
    if content is None:
        config = read_config(folder)
        rows = [row_of(read_record(folder / name)) for name in seed_files(stamps)]
        content = Content(config, rows)
        with contextlib.suppress(OSError):  # a folder that is only read has no cache
            _write(folder, stamps, content)
    return content


def seed_files(stamps: Stamps) -> list[str]:
    """The records among the files, by seed."""
    found = {int(match[1]): name for name in stamps if (match := _SEED_FILE.fullmatch(name))}
    return [found[seed] for seed in sorted(found)]


def read_config(folder: Path) -> Config:
    """A cell's configuration, checked as far as readers rely on it."""
    path = folder / "config.yaml"
    config = files.read_yaml(path)
    for place, kind in _CONFIG_KINDS.items():
        value: Any = config
        for name in place.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise ResultsError(
                f"{path}: not the configuration of a rocompare cell: '{place}' is missing or of a "
                "wrong type; delete the folder and rerun the suite"
            )
    declared = config["scenario"]["declared"]
    returns = [declared.get(name) for name in ("safe_return", "optimal_return")]
    if not all(value is None or _is_number(value) for value in returns):
        raise ResultsError(f"{path}: 'scenario.declared' has returns that are no numbers")
    return config


def _is_number(value: object) -> bool:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return good and math.isfinite(value)  # type: ignore[arg-type]


def read_record(path: Path) -> SeedRecord:
    """A seed's record."""
    data = files.read(path)
    try:
        record = SeedRecord.model_validate_json(data)
    except ValidationError as error:
        raise ResultsError(f"{path}: {_what_is_wrong(data, error)}") from None
    if path.name != f"seed_{record.seed}.json":
        raise ResultsError(f"{path}: holds seed {record.seed}; was the file renamed?")
    return record


def _what_is_wrong(data: bytes, error: ValidationError) -> str:
    again = "delete it and rerun the suite to train this seed again"
    try:
        found = json.loads(data)
        version = found.get("format")
    except (ValueError, RecursionError, AttributeError):
        return f"corrupt; {again}"
    if isinstance(version, int) and version != FORMAT:
        which = "a later" if version > FORMAT else "an earlier"
        return (
            f"written by {which} rocompare (format {version}, this one reads {FORMAT}); read it "
            "with that version, or run its suite again into another results folder"
        )
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(part)[:40] for part in detail["loc"])
    return f"not a rocompare record: '{where}': {detail['msg']}; {again}"


def row_of(record: SeedRecord) -> Row:
    """A record in short."""
    made = record.provenance
    versions = [f"{name} {made.get(name, '?')}" for name in ("rocompare", "torch")]
    return Row(
        seed=record.seed,
        return_decentralised=mean_return(record.returns.get("decentralised", [])),
        return_deterministic=mean_return(record.returns.get("deterministic", [])),
        return_shared=mean_return(record.returns.get("shared", [])),
        in_optimum=record.in_optimum.get("decentralised", math.nan),
        basin=record.basin.get("decentralised", ""),
        diverged=record.diverged,
        executed_ro=_last(record.curve.executed_ro),
        perceived_ro=_last(record.curve.perceived_ro),
        env_steps=record.env_steps,
        updates=record.updates,
        parameters=record.parameters,
        seconds=record.seconds,
        origin=", ".join([*versions, str(made.get("device", "?"))])[:200],
        time=str(made.get("time", ""))[:40],
    )


def _last(values: list[float | None]) -> float:
    return next((value for value in reversed(values) if value is not None), math.nan)


def _write(folder: Path, stamps: Stamps, content: Content) -> None:
    rows = [
        [None if isinstance(value, float) and math.isnan(value) else value for value in row]
        for row in content.rows
    ]
    data = {"columns": Row._fields, "stamps": stamps, "config": content.config, "rows": rows}
    text = json.dumps(data)
    files.write(folder / SUMMARY, f"{_digest(text)}\n{text}\n")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(folder: Path, stamps: Stamps) -> Content | None:
    """A cell's summary if it is whole and no file that it was made from changed since."""
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        digest, _, text = files.read(path).decode().partition("\n")
        if _digest(text.rstrip("\n")) != digest:
            return None
        data = json.loads(text)
        if data["columns"] != list(Row._fields) or data["stamps"] != stamps:
            return None
        rows = [
            Row._make(math.nan if value is None else value for value in row) for row in data["rows"]
        ]
        return Content(dict(data["config"]), _ROWS.validate_python(rows, strict=True))
    except (ResultsError, ValueError, TypeError, LookupError, RecursionError):
        return None
