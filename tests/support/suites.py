"""A suite that is right, and what is said of one that is not."""

import pytest

from rocompare.errors import SuiteError
from rocompare.suite.load import parse_suite

GOOD = """\
name: demo
seeds: 3
budget: {env_steps: 100}
evaluation: {episodes: 7, points: 5}
algorithms:
  svnr: {}
  svnr_k3: {use: svnr, rounds: 3}
  maddpg: {actor_lr: 1e-3}
scenarios:
  easy: {env: max_of_three, s2: 3.0}
  two: {env: max_of_three, p: [-5, -5], q: [5, 5], s2: 1}
reference: paper_table1
"""


def problems(text):
    with pytest.raises(SuiteError) as info:
        parse_suite(text, "demo.yaml")
    return info.value.problems
