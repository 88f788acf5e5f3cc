"""Climbing and penalty games against values worked out by hand."""

import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError

from rocompare.envs.matrix_game import MatrixGame
from rocompare.errors import UserError


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
        {"k": 1.0, "game": "penalty"},
        {"margin": 1.0},
        {"margin": -0.1},
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


def test_messages_say_what_and_why():
    with pytest.raises(ValidationError, match="k must be below 0 in the climbing game, got 2"):
        MatrixGame.Config(k=2.0)
    with pytest.raises(ValidationError, match="nothing to over-generalize"):
        MatrixGame.Config(payoff=[[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValidationError, match=r"rows of one length, got \[2, 3\]"):
        MatrixGame.Config(payoff=[[1.0, 2.0], [3.0, 4.0, 5.0]])


def test_of_equal_worst_cases_the_better_average_is_safe():
    # Worst cases are -12 all over; averages -16/3, -4, -4.
    spec = make(payoff=[[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]]).spec
    assert (spec.optimal_return, spec.safe_return) == (8, 0)
    assert make(game="penalty", k=0.0).spec.safe_return == 2


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        ((-0.75, -0.75), 11.0),
        ((0.0, -0.75), -30.0),
        ((0.75, 0.75), 5.0),
        ((-0.75, -0.375), -9.5),  # halfway from 11 to -30
        ((-1.0, -0.75), 5.0),  # the border: 11, less the optimal return's distance to the safe one
        ((-0.875, -0.75), 8.0),  # halfway there
        ((-1.0, -1.0), -1.0),  # both agents
        ((1.0, 0.0), -6.0),  # beside the entry 0
        ((0.75, -0.8125), -1.5),  # a quarter of 6 below the entry 0
    ],
)
def test_with_a_margin_entries_stand_inside_and_the_border_is_worse(u, expected):
    assert make(margin=0.25).reward(at(*u)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "params",
    [
        {"margin": 0.2},
        {"margin": 0.2, "game": "penalty"},
        {"margin": 0.01, "k": -1.0},
        {"margin": 0.9, "payoff": [[9.0, -9.0, 3.0], [1.0, 2.0, 0.5]]},
    ],
)
def test_with_a_margin_the_largest_reward_is_the_optimum_and_inside(params):
    env = make(**params)
    side = torch.linspace(-1, 1, 401, dtype=torch.float64)
    u = torch.cartesian_prod(side, side).unsqueeze(-1)
    reward = env.reward(u)
    assert reward.max().item() <= env.spec.optimal_return
    torch.testing.assert_close(
        env.reward(env.modes().double()),
        torch.full((len(env.modes()),), env.spec.optimal_return, dtype=torch.float64),
        atol=1e-4, rtol=0,
    )  # fmt: skip
    assert env.reward(env.safe().double()).item() == pytest.approx(env.spec.safe_return, abs=1e-4)
    assert env.modes().abs().max().item() <= 1 - params["margin"] + 1e-6
    border = u[(u.abs() == 1).any(1).squeeze(-1)]
    inward = border.clamp(-1 + params["margin"], 1 - params["margin"])
    assert (env.reward(border) < env.reward(inward)).all()
    assert env.basin(env.modes()).tolist() == [0] * len(env.modes())
    assert torch.equal(env.basin(border), env.basin(inward))


def test_over_generalization_stays_with_a_margin():
    """The docstring's weights (1 + m)/4, (1 - m)/2: with m = 0.2 rows of -8.7, -4.4, 1.5."""
    partner = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    means = []
    for own in (-0.8, 0.0, 0.8):
        joint = torch.stack([torch.full_like(partner, own), partner], -1).unsqueeze(-1)
        means.append(make(margin=0.2).reward(joint).mean().item())
    loss = 0.2 * 0.5 * 6  # a fifth of a uniform partner's actions, halfway to the border
    assert means == pytest.approx([-8.7 - loss, -4.4 - loss, 1.5 - loss], abs=0.02)


def test_modes_tell_which_optimum_was_played():
    env = make(game="penalty", margin=0.5)
    assert env.modes().squeeze(-1).tolist() == [[-0.5, -0.5], [0.5, 0.5]]
    joint = torch.tensor([[-0.5, -0.5], [1.0, 0.6], [0.5, -0.5], [0.0, 0.0]]).unsqueeze(-1)
    assert env.mode(joint).tolist() == [0, 1, -1, -1]


def test_a_curriculum_changes_the_punishment_of_running_games():
    env = make()
    env.set(k=10.0)
    assert env.reward(at(-1.0, 0.0)).item() == 10
    assert env.basin(at(-1.0, -1.0)).item() == 0
    assert (env.spec.optimal_return, env.spec.safe_return) == (11, 5)
    with pytest.raises(UserError, match="a payoff of one's own"):
        make(payoff=[[9.0, -9.0], [1.0, 2.0]]).set(k=-3.0)


def test_the_landscape_is_drawn():
    ax = Figure().subplots()
    shades = make(margin=0.2).draw(ax, ("safe", "optimum"))
    assert shades.levels.tolist() == [-19, -7, -1, 2, 5, 8, 11]  # 5 + 6 (-4, -2, -1, -1/2, 0, ...)
    assert [(t.get_text(), *t.xy) for t in ax.texts] == [
        ("safe", pytest.approx(0.8), pytest.approx(0.8)),
        ("optimum", pytest.approx(-0.8), pytest.approx(-0.8)),
    ]
