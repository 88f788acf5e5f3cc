"""Monotone mixing: a joint value that increases in every agent's own value.

Rashid et al., "QMIX", ICML 2018. The weights of the mixing network depend on the state, for which
all agents' observations stand here::

    Q_tot = |w_2(s)| . elu(|W_1(s)| (Q_1, .., Q_N) + b_1(s)) + b_2(s)
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import elu

from rocompare.api import EnvSpec
from rocompare.learn.nn import MLP, Activation
from rocompare.learn.rng import Streams


def mixer(
    spec: EnvSpec, n_seeds: int, units: int, hidden: int, activation: Activation, streams: Streams
) -> MLP:
    """The network that makes the weights of :func:`mix` from the state: one for each seed.

    Args:
        units: of the mixing network's hidden layer.
        hidden: units of this network's.
    """
    n = spec.n_agents
    return MLP(
        (n_seeds,), (n * spec.obs_dim, hidden, n * units + units + units + 1), activation, streams
    )


def mix(net: MLP, obs: Tensor, q: Tensor, scale: float) -> Tensor:
    """The joint value of the agents' values.

    Args:
        net: a :func:`mixer`.
        obs: ``[S, B, N, O]``, or with 1 for B where it is constant.
        q: ``[S, N, B]``
        scale: unit of the values, in which the mixing network meets numbers near 1.

    Returns:
        ``[S, B]``
    """
    n = q.shape[1]
    units = (net.sizes[-1] - 1) // (n + 2)
    w1, b1, w2, b2 = net(obs.flatten(2)).split([n * units, units, units, 1], -1)
    weighted = w1.abs().unflatten(-1, (n, units)) * (q / scale).transpose(1, 2).unsqueeze(-1)
    hidden = elu(weighted.sum(2) + b1)  # [S, B, units]
    return scale * ((w2.abs() * hidden).sum(-1) + b2.squeeze(-1))
