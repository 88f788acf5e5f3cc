"""Kernels and the Stein direction against autograd and a brute-force double loop."""

import math

import numpy as np
import pytest
import torch

from rocompare.learn.kernels import median_bandwidth, stein_direction

MASKS = {
    "nested": torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1]]),
    "full": torch.ones(3, 3),
    "own": torch.eye(3),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_median_bandwidth_by_hand():
    square = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    assert median_bandwidth(square).item() == pytest.approx(5 / math.log(3))


@pytest.mark.parametrize("size", [(3, 4), (5, 5), (2, 7)])
def test_median_is_the_upper_median(size):
    square = torch.rand(2, 3, *size, generator=generator())
    middle = math.prod(size) // 2
    expected = square.flatten(-2).sort(-1).values[..., middle] / math.log(size[0])
    torch.testing.assert_close(median_bandwidth(square), expected)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bandwidth", [1.0, 0.3])
def test_direction_is_the_double_loop(mask, bandwidth):
    """Kernel gradients by autograd, sums by loops, bandwidths by numpy."""
    n, f, u, a = 3, 5, 4, 2
    fixed = torch.randn(n, f, a, dtype=torch.double, generator=generator(1))
    updated = torch.randn(n, u, a, dtype=torch.double, generator=generator(2))
    score = torch.randn(n, f, a, dtype=torch.double, generator=generator(3))
    seen = MASKS[mask].double()
    got = stein_direction(fixed, updated, score, seen, bandwidth)
    for i in range(n):
        coords = [j for j in range(n) if seen[i, j]]

        def distance(k, m, coords=coords):
            return sum(((fixed[j, k] - updated[j, m]) ** 2).sum().item() for j in coords)

        pairs = sorted(distance(k, m) for k in range(f) for m in range(u))
        h = bandwidth * pairs[len(pairs) // 2] / math.log(f)
        for m in range(u):
            total = np.zeros(a)
            for k in range(f):
                own = fixed[i, k].clone().requires_grad_()
                square = sum(
                    (((own if j == i else fixed[j, k]) - updated[j, m]) ** 2).sum() for j in coords
                )
                kernel = torch.exp(-square / h)
                (grad,) = torch.autograd.grad(kernel, own)
                total += (kernel * score[i, k] + grad).detach().numpy()
            np.testing.assert_allclose(got[i, m].numpy(), total / f, rtol=1e-9, atol=1e-12)


def test_no_mask_is_each_agents_own_coordinates():
    x = torch.randn(2, 3, 6, 1, generator=generator(4))
    score = torch.randn(2, 3, 6, 1, generator=generator(5))
    torch.testing.assert_close(
        stein_direction(x, x, score), stein_direction(x, x, score, torch.eye(3))
    )


def test_kernel_gradient_pushes_particles_apart():
    x = torch.tensor([[[-1.0], [1.0]]])  # one agent, two particles
    direction = stein_direction(x, x, torch.zeros_like(x))
    assert direction[0, 0] < 0 < direction[0, 1]


def test_particles_converge_to_a_gaussian():
    """Plain SVGD on N(2, 0.5^2): its mean and spread after 500 steps."""
    x = torch.randn(1, 64, 1, generator=generator(6)) * 0.1
    for _ in range(500):
        x += 0.05 * stein_direction(x, x, -(x - 2) / 0.25)
    assert x.mean().item() == pytest.approx(2.0, abs=0.02)
    assert x.std().item() == pytest.approx(0.5, abs=0.05)
