"""How often the regression gate is right, by simulation.

    python tests/simulate_check.py [SUITES]

prints, for suites of 1, 6 and 21 cells with mixed success rates, how often the gate fails where
nothing changed; how often it notices a cell whose returns all fall by more than the tolerance,
whose successful seeds return less, that loses one successful seed in five, or that loses two; what
power it claims for one in five; and how often an unchanged tree passes the CI job of the README.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rocompare.analysis.judge import Cell, Judgement, Seeds, Settings, judge

SUCCESS_RATES = (
    1.0, 0.9, 0.5, 0.97, 0.7, 0.0, 1.0, 0.95, 0.3, 1.0, 0.8, 1.0, 0.1, 0.6, 1.0, 1.0, 0.4, 0.98,
    1.0, 0.2, 1.0,
)  # fmt: skip
"""Of the cells of a suite, in their order; the first cell is the one that changes."""
SCATTER = (0.02, 0.2, 0.5)
"""Mean distance of successful seeds to the optimal return, 10, in turn."""
README_JOB = (
    (1.0, 0.09),
    (0.9, 0.3),
    (1.0, 0.1),
    (1.0, 0.09),
    (1.0, 0.05),
    (1.0, 0.02),
    (0.8, 1.0),
)
"""Success rate and scatter of the algorithms on Max of Three with s2 = 3.0, which it trains."""


@dataclass(frozen=True)
class Change:
    """How the first cell's new seeds differ from its reference."""

    name: str
    all_lower: float = 0.0
    """What every return falls by."""
    successes_lower: float = 0.0
    lost: float = 0.0
    """Share of the successful seeds that end at the safe return."""


NOTHING = Change("nothing changed")
CHANGES = (
    NOTHING,
    Change("all returns 1.5 lower", all_lower=1.5),
    Change("successes 0.5 lower", successes_lower=0.5),
    Change("one in five lost", lost=0.2),
    Change("two in five lost", lost=0.4),
)


def draw(random, n: int, rate: float, scatter: float, change: Change = NOTHING) -> Seeds:
    """Seeds of a cell whose safe and optimal returns are 0 and 10."""
    found = (random.random(n) < rate) & (random.random(n) >= change.lost)
    near = 10 - random.exponential(scatter, n).clip(max=0.95) - change.successes_lower
    returns = np.where(found, near, -random.exponential(0.5, n)) - change.all_lower
    return Seeds(returns, (returns >= 9).astype(float), n)


def suites(count: int, cells: int, n: int, change: Change, seed: int = 0) -> Iterator[dict]:
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield {
            ("scenario", f"algorithm {i}"): Cell(
                draw(random, n, rate, SCATTER[i % 3], NOTHING if i else change),
                draw(random, n, rate, SCATTER[i % 3]),
                10.0,
            )
            for i, rate in enumerate(SUCCESS_RATES[:cells])
        }


def outcome(judgement: Judgement) -> str:
    states = {verdict.state for verdict in judgement.verdicts.values()}
    return next((s for s in ("regressed", "inconclusive", "unguarded") if s in states), "pass")


def table(count: int, n: int) -> Iterator[str]:
    yield (
        f"{n} seeds: of {count} suites, the share that fails (exit code 1) and that is "
        "inconclusive (3);\nof the changed cell, the share that is found, and the power claimed "
        "for one seed in five lost"
    )
    yield f"{'cells':>5}  {'change':<24}{'fails':>8}{'inconcl.':>10}{'found':>8}{'claimed':>9}"
    for cells in (1, 6, 21):
        for change in CHANGES:
            found, states, claimed = 0, Counter(), []
            for suite in suites(count, cells, n, change):
                judgement = judge(suite, Settings())
                first = next(iter(judgement.verdicts.values()))
                states[outcome(judgement)] += 1
                found += first.state == "regressed"
                claimed.append(first.lost_seed_power)
            yield (
                f"{cells:>5}  {change.name:<24}{states['regressed'] / count:>8.3f}"
                f"{states['inconclusive'] / count:>10.3f}{found / count:>8.3f}"
                + (f"{np.mean(claimed):>9.3f}" if change.lost == 0.2 else "")
            )


def job(count: int, n: int, alpha: float, lost: float = 0.0) -> Counter:
    """Outcomes of the README's CI job, whose reference stays and whose seeds are drawn anew.

    The success rates of the reference are not known but to its seeds: each suite draws its own
    from what 20 seeds of the reference say of them.
    """
    random, outcomes = np.random.default_rng(1), Counter()
    for _ in range(count):
        cells = {}
        for i, (rate, scatter) in enumerate(README_JOB):
            true = random.beta(20 * rate + 0.5, 20 * (1 - rate) + 0.5)
            change = Change("", lost=0.0 if i else lost)
            new, old = (draw(random, n, true, scatter, c) for c in (change, NOTHING))
            cells["max_of_three_s2_3.0", str(i)] = Cell(new, old, 10.0)
        outcomes[outcome(judge(cells, Settings(alpha=alpha)))] += 1
    return outcomes


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    for n in (10, 20, 30):
        for line in table(count, n):
            print(line, flush=True)
        print()
    print("README's CI job: share of unchanged trees that pass, and of lost algorithms found")
    for n in (20, 24):
        for alpha in (0.05, 0.01):
            alike, broken = job(count, n, alpha), job(count, n, alpha, lost=0.6)
            passed = (alike["pass"] + alike["unguarded"]) / count
            print(
                f"{n} seeds, alpha {alpha}: passes {passed:.3f} (fails {alike['regressed']}, "
                f"inconclusive {alike['inconclusive']}); three seeds in five of one algorithm "
                f"lost: found {broken['regressed'] / count:.3f}",
                flush=True,
            )
