"""Weighted QMIX: which errors count, and targets, by hand."""

import pytest
import torch

from baselines.wqmix import CWQMIX, OWQMIX
from tests.baselines.support import batch_of, constant, trained
from tests.support.helpers import CPU, make_spec

SEEDS = (0, 1)
SPEC = make_spec(n_agents=2, obs_dim=1, action_dim=3, horizon=4, discrete=True)


def make(cls, **config):
    """Greedy actions 2; Q_tot = 0.5 (Q_1 + Q_2): 3 of (2, 2), 2 of (0, 2); Q* 5, its target 4."""
    algorithm = cls(SPEC, cls.Config(gamma=0.5, mixer_units=1, **config), SEEDS, CPU)
    constant(algorithm.q, 1.0, 2.0, 3.0)
    constant(algorithm.mixer, 1.0, 1.0, 0.0, 0.5, 0.0)
    constant(algorithm.central, 5.0)
    constant(algorithm.target_central, 4.0)
    return algorithm


ROWS = [
    ((2, 2), -1.0, True),  # greedy, and overestimated by Q_tot: error 4, of Q* 6
    ((0, 2), -1.0, True),  # not greedy, overestimated: error 3, of Q* 6
    ((0, 2), 3.0, True),  # underestimated, but less than Q*' of the greedy ones: error 1, 2
    ((0, 2), 3.0, False),  # goes on: the target is 3 + 0.5 * 4 = 5, more than Q*': error 3, 0
]


def test_targets_are_the_unrestricted_values():
    assert make(OWQMIX)._q_target(batch_of(SPEC, ROWS))[0].tolist() == [-1.0, -1.0, 3.0, 5.0]


@pytest.mark.parametrize(
    ("cls", "weighted"),
    [
        (CWQMIX, 16 + 0.25 * 9 + 0.25 * 1 + 9),
        (OWQMIX, 0.25 * 16 + 0.25 * 9 + 1 + 9),
    ],
)
def test_which_errors_count(cls, weighted):
    loss = make(cls, alpha=0.25)._td_loss(batch_of(SPEC, ROWS))
    expected = (weighted + 36 + 36 + 4 + 0) / 4
    torch.testing.assert_close(loss, torch.full((2,), expected))


@pytest.mark.slow
def test_the_joint_value_sees_the_joint_action():
    """Unlike Q_tot's it need not be monotone: it is fitted to QTRAN's matrix in a few steps."""
    spec = make_spec(
        n_agents=2, obs_dim=1, action_dim=3, horizon=1, constant_obs=True, discrete=True
    )
    algorithm = CWQMIX(spec, CWQMIX.Config(q_lr=0.01, tau=1.0), SEEDS, CPU)
    payoff = [[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]]
    rows = [((i, j), payoff[i][j], True) for i in range(3) for j in range(3)]
    batch = batch_of(spec, rows)
    algorithm.replay.sample = lambda size: batch
    for _ in range(300):
        algorithm.update(0.0)
    with torch.no_grad():
        values = algorithm._joint_value(algorithm.central, batch.obs, batch.action)
    torch.testing.assert_close(values, batch.reward, atol=0.5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cw_qmix", "ow_qmix"])
def test_climbing_is_solved(name):
    assert trained(f"use: {name}", "game: climbing") == [11.0] * 4
