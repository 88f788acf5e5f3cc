"""Two Modalities against values worked out by hand, and the facts that its docstring claims."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pydantic import ValidationError

from rocompare.envs.two_modalities import TwoModalities


def make(**params):
    return TwoModalities(TwoModalities.Config(**params), seeds=[0], n_envs=1)


def at(*a):
    """A joint action in game units, as the environment takes it."""
    return (torch.tensor(a, dtype=torch.float64) / 10).unsqueeze(-1)


@pytest.mark.parametrize(
    ("a", "expected", "basin"),
    [
        ((5.0, 5.0), 10.0, "optimum"),
        ((-5.0, -5.0), 10.0, "optimum"),
        ((0.0, 0.0), 0.0, "safe"),
        ((5.0, 3.0), 6.0, "optimum"),  # 10 - 2^2 / 1
        ((-4.0, -6.0), 8.0, "optimum"),  # 10 - (1 + 1) / 1
        ((5.0, -5.0), -0.8 * 50 / 3 - 20, "mixed"),
        ((-5.0, 5.0), -0.8 * 50 / 3 - 20, "mixed"),
        ((5.0, 0.0), -0.8 * 25 / 3, "safe"),  # 10 - 25 is lower
        ((3.0, -1.0), -0.8 * 10 / 3 - 20 * 3 / 25, "safe"),
        ((10.0, -10.0), -0.8 * 200 / 3 - 20 * 4, "mixed"),
        ((10.0, 10.0), -40.0, "optimum"),  # 10 - 50; the safe hill is at -53
    ],
)
def test_values_by_hand(a, expected, basin):
    env = make()
    assert env.reward(at(*a)).item() == pytest.approx(expected, abs=1e-4)
    assert env.spec.basins[int(env.basin(at(*a)))] == basin


def test_parameters_have_their_meaning():
    env = make(s2=0.5, s1=6.0, punishment=60.0, height=30.0)
    assert env.spec.optimal_return == 30
    assert env.reward(at(5.0, 4.0)).item() == pytest.approx(28)  # 30 - 1 / 0.5
    assert env.reward(at(5.0, -5.0)).item() == pytest.approx(-0.8 * 50 / 6 - 60)


def test_the_declared_returns_are_those_of_the_game():
    env = make()
    side = torch.linspace(-1, 1, 401, dtype=torch.float64)
    u = torch.cartesian_prod(side, side).unsqueeze(-1)
    assert env.reward(u).max().item() == pytest.approx(env.spec.optimal_return)
    torch.testing.assert_close(env.reward(env.modes()), torch.tensor([10.0, 10.0]))
    alone = torch.stack([side, torch.zeros_like(side)], -1).unsqueeze(-1)
    assert env.reward(alone).max().item() == pytest.approx(
        0, abs=1e-9
    )  # no agent leaves the centre alone


def means_beside_a_mixture(env):
    """Mean reward of each own action, beside a partner that plays either optimum."""
    own = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    return own, sum(
        env.reward(torch.stack([own, torch.full_like(own, partner)], -1).unsqueeze(-1)) / 2
        for partner in (0.5, -0.5)
    )


def test_beside_a_partner_that_plays_either_the_safe_action_is_best():
    own, mean = means_beside_a_mixture(make())
    assert abs(own[mean.argmax()].item()) < 1e-6
    assert mean.max().item() == pytest.approx(-0.8 * 25 / 3)  # -6.67
    assert mean[1500].item() == pytest.approx((10 - 0.8 * 50 / 3 - 20) / 2)  # d: -11.67
    best = mean[1100:].max().item()  # own actions from 1 on
    assert best == pytest.approx(-7.28, abs=5e-3)
    assert own[1100:][mean[1100:].argmax()].item() == pytest.approx(0.237, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    s1=st.floats(0.5, 30), s2=st.floats(0.1, 2.4), punishment=st.floats(-10, 60)
)  # fmt: skip
def test_refused_is_exactly_where_it_is_not(s1, s2, punishment):
    """By brute force over own actions, but for the border between the two."""
    values = {"s1": s1, "s2": s2, "punishment": punishment}
    env = make()
    env.set(**values)
    _, mean = means_beside_a_mixture(env)
    margin = (mean[1001:].max() - mean[1000]).item()  # the safe action stands at 1000
    _, worth, safe = env.config.beside_a_mixture()
    assert mean[1000].item() == pytest.approx(safe, abs=1e-3)
    if margin > 1e-2:
        assert mean[1001:].max().item() == pytest.approx(worth, abs=1e-2)
        with pytest.raises(ValidationError, match="beside a partner that plays either"):
            TwoModalities.Config(**values)
    elif worth < safe:
        TwoModalities.Config(**values)
        assert margin < 1e-6


def test_beside_a_partner_that_explores_the_safe_action_is_best():
    own = torch.linspace(-1, 1, 201, dtype=torch.float64)
    partner = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    joint = torch.cartesian_prod(own, partner).unsqueeze(-1)
    mean = make().reward(joint).view(201, 1001).mean(1)
    assert abs(own[mean.argmax()].item()) < 0.05


def test_modes_hold_half_of_the_optimal_joint_policy_each():
    env = make()
    assert env.modes().squeeze(-1).tolist() == [[0.5, 0.5], [-0.5, -0.5]]
    side = torch.linspace(-1, 1, 201, dtype=torch.float64)
    u = torch.cartesian_prod(side, side).unsqueeze(-1)
    weight = env.reward(u).softmax(0)  # exp(reward / 1)
    mode = env.mode(u)
    for which in (0, 1):
        assert weight[mode == which].sum().item() == pytest.approx(0.5, abs=1e-3)
    assert env.mode(at(5.0, -5.0)).item() == env.mode(at(0.0, 0.0)).item() == -1


def test_a_nan_is_rewarded_with_nan_and_in_no_optimum():
    env = make()
    bad = torch.tensor([[[math.nan], [0.5]], [[0.5], [math.nan]]])
    assert env.reward(bad).isnan().all()
    assert (env.basin(bad) != 0).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"s2": 0.0}, "greater than 0"),
        ({"height": 0.0}, "height must be above 0"),
        # a = (5 - 1) / (1 + 0.8 / 3) = 3.158: (10 - 1.842^2 - 0.8 (3.158^2 + 25) / 3 - 6.316) / 2
        ({"punishment": 10.0}, "the action 0.316 is worth -4.518, the safe action -6.667"),
        ({"s2": 2.5}, "gets 0 instead of 0, .* s2 must be below 2.5"),  # 10 - 25 / 2.5
        ({"height": 25.0, "punishment": 30.0}, "s2 must be below 1"),
        ({"distance": 3.0}, "Extra inputs"),
    ],
)
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValidationError, match=message):
        TwoModalities.Config(**params)


def test_a_curriculum_may_start_without_punishment():
    env = make()
    env.set(punishment=-20.0, s2=20.0)
    assert env.reward(at(5.0, -5.0)).item() == pytest.approx(-0.8 * 50 / 3 + 20)
    assert env.reward(at(5.0, 0.0)).item() == pytest.approx(8.75)  # 10 - 25 / 20


def test_the_landscape_shows_both_optima():
    ax = Figure().subplots()
    make().draw(ax, ("safe", "optimum"))
    marks = {(text.get_text(), *text.xy) for text in ax.texts}
    assert marks == {("safe", 0, 0), ("optimum", 5, 5), ("optimum", -5, -5)}
