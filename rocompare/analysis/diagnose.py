"""When does an algorithm over-generalize? Executed and perceived RO over training, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from rocompare.learn import ro
from rocompare.results import store as results
from rocompare.suite import registry

QUARTERS = (0.25, 0.5, 0.75, 1.0)
NOTES = (
    "Means over seeds, in units of reward, at shares of the budget; ± sample standard deviation.",
    "Executed RO: what the agent with the most to gain would gain by answering what the others "
    "execute. 0 in every equilibrium, the safe one too. In games of several steps from below: at "
    f"each step it tries {ro.ROLLOUT_ANSWERS} answers in copies of the game.",
    f"Perceived RO: the worst agent's regret, as alpha times a KL divergence, of its best policy "
    f"for what it believes of the others against what the optimal joint policy does; alpha = "
    f"{ro.ALPHA:g} of optimal minus safe return. In games of several optima it may be 0 whatever "
    "is believed, for the optimal joint policy mixes them.",
)


def render(path: str | Path) -> str:
    """The text of ``rocompare diagnose``: a table per scenario, then what is missing and why.

    Raises:
        ResultsError: nothing there, or one name stands for two configurations.
    """
    seeds = results.load_results(path)
    configs = results.load_configs(path)
    cells = results.cells_of(seeds)
    shown = results.shown_scenarios(cells, configs, path)
    rows = results.with_shown(results.load_diagnosis(path), shown)
    width = max(len("algorithm"), *(len(cell[2]) for cell in cells))
    lines, missing = [], []
    for scenario in dict.fromkeys(shown.values()):
        lines.append(scenario)
        shares = "".join(f"{share:>8.0%}" for share in QUARTERS)
        block = len(shares) + len(" ± 00.00 ")  # as wide as what _quarters makes
        titles = "  ".join(f"   {name.replace('_ro', ' RO'):<{block - 3}}" for name in ro.COLUMNS)
        lines.append(f"  {'':<{width}}{titles}".rstrip())
        lines.append(f"  {'algorithm':<{width}}{shares:<{block}}  {shares}")
        for cell in (cell for cell in cells if shown[cell[:2]] == scenario):
            own = rows[(rows["scenario"] == scenario) & (rows["algorithm"] == cell[2])]
            parts = [_quarters(own, name) for name in ro.COLUMNS]
            lines.append(f"  {cell[2]:<{width}}{'  '.join(parts)}".rstrip())
            missing += _why_not(cell, own, configs[cell])
        lines.append("")
    return "\n".join([*lines, *NOTES, *dict.fromkeys(missing)]) + "\n"


def _quarters(rows: pd.DataFrame, name: str) -> str:
    """Means at the first evaluation at or after each quarter; at the end with its deviation."""
    steps = sorted(int(step) for step in rows["env_steps"].unique())
    if not steps:
        return f"{'n/a':>8}" * len(QUARTERS) + " " * 9
    texts = []
    for share in QUARTERS:
        at = next(step for step in steps if step >= share * steps[-1])
        values = rows[rows["env_steps"] == at][name].dropna()
        texts.append(f"{values.mean():.2f}" if len(values) else "n/a")
    end = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return "".join(f"{text:>8}" for text in texts) + f"{end:<9}"


def _why_not(
    cell: tuple[str, str, str, str], rows: pd.DataFrame, config: dict[str, Any]
) -> list[str]:
    """Which of the two a cell has no values of, and for what reason."""
    absent = [name for name in ro.COLUMNS if rows[name].isna().all()]
    if not absent:
        return []
    _, scenario, algorithm, _ = cell
    # Reading results runs nobody else's code. What is absent of a foreign algorithm alone is absent
    # because it has no beliefs.
    if registry.is_foreign(config["scenario"]["env"]):
        return [f"n/a: {scenario}: not measured in an environment that is not rocompare's own"]
    try:
        env_class = registry.load("environment", config["scenario"]["env"])
        params = env_class.Config.model_validate(config["scenario"]["params"])
        env = env_class(params, [0], 1)
        executed = ro.executed_unavailable(env.spec, env)
        use = config["algorithm"]["use"]
        shipped = use in registry.ALGORITHMS.values()
        believer = registry.load("algorithm", use) if shipped else object
        perceived = ro.perceived_unavailable(env.spec, env, believer)
    except Exception as error:  # a user's classes may fail in any way; say which and how
        reason = f"its classes cannot be built: {' '.join(str(error).split())}"
        return [f"n/a: {scenario} · {algorithm}: {reason}"]
    if executed:
        return [f"n/a: {scenario}: {executed}"]
    if perceived and absent == ["perceived_ro"]:
        place = scenario if hasattr(believer, "beliefs") else algorithm
        return [f"n/a: perceived RO, {place}: {perceived}"]
    reason = "trained before these were recorded, or diverged; train it anew into another folder"
    return [f"n/a: {scenario} · {algorithm}: {reason}"]
