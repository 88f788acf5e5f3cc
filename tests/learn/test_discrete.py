"""Choices among discrete actions: by hand, and by their frequencies."""

import pytest
import torch

from rocompare.learn import discrete
from rocompare.learn.rng import Streams
from tests.support.helpers import make_spec

SEEDS = (0, 1)
SPEC = make_spec(n_agents=3, obs_dim=2, action_dim=4, discrete=True)


def make(share):
    return discrete.networks(
        SPEC, 2, (8,), "relu", Streams(SEEDS, "init"), share_parameters=share, output_scale=10.0
    )


def test_greedy_is_the_first_of_the_largest():
    values = torch.tensor([[1.0, 3.0, 3.0], [-1.0, -2.0, -3.0]])
    assert discrete.greedy(values).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_values_at_an_action():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    action = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert discrete.chosen(values, action).tolist() == [2, 3]


def test_exploring_is_uniform_with_the_probability_asked_for():
    values = torch.tensor([0.0, 5.0, 1.0, 2.0]).expand(2, 4000, 3, 4)
    for epsilon, frequencies in ((0.0, [0.0, 1.0, 0.0, 0.0]), (0.4, [0.1, 0.7, 0.1, 0.1])):
        action = discrete.epsilon_greedy(values, epsilon, Streams(SEEDS, "explore"))
        assert (action.sum(-1) == 1).all()
        # Four standard errors of 12,000 choices.
        torch.testing.assert_close(
            action.mean((1, 2)), torch.tensor([frequencies] * 2), atol=0.017, rtol=0
        )
    explored = action[..., 1] == 0
    assert not torch.equal(explored[0], explored[1])
    assert not torch.equal(explored[:, :, 0], explored[:, :, 1])


def test_exploration_falls_along_a_line():
    config = discrete.ValueConfig(epsilon_start=1.0, epsilon_end=0.2, epsilon_end_fraction=0.5)
    assert [config.epsilon(x) for x in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([1, 0.6, 0.2, 0.2])


def test_draws_have_the_probabilities_of_a_softmax():
    p = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])  # of two seeds
    logits = (p.log() + 3.0)[:, None].expand(-1, 10_000, -1)
    action = discrete.draw(logits, Streams(SEEDS, "policy"))
    assert (action.sum(-1) == 1).all()
    torch.testing.assert_close(action.mean(1), p, atol=0.02, rtol=0)
    assert action[1, :, 2].sum() == 0


@pytest.mark.parametrize("share", [False, True])
def test_each_agent_sees_its_own_observation(share):
    net, obs = make(share), torch.zeros(2, 5, 3, 2)
    other = obs.clone()
    other[:, :, 1] = 1.0
    with torch.no_grad():
        values, moved = discrete.outputs(net, obs), discrete.outputs(net, other)
    assert values.shape == (2, 3, 5, 4)
    assert (values != moved).any(-1).any(0).any(-1).tolist() == [False, True, False]
    assert not torch.equal(values[:, 0], values[:, 1])  # networks, or numbers, of their own


def test_shared_parameters_are_one_network():
    # Inputs 2, or 2 + 3 with the agent's number; 8 hidden units; 4 actions.
    assert make(False).parameters_per_seed() == 3 * (3 * 8 + 9 * 4)
    assert make(True).parameters_per_seed() == 6 * 8 + 9 * 4
