"""Tuning with the same search for every algorithm of a suite.

::

    trial 0 of every algorithm has the values of the suite and, where it sets none, the defaults
    every round: propose trials from all earlier rounds            (Optuna's TPE)
                 train their cells like any suite's, on the tuning seeds
                 judge each trial
    at the end:  train the best five and trial 0 again on fresh seeds; the winner is the best there

:mod:`rocompare.analysis.selection` judges: by success rate first, and among trials that succeed
alike by the lower confidence bound of the mean score, so that a lucky mean of few seeds does not
win. Where the optimal or the safe return is unknown, returns take the place of scores. The
confirmation on fresh seeds is there because the best of many trials looks better than it is; by
how much is reported as the search's optimism.

An algorithm with more hyperparameters to search has more trials, in proportion. The results of the
trials' cells are all that is kept: an interrupted search, or one for more trials, proposes the same
trials again and trains those that have no results. Rounds have a fixed size, whatever the number of
jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from rocompare.analysis import selection
from rocompare.analysis.selection import Merit
from rocompare.errors import TuneError
from rocompare.execute import runner
from rocompare.execute.search import (
    Space,
    Values,
    import_optuna,
    propose,
    rounds,
    space_of,
    trials_of,
)
from rocompare.results import reader
from rocompare.suite.models import Cell, ScenarioConfig, SearchCost, Suite, check_seeds

CONFIRMED = 5
"""Trials that are trained again on fresh seeds, besides trial 0."""
Samples = tuple[tuple[float, ...], ...]
"""Of each scenario, the score (or return) of every seed; NaN where it diverged."""


@dataclass(frozen=True)
class Trial:
    """One set of hyperparameters of one algorithm, and what it came to."""

    algorithm: str
    number: int
    values: Values
    """The hyperparameters that are searched."""
    search: Samples | None = None
    """On the tuning seeds; None: it failed."""
    confirmation: Samples | None = None
    """On fresh seeds, of the best trials."""
    error: str = ""
    returns: dict[str, float] = field(default_factory=dict)
    """By scenario, the mean return of the seeds that did not diverge."""
    diverged: int = 0
    """Seeds, over all scenarios."""
    env_steps: int = 0
    updates: int = 0
    seconds: float = 0.0


@dataclass
class Tuning:
    """A search, as far as it has come."""

    suite: Suite
    """What is tuned, its seeds those that will be reported."""
    scenarios: tuple[ScenarioConfig, ...]
    """Those that trials run on; the tuned suite has all."""
    seeds: tuple[int, ...]
    """Tuning seeds."""
    fresh_seeds: tuple[int, ...]
    """Seeds of the confirmation; none: the winner is that of the search."""
    search_seed: int
    wanted: dict[str, int]
    """Trials of each algorithm."""
    search_given: bool
    """Whether hyperparameters that the suite sets were searched too."""
    trials: dict[str, list[Trial]]
    """By algorithm, in order."""
    signal: int = 0
    """That interrupted it; 0: none did."""

    @property
    def scored(self) -> bool:
        """Whether trials are judged by scores, and not by returns."""
        return all(_has_score(scenario) for scenario in self.scenarios)

    def merit(self, samples: Samples | None) -> Merit | None:
        """What a trial's samples come to."""
        return None if samples is None else selection.merit(samples, self.scored)

    def ranked(self, algorithm: str) -> list[int]:
        """Numbers of the trials that did not fail, the best of the search first."""
        return selection.ranked(_samples(self.trials[algorithm], "search"), self.scored)

    def best(self, algorithm: str) -> Trial | None:
        """The winner: of the confirmed trials, or else of the search."""
        trials = self.trials[algorithm]
        search, confirmation = _samples(trials, "search"), _samples(trials, "confirmation")
        if confirmation:
            return trials[selection.winner(search, confirmation, self.scored).trial]
        return trials[self.ranked(algorithm)[0]] if search else None

    def optimism(self, algorithm: str) -> float | None:
        """The winner's score in the search minus the confirmed one; None before that."""
        search, confirmation = (
            _samples(self.trials[algorithm], stage) for stage in ("search", "confirmation")
        )
        if not confirmation:
            return None
        return selection.winner(search, confirmation, self.scored).optimism

    def cost(self, algorithm: str) -> SearchCost:
        """What the search of an algorithm took so far, the confirmation included."""
        trials = self.trials[algorithm]
        return SearchCost(
            trials=len(trials),
            dimensions=len(trials[0].values),
            hours=round(sum(trial.seconds for trial in trials) / 3600, 4),
        )


def _samples(trials: list[Trial], stage: str) -> Mapping[int, Samples]:
    """By number, what the trials came to that have passed this stage."""
    return {t.number: getattr(t, stage) for t in trials if getattr(t, stage) is not None}


def tune(
    suite: Suite,
    root: Path,
    trials: int,
    *,
    seeds: tuple[int, ...],
    fresh_seeds: tuple[int, ...] = (),
    scenarios: list[str] | None = None,
    search_seed: int = 0,
    search_given: bool = False,
    jobs: int | None = None,
    device: str = "cpu",
    watch: Callable[[list[runner.CellStatus]], None] = lambda statuses: None,
    after_round: Callable[[Tuning], None] = lambda tuning: None,
) -> Tuning:
    """Search every algorithm of ``suite`` with the same effort on the tuning ``seeds``.

    Args:
        root: folder of the trials' results; the search continues from what it finds there.
        trials: of the algorithm with the fewest hyperparameters to search.
        seeds: none of them may be among the suite's.
        fresh_seeds: on which the best trials are confirmed; among neither of the others.
        scenarios: names of those that trials run on; all by default.
        search_given: search also what the suite sets, if it lies in the range that is searched.
        watch: called about ten times a second with the cells of the round.

    Raises:
        TuneError: Optuna is missing, seeds overlap, a search space is no such thing, or scenarios
            without a score are to be averaged with others.
    """
    import_optuna()
    refuse_overlap(suite, seeds, fresh_seeds)
    chosen = suite.select(scenarios=scenarios).scenarios
    for scenario in suite.scenarios:
        if scenario.budget is not None or scenario.algorithms:
            raise TuneError(
                f"scenario '{scenario.name}' has a budget or hyperparameters of its own, which "
                "tuning would ignore; tune a suite of that scenario alone"
            )
    spaces = {a.name: space_of(a, search_given) for a in suite.algorithms}
    _refuse_mixed(chosen)
    wanted = trials_of(spaces, trials)
    none: dict[str, list[Trial]] = {a.name: [] for a in suite.algorithms}
    tuning = Tuning(
        suite, chosen, seeds, fresh_seeds, search_seed, wanted, search_given, none
    )  # fmt: skip
    search = _Search(tuning, spaces, root, jobs, device, watch)
    for numbers in rounds(max(wanted.values())):
        if not search.round(numbers):
            return tuning
        after_round(tuning)
    if fresh_seeds and search.confirm():
        after_round(tuning)
    return tuning


class _Search:
    """Trains the trials of a search, round by round."""

    def __init__(
        self,
        tuning: Tuning,
        spaces: dict[str, Space],
        root: Path,
        jobs: int | None,
        device: str,
        watch: Callable[[list[runner.CellStatus]], None],
    ) -> None:
        self.tuning = tuning
        self.spaces = spaces
        self.root = root
        self.settings = runner.ExecutorSettings("local", jobs, device)
        self.watch = watch

    def round(self, numbers: range) -> bool:
        """Propose, train and judge the trials with these numbers; False if interrupted."""
        tuning = self.tuning
        proposed = []
        for name, space in self.spaces.items():
            own = range(numbers.start, min(numbers.stop, tuning.wanted[name]))
            if not own:
                continue
            # TPE uses but the order of what it maximises.
            worse = {number: place for place, number in enumerate(reversed(tuning.ranked(name)))}
            past = [(t.values, worse.get(t.number)) for t in tuning.trials[name]]
            found = propose(name, space, past, own, tuning.search_seed)
            proposed += [Trial(name, number, values) for number, values in found]
        trained = self.train(proposed, tuning.seeds)
        if trained is None:
            return False
        for trial in trained:
            tuning.trials[trial.algorithm].append(trial)
        return True

    def confirm(self) -> bool:
        """Train the best trials again on fresh seeds; False if interrupted."""
        chosen = []
        for name, trials in self.tuning.trials.items():
            ranked = self.tuning.ranked(name)
            default = [number for number in ranked[CONFIRMED:] if number == 0]
            chosen += [trials[number] for number in ranked[:CONFIRMED] + default]
        trained = self.train(chosen, self.tuning.fresh_seeds)
        if trained is None:
            return False
        for before, after in zip(chosen, trained, strict=True):
            self.tuning.trials[before.algorithm][before.number] = replace(
                before,
                confirmation=after.search,
                env_steps=before.env_steps + after.env_steps,
                updates=before.updates + after.updates,
                seconds=before.seconds + after.seconds,
            )
        return True

    def train(self, trials: list[Trial], seeds: tuple[int, ...]) -> list[Trial] | None:
        """The trials with what they came to on ``seeds``; None if interrupted."""
        suite, refused = self.suite_of(trials, seeds)
        statuses: list[runner.CellStatus] = []
        if suite.algorithms:
            outcome = runner.run_suite(suite, self.root, self.settings, watch=self.watch)
            if outcome.interrupted:
                self.tuning.signal = outcome.signal
                return None
            statuses = outcome.cells
        found = []
        for trial in trials:
            name = _name(trial)
            mine = [status for status in statuses if status.cell.algorithm.name == name]
            found.append(
                replace(trial, error=refused[name], search=None)
                if name in refused
                else self.judge(trial, mine)
            )
        return found

    def suite_of(self, trials: list[Trial], seeds: tuple[int, ...]) -> tuple[Suite, dict[str, str]]:
        """The suite that trains these trials, and of those that the Config refuses, the error."""
        tuning = self.tuning
        base = {algorithm.name: algorithm for algorithm in tuning.suite.algorithms}
        entries, refused = [], {}
        for trial in trials:
            algorithm = base[trial.algorithm]
            model = algorithm.load().Config
            name = _name(trial)
            try:
                checked = model.model_validate({**algorithm.params, **trial.values})
            except ValidationError as error:  # a rule about several hyperparameters
                refused[name] = "; ".join(detail["msg"] for detail in error.errors())
            else:
                params = checked.model_dump(mode="json")
                entries.append(
                    algorithm.model_copy(update={"name": name, "params": params, "search": None})
                )
        update = {"algorithms": tuple(entries), "scenarios": tuning.scenarios, "seeds": seeds}
        return tuning.suite.model_copy(update=update), refused

    def judge(self, trial: Trial, statuses: list[runner.CellStatus]) -> Trial:
        """The trial with what its cells came to."""
        samples: list[tuple[float, ...]] = []
        returns, errors = {}, []
        diverged, env_steps, updates, seconds = 0, 0, 0, 0.0
        for status in statuses:
            scenario = status.cell.scenario.name
            if status.state != "done":
                errors.append(f"{scenario}: {status.error or status.state}")
                continue
            frame = _rows(self.root, status.cell)
            bad = ~frame["usable"]
            diverged += int(bad.sum())
            env_steps += int(frame["env_steps"].sum())
            updates += int(frame["updates"].sum())
            seconds += float(frame["seconds"].sum())
            if bad.all():
                errors.append(f"{scenario}: every seed diverged")
                continue
            returns[scenario] = float(frame["return"][~bad].mean())
            column = "score" if self.tuning.scored else "return"
            samples.append(tuple(frame[column].mask(bad).astype(float)))
        return replace(
            trial,
            search=tuple(samples) if samples and not errors else None,
            error=" ".join("; ".join(errors).split()),
            returns=returns,
            diverged=diverged,
            env_steps=env_steps,
            updates=updates,
            seconds=seconds,
        )


def _has_score(scenario: ScenarioConfig) -> bool:
    declared = scenario.declared()
    return declared["safe_return"] is not None and declared["optimal_return"] is not None


def _refuse_mixed(scenarios: tuple[ScenarioConfig, ...]) -> None:
    """Raise if trials would be judged by a mean of returns of different units."""
    unknown = [scenario.name for scenario in scenarios if not _has_score(scenario)]
    if unknown and len(scenarios) > 1:
        raise TuneError(
            f"scenario '{unknown[0]}': its optimal or safe return is unknown, so it is judged by "
            "its return, which cannot be averaged with what other scenarios come to; tune on one "
            f"of them: --scenario {unknown[0]}"
        )


def refuse_overlap(suite: Suite, seeds: tuple[int, ...], fresh_seeds: tuple[int, ...] = ()) -> None:
    """Raise if a tuning seed is no seed, or one that will be reported."""
    try:
        for some in (seeds, fresh_seeds) if fresh_seeds else (seeds,):
            check_seeds(list(some))
    except ValueError as error:
        raise TuneError(f"tuning seeds: {error}") from None
    if set(seeds) & set(fresh_seeds):
        raise TuneError(
            f"tuning seeds {span(seeds)} overlap those of the confirmation ({span(fresh_seeds)}): "
            "a trial would be confirmed by what chose it"
        )
    shared = sorted((set(seeds) | set(fresh_seeds)) & set(suite.seeds))
    if shared:
        raise TuneError(
            f"tuning seeds {span(seeds)} overlap the seeds that suite '{suite.name}' reports "
            f"({span(tuple(shared))}): whoever was tuned on a seed would be judged by it; choose "
            "others with --first-seed"
        )


def _name(trial: Trial) -> str:
    # '#' is in no name that a suite may give, so this is nobody else's.
    return f"{trial.algorithm}#{trial.number:03}"


def _rows(root: Path, cell: Cell) -> pd.DataFrame:
    """The cell's seeds in order; a folder may hold more than this search's."""
    frame = reader.load_results(root / cell.path)
    return frame[frame["seed"].isin(cell.seeds)].sort_values("seed")


def span(seeds: tuple[int, ...]) -> str:
    """Seeds in words: ``1000..1009``."""
    if len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}..{seeds[-1]}"
    shown = ", ".join(map(str, seeds[:5]))
    return shown + (", ..." if len(seeds) > 5 else "")
