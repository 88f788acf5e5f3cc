"""MASQL's value, losses and execution against independent formulas and known densities."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from baselines.masql import MASQL
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.learn.nn import MLP
from rocompare.learn.rng import Streams
from tests.baselines.support import play, update
from tests.support.helpers import CPU, assert_same_weights, make_batch, make_spec


def make(
    seeds: tuple[int, ...] = (1, 2),
    n_agents: int = 3,
    obs_dim: int = 2,
    action_dim: int = 2,
    horizon: int = 5,
    **config: Any,
) -> MASQL:
    spec = make_spec(n_agents, obs_dim, action_dim, horizon)
    return MASQL(spec, MASQL.Config(**config), seeds, CPU)


def forward(mlp: MLP, s: int, i: int, x: Tensor) -> Tensor:
    """One network of a ``(S, N)`` MLP, spelled out: ``x [rows, in]``."""
    which, x = s * mlp.groups[1] + i, x * mlp.input_scale
    layers = mlp.layers(mlp.flat.detach())
    for depth, (weight, bias) in enumerate(layers):
        x = x @ weight[which] + bias[which]
        if depth < len(layers) - 1:
            x = torch.tanh(x) if mlp.activation == "tanh" else x * torch.sigmoid(x)
    return x * mlp.output_scale


def freeze_q(algorithm: Any, q: Callable[[Tensor], Tensor]) -> None:
    """Put the known ``q(joint [..., D])`` in place of the critics."""

    def known(critic: MLP, obs: Tensor, joint: Tensor, frozen: bool = False) -> Tensor:
        return q(joint)

    algorithm._q = known


def test_q_and_td_loss_of_a_one_step_game_by_loops() -> None:
    algorithm = make(horizon=1)
    batch = make_batch(algorithm.spec, (1, 2), size=7)
    loss = algorithm._td_loss(batch, alpha=1.0)
    for s in range(2):
        for i in range(3):
            total = 0.0
            for b in range(7):
                x = torch.cat([batch.obs[s, b].flatten(), batch.action[s, b].flatten()])
                q = forward(algorithm.critic, s, i, x[None]).item()
                total += (q - batch.reward[s, b].item()) ** 2
            assert loss[s, i].item() == pytest.approx(total / 7, rel=1e-4)


def test_td_target_bootstraps_unless_terminated() -> None:
    algorithm = make(n_agents=2, gamma=0.9)
    batch = make_batch(algorithm.spec, (1, 2), size=3)
    batch.terminated.copy_(torch.tensor([0.0, 1.0, 0.0]))
    batch.reward.copy_(torch.tensor([1.0, 2.0, 3.0]))
    algorithm._soft_value = lambda obs, alpha: torch.tensor(  # type: ignore[method-assign]
        [[[10.0, 10.0, 20.0], [30.0, 30.0, 40.0]]] * 2
    )
    freeze_q(algorithm, lambda joint: joint.new_zeros(2, 2, 3))
    # Targets 1 + 9, 2, 3 + 18 and 1 + 27, 2, 3 + 36.
    expected = torch.tensor([(100 + 4 + 441) / 3, (784 + 4 + 1521) / 3]).expand(2, 2)
    torch.testing.assert_close(algorithm._td_loss(batch, alpha=1.0), expected)


@pytest.mark.parametrize("alpha", [2.0, 0.05])
def test_soft_value_is_the_mean_over_the_box(alpha: float) -> None:
    algorithm = make((3, 4), n_agents=2, action_dim=1, obs_dim=1, value_samples=128)
    freeze_q(
        algorithm,
        lambda u: torch.maximum(
            1 - 8 * ((u[..., 0] - 0.6) ** 2 + (u[..., 1] + 0.3) ** 2), -u[..., 0] * u[..., 1]
        ),
    )
    grid = np.linspace(-1, 1, 801)
    x, y = np.meshgrid(grid, grid)
    q = np.maximum(1 - 8 * ((x - 0.6) ** 2 + (y + 0.3) ** 2), -x * y)
    integral = integrate.simpson(integrate.simpson(np.exp((q - 1) / alpha), x=grid), x=grid) / 4
    value = algorithm._soft_value(torch.zeros(2, 256, 2, 1), alpha)
    assert value.shape == (2, 2, 256)
    # What an estimate of the integral is right about is its mean, before the logarithm.
    estimate = ((value - 1) / alpha).exp().mean().item()
    assert estimate == pytest.approx(integral, rel=0.03)
    assert value.mean().item() == pytest.approx(1 + alpha * np.log(integral), abs=0.03)


def test_soft_value_of_a_constant_is_the_constant() -> None:
    """Not more: an episode that goes on must not pay for the volume of the action box."""
    algorithm = make(value_samples=256, n_agents=2)
    freeze_q(algorithm, lambda u: torch.full(u.shape[:-1], -7.0))
    value = algorithm._soft_value(torch.zeros(2, 8, 2, 2), 3.0)
    assert value.mean().item() == pytest.approx(-7, abs=0.15)


def test_stein_loss_by_loops() -> None:
    algorithm = make(n_agents=2, action_dim=1, obs_dim=1, particles=5, bandwidth=1.5)
    obs = torch.randn(2, 3, 2, 1, generator=torch.Generator().manual_seed(0))
    state = algorithm.noise.state_dict()
    particles = algorithm._particles(obs, 5).detach()  # [S, N, B, K, 2]
    algorithm.noise.load_state_dict(state)
    loss = algorithm._stein_loss(obs, alpha=0.7)
    for s in range(2):
        for i in range(2):
            total = 0.0
            for b in range(3):
                u = particles[s, i, b].clone().requires_grad_()
                x = torch.cat([obs[s, b].flatten().expand(5, -1), u], -1)
                (score,) = torch.autograd.grad(forward(algorithm.critic, s, i, x).sum() / 0.7, u)
                u = u.detach()
                square = [[((p - w) ** 2).sum().item() for w in u] for p in u]
                h = 1.5 * sorted(np.ravel(square))[12] / np.log(5)
                for k in range(5):
                    direction = torch.zeros(2)
                    for f in range(5):
                        kernel = np.exp(-square[f][k] / h)
                        direction += kernel * (score[f] - 2 / h * (u[f] - u[k]))
                    total -= (u[k] * direction / 5).sum().item() / 15
            assert loss[s, i].item() == pytest.approx(total, rel=1e-3, abs=1e-5)


def exact_samples(log_p: Callable[[Tensor], Tensor], n: int) -> np.ndarray:
    """Samples of ``exp(log_p)`` on the square ``[-1, 1]^2``, from cells of side 1/200."""
    centre = (torch.arange(400) + 0.5) / 200 - 1
    cells = torch.cartesian_prod(centre, centre)
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(log_p(cells).flatten(), 0)
    picked = torch.multinomial(p, n, replacement=True, generator=generator)
    jitter = (torch.rand(n, 2, generator=generator) - 0.5) / 200
    return (cells[picked] + jitter).numpy()


@pytest.mark.slow
def test_samplers_converge_to_a_known_density() -> None:
    alpha = 0.5
    algorithm = make((5,), n_agents=2, action_dim=1, obs_dim=1, particles=64, policy_lr=0.01)

    def q(u: Tensor) -> Tensor:  # a correlated hill, cut off by the border
        x, y = u[..., 0], u[..., 1]
        return alpha * (-3 * (x - 0.4) ** 2 - 4 * (y + 0.2 - 0.6 * x) ** 2)

    freeze_q(algorithm, q)
    obs = torch.zeros(1, 1, 2, 1)
    exact = exact_samples(lambda u: q(u) / alpha, 300)

    def p_values(sample: np.ndarray) -> list[float]:
        directions = np.array([[1, 0], [0, 1], [1, 1], [1, -1]]).T
        pairs = zip((sample @ directions).T, (exact @ directions).T, strict=True)
        return [stats.ks_2samp(a, b).pvalue for a, b in pairs]

    def drawn() -> np.ndarray:
        with torch.no_grad():
            return torch.cat([algorithm._particles(obs, 64)[0, :, 0] for _ in range(5)], 1).numpy()

    assert min(p_values(drawn()[0])) < 1e-6  # the test has power
    for step in range(1000):
        algorithm.policy_adam.step(algorithm._stein_loss(obs, alpha), 1 - step / 1000)
    sample = drawn()  # [N, 320, 2], each agent by its own sampler
    for i in range(2):
        assert min(p_values(sample[i])) > 0.05


def test_agents_execute_their_own_component_of_their_own_sample() -> None:
    algorithm = make()
    joint = torch.arange(2 * 3 * 6).view(6, 1, 6) / 40 - 0.4  # [S*N, 1, N*A]
    with torch.no_grad():
        algorithm.policy.flat.zero_()
        algorithm.policy.layers(algorithm.policy.flat)[-1][1].copy_(torch.atanh(joint))
    per_agent = joint.view(2, 3, 3, 2)  # seed, sampler, component, feature
    for mode in ("explore", "decentralised", "deterministic"):
        action = algorithm.act(torch.randn(2, 4, 3, 2), mode, 0.0)  # type: ignore[arg-type]
        assert action.shape == (2, 4, 3, 2)
        for i in range(3):
            expected = per_agent[:, i, i].unsqueeze(1).expand(2, 4, 2)
            torch.testing.assert_close(action[:, :, i], expected)


def test_noise_belongs_to_the_mode() -> None:
    algorithm = make()
    obs = torch.ones(2, 4, 3, 2)
    quiet = algorithm.act(obs, "deterministic", 0.0)
    assert torch.equal(quiet, algorithm.act(obs, "deterministic", 0.0))
    torch.testing.assert_close(quiet[:, 0], quiet[:, 1])
    for mode in ("explore", "decentralised"):
        first = algorithm.act(obs, mode, 0.0)  # type: ignore[arg-type]
        assert not torch.equal(first, algorithm.act(obs, mode, 0.0))  # type: ignore[arg-type]
        assert not torch.equal(first, quiet)


def updated(seeds: tuple[int, ...], spoil: int | None = None) -> MASQL:
    algorithm = make(seeds, particles=4, value_samples=4, states=5)
    if spoil is not None:
        with torch.no_grad():
            algorithm.critic.per_seed(algorithm.critic.flat)[0][spoil] = torch.nan
            algorithm.policy.per_seed(algorithm.policy.flat)[0][spoil] = torch.nan
    for progress in (0.1, 0.5, 0.9):
        update(algorithm, make_batch(algorithm.spec, seeds), progress)
    return algorithm


def test_seeds_do_not_touch_each_other() -> None:
    together, alone, spoilt = updated((1, 2, 3)), updated((2,)), updated((1, 2, 3), spoil=0)
    for net in ("critic", "policy", "target_critic"):
        a, b, c = (getattr(x, net) for x in (together, alone, spoilt))
        for part, single, beside in zip(*(m.per_seed(m.flat) for m in (a, b, c)), strict=True):
            assert_same_weights(part[1:2], single)
            assert_same_weights(part[1:], beside[1:])
            assert part.isfinite().all()
    assert update(spoilt, make_batch(spoilt.spec, (1, 2, 3)), 1.0)["td_loss"].isnan().tolist() == [
        True,
        False,
        False,
    ]


def test_state_dict_continues_the_run() -> None:
    first = updated((1, 2))
    second = make((1, 2), particles=4, value_samples=4, states=5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    batch = make_batch(first.spec, (1, 2))
    for algorithm in (first, second):
        update(algorithm, batch, 0.6)
    assert torch.equal(first.critic.flat, second.critic.flat)
    assert torch.equal(first.policy.flat, second.policy.flat)
    assert torch.equal(first.act(batch.obs, "explore", 0.6), second.act(batch.obs, "explore", 0.6))


@pytest.mark.slow
def test_finds_the_optimum_of_an_easy_max_of_two() -> None:
    seeds = (1000,)
    env = MaxOfThree(MaxOfThree.Config(p=(-5.0, -5.0), q=(5.0, 5.0), s2=3.0), seeds, 1)
    algorithm = MASQL(env.spec, MASQL.Config(), seeds, CPU)
    obs = play(env, algorithm, Streams(seeds, "random"), 300)
    action = algorithm.act(obs.expand(-1, 50, -1, -1), "decentralised", 1.0)
    assert (env.reward(action).mean(1) > 8).all()
    assert (env.basin(action) == 0).float().mean() > 0.95
