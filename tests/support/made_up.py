"""Results folders with returns written by hand: nothing trains."""

from typer.testing import CliRunner

from rocompare import cli
from rocompare.results import store as results
from rocompare.results.records import Curve, SeedRecord
from rocompare.suite.load import parse_suite

SUITE = """
name: made_up
seeds: 10
budget: {{env_steps: 100}}
evaluation: {{episodes: 2, points: 2}}
algorithms:
  maddpg: {{hidden: {hidden}}}
  other: {{use: maddpg, hidden: 8}}
scenarios:
  narrow: {{env: max_of_three, s2: 1.0}}
  wide: {{env: max_of_three, s2: 3.0}}
"""


def cells_of(hidden=16):
    suite = parse_suite(SUITE.format(hidden=hidden))
    return {(c.scenario.name, c.algorithm.name): c for c in suite.cells()}


def seed_result(seed, value, **changes):
    """The record of a seed that returned 0 half way and ``value`` in the end, in the optimum's
    basin above 5; None diverged. Executed and perceived RO fall from 4 and 2 to 1 and 0.5."""
    reached = value is not None and value > 5

    def both(one):
        return dict.fromkeys(("decentralised", "deterministic"), one)

    record = SeedRecord(
        seed=seed,
        returns=both([value, value]),
        in_optimum=both(float(reached)),
        basin=both("optimum" if reached else "safe"),
        diverged=value is None,
        env_steps=100,
        updates=90,
        parameters=10,
        seconds=1.0,
        curve=Curve(
            env_steps=[50, 100],
            returns=both([0.0, value]),
            in_optimum=both([0.0, float(reached)]),
            executed_ro=[4.0, 1.0],
            perceived_ro=[2.0, 0.5],
        ),
    )
    return record.model_copy(update=changes)


def write(root, returns, hidden=16):
    """Save ``{(scenario, algorithm): returns}`` below ``root``; an exception is a failure."""
    cells = cells_of(hidden)
    for name, values in returns.items():
        if isinstance(values, Exception):
            results.save_failure(root, cells[name], str(values), "")
            continue
        seeds = [seed_result(i, value) for i, value in enumerate(values)]
        results.save(root, cells[name], seeds, {})
    return root


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])
