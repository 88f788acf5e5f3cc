"""Results folders to draw: returns, actions and episodes written by hand."""

import dataclasses

from rocompare.results import store
from rocompare.results.records import Curve
from rocompare.suite import registry
from rocompare.suite.load import parse_suite
from rocompare.suite.models import ScenarioConfig
from tests.support.made_up import seed_result

SUITE = parse_suite("""
name: drawn
seeds: 3
budget: {env_steps: 100}
evaluation: {episodes: 2, points: 2}
algorithms: {svnr: {}}
scenarios:
  three: {env: max_of_three, s2: 1.5}
  two: {env: max_of_three, p: [-5, -5], q: [5, 5]}
  gather: {env: particle_gather, radius: 0.3}
""")
SCENARIOS = {cell.scenario.name: cell for cell in SUITE.cells()}
# Of discrete actions, which SVNR does not take: nothing here trains.
SCENARIOS["matrix"] = dataclasses.replace(
    SCENARIOS["two"],
    scenario=ScenarioConfig(
        name="matrix", env=registry.ENVIRONMENTS["discrete_matrix_game"], params={}
    ),
)
# Two particles: both enter after one step; and one goes along a wall for 25 steps.
ENTERS = [[[0.5, 0.5], [-0.7, 0.0]], [[0.0, 0.1], [0.0, 0.0]]]
STAYS = [[[-1 + 0.08 * t, 1.0], [0.6, 0.0]] for t in range(26)]
ACTIONS = {
    "three": ([0.7, 0.7, -0.3], [-0.5, -0.5, 0.3]),
    "two": ([0.5, 0.5], [-0.5, -0.5]),
    "matrix": ([1.0, 0.0, 0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
}
"""By scenario, an optimal and a safe joint action."""


def cell_of(algorithm, scenario, **params):
    """The cell of an algorithm of any name: SVNR with other hyperparameters, perhaps."""
    base = SCENARIOS[scenario]
    settings = base.algorithm.model_copy(
        update={"name": algorithm, "params": {**base.algorithm.params, **params}}
    )
    return dataclasses.replace(base, algorithm=settings)


def save(root, algorithm, scenario, returns, **params):
    """A seed per return; it acted optimally above 5 and diverged at its end where it is None.

    Its curve has two points, the first 2 below the last.
    """
    records = []
    for seed, value in enumerate(returns):
        last = 0 if value is None else value
        actions = ACTIONS.get(scenario, ([], []))[last <= 5]
        curve = Curve(
            env_steps=[50, 100],
            returns={"decentralised": [last - 2, value], "deterministic": [last - 2, value]},
            in_optimum={"decentralised": [0.0, float(last > 5)]},
            executed_ro=[4.0, 1.0],
            perceived_ro=[12.0, 0.5],
        )
        changes = {"curve": curve, "actions": [actions, actions] if actions else []}
        if scenario == "gather":
            changes["positions"] = ENTERS if last > 4.5 else STAYS
        records.append(seed_result(seed, value, **changes))
    target = cell_of(algorithm, scenario, **params)
    store.save(root, target, records, {"command": "rocompare run <here>", "torch": "2.9"})
    return root / target.path
