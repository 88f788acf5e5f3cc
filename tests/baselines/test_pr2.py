"""PR2-AC's target, losses and conditional policy against literal numbers, loops and densities."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.pr2 import PR2
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.learn.nn import MLP
from rocompare.learn.rng import Streams
from tests.baselines.support import play, update
from tests.baselines.test_pr2_soft import forward, stein
from tests.support.helpers import CPU, assert_same_weights, make_batch, make_spec


def make(
    seeds: tuple[int, ...] = (1, 2),
    n_agents: int = 3,
    obs_dim: int = 2,
    action_dim: int = 2,
    horizon: int = 5,
    **config: Any,
) -> PR2:
    spec = make_spec(n_agents, obs_dim, action_dim, horizon)
    return PR2(spec, PR2.Config(**config), seeds, CPU)


def freeze_q(algorithm: Any, q: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Two agents with scalar actions: the known ``q(a_i, a_-i)`` in place of the critics."""

    def known(
        critic: MLP, obs: Tensor, own: Tensor, others: Tensor, frozen: bool = False
    ) -> Tensor:
        return q(own, others[..., 0])

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


def test_the_target_holds_the_soft_marginal_at_the_target_policys_action() -> None:
    """``Q' = 2 a_i + 3 a_-i``: its soft marginal over ``a_-i`` uniform on ``[-1, 1]`` is
    ``2 a_i + alpha log(sinh(3 / alpha) / (3 / alpha))``."""
    algorithm = make(n_agents=2, action_dim=1, gamma=0.9, others_samples=4096)
    batch = make_batch(algorithm.spec, (1, 2), size=3)
    batch.terminated.copy_(torch.tensor([0.0, 1.0, 0.0]))
    freeze_q(algorithm, lambda own, other: 2 * own + 3 * other)
    algorithm.critic.flat.data.zero_()  # Q is 0, so the loss is the mean square of the target
    algorithm.policy.flat.data.zero_()  # not the network that chooses
    loss = algorithm._td_loss(batch, alpha=2.0)
    integral = 2.0 * math.log(math.sinh(1.5) / 1.5)
    for s in range(2):
        for i in range(2):
            own = [
                math.tanh(
                    forward(algorithm.target_policy, s, i, batch.next_obs[s, b, i][None]).item()
                )
                for b in range(3)
            ]
            total = sum(
                (r.item() + 0.9 * (1 - t.item()) * (2 * a + integral)) ** 2
                for r, t, a in zip(batch.reward[s], batch.terminated[s], own, strict=True)
            )
            assert loss[s, i].item() == pytest.approx(total / 3, rel=0.05, abs=0.02)


@pytest.mark.parametrize("squash_term", [False, True])
def test_rho_loss_by_loops(squash_term: bool) -> None:
    algorithm = make(action_dim=1, others_samples=5, bandwidth=1.5, squash_term=squash_term)
    batch = make_batch(algorithm.spec, (1, 2), size=2)
    own = batch.action.transpose(1, 2)  # [S, N, B, 1]
    state = algorithm.noise.state_dict()
    with torch.no_grad():
        answers = algorithm._answer(batch.obs, own, algorithm.noise, 5)
    algorithm.noise.load_state_dict(state)
    loss = algorithm._rho_loss(batch.obs, own, alpha=0.7)
    for s in range(2):
        for i in range(3):
            total = 0.0
            for b in range(2):
                others = answers[s, i, b].clone().requires_grad_()  # [K, 2]
                joint = torch.cat([own[s, i, b].expand(5, 1), others], 1)
                x = torch.cat([batch.obs[s, b].flatten().expand(5, -1), joint], 1)
                log_p = forward(algorithm.critic, s, i, x).sum() / 0.7
                if squash_term:
                    log_p = log_p + (1 - others**2 + 1e-6).log().sum()
                (score,) = torch.autograd.grad(log_p, others)
                total -= (others.detach() * stein(others.detach(), score, 1.5)).sum().item()
            assert loss[s, i].item() == pytest.approx(total / 10, rel=0.01)


def test_policy_loss_by_loops() -> None:
    algorithm = make(action_dim=1, others_samples=5)
    batch = make_batch(algorithm.spec, (1, 2), size=3)
    own = batch.action.transpose(1, 2)
    state = algorithm.noise.state_dict()
    with torch.no_grad():
        answers = algorithm._answer(batch.obs, own, algorithm.noise, 5)
    algorithm.noise.load_state_dict(state)
    loss = algorithm._policy_loss(batch.obs, own, alpha=0.7)
    for s in range(2):
        for i in range(3):
            total = 0.0
            for b in range(3):
                played = torch.tanh(forward(algorithm.policy, s, i, batch.obs[s, b, i][None]))
                joint = torch.cat([played.expand(5, 1), answers[s, i, b]], 1)
                x = torch.cat([batch.obs[s, b].flatten().expand(5, -1), joint], 1)
                q = forward(algorithm.critic, s, i, x).double()
                total -= 0.7 * math.log((q / 0.7).exp().mean().item())
            assert loss[s, i].item() == pytest.approx(total / 3, rel=1e-3, abs=1e-5)


def test_answers_are_to_the_actions_replayed() -> None:
    """rho_i = tanh(own action + 0.2): what the policies would do now has no part in it."""
    algorithm = make(n_agents=2, action_dim=1, obs_dim=1, others_samples=2)
    with torch.no_grad():
        small = 1e-3  # keeps the hidden tanh linear
        algorithm.rho.flat.zero_()
        (first, _), (middle, _), (last, bias) = algorithm.rho.layers(algorithm.rho.flat)
        first[:, 1, 0] = small
        middle[:, 0, 0] = 1
        last[:, 0] = 1 / small
        bias.fill_(0.2)
    batch = make_batch(algorithm.spec, (1, 2), size=4)
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(critic: MLP, obs: Tensor, own: Tensor, others: Tensor, frozen: bool = False) -> Tensor:
        seen.append((own, others))
        return own * others[..., 0]

    algorithm._q = spy  # type: ignore[method-assign]
    own = batch.action.transpose(1, 2)
    algorithm._policy_loss(batch.obs, own, alpha=1.0)
    played, answers = seen[0]
    expected = torch.tanh(own + 0.2).unsqueeze(3).expand_as(answers)
    torch.testing.assert_close(answers, expected, rtol=0, atol=3e-4)
    torch.testing.assert_close(played, torch.tanh(algorithm.policy(batch.obs.transpose(1, 2))))


def test_losses_train_their_own_network_alone() -> None:
    algorithm = make(others_samples=4)
    batch = make_batch(algorithm.spec, (1, 2), size=2)
    own = batch.action.transpose(1, 2)
    losses = algorithm._policy_loss(batch.obs, own, 1.0), algorithm._rho_loss(batch.obs, own, 1.0)
    nets = algorithm.policy.flat, algorithm.rho.flat
    for loss, mine, foreign in zip(losses, nets, nets[::-1], strict=True):
        grad, other, critic = torch.autograd.grad(
            loss.sum(), (mine, foreign, algorithm.critic.flat), allow_unused=True
        )
        assert grad.abs().sum() > 0
        assert other is None
        assert critic is None


def test_rho_converges_to_the_conditional() -> None:
    """A normal density of ``a_-i``, whose mean and spread depend on the own action."""

    def spread(own: Tensor) -> Tensor:
        return 0.2 + 0.1 * torch.tanh(4 * own)

    algorithm = make((5,), n_agents=2, action_dim=1, obs_dim=1, others_samples=32)
    freeze_q(
        algorithm,
        lambda own, other: -0.5 * (other - 0.5 * own) ** 2 / (2 * spread(own) ** 2),  # alpha 0.5
    )
    obs, random = torch.zeros(1, 1, 2, 1), Streams((5,), "random")
    at = torch.tensor([-0.4, 0.0, 0.4])
    for step in range(600):
        own = 2 * random.uniform(2, 16, 1) - 1
        algorithm.rho_adam.step(algorithm._rho_loss(obs, own, 0.5), 1 - step / 600)
    with torch.no_grad():
        own = at.view(1, 1, 3, 1).expand(1, 2, 3, 1)
        found = algorithm._answer(obs, own, algorithm.noise, 2000)[0, :, :, :, 0]  # [N, 3, K]
    torch.testing.assert_close(found.mean(-1), (0.5 * at).expand(2, 3), atol=0.04, rtol=0)
    # With few particles SVGD's spread falls short: each pulls itself, and is not pushed by itself.
    torch.testing.assert_close(found.std(-1), 0.85 * spread(at).expand(2, 3), atol=0, rtol=0.2)


def test_the_policy_climbs_the_soft_marginal_over_the_answers() -> None:
    """Answers -0.6 and 0.6 to ``Q = -a^2 + 2 a b + 4 b``: at a low alpha the better one counts
    alone, and ``a = b = 0.6`` is best; their mean would have ``a = 0``."""
    algorithm = make((5,), n_agents=2, action_dim=1, obs_dim=1)
    freeze_q(algorithm, lambda a, b: -(a**2) + 2 * a * b + 4 * b)
    answers = torch.tensor([-0.6, 0.6]).view(1, 1, 1, 2, 1).expand(1, 2, 1, 2, 1)
    algorithm._answer = lambda obs, own, streams, k: answers  # type: ignore[method-assign]
    obs = torch.zeros(1, 1, 2, 1)
    for step in range(300):
        loss = algorithm._policy_loss(obs, torch.zeros(1, 2, 1, 1), 0.05)
        algorithm.policy_adam.step(loss, 10 * (1 - step / 300))
    action = algorithm.act(obs, "decentralised", 0.0)
    torch.testing.assert_close(action, torch.full((1, 1, 2, 1), 0.6), atol=0.02, rtol=0)


def updated(seeds: tuple[int, ...], spoil: int | None = None) -> PR2:
    algorithm = make(seeds, others_samples=3, states=5)
    if spoil is not None:
        with torch.no_grad():
            for net in (algorithm.critic, algorithm.policy, algorithm.rho):
                net.per_seed(net.flat)[0][spoil] = torch.nan
    for progress in (0.1, 0.5, 0.9):
        update(algorithm, make_batch(algorithm.spec, seeds), progress)
    return algorithm


def test_seeds_do_not_touch_each_other() -> None:
    together, alone, spoilt = updated((1, 2, 3)), updated((2,)), updated((1, 2, 3), spoil=0)
    for net in ("critic", "policy", "rho", "target_critic", "target_policy"):
        a, b, c = (getattr(x, net) for x in (together, alone, spoilt))
        for part, single, beside in zip(*(m.per_seed(m.flat) for m in (a, b, c)), strict=True):
            assert_same_weights(part[1:2], single)
            assert_same_weights(part[1:], beside[1:])
            assert part.isfinite().all()
    td_loss = update(spoilt, make_batch(spoilt.spec, (1, 2, 3)), 1.0)["td_loss"]
    assert td_loss.isnan().tolist() == [True, False, False]


def test_state_dict_continues_the_run() -> None:
    first = updated((1, 2))
    second = make((1, 2), others_samples=3, states=5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    batch = make_batch(first.spec, (1, 2))
    for algorithm in (first, second):
        update(algorithm, batch, 0.6)
    for net in ("critic", "policy", "rho", "target_policy"):
        assert torch.equal(getattr(first, net).flat, getattr(second, net).flat)
    assert torch.equal(first.act(batch.obs, "explore", 0.6), second.act(batch.obs, "explore", 0.6))


@pytest.mark.slow
def test_finds_the_optimum_of_an_easy_max_of_two() -> None:
    seeds = (1000,)
    env = MaxOfThree(MaxOfThree.Config(p=(-5.0, -5.0), q=(5.0, 5.0), s2=3.0), seeds, 1)
    algorithm = PR2(env.spec, PR2.Config(), seeds, CPU)
    obs = play(env, algorithm, Streams(seeds, "random"), 400)
    action = algorithm.act(obs.expand(-1, 50, -1, -1), "decentralised", 1.0)
    assert (env.reward(action).mean(1) > 8).all()
