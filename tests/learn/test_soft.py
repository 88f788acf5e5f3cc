"""Soft values against integrals."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from rocompare.learn.rng import Streams
from rocompare.learn.soft import log_tanh_jacobian, soft_value, squashed_mixture


def test_soft_value_by_hand():
    # Two samples of a density 1/2: alpha log mean(2 exp(q / alpha)).
    q = torch.tensor([1.0, 3.0])
    expected = 2 * math.log((2 * math.exp(0.5) + 2 * math.exp(1.5)) / 2)
    assert soft_value(q, math.log(0.5), 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_log_jacobian_is_autograds():
    z = torch.linspace(-4, 4, 9, dtype=torch.double).unsqueeze(-1).requires_grad_()
    (slope,) = torch.autograd.grad(torch.tanh(z).sum(), z)
    torch.testing.assert_close(log_tanh_jacobian(z.detach()), slope.log().squeeze(-1))
    assert log_tanh_jacobian(torch.tensor([50.0])).isfinite()


def test_the_mixtures_density_is_what_it_draws():
    """Mean of 1/p over its samples is 1, the box's share: it holds for the right density alone."""
    centre = torch.tensor([[0.9, -0.5], [0.1, 0.3], [-0.97, 0.0]]).expand(1, 20_000, 3, 2)
    _, log_p = squashed_mixture(centre, 0.4, Streams([0], "a"))
    inverse = torch.exp(-log_p).flatten()
    error = inverse.std().item() / math.sqrt(len(inverse))
    assert inverse.mean().item() == pytest.approx(1.0, abs=4 * error)
    assert error < 0.005


def test_the_mixtures_density_is_scipys():
    """Near the centres and far from them, where every Gaussian's density is tiny."""
    centre = torch.tensor([[-0.9, -0.5], [-0.8, 0.3], [-0.97, 0.0]]).expand(1, 50, 3, 2)
    action, log_p = squashed_mixture(centre, 0.1, Streams([0], "a"))
    x = action[0].double().clamp(-1 + 1e-6, 1 - 1e-6).numpy()  # [50, 6, 2]
    mean = np.arctanh(centre[0, 0].double().numpy())
    of_each = stats.norm.logpdf(np.arctanh(x)[:, :, None], mean, 0.1).sum(-1)  # [50, 6, 3]
    around = special.logsumexp(of_each, -1) - np.log(3) - np.log(1 - x**2).sum(-1)
    expected = np.logaddexp(around, np.log(1 / 4)) - np.log(2) - np.log(1 / 4)
    np.testing.assert_allclose(log_p[0].numpy(), expected, atol=2e-3)
    assert of_each.min() < -500


@pytest.mark.parametrize("alpha", [10.0, 1.0, 0.1])
def test_soft_value_is_the_mean_over_the_box(alpha):
    """A narrow peak, found by proposals near it and by uniform ones."""

    def q(x):
        return 10 - 50 * (x - 0.7) ** 2

    integral = integrate.quad(lambda x: np.exp((q(x) - 10) / alpha), -1, 1)[0]
    exact = alpha * math.log(integral / 2) + 10
    for place in (0.65, -0.5):
        centre = torch.full((1, 8, 2048, 1), place)  # the estimate is consistent
        action, log_p = squashed_mixture(centre, 0.3, Streams([1], "a"))
        value = soft_value(q(action.squeeze(-1)), log_p, alpha)
        assert value.mean().item() == pytest.approx(exact, abs=0.02 * max(alpha, 1))
