"""VDN and QMIX: joint values and targets by hand."""

import pytest

from baselines.qmix import QMIX, VDN
from tests.baselines.support import batch_of, constant, trained
from tests.support.helpers import CPU, make_spec

SEEDS = (0, 1)
SPEC = make_spec(n_agents=2, obs_dim=1, action_dim=3, horizon=4, discrete=True)
ROWS = [((0, 2), 1.0, False), ((1, 1), 1.0, True)]


def make(cls, **config):
    algorithm = cls(SPEC, cls.Config(gamma=0.5, **config), SEEDS, CPU)
    constant(algorithm.q, 1.0, 2.0, 3.0)
    constant(algorithm.target_q, 50.0, 60.0, 4.0)
    return algorithm


def test_vdn_adds_the_agents_values():
    """Of actions 0 and 2, and twice 1: 4. The target where the episode goes on is 1 + 0.5 (4 + 4),
    of the networks' choice 2, else 1. Errors 1 and -3."""
    algorithm, batch = make(VDN), batch_of(SPEC, ROWS)
    assert algorithm._q_target(batch)[0].tolist() == [5.0, 1.0]
    assert algorithm._td_loss(batch).tolist() == [5.0, 5.0]


def test_qmix_mixes_with_the_states_weights():
    """With weights -2 and 3 for the agents, 0.5 for the only hidden unit, and biases 1 and 2 in
    units of 10: Q_tot = 0.5 (2 Q_1 + 3 Q_2 + 10) + 20. Of 1 and 3: 30.5; of 2 and 2: 30. The target
    mixer adds 10 more: of 4 and 4 45, and the target is 1 + 0.5 * 45 = 23.5, else 1."""
    algorithm, batch = make(QMIX, mixer_units=1), batch_of(SPEC, ROWS)
    constant(algorithm.mixer, -2.0, 3.0, 1.0, -0.5, 2.0)
    constant(algorithm.target_mixer, -2.0, 3.0, 1.0, -0.5, 3.0)
    assert algorithm._q_target(batch)[0].tolist() == [23.5, 1.0]
    assert algorithm._td_loss(batch).tolist() == [(7.0**2 + 29.0**2) / 2] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vdn", "qmix"])
def test_monotone_mixing_solves_penalty_without_punishment_and_not_climbing(name):
    assert trained(f"use: {name}", "game: penalty, k: 0.0", 2000) == [10.0] * 4
    assert max(trained(f"use: {name}", "game: climbing", 2000)) < 11
