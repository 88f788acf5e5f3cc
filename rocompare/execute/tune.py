"""Equal-budget tuning: the same number of trials for every algorithm of a suite.

::

    trial 0 of every algorithm has the values of the suite and, where it sets none, the defaults
    every round: propose trials from the scores of all earlier rounds   (Optuna's TPE)
                 train their cells like any suite's, on the tuning seeds
                 score each trial

A trial's score is the mean over its scenarios (the suite's, or those chosen) of the mean over
tuning seeds of ``(return - safe) / (optimal - safe)``: 0 is the scenario's safe return and 1 its
optimal one, so scenarios weigh equally. A diverged seed counts as the worst seed of its cell, and
as no better than -1. A trial fails, and cannot be the best, where one of its cells fails or has
only seeds that diverged.

A proposal depends on nothing but the seed of the search, the algorithm's name in the suite, and
the scores of earlier rounds. So the results of the trials' cells are all that has to be kept: an
interrupted search, or one for more trials, proposes the same trials again and trains those that
have no results. Rounds have a fixed size, whatever the number of jobs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import ValidationError

from rocompare.api import Search
from rocompare.errors import TuneError
from rocompare.execute import runner
from rocompare.results import files, reader
from rocompare.suite import registry
from rocompare.suite.models import (
    MAX_NAME,
    TUNED,
    AlgorithmConfig,
    Cell,
    ScenarioConfig,
    Suite,
    check_seeds,
)

FIRST_ROUND = 10
"""Trials that know of no scores: the default and uniform ones."""
ROUND = 5
"""Trials that are proposed, and trained, side by side after that."""
DIGITS = 4
"""Significant digits of a proposed value: the tuned suite holds what was trained."""
_HEAD = "# Written by `rocompare tune`"


@dataclass(frozen=True)
class Dimension:
    """A hyperparameter that is searched."""

    at: Search
    start: float | int
    """Its value in trial 0."""
    whole: bool
    """Whether it is an int."""


Space = dict[str, Dimension]


@dataclass(frozen=True)
class Trial:
    """One set of hyperparameters of one algorithm, and what it came to."""

    algorithm: str
    number: int
    values: dict[str, float | int]
    """The hyperparameters that are searched."""
    score: float | None = None
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
    search_seed: int
    wanted: int
    """Trials per algorithm."""
    search_given: bool
    """Whether hyperparameters that the suite sets were searched too."""
    trials: dict[str, list[Trial]]
    """By algorithm, in order."""
    interrupted: bool = False

    def best(self, algorithm: str) -> Trial | None:
        """The trial with the highest score, the earliest of equals; None if all failed."""
        scored = [trial for trial in self.trials[algorithm] if trial.score is not None]
        return max(scored, key=lambda trial: (trial.score, -trial.number), default=None)


def tune(
    suite: Suite,
    root: Path,
    trials: int,
    *,
    seeds: tuple[int, ...],
    scenarios: list[str] | None = None,
    search_seed: int = 0,
    search_given: bool = False,
    jobs: int | None = None,
    device: str = "cpu",
    watch: Callable[[list[runner.CellStatus]], None] = lambda statuses: None,
    after_round: Callable[[Tuning], None] = lambda tuning: None,
) -> Tuning:
    """Give every algorithm of ``suite`` the same number of trials on the tuning ``seeds``.

    Args:
        root: folder of the trials' results; the search continues from what it finds there.
        seeds: none of them may be among the suite's.
        scenarios: names of those that trials run on; all by default.
        search_given: search also what the suite sets, if it lies in the range that is searched.
        watch: called about ten times a second with the cells of the round.

    Raises:
        TuneError: Optuna is missing, seeds overlap, or a search space is no such thing.
        ResultsError: a scenario's safe and optimal returns cannot be told.
    """
    _import_optuna()
    refuse_overlap(suite, seeds)
    chosen = suite.select(scenarios=scenarios).scenarios
    for scenario in suite.scenarios:
        if scenario.budget is not None or scenario.algorithms:
            raise TuneError(
                [
                    f"scenario '{scenario.name}' has a budget or hyperparameters of its own, which "
                    "tuning would ignore; tune a suite of that scenario alone"
                ]
            )
    spaces = {a.name: space_of(a, search_given) for a in suite.algorithms}
    scales = {s.name: _scale(s) for s in chosen}
    none: dict[str, list[Trial]] = {a.name: [] for a in suite.algorithms}
    tuning = Tuning(suite, chosen, seeds, search_seed, trials, search_given, none)
    for numbers in rounds(trials):
        proposed = [
            trial
            for name, space in spaces.items()
            for trial in propose(name, space, tuning.trials[name], numbers, search_seed)
        ]
        suite_of_round, wrong = _suite_of(tuning, proposed)
        statuses: list[runner.CellStatus] = []
        if suite_of_round.algorithms:
            outcome = runner.run_suite(
                suite_of_round, root, runner.ExecutorSettings("local", jobs, device), watch=watch
            )
            if outcome.interrupted:
                tuning.interrupted = True
                return tuning
            statuses = outcome.cells
        for trial in proposed:
            name = _name(trial)
            mine = [status for status in statuses if status.cell.algorithm.name == name]
            tuning.trials[trial.algorithm].append(
                replace(trial, error=wrong[name])
                if name in wrong
                else _judge(trial, mine, root, scales)
            )
        after_round(tuning)
    return tuning


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


def refuse_overlap(suite: Suite, seeds: tuple[int, ...]) -> None:
    """Raise if a tuning seed is no seed, or one that will be reported."""
    try:
        check_seeds(list(seeds))
    except ValueError as error:
        raise TuneError([f"tuning seeds: {error}"]) from None
    shared = sorted(set(seeds) & set(suite.seeds))
    if shared:
        raise TuneError(
            [
                f"tuning seeds {_span(seeds)} overlap the seeds that suite '{suite.name}' reports "
                f"({_span(tuple(shared))}): whoever was tuned on a seed would be judged by it; "
                "choose others with --first-seed"
            ]
        )


def space_of(algorithm: AlgorithmConfig, search_given: bool = False) -> Space:
    """The hyperparameters that have a :class:`rocompare.api.Search` and that the suite leaves.

    With ``search_given`` also those that the suite sets to a value in the range.
    """
    model = algorithm.load().Config
    space = {}
    for name, info in model.model_fields.items():
        found = [item for item in info.metadata if isinstance(item, Search)]
        if not found:
            continue
        at, start = found[0], algorithm.params[name]
        if name in algorithm.given and not (search_given and at.low <= start <= at.high):
            continue
        what = f"algorithm '{algorithm.name}': '{name}' is searched from {at.low} to {at.high}"
        if info.annotation not in (int, float):
            raise TuneError([f"{what}, but only an int or a float can be"])
        if not at.low <= start <= at.high or at.low == at.high:
            raise TuneError([f"{what}, a range that must hold its default, which is {start}"])
        if at.log and at.low <= 0:
            raise TuneError([f"{what} on a logarithmic scale; begin above 0 or say log=False"])
        space[name] = Dimension(at, start, info.annotation is int)
    return space


def rounds(trials: int) -> Iterator[range]:
    """Numbers of the trials of each round, of which the last may be cut short."""
    first, size = 0, FIRST_ROUND
    while first < trials:
        yield range(first, min(first + size, trials))
        first, size = first + size, ROUND


def propose(
    algorithm: str, space: Space, past: list[Trial], numbers: range, search_seed: int
) -> list[Trial]:
    """The trials with these numbers, given all trials of earlier rounds.

    Where nothing is searched there is but trial 0: all others would be the same.
    """
    import optuna

    from rocompare.learn.rng import derive

    first = [Trial(algorithm, 0, {name: d.start for name, d in space.items()})]
    first = first if numbers[0] == 0 else []
    if not space:
        return first
    distributions = {name: _distribution(d) for name, d in space.items()}
    seed = derive(search_seed, f"tune/{algorithm}/{numbers[0]}") % 2**32
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for trial in past:
        known: dict[str, Any] = {"params": trial.values, "distributions": distributions}
        if trial.score is None:
            known["state"] = optuna.trial.TrialState.FAIL
        else:
            known["value"] = trial.score
        study.add_trial(optuna.trial.create_trial(**known))
    asked = [
        Trial(algorithm, number, _rounded(study.ask(distributions).params, space))
        for number in numbers
        if number > 0
    ]
    return first + asked


def _distribution(d: Dimension) -> Any:
    import optuna

    if d.whole:
        return optuna.distributions.IntDistribution(int(d.at.low), int(d.at.high), log=d.at.log)
    return optuna.distributions.FloatDistribution(d.at.low, d.at.high, log=d.at.log)


def _rounded(params: dict[str, float | int], space: Space) -> dict[str, float | int]:
    """Values as the tuned suite will hold them; the ends of a range stay its ends."""
    return {
        name: value
        if space[name].whole
        else min(max(float(f"{value:.{DIGITS}g}"), float(space[name].at.low)), space[name].at.high)
        for name, value in params.items()
    }


def _import_optuna() -> str:
    """Optuna's version."""
    try:
        import optuna
    except ImportError:
        raise TuneError(
            ["tuning needs Optuna, which is not installed: pip install 'rocompare[tune]'"]
        ) from None
    return str(optuna.__version__)


def _suite_of(tuning: Tuning, proposed: list[Trial]) -> tuple[Suite, dict[str, str]]:
    """The suite that trains these trials, and of those that the Config refuses, the error."""
    base = {algorithm.name: algorithm for algorithm in tuning.suite.algorithms}
    entries, refused = [], {}
    for trial in proposed:
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
    update = {
        "algorithms": tuple(entries),
        "scenarios": tuning.scenarios,
        "seeds": tuning.seeds,
    }
    return tuning.suite.model_copy(update=update), refused


def _name(trial: Trial) -> str:
    # '#' is in no name that a suite may give, so this is nobody else's.
    return f"{trial.algorithm}#{trial.number:03}"


def _judge(
    trial: Trial,
    statuses: list[runner.CellStatus],
    root: Path,
    scales: dict[str, tuple[float, float]],
) -> Trial:
    """The trial with what its cells came to."""
    scores, returns, errors = [], {}, []
    diverged, env_steps, updates, seconds = 0, 0, 0, 0.0
    for status in statuses:
        scenario = status.cell.scenario.name
        if status.state != "done":
            errors.append(f"{scenario}: {status.error or status.state}")
            continue
        frame = _rows(root, status.cell)
        bad = frame["diverged"] | ~(frame["return"].abs() < math.inf)
        diverged += int(bad.sum())
        env_steps += int(frame["env_steps"].sum())
        updates += int(frame["updates"].sum())
        seconds += float(frame["seconds"].sum())
        if bad.all():
            errors.append(f"{scenario}: every seed diverged")
            continue
        returns[scenario] = float(frame["return"][~bad].mean())
        scores.append(score(frame["return"].mask(bad).tolist(), *scales[scenario]))
    mean = math.fsum(scores) / len(scores) if scores and not errors else None
    return replace(
        trial,
        score=mean,
        error=" ".join("; ".join(errors).split()),
        returns=returns,
        diverged=diverged,
        env_steps=env_steps,
        updates=updates,
        seconds=seconds,
    )


def _rows(root: Path, cell: Cell) -> pd.DataFrame:
    """The cell's seeds in order; a folder may hold more than this search's."""
    frame = reader.load_results(root / cell.path)
    return frame[frame["seed"].isin(cell.seeds)].sort_values("seed")


def score(returns: list[float], safe: float, optimal: float) -> float:
    """Mean over a cell's seeds of ``(return - safe) / (optimal - safe)``; NaN is a diverged seed.

    A diverged seed counts as the worst of the others, and as no better than -1.

    >>> score([10.0, 5.0, float("nan")], 0.0, 10.0)  # 1, 0.5 and -1
    0.16666666666666666
    """
    units = [(value - safe) / (optimal - safe) for value in returns]
    worst = min([-1.0, *(unit for unit in units if not math.isnan(unit))])
    return math.fsum(worst if math.isnan(unit) else unit for unit in units) / len(units)


def table(tuning: Tuning) -> list[str]:
    """Lines that say what the search found for each algorithm, and what it cost."""
    rows = [
        ("algorithm", "best trial", "score", "trial 0's", "failed", "env steps", "updates", "time")
    ]
    for name, trials in tuning.trials.items():
        best = tuning.best(name)
        start = trials[0].score if trials else None
        rows.append(
            (
                name,
                f"{best.number} of 0..{len(trials) - 1}" if best else "none",
                f"{best.score:.3f}" if best else "-",
                "-" if start is None else f"{start:.3f}",
                str(sum(trial.score is None for trial in trials)),
                f"{sum(trial.env_steps for trial in trials):,}",
                f"{sum(trial.updates for trial in trials):,}",
                f"{sum(trial.seconds for trial in trials):.0f} s",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def trials_frame(tuning: Tuning) -> pd.DataFrame:
    """A row per trial: score, returns by scenario, cost, and the values that were searched."""
    rows = []
    for trial in (trial for trials in tuning.trials.values() for trial in trials):
        best = tuning.best(trial.algorithm)
        rows.append(
            {
                "algorithm": trial.algorithm,
                "trial": trial.number,
                "best": best is not None and best.number == trial.number,
                "score": trial.score,
                **{
                    f"return:{scenario.name}": trial.returns.get(scenario.name)
                    for scenario in tuning.scenarios
                },
                "diverged": trial.diverged,
                "error": trial.error,
                "env_steps": trial.env_steps,
                "updates": trial.updates,
                "seconds": round(trial.seconds, 3),
                **trial.values,
            }
        )
    return pd.DataFrame(rows)


def save_trials(tuning: Tuning, path: Path) -> None:
    """Write the table of trials as CSV."""
    files.write(path, trials_frame(tuning).to_csv(index=False, lineterminator="\n"))


def summary(tuning: Tuning) -> str:
    """One line after a round: how far the search is, and each algorithm's best score."""
    bests = {name: tuning.best(name) for name in tuning.trials}
    done = max(len(trials) for trials in tuning.trials.values())
    scores = ", ".join(
        f"{name} {best.score:.3f} (trial {best.number})" if best else f"{name} none"
        for name, best in bests.items()
    )
    return f"{done}/{tuning.wanted} trials; best scores: {scores}"


def save_suite(tuning: Tuning, source: Path, out: Path) -> None:
    """Write the tuned suite, which began as the file ``source``, to ``out``."""
    files.write(out, suite_text(tuning, source.name))


def refuse_other(suite: Suite, source: Path, path: Path) -> None:
    """Raise if the tuned suite of ``source`` cannot go to ``path``.

    It would overwrite what this command did not write, would stand in another folder than the code
    that it names, or would have names that are too long.
    """
    for name in (suite.name, *(algorithm.name for algorithm in suite.algorithms)):
        if len(name) + len(TUNED) > MAX_NAME:
            raise TuneError(
                [
                    f"{source}: '{name}' has {len(name)} letters; the tuned suite adds '{TUNED}', "
                    f"and a name has at most {MAX_NAME}: give it a shorter one"
                ]
            )
    files = [entry.local for entry in suite.algorithms] + [entry.local for entry in suite.scenarios]
    if any(files) and path.parent.resolve() != source.parent.resolve():
        raise TuneError([f"--out: {source} names files beside it, so {path} must be there too"])
    if path.exists() and not path.read_bytes().startswith(_HEAD.encode()):
        raise TuneError(
            [f"{path} stands there already, and is not of `rocompare tune`; give another --out"]
        )


def suite_text(tuning: Tuning, source: str) -> str:
    """The suite with each algorithm's best values, as a file that `rocompare run` takes.

    Raises:
        TuneError: every trial of an algorithm failed.
    """
    suite = tuning.suite
    none = [name for name in tuning.trials if tuning.best(name) is None]
    if none:
        why = tuning.trials[none[0]][0].error
        raise TuneError([f"every trial of '{none[0]}' failed; the first: {why}"])
    lines = [
        f"{_HEAD} from {source}: the same search for every algorithm,",
        *(["# which began with the values set there,"] if tuning.search_given else []),
        *(
            [f"# on {', '.join(s.name for s in tuning.scenarios)} alone,"]
            if len(tuning.scenarios) < len(suite.scenarios)
            else []
        ),
        f"# {tuning.wanted} trials on the tuning seeds {_span(tuning.seeds)}, none of which is "
        "among the seeds below.",
        f"# Proposed by Optuna {_import_optuna()} (TPE), search seed {tuning.search_seed}. "
        "Score: mean over scenarios and seeds of",
        "# (return - safe) / (optimal - safe); a diverged seed counts as the worst, -1 at best. A "
        "best score",
        "# is the best of many on the tuning seeds, and so too high: judge by what the seeds below "
        "return.",
        "#",
        *(f"# {line}".rstrip() for line in table(tuning)),
        f"name: {_text(suite.name + TUNED)}",
        f"seeds: {_flow(_listed(suite.seeds))}",
        f"budget: {_flow(suite.budget.model_dump())}",
        f"evaluation: {_flow(suite.evaluation.model_dump())}",
        "algorithms:",
    ]
    for algorithm in suite.algorithms:
        best = tuning.best(algorithm.name)
        assert best is not None
        use = registry.short_name("algorithm", algorithm.use)
        entry = {"use": use, **{name: algorithm.params[name] for name in algorithm.given}}
        lines.append(f"  {_text(algorithm.name + TUNED)}: {_flow(entry | best.values)}")
    lines.append("scenarios:")
    for scenario in suite.scenarios:
        env = registry.short_name("environment", scenario.env)
        lines.append(f"  {_text(scenario.name)}: {_flow({'env': env, **scenario.params})}")
    if suite.reference is not None:
        lines.append(f"reference: {suite.reference}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


def _text(name: str) -> str:
    """In quotes, unless no YAML reader takes it for a number or another word without them."""
    plain = re.fullmatch(r"[A-Za-z_][\w.+-]*", name) and yaml.safe_load(name) == name
    return name if plain else json.dumps(name)


def _listed(seeds: tuple[int, ...]) -> Any:
    """Seeds as a suite file says them: a number where they are 0..n-1."""
    return len(seeds) if seeds == tuple(range(len(seeds))) else list(seeds)


def _span(seeds: tuple[int, ...]) -> str:
    if len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}..{seeds[-1]}"
    shown = ", ".join(map(str, seeds[:5]))
    return shown + (", ..." if len(seeds) > 5 else "")
