"""Results folders with returns written by hand: nothing trains."""

from typer.testing import CliRunner

from rocompare import cli
from rocompare.results import store as results
from rocompare.suite.load import parse_suite

SUITE = """
name: made_up
seeds: 10
budget: {{env_steps: 100}}
evaluation: {{episodes: 2, points: 5}}
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


def seed_result(seed, value):
    """A seed that returned ``value``, in the optimum's basin above 5; None diverged."""
    reached = value is not None and value > 5
    return results.SeedResult(
        seed=seed,
        returns=[value, value],
        returns_noiseless=[value, value],
        basin="optimum" if reached else "safe",
        basin_noiseless="optimum" if reached else "safe",
        diverged=value is None,
        env_steps=100,
        updates=90,
        parameters=10,
        seconds=1.0,
    )


def write(root, returns, hidden=16):
    """Save ``{(scenario, algorithm): returns}`` below ``root``; an exception is a failure."""
    cells = cells_of(hidden)
    for name, values in returns.items():
        if isinstance(values, Exception):
            results.save_failure(root, cells[name], str(values), "")
            continue
        seeds = [seed_result(i, value) for i, value in enumerate(values)]
        results.save(root, cells[name], results.CellResult(seeds, []), {})
    return root


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])
