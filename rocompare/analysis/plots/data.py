"""What pictures are made of: one scan of the results, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocompare.analysis.plots import style
from rocompare.errors import ResultsError, printable
from rocompare.results.reader import Results, StoredCell
from rocompare.results.records import Curve, SeedRecord, Values
from rocompare.suite import registry

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """An algorithm's seeds on one scenario, in the order of their numbers."""

    stored: StoredCell
    returns: Array
    """``[n]`` of decentralised execution; NaN of a seed that diverged or was not evaluated so."""
    scores: Array
    """``[n]``, NaN where there is no return or the game's safe or optimal return is unknown."""
    success: NDArray[np.bool_]
    """``[n]``"""
    diverged: NDArray[np.bool_]
    """``[n]``"""
    updates: int
    parameters: int
    """Of a seed."""
    seconds: float
    """Of a seed, on average."""
    records: list[SeedRecord]
    """Whole, or none of them if the results were read without."""

    @property
    def measured(self) -> NDArray[np.bool_]:
        """``[n]`` whether a seed was evaluated in decentralised execution, or diverged before."""
        return np.isfinite(self.returns) | self.diverged

    @property
    def rate(self) -> tuple[int, int] | None:
        """Seeds that succeed, and all that were evaluated; None if success is not known. A seed
        that diverged does not succeed."""
        total = int(self.measured.sum())
        if self.stored.scale is None or not total:
            return None
        return int(self.success.sum()), total

    def curve(self, values_of: Callable[[Curve], Values]) -> tuple[Array, Array]:
        """``(env_steps [P], values [P, n])``: NaN where a value is missing or not finite."""
        steps = sorted({step for record in self.records for step in record.curve.env_steps})
        place = {step: i for i, step in enumerate(steps)}
        table = np.full((len(steps), len(self.records)), np.nan)
        for column, record in enumerate(self.records):
            values = values_of(record.curve)
            if len(values) == len(record.curve.env_steps):
                table[[place[step] for step in record.curve.env_steps], column] = values
        return np.array(steps, float), table

    def return_curve(self) -> tuple[Array, Array]:
        """Returns of decentralised execution, as :meth:`curve`."""
        return self.curve(lambda curve: curve.returns.get("decentralised", []))

    def file_of(self, record: SeedRecord) -> str:
        return str(self.stored.folder / f"seed_{record.seed}.json")


class Data:
    """The results below a folder, or those of some algorithms and scenarios in it.

    Attributes:
        cells: by algorithm and by the scenario as tables call it, scenario by scenario.
        algorithms: in the order of all pictures: SVNR first, then as the results give them, a
            tuned one behind its untuned one.
        scenarios: as tables call them.
        looks: how each algorithm is drawn, whether or not it is left out here.
        notes: what is missing, a printable line each.
    """

    def __init__(
        self, results: Results, algorithms: Sequence[str] = (), scenarios: Sequence[str] = ()
    ) -> None:
        self.results = results
        every = in_order(results.algorithms)
        self.looks = style.marks(every)
        self.algorithms = _chosen("--algorithm", algorithms, every)
        wanted = set(scenarios)
        names = {cell.label: {cell.label, cell.scenario} for cell in results.cells}
        _chosen("--scenario", scenarios, [name for both in names.values() for name in both])
        self.scenarios = [label for label, both in names.items() if not wanted or both & wanted]
        self.cells: dict[tuple[str, str], Cell] = {}
        self._environments: dict[str, Any] = {}
        frame = results.seeds
        columns = {
            name: frame[name].to_numpy()
            for name in (
                "seed",
                "return",
                "score",
                "diverged",
                "usable",
                "updates",
                "parameters",
                "seconds",
            )
        }
        success = frame["success"].fillna(False).to_numpy(bool)
        places = {
            (algorithm, label): (i, j)
            for i, label in enumerate(self.scenarios)
            for j, algorithm in enumerate(self.algorithms)
        }
        chosen = [one for one in results.rows_of_cells() if one[0].name in places]
        for stored, rows in sorted(chosen, key=lambda one: places[one[0].name]):
            rows = rows[np.argsort(columns["seed"][rows], kind="stable")]
            usable = columns["usable"][rows].astype(bool)
            records = results.records.get(stored.place, {})
            self.cells[stored.name] = Cell(
                stored,
                np.where(usable, columns["return"][rows].astype(float), np.nan),
                columns["score"][rows].astype(float),
                success[rows],
                columns["diverged"][rows].astype(bool),
                int(columns["updates"][rows[0]]),
                int(columns["parameters"][rows[0]]),
                float(columns["seconds"][rows].mean()),
                [records[seed] for seed in sorted(records)],
            )
        if results.cells and not self.cells:
            raise ResultsError(f"{results.path}: no algorithm that was named has seeds there")
        self.notes = [printable(note) for note in (*results.notes, *self._missing())]

    def of(self, scenario: str) -> dict[str, Cell]:
        """The cells of a scenario, by algorithm."""
        return {
            name: self.cells[name, scenario]
            for name in self.algorithms
            if (name, scenario) in self.cells
        }

    def declared(self, scenario: str) -> tuple[float, float] | None:
        """The scenario's safe and optimal return, where both are known."""
        for cell in self.of(scenario).values():
            safe, optimal = cell.stored.safe_return, cell.stored.optimal_return
            if safe is not None and optimal is not None and safe < optimal:
                return safe, optimal
        return None

    def environment(self, scenario: str) -> Any:
        """A copy of the scenario's environment, if it is one of rocompare's own that can be drawn,
        else None. Nobody else's code is run to read results."""
        if scenario not in self._environments:
            self._environments[scenario] = self._build(scenario)
        return self._environments[scenario]

    def _build(self, scenario: str) -> Any:
        stored = next(iter(self.of(scenario).values())).stored
        config = stored.config["scenario"]
        if registry.is_foreign(config["env"]):
            return None
        found = registry.load("environment", config["env"])
        if not hasattr(found, "draw"):
            return None
        try:
            return found(found.Config.model_validate(config["params"]), [0], 1)
        except ValueError as error:
            self.notes.append(
                printable(
                    f"{scenario}: its game is not drawn, for {config['env']} no longer takes its "
                    f"parameters: {error}"
                )
            )
            return None

    def _missing(self) -> list[str]:
        """What failed or diverged, what no picture can show, and where seeds are few."""
        notes = [f"failed: {one.place}: {one.error}" for one in self.results.failures]
        unknown = [s for s in self.scenarios if self.declared(s) is None]
        if unknown:
            notes.append(f"no score and no success, for a return is unknown: {', '.join(unknown)}")
        unmeasured: dict[str, list[str]] = {}
        for (algorithm, scenario), cell in self.cells.items():
            if not cell.measured.any():
                unmeasured.setdefault(algorithm, []).append(scenario)
            if cell.diverged.any():
                notes.append(
                    f"{scenario} · {algorithm}: {int(cell.diverged.sum())} of "
                    f"{len(cell.diverged)} seeds diverged; they count as no success"
                )
        for algorithm, places in unmeasured.items():
            on = ", ".join(places) if len(places) < 4 else f"{len(places)} scenarios"
            notes.append(
                f"{algorithm} on {on}: not evaluated in decentralised execution, so its returns "
                "are neither drawn nor counted; run its suite again into another folder"
            )
        return [*notes, *self._few()]

    def _few(self) -> list[str]:
        """Where an algorithm of a suite has fewer seeds than most cells of that suite."""
        suites: dict[str, dict[str, dict[str, int]]] = {}
        for (algorithm, scenario), cell in self.cells.items():
            seeds = suites.setdefault(cell.stored.suite, {})
            seeds.setdefault(scenario, {})[algorithm] = len(cell.returns)
        notes = []
        for suite, scenarios in suites.items():
            most = max(count for counts in scenarios.values() for count in counts.values())
            everybody = {name for counts in scenarios.values() for name in counts}
            for scenario, counts in scenarios.items():
                few: dict[int, list[str]] = {}
                for name in (name for name in self.algorithms if name in everybody):
                    if counts.get(name, 0) < most:
                        few.setdefault(counts.get(name, 0), []).append(name)
                for have, names in sorted(few.items()):
                    seeds_text = f"{have} of {most}" if have else "no"
                    notes.append(f"{suite} · {scenario}: {seeds_text} seeds of {', '.join(names)}")
        return notes


def in_order(names: Sequence[str]) -> list[str]:
    """SVNR first, then in the order given; a tuned algorithm behind its untuned one."""
    names = list(dict.fromkeys(names))
    first = {style.untuned(name): i for i, name in reversed(list(enumerate(names)))}

    def place(name: str) -> tuple[bool, int, bool]:
        plain = style.untuned(name)
        return plain != "svnr", first[plain], name != plain

    return sorted(names, key=place)


def _chosen(option: str, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in wanted:
        if name not in known:
            raise ResultsError(
                f"{option}: nothing is called '{name[:80]}' here{registry.nearest(name, known)}"
            )
    return [name for name in known if not wanted or name in wanted]
