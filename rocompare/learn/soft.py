"""Soft values by importance sampling, for samplers that have no density of their own."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rocompare.learn.rng import Streams


def soft_value(q: Tensor, log_p: Tensor | float, alpha: float) -> Tensor:
    """``alpha log E_{u~p}[exp(Q(u)/alpha) / p(u)]``, the soft value of Haarnoja et al. (2017).

    With p relative to the uniform density over the action box, so that the value of a constant Q
    is that constant. With the plain density it would be more by alpha times the box's log-volume,
    which an episode would earn at each step that it goes on.

    Args:
        q: ``[..., K]`` values at ``K`` samples of the proposal ``p``.
        log_p: ``[..., K]`` log-density of the proposal there, over that of the uniform one.
        alpha: temperature.

    Returns:
        ``[...]`` estimates of ``alpha log mean exp(Q/alpha)``, the mean over the box.
    """
    return alpha * (torch.logsumexp(q / alpha - log_p, -1) - math.log(q.shape[-1]))


def log_tanh_jacobian(z: Tensor) -> Tensor:
    """``log |d tanh(z)/dz|`` summed over the last axis, without the cancellation of 1 - tanh^2."""
    return 2 * (math.log(2) - z - softplus(-2 * z)).sum(-1)


class Squashed(NamedTuple):
    """The distribution of ``tanh(z)`` for Gaussian z; fields ``[..., D]``."""

    mean: Tensor
    log_std: Tensor

    @classmethod
    def of(cls, output: Tensor) -> Squashed:
        """From a network's output ``[..., 2D]``; zeros give the standard deviation 1."""
        mean, raw = output.chunk(2, -1)
        return cls(mean, 7 * torch.sigmoid(raw + math.log(5 / 2)) - 5)

    def draw(self, noise: Tensor) -> Tensor:
        """``z``, the action before tanh."""
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """``[...]`` log-density of ``tanh(z)``."""
        square = ((z - self.mean) * torch.exp(-self.log_std)).square()
        log_normal = -0.5 * (square + math.log(2 * math.pi)) - self.log_std
        return log_normal.sum(-1) - log_tanh_jacobian(z)


def _minus_half_square(x: Tensor, y: Tensor) -> Tensor:
    """``-|x_i - y_j|^2 / 2`` for ``x [..., I, D]``, ``y [..., J, D]``: ``[..., I, J]``.

    One product, of ``(x, -|x|^2/2, 1)`` and ``(y, 1, -|y|^2/2)``: torch.cdist's own way for many
    points, less its square root.
    """
    x_half, y_half = (-0.5 * t.square().sum(-1, keepdim=True) for t in (x, y))
    left = torch.cat([x, x_half, torch.ones_like(x_half)], -1)
    right = torch.cat([y, torch.ones_like(y_half), y_half], -1)
    return left @ right.mT


def squashed_mixture(centre: Tensor, scale: float, streams: Streams) -> tuple[Tensor, Tensor]:
    """Proposals around given actions, half of them; the other half uniform over the box.

    The density is that of the mixture: one half uniform, one half the tanh-squashed Gaussians of
    standard deviation ``scale`` around the centres. It is positive on the whole box, so the
    estimate stays finite however badly the centres are placed.

    Args:
        centre: ``[S, B, K, D]`` actions in ``[-1, 1]``.

    Returns:
        ``(action [S, B, 2K, D], log_p [S, B, 2K])``, relative to the uniform density.
    """
    _, b, k, d = centre.shape
    pre = torch.atanh(centre.clamp(-0.999, 0.999))
    around = pre + scale * streams.normal(b, k, d)
    uniform = torch.atanh((2 * streams.uniform(b, k, d) - 1).clamp(-0.999999, 0.999999))
    z = torch.cat([around, uniform], 2)  # [S, B, 2K, D], before tanh
    exponent = _minus_half_square(z / scale, pre / scale)  # [S, B, 2K, K]
    peak = exponent.amax(-1, keepdim=True)
    # logsumexp in the memory of its argument, by far the largest tensor here. What is below e^-80
    # adds nothing to a sum of at least 1, and numbers too small for full precision are slow.
    log_sum = exponent.sub_(peak).clamp_(min=-80).exp_().sum(-1).log_() + peak.squeeze(-1)
    log_normaliser = math.log(k) + d * math.log(scale * math.sqrt(2 * math.pi))
    log_around = log_sum - log_normaliser - log_tanh_jacobian(z)
    log_ratio = log_around + d * math.log(2)  # to the uniform density 2^-d
    return torch.tanh(z), torch.logaddexp(log_ratio, torch.zeros_like(log_ratio)) - math.log(2)
