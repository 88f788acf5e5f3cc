"""Results as tables: what is aggregated of each cell's seeds. ``render`` writes them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rocompare.analysis import pairwise, stats
from rocompare.analysis.exact import Array
from rocompare.errors import ResultsError
from rocompare.results.reader import RETURN_COLUMNS, Results, StoredCell, natural, score_of
from rocompare.results.records import SUCCESS_SCORE, Execution
from rocompare.suite import registry
from rocompare.suite.models import TUNED

EXECUTION_WORDS = {
    "decentralised": "decentralised execution (every agent draws its own random numbers and hears "
    "nobody)",
    "deterministic": "deterministic execution (every noise of the policy at zero)",
    "shared": "shared execution (agents act on common random numbers)",
}
RETURN = "Return: undiscounted team reward per episode, averaged over evaluation episodes, then "
DEFINITION = f"{RETURN}mean ± sample standard deviation over seeds."
SUCCESS = (
    "Success: a seed whose score, (return - safe) / (optimal - safe) with the returns that the "
    f"scenario declares, is at least {SUCCESS_SCORE:g}; one that diverged is none."
)
_RO = ", in units of reward; mean ± sample standard deviation over seeds. Smaller is better."
DEFINITIONS = {
    "mean-std": DEFINITION,
    "median": f"{RETURN}median over seeds, with its exact 95% interval (from 6 seeds on).",
    "iqm": f"{RETURN}interquartile mean over seeds, with its 95% bootstrap interval.",
    "success": f"{SUCCESS} With Wilson's 95% interval of the rate.",
    "score": "Score: (return - safe) / (optimal - safe) with the returns that the scenario "
    "declares; mean ± sample standard deviation over seeds.",
    "gap": "Gap: the optimal return that the scenario declares minus the return (undiscounted "
    "team reward per episode, averaged over evaluation episodes); mean ± sample standard deviation "
    "over seeds. Smaller is better.",
    "executed-ro": "Executed RO at the end of training: what the agent with the most to gain would "
    f"gain by answering what the others execute{_RO}",
    "perceived-ro": "Perceived RO at the end of training: the worst agent's regret of its best "
    f"policy for what it believes of the others{_RO}",
    "cost": "Cost: seconds of training per seed on the machine that trained it (a cell's wall time "
    "divided by its seeds), with updates and trainable parameters per seed, and what the search "
    "for the hyperparameters took, trials × dimensions and hours, where the suite says.",
}
"""By statistic, what the numbers of a table are."""
EASED = "†"
"""Mark of an algorithm that was trained with a curriculum."""
WITH_STD = ("mean-std", "score", "gap", "executed-ro", "perceived-ro")
"""Statistics that are means over seeds, shown with their deviation."""
MEASURED = {"executed-ro": "executed_ro", "perceived-ro": "perceived_ro", "cost": "seconds"}
"""Statistics of other columns than returns."""


@dataclass(frozen=True)
class Entry:
    """One cell of the table."""

    mean: float
    std: float
    n: int
    """Seeds that have the number that is shown."""
    total: int
    """Seeds with a record, diverged ones included."""
    successes: int | None = None
    """None where the game's optimal or safe return is unknown."""
    best: bool = False
    statistic: str = "mean-std"
    """One of ``DEFINITIONS``: what the entry shows."""
    value: float = math.nan
    """That statistic: the mean, median, interquartile mean, success rate or mean gap."""
    low: float = math.nan
    high: float = math.nan
    """Its 95% interval, for the median, the interquartile mean and the success rate."""
    published: tuple[float, float] | None = None
    """``(mean, std)`` that a reference table gives for this cell."""
    failed: int = 0
    """Seeds without a record, which the last attempt failed to train."""
    updates: int = 0
    parameters: int = 0
    """Per seed, for the cost."""
    search: tuple[int, int, float] | None = None
    """For the cost: what finding the hyperparameters took, in trials, in dimensions and in hours;
    None where the suite does not say."""

    @property
    def asked(self) -> int:
        """Seeds that there should be."""
        return self.total + self.failed

    @property
    def differs(self) -> str:
        """``↑`` or ``↓`` where our mean ± std lies wholly above or below the published one."""
        if self.published is None or not self.n:
            return ""
        mean, std = self.published
        if abs(self.mean - mean) <= self.std + std:
            return ""
        return "↑" if self.mean > mean else "↓"


@dataclass(frozen=True)
class ReturnTable:
    """Algorithms x scenarios, in the order of ``algorithms`` and ``scenarios``."""

    algorithms: list[str]
    scenarios: list[str]
    entries: dict[tuple[str, str], Entry]
    notes: list[str]
    eased: frozenset[str] = frozenset()
    """Algorithms that were trained with a curriculum."""

    def shown(self, algorithm: str) -> str:
        """The algorithm's name as the table has it."""
        return algorithm + EASED if algorithm in self.eased else algorithm


def return_table(
    results: Results,
    statistic: str = "mean-std",
    execution: Execution = "decentralised",
    reference: str | None = None,
) -> ReturnTable:
    """Aggregate ``results``; ``statistic`` is one of ``DEFINITIONS``.

    Args:
        execution: whose returns are shown.
        reference: one of ``registry.REFERENCES``, whose published values stand beside ours.

    Raises:
        ResultsError: options that do not go together.
    """
    if statistic in MEASURED and execution != "decentralised":
        raise ResultsError(
            f"--execution {execution}: {statistic} is no return; drop one of the two options"
        )
    published = {} if reference is None else load_reference(reference)
    if published and statistic != "mean-std":
        raise ResultsError(
            f"--reference: '{reference}' publishes mean ± std, so it needs --statistic mean-std"
        )
    notes = [DEFINITIONS[statistic]]
    if statistic not in MEASURED:
        notes.append(
            f"Of {EXECUTION_WORDS[execution]}. {SUCCESS if statistic != 'success' else ''}"
        )
    notes.append(_budget_note(results.cells))
    column = MEASURED.get(statistic, RETURN_COLUMNS[execution])
    failed_seeds = {failure.place: set(failure.seeds) for failure in results.failures}
    entries: dict[tuple[str, str], Entry] = {}
    samples: dict[tuple[str, str], Array] = {}
    # Arrays, not frames: a table may have ten thousand cells.
    frame = results.seeds
    values = frame[column].to_numpy(float)
    healthy = ~frame["diverged"].to_numpy(bool)
    shown = np.isfinite(values) & (healthy | (statistic == "cost"))
    columns = {name: frame[name].to_numpy() for name in ("seed", "updates", "parameters")}
    for cell, rows in results.rows_of_cells():
        finite = rows[shown[rows]]
        if not len(finite) and healthy[rows].any():
            notes.append(f"—: {cell.label} · {cell.algorithm}: {_absent(statistic, execution)}")
            continue
        numbers = values[finite]
        failed = failed_seeds.pop(cell.place, set()) - set(columns["seed"][rows].tolist())
        safe, optimal = cell.safe_return, cell.optimal_return
        known = safe is not None and optimal is not None
        successes = None
        if known and statistic not in MEASURED:
            scores = score_of(numbers, safe, optimal)
            successes = int((scores >= SUCCESS_SCORE - 1e-9).sum())
        if not known and statistic in ("success", "score", "gap"):
            notes.append(
                f"—: {cell.label} · {cell.algorithm}: the game's optimal or safe return is unknown"
            )
            continue
        entry = Entry(
            mean=float(numbers.mean()) if len(numbers) else math.nan,
            std=float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0,
            n=len(numbers),
            total=len(rows),
            successes=successes,
            failed=len(failed),
            published=published.get((untuned(cell.algorithm), cell.scenario)),
            updates=int(columns["updates"][rows[0]]),
            parameters=int(columns["parameters"][rows[0]]),
            statistic=statistic,
            search=_search(cell),
        )
        if len(numbers):
            samples[cell.name] = _sample(statistic, numbers, len(rows), cell)
        entries[cell.name] = _with_statistic(entry, statistic, numbers, safe, optimal)
    _add_failed(entries, failed_seeds, statistic)
    scenarios = ordered((s for _, s in entries), [scenario for _, scenario in published])
    first = ["svnr", *(algorithm for algorithm, _ in published)]
    algorithms = ordered((a for a, _ in entries), first)
    _mark_best(entries, samples, scenarios)
    notes += _explained(reference, scenarios)
    notes += [f"Failed: {failure.place}: {failure.error}" for failure in results.failures]
    eased = frozenset(c.algorithm for c in results.cells if "curriculum" in c.config["algorithm"])
    if eased:
        notes.append(
            f"{EASED}: trained with a curriculum on the reward, which is knowledge that other rows "
            "do not have."
        )
    return ReturnTable(algorithms, scenarios, entries, [*notes, *results.notes], eased)


def _search(cell: StoredCell) -> tuple[int, int, float] | None:
    """Trials, dimensions and hours that the suite gave for the cell's algorithm."""
    search = cell.config.get("search")
    names = "trials", "dimensions", "hours"
    found: list[Any] = [search.get(n) for n in names] if isinstance(search, dict) else []
    if len(found) == 3 and all(type(x) in (int, float) and math.isfinite(x) for x in found):
        return int(found[0]), int(found[1]), float(found[2])
    return None


def _add_failed(
    entries: dict[tuple[str, str], Entry], failed: dict[str, set[int]], statistic: str
) -> None:
    """Entries of cells of which not one seed has a record."""
    for place, seeds in failed.items():
        _, scenario, algorithm, _ = place.split("/")
        if (algorithm, scenario) not in entries:
            entry = Entry(math.nan, 0.0, 0, 0, failed=len(seeds), statistic=statistic)
            entries[algorithm, scenario] = entry


def _explained(reference: str | None, scenarios: list[str]) -> list[str]:
    """What signs in the table mean."""
    notes = []
    if reference is not None:
        notes.append(
            f"Second value: {reference}, as published. ↑ or ↓: our mean ± std lies wholly above "
            "or below it."
        )
    if any("@" in scenario for scenario in scenarios):
        notes.append(
            "name@suite: suites that give one name to different parameters, budgets or "
            "evaluations, or that both have an algorithm."
        )
    return notes


def _sample(statistic: str, numbers: Array, total: int, cell: StoredCell) -> Array:
    """What is tested: a number per seed, the larger the better."""
    if statistic == "success":
        scores = score_of(numbers, cell.safe_return, cell.optimal_return)
        good = (scores >= SUCCESS_SCORE - 1e-9).astype(float)
        return np.concatenate([good, np.zeros(total - len(numbers))])
    # The gap is smaller where the return, which is tested, is larger.
    return -numbers if statistic in MEASURED else numbers


def _absent(statistic: str, execution: Execution) -> str:
    if statistic in ("executed-ro", "perceived-ro"):
        return "not measured; see `rocompare diagnose`"
    if execution == "shared":
        return "does not share random numbers between agents"
    return f"no return of {execution} execution is recorded; run its suite again"


def _mark_best(
    entries: dict[tuple[str, str], Entry],
    samples: dict[tuple[str, str], Array],
    scenarios: list[str],
) -> None:
    """Mark everything that the test cannot tell from the best, not the largest number alone."""
    for scenario in scenarios:
        column = {a: values for (a, label), values in samples.items() if label == scenario}
        for algorithm in pairwise.best(column) if column else ():
            entries[algorithm, scenario] = replace(entries[algorithm, scenario], best=True)


def untuned(algorithm: str) -> str:
    """The name that `rocompare tune` gave its suffix to."""
    return algorithm.removesuffix(TUNED)


def ordered(names: Iterable[str], first: list[str]) -> list[str]:
    """The distinct names, tuned ones behind the others: those of ``first`` in its order, then by
    name, numbers in it by size."""

    def place(name: str) -> tuple[bool, int, list[Any]]:
        plain = untuned(name)
        rank = first.index(plain) if plain in first else len(first)
        return name != plain, rank, natural(name)

    return sorted(set(names), key=place)


def load_reference(name: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Published ``(algorithm, scenario) -> (mean, std)``.

    Raises:
        ResultsError: no such reference.
    """
    if name not in registry.REFERENCES:
        hint = registry.nearest(name, registry.REFERENCES)
        raise ResultsError(f"--reference: unknown reference '{name[:80]}'{hint}")
    path = Path(__file__).parent / "reference" / registry.REFERENCES[name]
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["algorithm"], row["scenario"]): (float(row["mean"]), float(row["std"]))
            for row in csv.DictReader(file)
        }


def _with_statistic(
    entry: Entry,
    statistic: str,
    numbers: Array,
    safe: float | None,
    optimal: float | None,
) -> Entry:
    """The entry with ``value``, ``low`` and ``high``; ``numbers [n]`` are its finite ones."""
    value, interval = entry.mean, stats.NO_INTERVAL
    if statistic == "median":
        value, interval = stats.summarise(numbers).median, stats.median_interval(numbers)
    elif statistic == "iqm":
        value, interval = stats.iqm(numbers), stats.iqm_interval(numbers)
    elif statistic == "success" and entry.successes is not None:
        value = entry.successes / entry.total
        interval = stats.wilson_interval(entry.successes, entry.total)
    elif statistic == "gap" and optimal is not None:
        value = optimal - entry.mean
    elif statistic == "score" and safe is not None and optimal is not None:
        value = (entry.mean - safe) / (optimal - safe)
        entry = replace(entry, std=entry.std / (optimal - safe))
    return replace(entry, value=value, low=interval.low, high=interval.high)


def _budget_note(cells: list[StoredCell]) -> str:
    budgets = sorted({int(cell.config["budget"]["env_steps"]) for cell in cells})
    episodes = sorted({int(cell.config["evaluation"]["episodes"]) for cell in cells})
    steps = " or ".join(f"{budget:,}" for budget in budgets)
    return (
        f"Budget: {steps} environment steps per seed; "
        f"{' or '.join(map(str, episodes))} evaluation episodes."
    )
