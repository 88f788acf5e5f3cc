"""Predator-prey against steps worked out by hand, an independent value iteration, and its claims."""

import itertools
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from torch.nn.functional import one_hot

from rocompare.envs.predator_prey import PredatorPrey
from rocompare.errors import UserError
from rocompare.learn.rng import Streams

STAY, LEFT, RIGHT, DOWN, UP, CATCH = range(6)
STILL = {"motion": 0.0}


def make(seeds=(0,), n_envs=1, stream="env", **params):
    env = PredatorPrey(PredatorPrey.Config(**params), list(seeds), n_envs, stream)
    env.reset()
    return env


def place(env, *cells):
    """Put the predators and then the prey of every environment on these cells."""
    env.place = torch.tensor(cells, dtype=torch.float32).expand(env.place.shape).clone()


def act(env, *choices):
    """One joint action in every environment."""
    joint = one_hot(torch.tensor(choices), 6).float()
    return env.step(joint.expand(*env.age.shape, -1, -1))


def uniform(env, streams):
    return one_hot(streams.index(6, env.age.shape[1], env.spec.n_agents), 6).float()


@pytest.mark.parametrize(
    ("cells", "choices", "reward", "ends"),
    [
        (((0, 1), (1, 0), (1, 1)), (CATCH, CATCH), 10, True),  # left of the prey and below it
        (((1, 1), (1, 1), (1, 1)), (CATCH, CATCH), 10, True),  # on its cell
        (((0, 1), (1, 0), (1, 1)), (CATCH, STAY), -6, False),
        (((0, 1), (0, 0), (1, 1)), (CATCH, CATCH), -6, False),  # the second one is too far
        (((0, 0), (2, 2), (1, 1)), (CATCH, CATCH), 0, False),  # both are
        (((0, 1), (1, 0), (1, 1)), (UP, DOWN), 0, False),
        (((0, 1), (0, 0), (2, 1)), (CATCH, STAY), -6, False),  # round the torus
        (((2, 0), (2, 1), (2, 2)), (CATCH, CATCH), 10, True),
    ],
)
def test_catching_by_hand(cells, choices, reward, ends):
    env = make(**STILL)
    place(env, *cells)
    step = act(env, *choices)
    assert step.reward.item() == reward
    assert step.terminated.item() is ends
    assert not step.truncated.item()
    assert step.basin.item() == (0 if ends else 1)


def test_in_a_box_there_is_no_way_round():
    env = make(torus=False, **STILL)
    place(env, (0, 1), (2, 0), (2, 1))
    assert act(env, CATCH, STAY).reward.item() == 0
    place(env, (0, 0), (2, 2), (1, 1))
    act(env, LEFT, UP)  # into walls
    assert env.place[0, 0].tolist() == [[0, 0], [2, 2], [1, 1]]
    act(env, RIGHT, DOWN)
    assert env.place[0, 0].tolist() == [[1, 0], [2, 1], [1, 1]]


def test_moves_on_a_torus():
    env = make(size=4, **STILL)
    place(env, (0, 0), (3, 3), (2, 1))
    for choices, expected in (
        ((LEFT, RIGHT), [[3, 0], [0, 3], [2, 1]]),
        ((DOWN, UP), [[3, 3], [0, 0], [2, 1]]),
        ((CATCH, STAY), [[3, 3], [0, 0], [2, 1]]),
    ):
        act(env, *choices)
        assert env.place[0, 0].tolist() == expected


MANY = {"size": 5, "predators": 4, "prey": 2, "horizon": 20, **STILL}


@pytest.mark.parametrize(
    ("cells", "choices", "reward", "inside"),
    [
        # One prey is captured, and its captors go with it.
        (((0, 0), (1, 1), (3, 3), (3, 3), (0, 1), (3, 2)), (CATCH, CATCH, STAY, STAY), 10, "001101"),
        # Both are; nothing is left to do.
        (((0, 0), (1, 1), (3, 3), (3, 3), (0, 1), (3, 2)), (CATCH, CATCH, CATCH, CATCH), 20, None),
        # Two hold different prey alone: both are punished.
        (((0, 0), (4, 4), (3, 3), (4, 4), (0, 1), (3, 2)), (CATCH, STAY, CATCH, STAY), -12, "111111"),
        # The first is beside both prey, the second beside the second prey alone: they hold that.
        (((1, 1), (2, 2), (4, 4), (4, 4), (0, 1), (2, 1)), (CATCH, CATCH, STAY, STAY), 10, "001110"),
        # Beside both prey they hold the first of them, both.
        (((1, 1), (1, 1), (4, 4), (4, 4), (0, 1), (2, 1)), (CATCH, CATCH, STAY, STAY), 10, "001101"),
        # A third holds it, too, and goes with it: one predator alone cannot capture the other.
        (((1, 1), (1, 1), (1, 1), (4, 4), (0, 1), (3, 3)), (CATCH, CATCH, CATCH, STAY), 10, None),
    ],
)  # fmt: skip
def test_several_prey_by_hand(cells, choices, reward, inside):
    env = make(**MANY)
    assert env.spec.optimal_return == 20
    place(env, *cells)
    step = act(env, *choices)
    assert step.reward.item() == reward
    assert step.terminated.item() is (inside is None)
    if inside is not None:
        assert "".join(str(int(x)) for x in env.inside[0, 0]) == inside


def test_who_left_the_game_does_nothing_and_stays_where_it_was():
    env = make(**MANY)
    place(env, (0, 0), (1, 1), (3, 3), (3, 3), (0, 1), (3, 2))
    act(env, CATCH, CATCH, STAY, STAY)
    step = act(env, RIGHT, CATCH, RIGHT, STAY)
    assert step.reward.item() == 0
    assert env.place[0, 0].tolist() == [[0, 0], [1, 1], [4, 3], [3, 3], [0, 1], [3, 2]]
    step = act(env, CATCH, STAY, LEFT, CATCH)  # the fourth holds the second prey alone
    assert step.reward.item() == -6
    step = act(env, STAY, STAY, CATCH, CATCH)
    assert (step.reward.item(), step.basin.item(), step.terminated.item()) == (10, 0, True)


def test_basins_where_the_horizon_cuts_off():
    env = make(**{**MANY, "horizon": 4})
    place(env, (0, 0), (1, 1), (3, 3), (3, 3), (0, 1), (3, 2))
    act(env, CATCH, CATCH, STAY, STAY)
    for t in range(2, 5):
        step = act(env, STAY, STAY, STAY, STAY)
        assert step.truncated.item() is (t == 4)
    assert env.spec.basins[step.basin.item()] == "some"
    for _ in range(4):  # the next episode
        step = act(env, STAY, STAY, STAY, STAY)
    assert step.truncated.item()
    assert env.spec.basins[step.basin.item()] == "safe"


def test_observations_by_hand():
    env = make(**STILL)
    place(env, (0, 0), (2, 1), (1, 1))
    obs = act(env, STAY, STAY).obs[0, 0]
    # Own cell's centre, in the game; the way to the other one; the way to the prey: 2/3 a cell.
    first = [-2 / 3, -2 / 3, 1, -2 / 3, 2 / 3, 1, 2 / 3, 2 / 3, 1]
    second = [2 / 3, 0, 1, 2 / 3, -2 / 3, 1, -2 / 3, 0, 1]
    torch.testing.assert_close(obs, torch.tensor([first, second]))


def test_with_a_view_only_what_is_near_is_observed():
    env = make(size=7, view=2, torus=False, horizon=20, **STILL)
    place(env, (0, 0), (3, 0), (2, 2))
    obs = act(env, STAY, STAY).obs[0, 0]
    assert obs[0, 3:6].tolist() == [0, 0, 0]  # the other predator is 3 columns away
    torch.testing.assert_close(obs[0, 6:], torch.tensor([4 / 7, 4 / 7, 1]))
    torch.testing.assert_close(obs[1, 6:], torch.tensor([-2 / 7, 4 / 7, 1]))


@pytest.mark.parametrize("params", [{}, {"torus": False}, {**MANY, "motion": 1.0}])
def test_positions_are_what_is_observed(params):
    env, streams = make((1, 2), 20, **params), Streams((1, 2), "choices")
    for _ in range(8):
        obs = env.step(uniform(env, streams)).obs
        centres = (2 * env.place + 1) / env.config.size - 1
        torch.testing.assert_close(env.positions(obs), centres)
    assert len(env.movers) == env.place.shape[2]


def test_starts_and_prey_are_uniform():
    env = make(range(20), 500)
    cell = env.place[..., 0] * 3 + env.place[..., 1]
    for who in range(3):
        share = (
            torch.bincount(cell[..., who].long().flatten(), minlength=9) / cell[..., who].numel()
        )
        assert (share - 1 / 9).abs().max() < 0.012
    for move in ((1, 0), (-1, 0), (0, 1), (0, -1), (0, 0)):
        share = (env.drift == torch.tensor(move)).all(-1).float().mean().item()
        assert share == pytest.approx(0.2, abs=0.015)  # 0.8 / 4, and 0.2 stay


def test_prey_go_where_their_drift_says():
    env = make(range(5), 50, motion=1.0, torus=False)
    for _ in range(3):
        before, drift = env.place[:, :, 2:], env.drift
        assert (drift.abs().sum(-1) == 1).all()
        step = act(env, STAY, STAY)
        after = env.positions(step.next_obs)[:, :, 2:]
        torch.testing.assert_close(after, (2 * (before + drift).clamp(0, 2) + 1) / 3 - 1)


def best_return(size, torus, motion, horizon):
    """Mean over the starts of what the best policy returns, for two predators and one prey."""
    cells = list(itertools.product(range(size), repeat=2))
    moves = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]

    def go(cell, move):
        to = [a + b for a, b in zip(cell, move, strict=True)]
        return cells.index(tuple(x % size if torus else min(max(x, 0), size - 1) for x in to))

    after = np.array([[go(cell, move) for move in moves] for cell in cells])
    prey = (1 - motion) * np.eye(len(cells))
    for cell, row in enumerate(after):
        for to in row[1:]:
            prey[cell, to] += motion / 4
    beside = np.array([[b in row for b in range(len(cells))] for row in after])
    both = beside[:, None] & beside[None]  # [first, second, prey]
    value = np.zeros(both.shape)
    for _ in range(horizon):
        follow = value @ prey.T
        options = [follow[after[:, i]][:, after[:, j]] for i in range(5) for j in range(5)]
        value = np.where(both, 10.0, np.max(options, 0))
    return value.mean()


def hunt(env, obs):
    """Go to the prey's cell; catch where both are beside it."""
    position = env.positions(obs) * (env.config.size / 2)  # in cells
    way = env._way((position[:, :, 2:] - position[:, :, :2]).round())
    far = way.abs()
    sideways = torch.where(way[..., 0] < 0, LEFT, RIGHT)
    upright = torch.where(way[..., 1] < 0, DOWN, UP)
    go = torch.where(far[..., 0] >= far[..., 1], sideways, upright)
    go = torch.where(far.sum(-1) == 0, STAY, go)
    together = (far.sum(-1) <= 1).all(-1, keepdim=True)
    return one_hot(torch.where(together, CATCH, go), 6).float()


def returns_of(env, policy):
    """``[S, E]`` returns of the first episode."""
    obs = env.reset()
    returns = torch.zeros(env.age.shape)
    running = torch.ones(env.age.shape, dtype=torch.bool)
    for _ in range(env.config.horizon):
        step = env.step(policy(env, obs))
        returns += torch.where(running, step.reward, 0.0)
        running &= ~(step.terminated | step.truncated)
        obs = step.obs
    assert not running.any()
    return returns


@pytest.mark.parametrize(
    ("params", "expected"),
    [({}, 9.998), ({"torus": False}, 9.9998), ({"motion": 0.0}, 10.0), ({"motion": 1.0}, 9.986)],
)
def test_the_declared_optimum_is_the_best_policys_return(params, expected):
    """To three parts in a thousand; a scripted policy comes near."""
    env = make(range(4), 2500, **params)
    config = env.config
    best = best_return(config.size, config.torus, config.motion, config.horizon)
    assert best == pytest.approx(expected, abs=5e-4)
    returns = returns_of(env, hunt)
    assert best - 0.1 < returns.mean().item() <= best + 0.02
    assert env.spec.optimal_return == 10


def test_leaving_prey_alone_is_worth_nothing_and_exploring_costs():
    def stay(env, obs):
        return one_hot(torch.zeros(obs.shape[:3], dtype=torch.long), 6).float()

    assert (returns_of(make(range(3), 50), stay) == 0).all()
    streams = Streams(range(3), "choices")
    assert returns_of(make(range(3), 500), lambda env, _: uniform(env, streams)).mean() < -3


@pytest.mark.parametrize(("punishment", "worth"), [(-6.0, -4.52), (-4.0, -2.70), (0.0, 0.926)])
def test_a_catch_beside_an_explorer_is_worth_what_the_docstring_says(punishment, worth):
    env = make(range(4), 25_000, punishment=punishment)
    partner = env.place[:, :, 1:2]
    corner = torch.zeros_like(partner)
    env.place = torch.cat([corner, partner, corner + torch.tensor([0.0, 1.0])], 2)
    action = uniform(env, Streams(range(4), "choices"))
    action[:, :, 0] = one_hot(torch.tensor(CATCH), 6).float()
    # With a partner beside the prey, 5 of 9 cells, that catches, 1 of 6 actions: 10 5/54 + p 49/54.
    assert env.step(action).reward.mean().item() == pytest.approx(worth, abs=0.05)


def test_seeds_do_not_touch_each_other():
    together, alone = make((7, 8, 9), 5), make((8,), 5)
    streams = Streams((7, 8, 9), "choices")
    for _ in range(40):
        action = uniform(together, streams)
        ours, other = together.step(action), alone.step(action[1:2])
        for name in ours._fields:
            assert torch.equal(getattr(ours, name)[1:2], getattr(other, name)), name
    assert not torch.equal(make((0,), 20, "a").place, make((0,), 20, "b").place)


def test_resuming_is_bit_exact():
    env, streams = make((0, 1), 7, **{**MANY, "motion": 0.5}), Streams((0, 1), "choices")
    env.set(punishment=1.0)
    for _ in range(25):
        env.step(uniform(env, streams))
    twin = make((0, 1), 7, **{**MANY, "motion": 0.5})
    twin.load_state_dict(env.state_dict())
    for _ in range(30):
        action = uniform(env, streams)
        for ours, theirs in zip(env.step(action), twin.step(action), strict=True):
            assert torch.equal(ours, theirs)


def test_a_nan_shows_and_stays_in_its_place():
    env, twin = make((0, 1), 3), make((0, 1), 3)
    action = one_hot(torch.full((2, 3, 2), CATCH), 6).float()
    good = twin.step(action)
    action[0, 1, 0] = math.nan
    step = env.step(action)
    assert step.reward.isnan().tolist() == [[False, True, False], [False] * 3]
    assert step.obs.isfinite().all() and step.next_obs.isfinite().all()
    for name in step._fields:
        assert torch.equal(getattr(step, name)[1], getattr(good, name)[1])


def test_forks_share_this_step_and_not_what_prey_do_later():
    env, twin = make((3, 4), 6, motion=1.0), make((3, 4), 6, motion=1.0)
    fork = env.fork(50)
    action = one_hot(torch.zeros(2, 6, 2, dtype=torch.long), 6).float()
    many = action.repeat_interleave(50, 1)
    copies, one = fork.step(many), twin.step(action)
    assert torch.equal(copies.next_obs, one.next_obs.repeat_interleave(50, 1))
    later = fork.step(many).next_obs.unflatten(1, (6, 50))
    assert not torch.equal(later, later[:, :, :1].expand_as(later))
    own = env.step(action)  # the original does not notice
    assert torch.equal(own.obs, one.obs) and torch.equal(own.reward, one.reward)
    assert torch.equal(env.drift, twin.drift)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 2}, "greater than or equal to 3"),
        ({"predators": 1}, "greater than or equal to 2"),
        ({"prey": 0}, "greater than or equal to 1"),
        ({"punishment": 0.5}, "punishment at most 0, .* got win 10 and punishment 0.5"),
        ({"win": 0.0}, "win must be above 0"),
        ({"motion": 1.5}, "less than or equal to 1"),
        ({"view": 0}, "greater than or equal to 1"),
        ({"size": 12}, "12 cells away, .* more than the horizon of 10"),
        ({"size": 7, "torus": False}, "12 cells away, .* more than the horizon of 10"),
        ({"horizon": 1}, "greater than 1"),
        ({"walls": True}, "Extra inputs"),
    ],
)
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValidationError, match=message):
        PredatorPrey.Config(**params)


def test_a_curriculum_starts_without_punishment():
    env = make(**STILL)
    place(env, (0, 1), (1, 0), (1, 1))
    env.set(punishment=2.0)  # refused as a target
    assert act(env, CATCH, STAY).reward.item() == 2
    with pytest.raises(UserError, match="'size' cannot be changed while training"):
        env.set(size=4)


def test_the_papers_size_runs():
    env = make((0, 1), 3, size=10, predators=8, prey=8, horizon=200, view=2, torus=False)
    assert (env.spec.optimal_return, env.spec.obs_dim) == (40, 48)
    streams = Streams((0, 1), "choices")
    for _ in range(30):
        step = env.step(uniform(env, streams))
    assert step.obs.shape == (2, 3, 8, 48) and step.obs.abs().max() <= 1


def test_the_grid_is_drawn():
    ax = Figure().subplots()
    make(size=4).draw(ax)
    heights = [line.get_ydata() for line in ax.lines]
    assert sorted(low for low, high in heights if low == high) == [-0.5, 0, 0.5]
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-1, 1, -1, 1)
