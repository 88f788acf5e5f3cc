"""Results in the forms that other packages read: marl-eval, rliable, one table in Parquet.

Scores are by the returns that each game declares, ``(return - safe) / (optimal - safe)``. The
packages' own normalisation by the best and worst return seen depends on who is compared: an
algorithm at half of the optimum is near 1 if nobody did better.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rocompare.analysis import stats
from rocompare.errors import ResultsError, printable
from rocompare.results import files, records
from rocompare.results.reader import RETURN_COLUMNS, Results, StoredCell
from rocompare.results.records import Execution, SeedRecord
from rocompare.suite import registry


def export(path: Path, form: str, out: Path, execution: Execution = "decentralised") -> list[str]:
    """Write the results below ``path`` to the file ``out``.

    Args:
        form: one of ``FORMS``.
        execution: whose returns; ``parquet`` has a column for each.

    Returns:
        What was left out, a line each.

    Raises:
        ResultsError: nothing to write, or cells that do not fit together.
    """
    files.check_out(out)
    data, notes = FORMS[form](path, execution)
    files.write_out(out, data)
    return [printable(note) for note in notes]


def marl_eval(path: Path, execution: Execution) -> tuple[str, list[str]]:
    """JSON as marl-eval reads it (Gorsane et al. 2022, "Towards a Standardised Performance
    Evaluation Protocol for Cooperative MARL"): environment, task, algorithm, run, step.

    A step holds the mean return of an evaluation, and of how many episodes it is the mean;
    ``absolute_metrics`` the returns of all episodes of the last evaluation. Names of environments
    and tasks are in lower case, since marl-eval looks them up so. It takes no missing numbers: what
    is not finite counts as a score of -1, and where there are no scores its run is left out.
    """
    results = Results(path, details=True)
    found: dict[str, Any] = {}
    notes = list(results.notes)
    for cell in results.cells:
        runs = {
            f"seed_{seed}": _run(cell, record, execution)
            for seed, record in results.records[cell.place].items()
            if execution in record.returns and (cell.scale is not None or not record.diverged)
        }
        lost = sum(record.diverged for record in results.records[cell.place].values())
        if lost:
            done = "left out" if cell.scale is None else "count as a score of -1"
            notes.append(f"{cell.place}: {lost} diverged seeds {done}")
        if not runs:
            notes.append(f"left out: {cell.place}: no {execution} returns")
            continue
        if cell.scale is None:
            notes.append(f"without scores: {cell.place}: its game declares no returns")
        env = registry.short_name("environment", cell.config["scenario"]["env"])
        task = found.setdefault(env.lower(), {}).setdefault(cell.label.lower(), {})
        if cell.algorithm in task:
            raise ResultsError(
                f"{path}: {cell.place} has the same name in lower case as another cell, and "
                "marl-eval reads no capitals; export a part of the folder, or rename the scenario"
            )
        task[cell.algorithm] = runs
    if not found:
        raise ResultsError(f"{path}: no {execution} returns here")
    return json.dumps(found, indent=1) + "\n", notes


def _run(cell: StoredCell, record: SeedRecord, execution: Execution) -> dict[str, Any]:
    curve, episodes = record.curve, cell.config["evaluation"]["episodes"]
    steps: dict[str, Any] = {}
    for i, (step, value) in enumerate(zip(curve.env_steps, curve.returns[execution], strict=True)):
        steps[f"step_{i}"] = {"step_count": step, **_metrics(cell, [value])} | {
            "evaluation_episodes": [episodes]
        }
    return {**steps, "absolute_metrics": _metrics(cell, record.returns[execution])}


def _metrics(cell: StoredCell, values: list[float | None]) -> dict[str, list[float]]:
    """Returns, and their scores where there are any."""
    safe, optimal = cell.safe_return, cell.optimal_return
    if safe is None or optimal is None:
        return {"return": [v for v in values if v is not None]}
    returns = [2 * safe - optimal if v is None else v for v in values]
    return {"return": returns, "score": [records.score(v, safe, optimal) for v in returns]}


def rliable(path: Path, execution: Execution) -> tuple[str, list[str]]:
    """JSON with rliable's dictionary of scores ``[runs x tasks]`` (Agarwal et al. 2021), and the
    names of the tasks."""
    results = Results(path)
    notes = list(results.notes)
    column = RETURN_COLUMNS[execution]
    scores: dict[str, dict[str, np.ndarray]] = {}
    for cell, rows in results.by_cell():
        returns = np.where(rows["diverged"], math.nan, rows[column].to_numpy(float))
        if cell.safe_return is None or cell.scale is None:
            notes.append(f"left out: {cell.place}: its game declares no returns, so has no scores")
        elif rows[column].isna().all():
            notes.append(f"left out: {cell.place}: no {execution} returns")
        else:
            if np.isnan(returns).any():
                notes.append(f"{cell.place}: diverged seeds count as -1, or as the worst other one")
            own = stats.fill_diverged((returns - cell.safe_return) / cell.scale)
            scores.setdefault(cell.algorithm, {})[cell.label] = own
    tasks = [name for name in results.labels if any(name in own for own in scores.values())]
    if not tasks:
        raise ResultsError(f"{path}: no scores here: no game declares its returns")
    matrices = {name: _matrix(path, name, own, tasks) for name, own in scores.items()}
    return json.dumps({"tasks": tasks, "scores": matrices}, indent=1) + "\n", notes


def _matrix(path: Path, name: str, own: dict[str, np.ndarray], tasks: list[str]) -> list[Any]:
    missing = [task for task in tasks if task not in own]
    if missing:
        raise ResultsError(
            f"{path}: '{name}' has no results on {', '.join(missing)}; rliable needs every "
            "algorithm on every task: export a part of the folder, or run what is missing"
        )
    lengths = {len(values) for values in own.values()}
    if len(lengths) > 1:
        listed = ", ".join(f"{len(own[task])} on {task}" for task in tasks)
        raise ResultsError(
            f"{path}: '{name}' has different numbers of seeds ({listed}); rliable needs as many "
            "runs of every task: run the missing ones"
        )
    matrix: list[Any] = np.stack([own[task] for task in tasks], axis=1).tolist()
    return matrix


def parquet(path: Path, execution: Execution) -> tuple[bytes, list[str]]:
    """A row per seed: the columns of :func:`rocompare.load_results`, the environment and whether
    there was a curriculum."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ResultsError("Parquet needs pyarrow: pip install 'rocompare[parquet]'")
    results = Results(path)
    frame = results.seeds.copy()
    for name, of in {
        "env": lambda c: registry.short_name("environment", c["scenario"]["env"]),
        "curriculum": lambda c: "curriculum" in c["algorithm"],
    }.items():
        values = {cell.place: of(cell.config) for cell in results.cells}
        places = frame[["suite", "scenario", "algorithm", "key"]].agg("/".join, axis=1)
        frame[name] = places.map(values)
    content = io.BytesIO()
    frame.to_parquet(content, index=False)
    return content.getvalue(), list(results.notes)


FORMS: dict[str, Callable[[Path, Execution], tuple[str | bytes, list[str]]]] = {
    "marl-eval": marl_eval,
    "rliable": rliable,
    "parquet": parquet,
}
