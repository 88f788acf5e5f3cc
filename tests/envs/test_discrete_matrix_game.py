"""Discrete matrix games against the published tables, and games of more agents by hand."""

import math

import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from torch.nn.functional import one_hot

from rocompare.envs.discrete_matrix_game import DiscreteMatrixGame
from rocompare.errors import UserError
from rocompare.learn.rng import Streams

CLIMBING = [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]
PENALTY = [[10, 0, -30], [0, 2, 0], [-30, 0, 10]]
QTRAN = [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]
# Kapetanakis and Kudenko (2002): an entry's two rewards.
FULLY = [
    [(10, 12), (5, -65), (8, -8)],
    [(5, -65), (14, 0), (12, 0)],
    [(5, -5), (5, -5), (7, 3)],
]
PARTIALLY = [[(11,), (-30,), (0,)], [(-30,), (14, 0), (6,)], [(0,), (0,), (5,)]]


def make(seeds=(0,), n_envs=1, stream="env", **params):
    return DiscreteMatrixGame(DiscreteMatrixGame.Config(**params), list(seeds), n_envs, stream)


def play(*choices, actions=3):
    """A joint action of one row per agent."""
    return one_hot(torch.tensor(choices), actions).float()


@pytest.mark.parametrize(
    ("params", "matrix"),
    [
        ({}, CLIMBING),
        ({"game": "penalty"}, PENALTY),
        ({"game": "penalty", "k": 0.0}, [[10, 0, 0], [0, 2, 0], [0, 0, 10]]),
        ({"k": -2.5}, [[11, -2.5, 0], [-2.5, 7, 6], [0, 0, 5]]),
        ({"game": "qtran"}, QTRAN),
        ({"game": "partially_stochastic_climbing"}, CLIMBING),
        ({"game": "fully_stochastic_climbing"}, CLIMBING),
        ({"payoff": CLIMBING}, CLIMBING),
    ],
)
def test_mean_rewards_are_the_published_matrices(params, matrix):
    env = make(**params)
    got = [[env.reward(play(i, j)).item() for j in range(3)] for i in range(3)]
    assert got == matrix


@pytest.mark.parametrize(
    ("params", "optimal", "safe"),
    [
        ({}, 11, 5),
        ({"game": "fully_stochastic_climbing"}, 11, 5),
        ({"game": "penalty"}, 10, 2),
        ({"game": "penalty", "k": 0.0}, 10, 2),
        ({"game": "qtran"}, 8, 0),
        # Worst cases: rows -9 and 1, columns 1 and -9: the second row, the first column.
        ({"payoff": [[9, -9], [1, 2]]}, 9, 1),
    ],
)
def test_declared_returns(params, optimal, safe):
    env = make(**params)
    assert (env.spec.optimal_return, env.spec.safe_return) == (optimal, safe)
    assert env.reward(env.safe()).item() == safe
    assert (env.reward(env.modes()) == optimal).all()


@pytest.mark.parametrize(
    ("game", "rewards"),
    [("fully_stochastic_climbing", FULLY), ("partially_stochastic_climbing", PARTIALLY)],
)
def test_drawn_rewards_are_the_published_ones_with_equal_chances(game, rewards):
    env = make((5, 6), 2000, game=game)
    for i in range(3):
        for j in range(3):
            drawn = env.step(play(i, j).expand(2, 2000, -1, -1)).reward
            values, counts = drawn.unique(return_counts=True)
            assert values.tolist() == sorted(set(rewards[i][j]))
            # 5 standard errors of 4000 coins.
            assert all(abs(c.item() * len(values) / 4000 - 1) < 0.08 for c in counts)


def test_over_generalization_in_the_climbing_game():
    """Beside a partner that acts at random the last action is best: -6.33, -5.67 and 1.67."""
    random = torch.full((3,), 1 / 3)
    worth = [make().reward(torch.stack([play(i)[0], random])).item() for i in range(3)]
    assert worth == pytest.approx([-19 / 3, -17 / 3, 5 / 3], abs=1e-5)


def test_rows_are_the_first_agents():
    env = make(payoff=[[1, 2], [3, 0]])
    assert env.reward(play(0, 1, actions=2)).item() == 2
    assert env.reward(play(1, 0, actions=2)).item() == 3


def test_three_agents():
    # 1 if all play 0, -1 if one plays 1 alone, -10 if two do, 9 if all do.
    env = make(payoff=[[[1, -1], [-1, -10]], [[-1, -10], [-10, 9]]])
    assert (env.spec.n_agents, env.spec.action_dim, env.spec.optimal_return) == (3, 2, 9)
    # Both actions have the worst case -10; averages -11/4 and -3.
    assert env.spec.safe_return == 1
    for choices, reward, basin in (((0, 1, 1), -10, 2), ((0, 0, 1), -1, 2), ((1, 1, 1), 9, 0)):
        joint = play(*choices, actions=2)
        assert (env.reward(joint).item(), env.basin(joint).item()) == (reward, basin)
    assert "other agents play their optimal actions" in env.slice_text()
    ax = Figure().subplots()
    env.draw(ax)  # the third agent plays 1
    assert {t.get_text() for t in ax.texts} == {"-1", "-10", "9"}


def test_basins_modes_and_nan():
    env = make(game="penalty")
    joint = torch.stack([play(0, 0), play(2, 2), play(1, 1), play(0, 2), play(0, 1)])
    assert env.basin(joint).tolist() == [0, 0, 1, 2, 2]
    assert env.mode(joint).tolist() == [0, 1, -1, -1, -1]
    assert env.modes().argmax(-1).tolist() == [[0, 0], [2, 2]]
    for agent in range(2):
        for entry in range(3):
            bad = play(0, 0)
            bad[agent, entry] = math.nan
            assert env.reward(bad).isnan().item()
            assert env.basin(bad).item() == 2


def test_a_nan_action_is_rewarded_with_nan_in_its_place_alone():
    env, twin = (make((1, 2), 3, game="fully_stochastic_climbing") for _ in range(2))
    action = play(0, 1).expand(2, 3, -1, -1).clone()
    want = twin.step(action)
    action[0, 1, 1] = math.nan
    got = env.step(action)
    assert got.reward.isnan().tolist() == [[False, True, False], [False] * 3]
    assert torch.equal(got.reward[1], want.reward[1])
    assert got.basin[0].tolist() == [2, 2, 2]


@pytest.mark.parametrize("leading", [(), (2,), (2, 3, 5)])
def test_any_leading_shape(leading):
    env = make()
    choice = torch.randint(3, (*leading, 2), generator=torch.Generator().manual_seed(1))
    reward = env.reward(one_hot(choice, 3).float())
    assert reward.shape == leading
    expected = [CLIMBING[i][j] for i, j in choice.view(-1, 2).tolist()]
    assert reward.flatten().tolist() == expected


def test_seeds_and_a_saved_state():
    games = {"game": "fully_stochastic_climbing"}
    together, alone = make((7, 8), 4, **games), make((8,), 4, **games)
    streams = Streams((7, 8), "choices")

    def choose():
        return one_hot(streams.index(3, 4, 2), 3).float()

    for _ in range(5):
        action = choose()
        assert torch.equal(together.step(action).reward[1:], alone.step(action[1:]).reward)
    twin = make((7, 8), 4, **games)
    twin.load_state_dict(together.state_dict())
    for _ in range(5):
        action = choose()
        assert torch.equal(twin.step(action).reward, together.step(action).reward)
    assert not torch.equal(
        make((7, 8), 50, "a", **games).step(play(0, 0).expand(2, 50, -1, -1)).reward,
        make((7, 8), 50, "b", **games).step(play(0, 0).expand(2, 50, -1, -1)).reward,
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"game": "stag"}, "Input should be 'climbing'"),
        ({"k": 0.0}, "k must be below 0 in the climbing game, got 0"),
        ({"game": "fully_stochastic_climbing", "k": 1.0}, "k must be below 0 in the fully"),
        ({"game": "penalty", "k": 1.0}, "k must be below 0 in the penalty game, got 1"),
        ({"payoff": [[1.0]]}, "the same number of actions for every agent, 2 or more, got 1 x 1"),
        ({"payoff": [1.0, 2.0]}, "nested at least twice"),
        ({"payoff": [[1, 2, 3], [4, 5, 0]]}, "got 2 x 3; repeat a row"),
        ({"payoff": [[1, 2], [3]]}, "lists beside each other must have the same length"),
        ({"payoff": [[1, 2], []]}, "lists beside each other must have the same length"),
        ({"payoff": [[1, 2], 3]}, "lists beside each other must have the same length"),
        ({"payoff": [[1, 2], [3, float("nan")]]}, "lists of finite numbers .* got 'nan'"),
        ({"payoff": [[1, 2], [3, True]]}, "lists of finite numbers .* got 'True'"),
        ({"payoff": "climbing"}, "lists of finite numbers .* got 'climbing'"),
        ({"payoff": [[1, 2], [3, 4]]}, "nothing to over-generalize"),
        ({"spread": [[1, 2], [3, 4]]}, "spread is that of a payoff of one's own, which is missing"),
        ({"payoff": [[9, -9], [1, 2]], "spread": [[1], [2]]}, r"lengths of payoff, \(2, 2\), got \(2, 1\)"),
        ({"payoff": [[0.0] * 317] * 317}, "100,489 entries, more than 100,000"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValidationError, match=message):
        DiscreteMatrixGame.Config(**params)


def test_lists_nested_without_end_are_refused():
    deep: list = [1.0]
    for _ in range(500):
        deep = [deep]
    with pytest.raises(ValidationError, match="nested once for each agent"):
        DiscreteMatrixGame.Config(payoff=deep)


def test_ones_own_stochastic_game():
    env = make((0,), 400, payoff=[[9, -9], [1, 2]], spread=[[3, 0], [0, 0]])
    drawn = env.step(play(0, 0, actions=2).expand(1, 400, -1, -1)).reward
    assert drawn.unique().tolist() == [6, 12]
    assert (env.step(play(0, 1, actions=2).expand(1, 400, -1, -1)).reward == -9).all()


def test_a_curriculum_rewards_what_the_target_punishes():
    env = make()
    env.set(k=10.0)
    assert env.reward(play(0, 1)).item() == 10
    assert (env.spec.optimal_return, env.spec.safe_return) == (11, 5)
    for params in ({"game": "qtran"}, {"payoff": [[9, -9], [1, 2]]}):
        with pytest.raises(UserError, match="'k' says nothing in QTRAN's game"):
            make(**params).set(k=-1.0)


def test_the_matrix_is_drawn_with_its_numbers():
    ax = Figure().subplots()
    env = make(payoff=[[9, -9], [1, 2]])
    env.draw(ax, ("safe", "optimum"))
    cells = {(*t.xy, t.get_text()) for t in ax.texts[:4]}
    # The first agent's action is on the x axis.
    assert cells == {(0, 0, "9"), (0, 1, "-9"), (1, 0, "1"), (1, 1, "2")}
    assert [(t.get_text(), *t.xy) for t in ax.texts[4:]] == [("safe", 1, 0), ("optimum", 0, 0)]
    assert env.on_axes(play(1, 0, actions=2)).tolist() == [1, 0]
