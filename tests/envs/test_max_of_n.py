"""Max of N: for two agents the game of Wei et al., and what stays the same as N grows."""

import pytest
import torch
from pydantic import ValidationError

from rocompare.envs.max_of_n import MaxOfN
from rocompare.envs.max_of_three import MaxOfThree


def make(n, **params):
    return MaxOfN(MaxOfN.Config(n_agents=n, **params), seeds=[0], n_envs=1)


def test_two_agents_play_max_of_two():
    wei = MaxOfThree.Config(p=(-5.0, -5.0), q=(5.0, 5.0), s1=3.0, s2=1.0)
    u = torch.rand(500, 2, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(make(2).reward(u), MaxOfThree(wei, [0], 1).reward(u))


@pytest.mark.parametrize("n", [2, 3, 7, 10])
def test_values_by_hand(n):
    env = make(n, s2=2.0)
    assert (env.spec.n_agents, env.spec.optimal_return, env.spec.safe_return) == (n, 10, 0)
    both = torch.tensor([0.5, -0.5, 0.4, -1.0]).view(4, 1, 1).expand(-1, n, -1)
    # q, p, one unit below q (10 - 2/n n 1 / 2) and five below p (-0.8 2 25 / 3).
    torch.testing.assert_close(env.reward(both), torch.tensor([10.0, 0.0, 9.0, -40 / 3]))
    alone = torch.full((n, 1), 0.5)
    alone[0] = -0.5  # one agent stays: 10 - 2/n 100 / 2 on the optimum's hill
    assert env.hills(alone)[1].item() == pytest.approx(10 - 100 / n, abs=1e-4)


def test_the_reward_from_p_to_q_is_the_same_for_every_n():
    line = torch.linspace(-0.5, 0.5, 21).view(-1, 1, 1)
    two = make(2).reward(line.expand(-1, 2, -1))
    for n in (3, 6, 10):
        torch.testing.assert_close(make(n).reward(line.expand(-1, n, -1)), two, atol=1e-4, rtol=0)


def test_the_share_of_good_random_actions_falls_as_the_docstring_says():
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(200_000, 2, 1, generator=generator) * 2 - 1
    assert 100 * (make(2).reward(u) > 0).float().mean().item() == pytest.approx(7.85, abs=0.3)
    # pi 10 of 400 is the disc's share of the square.


@pytest.mark.parametrize("params", [{"n_agents": 1}, {"n_agents": 11}, {"s2": 0.0}, {"p": [1.0]}])
def test_bad_parameters_are_refused(params):
    with pytest.raises(ValidationError):
        MaxOfN.Config(**params)


@pytest.mark.parametrize(("n", "bound"), [(2, 10), (5, 16), (10, 18)])
def test_a_hill_that_reaches_the_safe_behaviour_is_refused(n, bound):
    # An agent alone closes 100 of the 100 n to q: 10 - (2/n) (n - 1) 100 / s2 is 0 at 20 (n - 1)/n.
    with pytest.raises(ValidationError, match=f"s2 must be below {bound} "):
        MaxOfN.Config(n_agents=n, s2=float(bound))
    env = make(n, s2=bound - 0.1)
    alone = env.safe().clone()
    alone[0] = 0.5
    assert env.reward(alone).item() < 0


def test_a_curriculum_keeps_the_widths_of_n_agents():
    env = make(4, s2=2.0)
    one_below = torch.full((4, 1), 0.4)  # by 1: 10 - (2/4) 4 / s2
    assert env.reward(one_below).item() == pytest.approx(9, abs=1e-4)
    env.set(s2=4.0, height=20.0)
    assert env.reward(one_below).item() == pytest.approx(19.5, abs=1e-4)
