"""Monotone mixing against a loop, and that it is monotone."""

import torch

from rocompare.learn.mixing import mix, mixer
from rocompare.learn.rng import Streams
from tests.support.helpers import make_spec

SPEC = make_spec(n_agents=3, obs_dim=2, action_dim=4, discrete=True)


def made(units):
    return mixer(SPEC, 2, units, 5, "relu", Streams((0, 1), "init"))


def test_by_hand():
    """Two agents, two hidden units, constant weights W_1 = [[1, -2], [3, 0]], b_1 = [-5, 1],
    w_2 = [-1, 2], b_2 = 0.5, in units of 10: of values 20 and 10 the hidden layer is
    elu(2 + 3 - 5) = 0 and elu(4 + 0 + 1) = 5, so that Q_tot is 10 (0 + 2 * 5 + 0.5). Of -20 and 10
    it is elu(-4) = exp(-4) - 1 and elu(-3)."""
    spec = make_spec(n_agents=2, obs_dim=1, action_dim=4, discrete=True)
    net = mixer(spec, 1, 2, 3, "relu", Streams((0,), "init"))
    with torch.no_grad():
        net.flat.zero_()
        weights = [1, -2, 3, 0, -5, 1, -1, 2, 0.5]
        net.layers(net.flat)[-1][1][:] = torch.tensor(weights)
        got = mix(net, torch.zeros(1, 2, 2, 1), torch.tensor([[[20.0, 0.0], [10.0, -10.0]]]), 10.0)
    # Of 0 and -10: elu(0 - 3 - 5) and elu(0 + 0 + 1).
    second = 10 * ((torch.tensor(-8.0).exp() - 1) + 2 * 1 + 0.5)
    torch.testing.assert_close(got, torch.tensor([[105.0, second.item()]]))


def test_it_increases_in_every_agents_value_whatever_the_state():
    generator = torch.Generator().manual_seed(0)
    obs = 3 * torch.randn(2, 500, 3, 2, generator=generator)
    q = (10 * torch.randn(2, 3, 500, generator=generator)).requires_grad_()
    net = made(4)
    (slope,) = torch.autograd.grad(mix(net, obs, q, 10.0).sum(), q)
    assert slope.min() >= 0
    assert slope.max() > 10 * slope.median()  # by different weights in different states
    assert (slope > 0).float().mean() > 0.99


def test_a_constant_observation_comes_once():
    obs, q = torch.ones(2, 1, 3, 2), torch.arange(30.0).view(2, 3, 5)
    net = made(4)
    with torch.no_grad():
        torch.testing.assert_close(
            mix(net, obs, q, 10.0), mix(net, obs.expand(-1, 5, -1, -1), q, 10.0)
        )
