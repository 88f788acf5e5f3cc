"""PR2-Soft's soft marginal, losses and samplers against independent formulas and known densities."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from baselines.pr2_soft import PR2Soft
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
) -> PR2Soft:
    spec = make_spec(n_agents, obs_dim, action_dim, horizon)
    return PR2Soft(spec, PR2Soft.Config(**config), seeds, CPU)


def forward(mlp: MLP, s: int, i: int, x: Tensor) -> Tensor:
    """One network of a ``(S, N)`` MLP, spelled out: ``x [rows, in]``."""
    which, x = s * mlp.groups[1] + i, x * mlp.input_scale
    layers = mlp.layers(mlp.flat.detach())
    for depth, (weight, bias) in enumerate(layers):
        x = x @ weight[which] + bias[which]
        if depth < len(layers) - 1:
            x = torch.tanh(x) if mlp.activation == "tanh" else x * torch.sigmoid(x)
    return x * mlp.output_scale


def freeze_q(algorithm: Any, q: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Two agents with scalar actions: the known ``q(a_i, a_-i)`` in place of the critics."""

    def known(critic: MLP, obs: Tensor, joint: Tensor, frozen: bool = False) -> Tensor:
        return q(joint[..., 0], joint[..., 1])

    algorithm._q = known


def test_td_loss_of_a_one_step_game_by_loops() -> None:
    algorithm = make(horizon=1)
    batch = make_batch(algorithm.spec, (1, 2), size=7)
    loss = algorithm._td_loss(batch, alpha=1.0)
    for s in range(2):
        for i in range(3):
            total = 0.0
            for b in range(7):
                own_first = [batch.action[s, b, (i + j) % 3] for j in range(3)]
                x = torch.cat([batch.obs[s, b].flatten(), *own_first])
                q = forward(algorithm.critic, s, i, x[None]).item()
                total += (q - batch.reward[s, b].item()) ** 2
            assert loss[s, i].item() == pytest.approx(total / 7, rel=1e-4)


def test_td_target_bootstraps_unless_terminated() -> None:
    algorithm = make(n_agents=2, action_dim=1, gamma=0.9)
    batch = make_batch(algorithm.spec, (1, 2), size=3)
    batch.terminated.copy_(torch.tensor([0.0, 1.0, 0.0]))
    batch.reward.copy_(torch.tensor([1.0, 2.0, 3.0]))
    reason = algorithm._reason

    def reason_there(obs: Tensor, *rest: Any) -> list[Tensor]:
        assert obs is batch.next_obs
        return reason(obs, *rest)

    def value_there(obs: Tensor, own: Tensor, alpha: float) -> Tensor:
        assert obs is batch.next_obs
        return torch.tensor([[[10.0, 10.0, 20.0], [30.0, 30.0, 40.0]]] * 2)

    algorithm._reason = reason_there  # type: ignore[method-assign]
    algorithm._soft_marginal = value_there  # type: ignore[method-assign]
    freeze_q(algorithm, lambda own, other: torch.zeros_like(own))
    # Targets 1 + 9, 2, 3 + 18 and 1 + 27, 2, 3 + 36.
    expected = torch.tensor([(100 + 4 + 441) / 3, (784 + 4 + 1521) / 3]).expand(2, 2)
    torch.testing.assert_close(algorithm._td_loss(batch, alpha=1.0), expected)


@pytest.mark.parametrize("alpha", [2.0, 0.05])
def test_soft_marginal_is_the_mean_over_the_others_box(alpha: float) -> None:
    algorithm = make((3, 4), n_agents=2, action_dim=1, obs_dim=1, others_samples=64)
    freeze_q(
        algorithm,
        lambda x, y: torch.maximum(1 - 8 * ((x - 0.6) ** 2 + (y + 0.3) ** 2), -x * y),
    )
    grid = np.linspace(-1, 1, 4001)
    for own in (-0.5, 0.2, 0.6):
        q = np.maximum(1 - 8 * ((own - 0.6) ** 2 + (grid + 0.3) ** 2), -own * grid)
        integral = integrate.simpson(np.exp((q - 1) / alpha), x=grid) / 2
        value = algorithm._soft_marginal(
            torch.zeros(2, 128, 2, 1), torch.full((2, 2, 128, 1), own), alpha
        )
        assert value.shape == (2, 2, 128)
        # What an estimate of the integral is right about is its mean, before the logarithm.
        estimate = ((value - 1) / alpha).exp().mean().item()
        assert estimate == pytest.approx(integral, rel=0.03)
        assert value.mean().item() == pytest.approx(1 + alpha * np.log(integral), abs=0.02)


def stein(u: Tensor, score: Tensor, factor: float) -> Tensor:
    """SVGD's direction, spelled out: ``u``, ``score [K, D]``."""
    k = len(u)
    square = np.array([[((p - w) ** 2).sum().item() for w in u] for p in u])
    h = factor * sorted(square.ravel())[k * k // 2] / np.log(k)
    direction = torch.zeros_like(u)
    for t in range(k):
        for f in range(k):
            kernel = np.exp(-square[f, t] / h)
            direction[t] += kernel * (score[f] - 2 / h * (u[f] - u[t])) / k
    return direction


@pytest.mark.parametrize("noise_size", [1.0, 0.5])
def test_stein_losses_by_loops(noise_size: float) -> None:
    """The policy's noise may have shrunk, not that of the others' samples."""
    config = {"particles": 4, "others_samples": 5, "bandwidth": 1.5}
    algorithm = make(n_agents=3, action_dim=1, obs_dim=1, **config)
    algorithm.noise_size = torch.tensor(noise_size)
    with torch.no_grad():
        algorithm.policy.flat.mul_(3)  # own actions far enough apart for round-off not to matter
    obs = make_batch(algorithm.spec, (1, 2), size=2).obs
    m = 4
    state = algorithm.noise.state_dict()
    rows = obs.repeat_interleave(m, 1)
    with torch.no_grad():
        own_all = algorithm._reason(
            rows, lambda *shape: noise_size * algorithm.noise.normal(*shape)
        )[0][..., :1]  # [S, N, B*M, 1]
        others_all = algorithm._answer(rows, own_all, algorithm.noise.normal, 5)
    algorithm.noise.load_state_dict(state)
    policy_loss, rho_loss = algorithm._stein_losses(obs, alpha=0.7)
    for s in range(2):
        for i in range(3):
            policy_total = rho_total = 0.0
            for b in range(2):
                own_here = own_all[s, i, b * m : (b + 1) * m]  # [M, 1]
                uphill = torch.zeros(m, 1)
                for p in range(m):
                    start = (b * m + p) * 5
                    others = others_all[s, i, start : start + 5]  # [K, 2]
                    joint = torch.cat([own_here[p].expand(5, 1), others], 1).requires_grad_()
                    x = torch.cat([obs[s, b].flatten().expand(5, -1), joint], 1)
                    q = forward(algorithm.critic, s, i, x)
                    (grad,) = torch.autograd.grad(q.sum() / 0.7, joint)
                    uphill[p] = grad[:, 0].mean()
                    rho_total -= (others * stein(others, grad[:, 1:], 1.5)).sum().item()
                direction = stein(own_here, uphill, 1.5)
                policy_total -= (own_here * direction).sum().item()
            assert policy_loss[s, i].item() == pytest.approx(policy_total / (2 * m), rel=0.01)
            assert rho_loss[s, i].item() == pytest.approx(rho_total / (10 * m), rel=0.01)


def test_losses_train_their_own_network_alone() -> None:
    algorithm = make(particles=4, others_samples=4, level=2)
    losses = algorithm._stein_losses(make_batch(algorithm.spec, (1, 2), size=2).obs, alpha=1.0)
    nets = algorithm.policy.flat, algorithm.rho.flat
    for loss, mine, foreign in zip(losses, nets, nets[::-1], strict=True):
        own, other = torch.autograd.grad(
            loss.sum(), (mine, foreign), allow_unused=True, retain_graph=True
        )
        assert own.abs().sum() > 0
        assert other is None


def known_q(own: Tensor, other: Tensor) -> Tensor:
    """A ridge across a hill: ``a_-i`` near ``0.5 a_i``, more loosely so for positive ``a_i``."""
    spread = 0.2 + 0.1 * torch.tanh(4 * own)
    return -(own**2) / 0.3 - (other - 0.5 * own) ** 2 / (2 * spread**2)


def exact(log_p: Tensor, n: int) -> np.ndarray:
    """Samples of a density on ``[-1, 1]`` given by its logarithm at the middle of equal cells."""
    cells = len(log_p)
    generator = torch.Generator().manual_seed(0)
    picked = torch.multinomial(torch.softmax(log_p, 0), n, True, generator=generator)
    return ((picked + torch.rand(n, generator=generator)) * 2 / cells - 1).numpy()


def test_samplers_converge_to_the_exact_conditional_and_marginal() -> None:
    alpha = 0.5
    algorithm = make((5,), n_agents=2, action_dim=1, obs_dim=1, others_samples=32, particles=32)
    freeze_q(algorithm, lambda own, other: alpha * known_q(own, other))
    cells = (torch.arange(2000) + 0.5) / 1000 - 1
    obs = torch.zeros(1, 1, 2, 1)

    def p_value(own: float) -> float:
        """Of agent 1's answers to ``own``."""
        with torch.no_grad():
            at = torch.full((1, 2, 1, 1), own)
            got = algorithm._answer(obs, at, algorithm.noise.normal, 300)[0, 0, :, 0]
        want = exact(known_q(torch.tensor(own), cells), 300)
        return stats.ks_2samp(got.numpy(), want).pvalue

    assert p_value(0.4) < 1e-3  # the test has power
    for step in range(400):
        policy_loss, rho_loss = algorithm._stein_losses(obs, alpha)
        algorithm.policy_adam.step(policy_loss, 3 * (1 - step / 400))
        algorithm.rho_adam.step(rho_loss, 3 * (1 - step / 400))
    assert min(p_value(own) for own in (-0.4, 0.0, 0.4)) > 0.05
    # Own actions: exp of the soft marginal.
    want = exact(torch.logsumexp(known_q(cells[:, None], cells[None, :]), 1), 300)
    got = algorithm.act(obs.expand(-1, 300, -1, -1), "decentralised", 0.0)[0, :, 0, 0]
    assert stats.ks_2samp(got.numpy(), want).pvalue > 0.05


def test_level_two_responds_to_the_simulated_answer() -> None:
    """With ``Q = 3 a b`` the score in ``a`` is ``3 b / alpha``, of the answers or of that heard."""
    # So wide a kernel moves all particles of a state alike, along the mean of their scores.
    config = {"level": 2, "particles": 2, "others_samples": 4, "bandwidth": 1e9}
    algorithm = make(n_agents=2, action_dim=1, obs_dim=1, **config)
    freeze_q(algorithm, lambda a, b: 3 * a * b)
    obs = make_batch(algorithm.spec, (1, 2), size=5).obs
    rows = obs.repeat_interleave(2, 1)
    state = algorithm.noise.state_dict()
    with torch.no_grad():
        first, second = algorithm._reason(rows, algorithm.noise.normal, 2)  # [S, N, B*M, 2]
        answers = algorithm._answer(rows, first[..., :1], algorithm.noise.normal, 4)
    algorithm.noise.load_state_dict(state)
    policy_loss, _ = algorithm._stein_losses(obs, alpha=1.5)
    expected = torch.zeros(2, 2)
    for level, uphill in (
        (first, 2 * answers.view(2, 2, 10, 4).mean(-1)),
        (second, 2 * second[..., 1]),
    ):
        own, uphill = level[..., 0].view(2, 2, 5, 2), uphill.view(2, 2, 5, 2)
        expected -= (own.mean(-1) * uphill.mean(-1)).mean(-1)
    torch.testing.assert_close(policy_loss, expected)
    assert (first[..., 1] == 0).all()
    assert (second[..., 1] != 0).all()


def test_agents_execute_the_last_levels_own_action() -> None:
    algorithm = make(level=2)
    # f_i = tanh(first coordinate heard + 0.1), rho_i = tanh(first own coordinate + 0.2).
    with torch.no_grad():
        for name, source, shift in (("policy", 2 + 2, 0.1), ("rho", 2, 0.2)):
            small = 1e-3  # keeps the hidden tanh linear
            mlp: MLP = getattr(algorithm, name)
            mlp.flat.zero_()
            (first, _), (middle, _), (last, bias) = mlp.layers(mlp.flat)
            first[:, source, 0] = small
            middle[:, 0, 0] = 1
            last[:, 0] = 1 / small
            bias.fill_(shift)
    one = np.tanh(0.1)
    heard = np.tanh(one + 0.2)
    two = np.tanh(heard + 0.1)
    action = algorithm.act(torch.randn(2, 4, 3, 2), "decentralised", 0.0)
    torch.testing.assert_close(action, torch.full((2, 4, 3, 2), float(two)), rtol=1e-4, atol=0)


def test_noise_belongs_to_the_mode() -> None:
    obs = torch.ones(2, 4, 3, 2)
    algorithm = make()
    quiet = algorithm.act(obs, "deterministic", 0.0)
    assert torch.equal(quiet, algorithm.act(obs, "deterministic", 0.0))
    torch.testing.assert_close(quiet[:, 0], quiet[:, 1])
    for mode in ("explore", "decentralised"):
        assert not torch.equal(algorithm.act(obs, mode, 0.0), quiet)


def updated(seeds: tuple[int, ...], spoil: int | None = None) -> PR2Soft:
    algorithm = make(seeds, particles=4, others_samples=3, states=5, level=2)
    if spoil is not None:
        with torch.no_grad():
            for net in (algorithm.critic, algorithm.policy, algorithm.rho):
                net.per_seed(net.flat)[0][spoil] = torch.nan
    for progress in (0.1, 0.5, 0.9):
        update(algorithm, make_batch(algorithm.spec, seeds), progress)
    return algorithm


def test_seeds_do_not_touch_each_other() -> None:
    together, alone, spoilt = updated((1, 2, 3)), updated((2,)), updated((1, 2, 3), spoil=0)
    for net in ("critic", "policy", "rho", "target_critic"):
        a, b, c = (getattr(x, net) for x in (together, alone, spoilt))
        for part, single, beside in zip(*(m.per_seed(m.flat) for m in (a, b, c)), strict=True):
            assert_same_weights(part[1:2], single)
            assert_same_weights(part[1:], beside[1:])
            assert part.isfinite().all()
    td_loss = update(spoilt, make_batch(spoilt.spec, (1, 2, 3)), 1.0)["td_loss"]
    assert td_loss.isnan().tolist() == [True, False, False]


def test_state_dict_continues_the_run() -> None:
    first = updated((1, 2))
    second = make((1, 2), particles=4, others_samples=3, states=5, level=2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    batch = make_batch(first.spec, (1, 2))
    for algorithm in (first, second):
        update(algorithm, batch, 0.6)
    for net in ("critic", "policy", "rho"):
        assert torch.equal(getattr(first, net).flat, getattr(second, net).flat)
    assert torch.equal(first.act(batch.obs, "explore", 0.6), second.act(batch.obs, "explore", 0.6))


def test_finds_the_optimum_of_an_easy_max_of_two() -> None:
    seeds = (1000,)
    env = MaxOfThree(MaxOfThree.Config(p=(-5.0, -5.0), q=(5.0, 5.0), s2=3.0), seeds, 1)
    algorithm = PR2Soft(env.spec, PR2Soft.Config(), seeds, CPU)
    obs = play(env, algorithm, Streams(seeds, "random"), 300)
    action = algorithm.act(obs.expand(-1, 50, -1, -1), "decentralised", 1.0)
    assert (env.reward(action).mean(1) > 8).all()
    assert (env.basin(action) == 0).float().mean() > 0.95
