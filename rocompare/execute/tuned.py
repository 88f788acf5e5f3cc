"""What a search found, written: a table of all trials, and the suite with the best values."""

from __future__ import annotations

import json
import math
import re
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rocompare.analysis.selection import Merit
from rocompare.errors import TuneError
from rocompare.execute.search import import_optuna
from rocompare.execute.tune import Samples, Tuning, span
from rocompare.results import files
from rocompare.suite import registry
from rocompare.suite.models import MAX_NAME, TUNED, Suite

_HEAD = "# Written by `rocompare tune`"


COLUMNS = (
    "algorithm", "dimensions", "trials", "hours", "winner", "search", "confirmed", "optimism",
    "trial 0", "failed", "updates",
)  # fmt: skip
EXPLAINED = (
    "Trials are ranked by success rate, then by the lower 95% bound of the mean {score}. "
    "dimensions: hyperparameters that were searched, with trials in proportion. search, confirmed: "
    "success rate and {score} of the winner on the tuning seeds, and on fresh seeds. optimism: the "
    "first {score} minus the second. trial 0: the confirmed ones of the values that the search "
    "began with. hours: of training, the confirmation included."
)
UNSCORED = (
    " No optimal or safe return is known here, so that success rates are the share of seeds that "
    "did not diverge."
)


def table(tuning: Tuning) -> list[str]:
    """Lines that say what the search found for each algorithm, and what it cost."""
    rows = [COLUMNS]
    for name, trials in tuning.trials.items():
        cost, best, optimism = tuning.cost(name), tuning.best(name), tuning.optimism(name)
        rows.append(
            (
                name,
                str(cost.dimensions),
                str(cost.trials),
                f"{cost.hours:.2g}",
                str(best.number) if best else "none",
                _judged(tuning, best.search if best else None),
                _judged(tuning, best.confirmation if best else None),
                "-" if optimism is None else f"{optimism:+.3f}",
                _judged(tuning, trials[0].confirmation or trials[0].search),
                str(sum(trial.search is None for trial in trials)),
                f"{sum(trial.updates for trial in trials):,}",
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


def explained(tuning: Tuning) -> list[str]:
    """Lines that say what the table's columns are."""
    text = EXPLAINED.format(score="score" if tuning.scored else "return")
    return textwrap.wrap(text if tuning.scored else text + UNSCORED, 96)


def _judged(tuning: Tuning, samples: Samples | None) -> str:
    merit = tuning.merit(samples)
    return f"{merit.success_rate:.0%} {merit.score:.3f}" if merit else "-"


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
                **_columns("", tuning.merit(trial.search)),
                **_columns("confirmed_", tuning.merit(trial.confirmation)),
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


def _columns(start: str, merit: Merit | None) -> dict[str, float | None]:
    values = merit._asdict() if merit else dict.fromkeys(Merit._fields)
    return {start + name: value for name, value in values.items()}


def save_trials(tuning: Tuning, path: Path) -> None:
    """Write the table of trials as CSV."""
    files.write(path, trials_frame(tuning).to_csv(index=False, lineterminator="\n"))


def summary(tuning: Tuning) -> str:
    """One line after a round: how far the search is, and each algorithm's best score."""
    done = sum(len(trials) for trials in tuning.trials.values())
    bests = []
    for name in tuning.trials:
        best = tuning.best(name)
        found = _judged(tuning, best.confirmation or best.search) if best else ""
        bests.append(f"{name} {found} (trial {best.number})" if best else f"{name} none")
    return f"{done}/{sum(tuning.wanted.values())} trials; best: {', '.join(bests)}"


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
                f"{source}: '{name}' has {len(name)} letters; the tuned suite adds '{TUNED}', "
                f"and a name has at most {MAX_NAME}: give it a shorter one"
            )
    own = [entry.local for entry in suite.algorithms] + [entry.local for entry in suite.scenarios]
    if any(own) and path.parent.resolve() != source.parent.resolve():
        raise TuneError(f"--out: {source} names files beside it, so {path} must be there too")
    if path.exists() and not path.read_bytes().startswith(_HEAD.encode()):
        raise TuneError(
            f"{path} stands there already, and is not of `rocompare tune`; give another --out"
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
        raise TuneError(f"every trial of '{none[0]}' failed; the first: {why}")
    lines = [
        f"{_HEAD} from {source}: the same search for every algorithm,",
        *(["# which began with the values set there,"] if tuning.search_given else []),
        *(
            [f"# on {', '.join(s.name for s in tuning.scenarios)} alone,"]
            if len(tuning.scenarios) < len(suite.scenarios)
            else []
        ),
        f"# on the tuning seeds {span(tuning.seeds)}, confirmed on {span(tuning.fresh_seeds)}; "
        "none is among the seeds below."
        if tuning.fresh_seeds
        else f"# on the tuning seeds {span(tuning.seeds)}, none of which is among those below.",
        f"# Proposed by Optuna {import_optuna().__version__} (TPE), search seed "
        f"{tuning.search_seed}.",
        "#",
        *(f"# {line}".rstrip() for line in table(tuning)),
        *(f"# {line}" for line in explained(tuning)),
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
    lines.append("search:")
    for name in tuning.trials:
        lines.append(f"  {_text(name + TUNED)}: {_flow(tuning.cost(name).model_dump())}")
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
