"""MyAlgorithm keeps its contract, and learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rocompare import load_suite
from rocompare.api import EnvSpec
from rocompare.dev import doctor
from rocompare.learn.engine import train_cell
from rocompare.results.records import mean_return

from .algorithm import MyAlgorithm

SUITE = f"""
name: test
seeds: 3
budget: {{env_steps: 200}}
evaluation: {{episodes: 5, points: 1}}
algorithms: {{mine: {{use: "{MyAlgorithm.__module__}:MyAlgorithm"}}}}
scenarios: {{game: {{env: max_of_three}}}}
"""
GAMES = doctor.specs(MyAlgorithm)


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
@pytest.mark.parametrize("check", doctor.ALGORITHM_CHECKS)
def test_contract(check: str, game: EnvSpec) -> None:
    doctor.ALGORITHM_CHECKS[check](MyAlgorithm, game)


def test_it_learns(tmp_path: Path) -> None:
    """Uniform actions return -50 on average."""
    torch.set_num_threads(1)
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    (cell,) = load_suite(path, allow_local_code=True).cells()
    for seed in train_cell(cell):
        assert not seed.diverged
        assert mean_return(seed.returns["decentralised"]) > -30
