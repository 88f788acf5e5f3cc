"""Tuning with the same search for every algorithm of a suite.

::

    trial 0 of every algorithm has the values of the suite and, where it sets none, the defaults
    every round: propose trials from all earlier rounds            (Optuna's TPE)
                 train their cells like any suite's, on the tuning seeds
                 judge each trial
    at the end:  train the best five and trial 0 again on fresh seeds; the winner is the best there

A trial is judged by its success rate first: seeds whose score in decentralised execution is a
success, over its scenarios. Trials that succeed alike are told apart by the lower confidence bound
of their mean score, so that a lucky mean of few seeds does not win. The confirmation on fresh seeds
is there because the best of many trials looks better than it is; by how much is reported as the
search's optimism.

An algorithm with more hyperparameters to search has more trials, in proportion. The results of the
trials' cells are all that is kept: an interrupted search, or one for more trials, proposes the same
trials again and trains those that have no results. Rounds have a fixed size, whatever the number of
jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
from pydantic import ValidationError

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
from rocompare.suite.models import Cell, ScenarioConfig, Suite, check_seeds

CONFIRMED = 5
"""Trials that are trained again on fresh seeds, besides trial 0."""
WORST = -1.0
"""Score of a seed that diverged, unless another seed of its cell did worse."""


@dataclass(frozen=True)
class Judgement:
    """What a trial's seeds came to."""

    successes: int
    total: int
    """Seeds, over all scenarios; those that diverged are no successes."""
    score: float
    """Mean over seeds and scenarios, which weigh the same."""
    low: float
    """Lower end of its 95 % interval: Student's, over seeds."""

    @property
    def rank(self) -> tuple[float, float]:
        """What trials are sorted by, the larger the better."""
        return self.successes / self.total, self.low

    @property
    def objective(self) -> float:
        """The same as one number for the search, in which the score only breaks ties."""
        return self.successes / self.total + 0.01 * min(max(self.low, -1.0), 1.0)


@dataclass(frozen=True)
class Trial:
    """One set of hyperparameters of one algorithm, and what it came to."""

    algorithm: str
    number: int
    values: Values
    """The hyperparameters that are searched."""
    judgement: Judgement | None = None
    """None: it failed."""
    confirmed: Judgement | None = None
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

    def best(self, algorithm: str) -> Trial | None:
        """The winner: of the confirmed trials, or of the search; the earliest of equals."""
        trials = self.trials[algorithm]
        confirmed = [replace(t, judgement=t.confirmed) for t in trials if t.confirmed]
        found = ranked(confirmed or trials)
        return trials[found[0].number] if found else None


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Those that did not fail, the best of the search first."""
    judged = [(t.judgement.rank, -t.number, t) for t in trials if t.judgement is not None]
    return [trial for _, _, trial in sorted(judged, key=lambda one: one[:2], reverse=True)]


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
        TuneError: Optuna is missing, seeds overlap, a search space is no such thing, or a
            scenario's safe or optimal return is unknown.
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
    scales = {s.name: _scale(s) for s in chosen}
    wanted = trials_of(spaces, trials)
    none: dict[str, list[Trial]] = {a.name: [] for a in suite.algorithms}
    tuning = Tuning(
        suite, chosen, seeds, fresh_seeds, search_seed, wanted, search_given, none
    )  # fmt: skip
    search = _Search(tuning, spaces, scales, root, jobs, device, watch)
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
        scales: dict[str, tuple[float, float]],
        root: Path,
        jobs: int | None,
        device: str,
        watch: Callable[[list[runner.CellStatus]], None],
    ) -> None:
        self.tuning = tuning
        self.spaces = spaces
        self.scales = scales
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
            past = [
                (t.values, t.judgement.objective if t.judgement else None)
                for t in tuning.trials[name]
            ]
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
        for trials in self.tuning.trials.values():
            best = ranked(trials)[:CONFIRMED]
            chosen += best
            if trials[0].judgement and trials[0] not in best:
                chosen.append(trials[0])
        trained = self.train(chosen, self.tuning.fresh_seeds)
        if trained is None:
            return False
        for before, after in zip(chosen, trained, strict=True):
            self.tuning.trials[before.algorithm][before.number] = replace(
                before,
                confirmed=after.judgement,
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
                replace(trial, error=refused[name], judgement=None)
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
                entries.append(algorithm.model_copy(update={"name": name, "params": params}))
        update = {"algorithms": tuple(entries), "scenarios": tuning.scenarios, "seeds": seeds}
        return tuning.suite.model_copy(update=update), refused

    def judge(self, trial: Trial, statuses: list[runner.CellStatus]) -> Trial:
        """The trial with what its cells came to."""
        scores, returns, errors = [], {}, []
        diverged, env_steps, updates, seconds, successes = 0, 0, 0, 0.0, 0
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
            successes += int(frame["success"].fillna(False).sum())
            scores.append(seed_scores(frame["return"].mask(bad).tolist(), *self.scales[scenario]))
        judgement = None
        if scores and not errors:
            total = sum(len(one) for one in scores)
            judgement = Judgement(successes, total, *_mean_and_low(scores))
        return replace(
            trial,
            judgement=judgement,
            error=" ".join("; ".join(errors).split()),
            returns=returns,
            diverged=diverged,
            env_steps=env_steps,
            updates=updates,
            seconds=seconds,
        )


def _scale(scenario: ScenarioConfig) -> tuple[float, float]:
    """The safe and the optimal return, by which trials are scored."""
    declared = scenario.declared()
    safe, optimal = declared["safe_return"], declared["optimal_return"]
    if safe is None or optimal is None:
        raise TuneError(
            f"scenario '{scenario.name}': its optimal or safe return is unknown, so there is no "
            "score to search by"
        )
    return float(safe), float(optimal)


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


def seed_scores(returns: list[float], safe: float, optimal: float) -> list[float]:
    """``(return - safe) / (optimal - safe)`` of a cell's seeds; NaN is a seed that diverged.

    It counts as the worst of the others, and as no better than -1.

    >>> seed_scores([10.0, 5.0, float("nan")], 0.0, 10.0)
    [1.0, 0.5, -1.0]
    """
    units = [(value - safe) / (optimal - safe) for value in returns]
    worst = min([WORST, *(unit for unit in units if not math.isnan(unit))])
    return [worst if math.isnan(unit) else unit for unit in units]


def _mean_and_low(scores: list[list[float]]) -> tuple[float, float]:
    """Mean over scenarios of the means over seeds, and the lower end of its 95 % interval."""
    mean = math.fsum(math.fsum(one) / len(one) for one in scores) / len(scores)
    n = min(len(one) for one in scores)
    if n < 2:
        return mean, mean
    errors = [float(np.var(one, ddof=1)) / len(one) for one in scores]
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * math.sqrt(math.fsum(errors)) / len(scores)
    return mean, mean - half


def span(seeds: tuple[int, ...]) -> str:
    """Seeds in words: ``1000..1009``."""
    if len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}..{seeds[-1]}"
    shown = ", ".join(map(str, seeds[:5]))
    return shown + (", ..." if len(seeds) > 5 else "")
