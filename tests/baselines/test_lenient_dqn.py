"""Lenient DQN: temperatures by hand, what leniency lets through, the double estimate."""

import math

import pytest
import torch

from baselines.lenient_dqn import LenientDQN
from rocompare import api
from rocompare.learn.rng import Streams
from tests.baselines.support import batch_of, constant, trained
from tests.support.helpers import CPU, fill, make_spec

SEEDS = (0, 1)
SPEC = make_spec(n_agents=2, obs_dim=1, action_dim=3, horizon=4, constant_obs=True, discrete=True)
ONE_STEP = make_spec(
    n_agents=2, obs_dim=1, action_dim=3, horizon=1, constant_obs=True, discrete=True
)


def make(spec=SPEC, **config):
    return LenientDQN(spec, LenientDQN.Config(gamma=0.5, **config), SEEDS, CPU)


def walk(algorithm, steps, n_envs=1):
    """Observe steps, each every agent's action in the first environment and whether and how the
    episode ended there; further environments begin and go on with action 0."""
    spec = algorithm.spec
    for choice, ending in steps:
        number = torch.zeros(2, n_envs, 2, dtype=torch.long)
        number[:, 0] = torch.tensor(choice)
        first = torch.zeros(2, n_envs, dtype=torch.bool)
        first[:, 0] = True
        obs = torch.zeros(2, n_envs, 2, spec.obs_dim)
        algorithm.observe(
            api.Transition(
                obs=obs,
                action=torch.nn.functional.one_hot(number, 3).float(),
                reward=torch.zeros(2, n_envs),
                next_obs=obs,
                terminated=first & (ending == "terminated"),
                truncated=first & (ending == "truncated"),
            )
        )


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_temperatures_fall_when_the_episode_is_over(ending):
    """With rho -0.1 and d 0.5 by exp(-0.1) at the last step, exp(-0.05) and exp(-0.025) before."""
    algorithm = make(temperature_rate=0.1, temperature_discount=0.5, max_temperature_decay=1.0)
    walk(algorithm, [((0, 2), ""), ((1, 2), "")], n_envs=2)
    assert (algorithm.temperature == 1).all()
    walk(algorithm, [((1, 0), ending)], n_envs=2)
    first, second = algorithm.temperature[0].tolist()
    # Agent 1 played 0, 1, 1; agent 2 played 2, 2, 0. The other environment's episode goes on.
    assert first == pytest.approx([math.exp(-0.025), math.exp(-0.15), 1.0])
    assert second == pytest.approx([math.exp(-0.1), 1.0, math.exp(-0.075)])
    walk(algorithm, [((2, 2), ending)], n_envs=2)
    assert algorithm.temperature[0, 0].tolist() == pytest.approx(
        [math.exp(-0.025), math.exp(-0.15), math.exp(-0.1)]
    )


def test_the_largest_temperature_falls_with_each_episode_and_bounds_the_others():
    algorithm = make(temperature_rate=0.1, max_temperature_decay=0.5, leniency_factor=2.0)
    walk(algorithm, [((0, 0), "terminated")])
    assert algorithm.max_temperature.tolist() == [0.5, 0.5]
    assert algorithm.temperature[0, 0].tolist() == pytest.approx([0.5, 1, 1])  # exp(-0.1) > 0.5
    walk(algorithm, [((0, 1), "terminated")])
    assert algorithm.temperature[0, 0].tolist() == pytest.approx([0.25, 1, 1])
    walk(algorithm, [((1, 0), "")])
    leniency = algorithm.replay.sample_with(500)[1]["leniency"]
    # The maximum is 1, 0.5 and 0.25 when these steps are taken, and none is hotter.
    expected = [1 - math.exp(-2 * t) for t in (0.25, 0.5, 1.0)]
    assert leniency.unique().tolist() == pytest.approx(expected)


def test_observations_have_temperatures_of_their_own():
    spec = make_spec(n_agents=2, obs_dim=3, action_dim=3, horizon=4, discrete=True)
    algorithm = make(spec)
    obs = 3 * torch.randn(2, 64, 2, 3, generator=torch.Generator().manual_seed(0))
    action = torch.nn.functional.one_hot(torch.zeros(2, 64, 2, dtype=torch.long), 3).float()
    entry = algorithm._entry(obs, action)
    assert entry.shape == (2, 2, 64)
    assert len(entry[0, 0].unique()) > 25
    assert entry.max() < algorithm.temperature.shape[2] == 3 * 2**12
    other = algorithm._entry(obs, action.roll(1, -1))
    assert torch.equal(other, entry + 1)


def test_a_disappointment_counts_as_far_as_it_is_not_forgiven():
    """Both actions' errors are 6 - 2 = 4 and -6 - 3 = -9; leniencies 0.75 and 0."""
    algorithm = make()
    constant(algorithm.q, 1.0, 2.0, 3.0)
    batch = batch_of(SPEC, [((1, 1), 6.0, True), ((2, 2), -6.0, True)])
    leniency = torch.tensor([0.75, 0.0]).expand(2, 2, 2)  # of agents 1 and 2
    expected = torch.tensor([(16 + 0.25 * 81) / 2, (16 + 81) / 2]).expand(2, 2)
    torch.testing.assert_close(algorithm._td_loss(batch, leniency), expected)


def test_the_target_networks_value_of_the_networks_choice():
    algorithm = make()
    constant(algorithm.q, 1.0, 9.0, 3.0)
    constant(algorithm.target_q, 50.0, 4.0, 60.0)
    batch = batch_of(SPEC, [((1, 1), 1.0, False), ((2, 2), 1.0, True)])
    assert algorithm._q_target(batch)[0, 0].tolist() == [3.0, 1.0]  # 1 + 0.5 * 4


def test_beliefs_leave_out_what_is_forgiven():
    algorithm = make(ONE_STEP, leniency_factor=100.0)
    constant(algorithm.q, 0.0, 0.0, 0.0)
    fill(algorithm, batch_of(ONE_STEP, [((0, 1), -1.0, True)] * 9 + [((2, 1), 1.0, True)]))
    with torch.no_grad():
        draws = algorithm.beliefs(torch.eye(3).expand(2, 2, -1, -1), 200, Streams(SEEDS, "b"))
    assert draws[..., 0, 2].all()


@pytest.mark.slow
def test_climbing_is_solved():
    assert trained("use: lenient_dqn", "game: climbing") == [11.0] * 4
