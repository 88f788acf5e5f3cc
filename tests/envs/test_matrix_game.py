"""Climbing and penalty games against values worked out by hand."""

import pytest
import torch
from pydantic import ValidationError

from rocompare.envs.matrix_game import MatrixGame


def make(**params):
    return MatrixGame(MatrixGame.Config(**params), seeds=[0], n_envs=1)


def at(*u):
    return torch.tensor(u, dtype=torch.float64).unsqueeze(-1)


CLIMBING = [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]
PENALTY = [[10, 0, -30], [0, 2, 0], [-30, 0, 10]]


@pytest.mark.parametrize(("game", "matrix"), [("climbing", CLIMBING), ("penalty", PENALTY)])
def test_entries_are_the_published_ones(game, matrix):
    env = make(game=game)
    for j, row in enumerate(matrix):
        for k, value in enumerate(row):
            assert env.reward(at(j - 1.0, k - 1.0)).item() == value


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        ((-1.0, -0.5), -9.5),  # halfway from 11 to -30
        ((-0.5, -0.5), -10.5),  # (11 - 30 - 30 + 7) / 4
        ((0.5, 1.0), 5.5),  # halfway from 6 to 5
        ((0.5, 0.5), 4.5),  # (7 + 6 + 0 + 5) / 4
        ((-0.9, -1.0), 6.9),  # a tenth of the way from 11 to -30
        ((0.25, 0.5), 5.5),  # 3/4 of (7 + 6) / 2 and 1/4 of (0 + 5) / 2
    ],
)
def test_between_entries_the_reward_is_bilinear(u, expected):
    assert make().reward(at(*u)).item() == pytest.approx(expected)


def test_rows_and_columns_are_not_mixed_up():
    env = make(payoff=[[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]])
    assert env.reward(at(-1.0, 1.0)).item() == 3
    assert env.reward(at(1.0, 0.0)).item() == 5
    assert env.reward(at(0.0, -1.0)).item() == 2.5


def test_the_average_of_an_exploring_partner():
    # Weights of a uniform partner are 1/4, 1/2, 1/4: rows -12.25, -2.5, 1.25.
    partner = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    for own, expected in ((-1.0, -12.25), (0.0, -2.5), (1.0, 1.25)):
        joint = torch.stack([torch.full_like(partner, own), partner], -1).unsqueeze(-1)
        assert make().reward(joint).mean().item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("params", "optimal", "safe"),
    [
        ({}, 11, 5),
        ({"k": -2.0}, 11, 5),
        ({"game": "penalty"}, 10, 2),
        ({"game": "penalty", "k": -0.5}, 10, 2),
        # Worst cases: rows -9 and 1, columns 1 and -9: the second row, the first column.
        ({"payoff": [[9.0, -9.0], [1.0, 2.0]]}, 9, 1),
    ],
)
def test_declared_returns(params, optimal, safe):
    spec = make(**params).spec
    assert (spec.optimal_return, spec.safe_return) == (optimal, safe)


def test_basins_are_those_of_the_nearest_entry():
    points = [(-1.0, -1.0), (-0.6, -0.51), (-0.4, -1.0), (0.0, 0.0), (1.0, 1.0), (0.6, 0.7)]
    assert make().basin(torch.tensor(points).unsqueeze(-1)).tolist() == [0, 0, 2, 2, 1, 1]
    env = make(game="penalty")
    for u, basin in (((-1.0, -1.0), 0), ((1.0, 1.0), 0), ((0.2, -0.2), 1), ((1.0, -1.0), 2)):
        assert env.basin(at(*u)).item() == basin
    assert env.basin(at(float("nan"), 1.0)).item() == 2


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 3, 5, 7)])
def test_any_leading_shape(leading):
    env = make()
    u = torch.rand(*leading, 2, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1
    one_by_one = torch.stack([env.reward(x) for x in u.view(-1, 2, 1)])
    torch.testing.assert_close(env.reward(u).flatten(), one_by_one)
    assert env.basin(u).shape == leading


def test_gradients_reach_the_actions():
    u = at(0.5, 0.25).requires_grad_()
    make().reward(u).backward()
    # Row 1 to 2 at column 1.25: from 6.75 to 1.25; column 1 to 2 at row 1.5: from 3.5 to 5.5.
    torch.testing.assert_close(u.grad.squeeze(), torch.tensor([-5.5, 2.0]).double())


def test_step_ends_the_episode():
    env = MatrixGame(MatrixGame.Config(), seeds=[3, 4], n_envs=5)
    assert env.reset().shape == (2, 5, 2, 1)
    step = env.step(torch.zeros(2, 5, 2, 1))
    assert (step.reward == 7).all() and step.terminated.all() and not step.truncated.any()
    assert step.basin.shape == (2, 5)


@pytest.mark.parametrize(
    "params",
    [
        {"game": "stag"},
        {"k": 0.0},
        {"k": float("-inf")},
        {"payoff": [[1.0]]},
        {"payoff": [[1.0, 2.0], [3.0]]},
        {"payoff": [[1.0, float("nan")], [3.0, 4.0]]},
        {"payoff": [[1.0, 2.0], [3.0, 4.0]]},  # nothing to over-generalize
        {"payoff": "climbing"},
    ],
)
def test_bad_parameters_are_refused(params):
    with pytest.raises(ValidationError):
        MatrixGame.Config(**params)
