"""GVR's targets against numbers worked out by hand, and one network at a time."""

import pytest
import torch

from baselines.gvr import GVR
from rocompare import api
from rocompare.envs.discrete_matrix_game import DiscreteMatrixGame
from tests.learn.test_nn import plain
from tests.support.helpers import CPU, make_batch, make_spec

SEEDS = (0, 1)
CLIMBING = ((11.0, -30.0, 0.0), (-30.0, 7.0, 6.0), (0.0, 0.0, 5.0))
GAME = make_spec(n_agents=2, obs_dim=1, action_dim=3, horizon=1, constant_obs=True, discrete=True)


def make(spec=GAME, **config):
    return GVR(spec, GVR.Config(**config), SEEDS, CPU)


def all_joint():
    """A batch of the nine joint actions, row by row, the same for both seeds."""
    each = torch.eye(3)
    rows = torch.stack([torch.stack([each[i], each[j]]) for i in range(3) for j in range(3)])
    action = rows.expand(2, -1, -1, -1)  # [S, 9, N, A]
    obs = torch.zeros(2, 1, 2, 1)
    return api.Batch(obs, action, torch.zeros(2, 9), obs, torch.ones(2, 9))


def of_climbing(algorithm, greedy):
    """Let the critic know the game, and let ``greedy`` be the agents' greedy actions."""
    table = torch.tensor(CLIMBING)
    algorithm._joint = lambda critic, obs, action: table[action.argmax(-1).unbind(-1)]
    algorithm._greedy = lambda obs: torch.eye(3)[list(greedy)].expand(2, 1, -1, -1)


@pytest.mark.parametrize(
    ("greedy", "margin", "targets", "superior"),
    [
        # Beside the middle, 7, only the optimum is superior; all else is held at 7 - 2.
        ((1, 1), 0.0, [11, 5, 5, 5, 7, 5, 5, 5, 5], [0]),
        # At the optimum nothing is: its neighbours' punishments are 9 like all else.
        ((0, 0), 0.0, [11, 9, 9, 9, 9, 9, 9, 9, 9], []),
        # Beside a punishment all that is better keeps its value, and what is as bad does not.
        ((0, 1), 0.0, [11, -30, 0, -32, 7, 6, 0, 0, 5], [0, 2, 4, 5, 6, 7, 8]),
        # Of those worth as much as the greedy one none is superior.
        ((2, 0), 0.0, [11, -2, -2, -2, 7, 6, 0, -2, 5], [0, 4, 5, 8]),
        # 7 is not better than 6 by enough.
        ((1, 2), 1.5, [11, 4, 4, 4, 4, 6, 4, 4, 4], [0]),
    ],
)
def test_inferior_targets_are_shaped(greedy, margin, targets, superior):
    algorithm = make(gap=2.0, margin=margin, superior_weight=4.0)
    of_climbing(algorithm, greedy)
    target, weight = algorithm._shaped_target(all_joint())
    assert target.tolist() == [targets] * 2
    expected = [4.0 if i in superior else 1.0 for i in range(9)]
    assert weight.tolist() == [expected] * 2


def test_the_sum_of_the_agents_values_is_fitted_to_them():
    algorithm = make(gap=2.0, superior_weight=4.0)
    of_climbing(algorithm, (1, 1))
    batch = all_joint()
    got = algorithm._shaped_loss(batch)
    for s in range(2):
        first, second = (plain(algorithm.q, 2 * s + i)(torch.zeros(1)) * 10.0 for i in range(2))
        q_tot = (first[:, None] + second).flatten()
        error = (q_tot - torch.tensor([11.0, 5, 5, 5, 7, 5, 5, 5, 5])).square()
        error[0] *= 4
        torch.testing.assert_close(got[s], error.mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("constant", [False, True])
def test_the_critic_learns_joint_values_of_the_greedy_policy(constant):
    spec = make_spec(n_agents=2, obs_dim=2, action_dim=3, discrete=True, constant_obs=constant)
    algorithm, batch = make(spec, gamma=0.9), make_batch(spec, SEEDS)
    algorithm.target_critic.flat += 0.1 * torch.sin(torch.arange(algorithm.critic.flat.numel()))
    got = algorithm._td_loss(batch)

    def value(critic, s, obs, action):
        return plain(critic, s)(torch.cat([obs.flatten(), action.flatten()])) * 10.0

    for s in range(2):
        errors = []
        for b in range(11):
            row = 0 if constant else b
            next_obs = batch.next_obs[s, row]
            greedy = [plain(algorithm.q, 2 * s + i)(next_obs[i]).argmax() for i in range(2)]
            next_q = value(algorithm.target_critic, s, next_obs, torch.eye(3)[torch.stack(greedy)])
            y = batch.reward[s, b] + 0.9 * (1 - batch.terminated[s, b]) * next_q
            errors.append(value(algorithm.critic, s, batch.obs[s, row], batch.action[s, b]) - y)
        expected = torch.stack(errors).square().mean()
        torch.testing.assert_close(got[s], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_it_finds_the_optimum_that_sums_of_values_cannot_represent():
    game = DiscreteMatrixGame(DiscreteMatrixGame.Config(), SEEDS, 8)
    algorithm = make(game.spec)
    obs = game.reset()
    for i in range(400):
        action = algorithm.act(obs, "explore", i / 400)
        step = game.step(action)
        algorithm.observe(
            api.Transition(obs, action, step.reward, obs, step.terminated, step.truncated)
        )
        algorithm.update(i / 400)
    reward = game.reward(algorithm.act(obs[:, :1], "deterministic", 1.0))
    assert reward.flatten().tolist() == [11.0, 11.0]
