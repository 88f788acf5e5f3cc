"""Max of Three against values worked out by hand, autograd and symmetry."""

import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError

from rocompare.envs.max_of_three import MaxOfThree


def make(**params):
    return MaxOfThree(MaxOfThree.Config(**params), seeds=[0], n_envs=1)


def reward(env, *a):
    """Reward of a joint action in game units."""
    return env.reward(torch.tensor(a).unsqueeze(-1) / 10).item()


@pytest.mark.parametrize(
    ("s2", "a", "expected"),
    [
        (3.0, (7, 7, -3), 10.0),  # the optimum
        (3.0, (-5, -5, 3), 0.0),  # the safe hill's top
        (1.5, (7, 7, -3), 10.0),
        (2.0, (7, 7, -1), 8.0),  # 10 - 2^2 / 2
        (1.5, (7, 4, -3), 4.0),  # 10 - 3^2 / 1.5
        (3.0, (0, 0, 0), -0.8 * 59 / 3),  # 25 + 25 + 9; f2 = 10 - 107/3 is lower
        (3.0, (-10, 10, 10), -0.8 * 299 / 3),  # 25 + 225 + 49
        (3.0, (7, 7, 3), -2.0),  # 10 - 36 / 3; f1 = -0.8 * 288 / 3 is lower
    ],
)
def test_values_by_hand(s2, a, expected):
    assert reward(make(s2=s2), *map(float, a)) == pytest.approx(expected, abs=1e-4)


def test_defaults_are_the_papers():
    config = MaxOfThree.Config()
    assert config.p == (-5, -5, 3)
    assert config.q == (7, 7, -3)
    assert (config.s1, config.height) == (3.0, 10.0)


def test_max_of_two_is_a_configuration():
    env = make(p=(-5.0, -5.0), q=(5.0, 5.0), s1=3.0, s2=1.0)
    assert env.spec.n_agents == 2
    assert reward(env, 5.0, 5.0) == pytest.approx(10)
    assert reward(env, 5.0, 3.0) == pytest.approx(6)  # 10 - 4 / 1
    assert reward(env, -5.0, 1.0) == pytest.approx(-0.8 * 36 / 3, abs=1e-5)


@pytest.mark.parametrize("point", [(7.0, 7.0, -3.0), (-5.0, -5.0, 3.0)])
def test_gradient_vanishes_at_both_optima(point):
    u = (torch.tensor(point) / 10).unsqueeze(-1).requires_grad_()
    make(s2=1.5).reward(u).backward()
    assert u.grad.abs().max() < 1e-4


def test_gradient_next_to_the_optimum():
    u = torch.tensor([[0.8], [0.7], [-0.3]], requires_grad=True)
    make(s2=2.0).reward(u).backward()
    # d/du of -(10 u - 7)^2 / 2 at u = 0.8 is -10.
    torch.testing.assert_close(u.grad.squeeze(), torch.tensor([-10.0, 0.0, 0.0]), atol=1e-4, rtol=0)


def test_agents_with_equal_goals_are_interchangeable():
    env = make(s2=1.5)
    u = torch.rand(50, 3, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(env.reward(u), env.reward(u[:, [1, 0, 2]]))
    assert not torch.allclose(env.reward(u), env.reward(u[:, [2, 1, 0]]))


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 3, 5, 7)])
def test_any_leading_shape(leading):
    env = make()
    u = torch.rand(*leading, 3, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert env.reward(u).shape == leading
    assert env.basin(u).shape == leading
    one_by_one = torch.stack([env.reward(x) for x in u.view(-1, 3, 1)])
    torch.testing.assert_close(env.reward(u).flatten(), one_by_one)


def test_basins():
    env = make(s2=1.5)
    at = torch.tensor([[7.0, 7.0, -3.0], [-5.0, -5.0, 3.0], [float("nan")] * 3]).unsqueeze(-1) / 10
    assert env.basin(at).tolist() == [0, 1, 1]


def test_step_ends_the_episode():
    env = MaxOfThree(MaxOfThree.Config(), seeds=[3, 4], n_envs=5)
    obs = env.reset()
    assert obs.shape == (2, 5, 3, 1)
    step = env.step(torch.zeros(2, 5, 3, 1))
    assert step.reward.shape == step.basin.shape == (2, 5)
    assert step.terminated.all()
    assert not step.truncated.any()


@pytest.mark.parametrize(
    "params",
    [
        {"s2": 0.0},
        {"s2": -1.0},
        {"s2": float("nan")},
        {"s2": float("inf")},
        {"p": (1.0,)},
        {"height": float("inf")},
        {"q": (70.0, 7.0, -3.0)},
        {"s3": 1.0},
    ],
)
def test_bad_parameters_are_refused(params):
    with pytest.raises(ValidationError):
        MaxOfThree.Config(**params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        # |p - q|^2 = 144 + 144 + 36; an agent alone closes 144 of it: 10 - 180 / 18 = 0.
        (
            {"s2": 18.0},
            r"an agent that leaves p alone .* gets 0 instead of 0.* s2 must be below 18",
        ),
        ({"s2": 20.0}, "gets 1 instead of 0.* s2 must be below 18"),
        ({"s2": 40.0}, "gets 5.5 instead of 0"),  # the hill covers p: 10 - 324 / 40 > 0
        ({"s2": 3.0, "height": 60.0}, "gets 0 instead of 0.* s2 must be below 3"),
        ({"p": (1.0, 2.0), "q": (1.0, 2.0)}, "p and q must differ for two agents or more"),
        ({"p": (1.0, 2.0), "q": (9.0, 2.0)}, "p and q must differ for two agents or more"),
        ({"p": (1.0,), "q": (9.0,)}, "one agent has no others"),
        ({"p": (), "q": ()}, "one agent has no others"),
        ({"height": 0.0}, "height must be above 0"),
    ],
)
def test_games_whose_safe_return_is_none_are_refused(params, message):
    with pytest.raises(ValidationError, match=message):
        MaxOfThree.Config(**params)


@pytest.mark.parametrize("s2", [0.5, 3.0, 17.9])
def test_where_it_passes_no_agent_leaves_p_alone(s2):
    """Every action of every agent, the others at p, by brute force."""
    env = make(s2=s2)
    side = torch.linspace(-1, 1, 20001)
    for agent in range(3):
        joint = env.safe().expand(len(side), -1, -1).clone()
        joint[:, agent, 0] = side
        assert env.reward(joint).max().item() <= 0


def test_the_optimum_is_the_largest_reward():
    env = make(s2=1.5)
    u = torch.cartesian_prod(*[torch.linspace(-1, 1, 81)] * 3).unsqueeze(-1)
    reward = env.reward(u)
    assert reward.max().item() <= env.spec.optimal_return
    torch.testing.assert_close(u[reward.argmax()], env.modes()[0], atol=0.02, rtol=0)
    torch.testing.assert_close(env.reward(env.modes()), torch.tensor([10.0]))
    torch.testing.assert_close(env.reward(env.safe()), torch.tensor(0.0), atol=1e-4, rtol=0)


def test_a_curriculum_widens_the_hill_of_running_games():
    env = make(s2=1.5)
    assert reward(env, 7.0, 4.0, -3.0) == pytest.approx(4)  # 10 - 9 / 1.5
    env.set(s2=18.0)  # refused as a target
    assert reward(env, 7.0, 4.0, -3.0) == pytest.approx(9.5)
    assert env.spec.optimal_return == 10
    again = make(s2=1.5)
    again.load_state_dict(env.state_dict())
    assert reward(again, 7.0, 4.0, -3.0) == pytest.approx(9.5)


def test_the_slice_holds_both_tops_and_the_picture_their_names():
    env = make()
    assert env.plane() == (0, 1)
    # At p, at q and halfway between them the third agent is there, too.
    x = torch.tensor([[-0.5], [0.7], [0.1]])
    torch.testing.assert_close(env.slice(x, x)[:, 2, 0], torch.tensor([0.3, -0.3, 0.0]))
    assert "agent 3 moves along the straight line" in env.slice_text()
    assert make(p=(1.0, -5.0, 3.0), q=(1.0, 7.0, -3.0)).plane() == (1, 2)
    ax = Figure().subplots()
    shades = env.draw(ax, ("p", "q"))
    assert shades.levels.tolist() == [-40, -20, -10, -5, 0, 5, 10]
    assert {text.get_text(): text.xy for text in ax.texts} == {
        "p": pytest.approx((-5, -5)),
        "q": pytest.approx((7, 7)),
    }
