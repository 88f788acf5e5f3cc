"""MMQ's bounds, rewards and targets against numbers by hand and one network at a time."""

import pytest
import torch

from baselines.mmq import MMQ
from tests.baselines.support import update
from tests.learn.test_nn import plain
from tests.support.helpers import CPU, make_batch, make_spec

SEEDS = (0, 1)
ONE_STEP = make_spec(n_agents=3, obs_dim=1, action_dim=1, horizon=1, constant_obs=True)


def make(spec=None, **config):
    algorithm = MMQ(spec or make_spec(), MMQ.Config(**config), SEEDS, CPU)
    for target in (algorithm.target_actor, algorithm.target_critic):
        target.flat += 0.1 * torch.sin(torch.arange(target.flat.numel()))
    return algorithm


def one(mlp, *index):
    """The network of this seed, agent (and bound) as plain torch with the fixed scales."""
    at = 0
    for i, size in zip(index, mlp.groups, strict=True):
        at = at * size + i
    net = plain(mlp, at)
    return lambda *x: net(torch.cat(x) * mlp.input_scale) * mlp.output_scale


def test_pinball_losses():
    """Below a bound by 2, and above it by 1: the lower costs 0.1 of the first and 0.9 of the other,
    the upper the reverse, each a mean over both rows."""
    spec = make_spec(n_agents=1, obs_dim=1, action_dim=1)
    algorithm = make(spec, quantile=0.1)
    algorithm._bounds = lambda obs, action: torch.zeros(2, 1, 2, 2, 1)
    algorithm._own = lambda batch: (
        None,
        None,
        torch.tensor([2.0, -1.0]).expand(2, 1, -1)[..., None],
    )
    lower, upper = (0.1 * 2 + 0.9 * 1) / 2, (0.9 * 2 + 0.1 * 1) / 2
    expected = torch.full((2, 1), (lower + upper) / 2)
    torch.testing.assert_close(algorithm._bounds_loss(None), expected)


@pytest.mark.slow
def test_bounds_become_the_quantiles():
    """Next observations uniform in [0, 1], whatever is done: 0.1 and 0.9 bound them."""
    spec = make_spec(n_agents=1, obs_dim=1, action_dim=1)
    algorithm = make(spec, quantile=0.1, hidden=16, model_lr=0.02)
    generator = torch.Generator().manual_seed(0)
    nothing = torch.zeros(2, 256, 1, 1)

    def draw(batch):
        own = nothing.transpose(1, 2)
        return own, own, torch.rand(2, 1, 256, 1, generator=generator)

    algorithm._own = draw
    for i in range(600):
        algorithm.bounds_adam.step(algorithm._bounds_loss(None), 1 - i / 600)
    bounds = algorithm._bounds(nothing.transpose(1, 2), nothing.transpose(1, 2))[:, 0, :, 0, 0]
    torch.testing.assert_close(bounds, torch.tensor([[0.1, 0.9]] * 2), atol=0.03, rtol=0)


def test_rewards_are_predicted_from_both_observations():
    algorithm, batch = make(), make_batch(make_spec(), SEEDS)
    got = algorithm._reward_loss(batch)
    for s in range(2):
        for i in range(3):
            net = one(algorithm.reward, s, i)
            rows = zip(
                batch.obs[s, :, i], batch.action[s, :, i], batch.next_obs[s, :, i], strict=True
            )
            predicted = torch.cat([net(*row) for row in rows])
            expected = (predicted - batch.reward[s]).square().mean()
            torch.testing.assert_close(got[s, i], expected, atol=1e-4, rtol=1e-4)


def value(algorithm, s, i, obs):
    action = torch.tanh(one(algorithm.target_actor, s, i)(obs))
    return one(algorithm.target_critic, s, i)(obs, action)


@torch.no_grad()
def test_the_target_is_the_largest_backup_of_candidates_and_what_happened():
    algorithm, batch = make(gamma=0.9, candidates=2), make_batch(make_spec(), SEEDS)
    share = torch.rand(2, 3, 2, 11, 2, generator=torch.Generator().manual_seed(3))
    algorithm.draws.uniform = lambda *shape: share.view(2, *shape)
    got = algorithm._target(batch)
    chosen = [0, 0, 0]
    for s in range(2):
        for i in range(3):
            for b in range(11):
                obs, action = batch.obs[s, b, i], batch.action[s, b, i]
                next_obs = batch.next_obs[s, b, i]
                goes_on = 0.9 * (1 - batch.terminated[s, b])
                lower, upper = (obs + one(algorithm.bounds, s, i, k)(obs, action) for k in (0, 1))
                backups = []
                for k in range(2):
                    z = lower + share[s, i, k, b] * (upper - lower)
                    reward = one(algorithm.reward, s, i)(obs, action, z)
                    backups.append(reward + goes_on * value(algorithm, s, i, z))
                backups.append(batch.reward[s, b] + goes_on * value(algorithm, s, i, next_obs))
                best = torch.cat(backups).max(0)
                chosen[best.indices] += 1
                torch.testing.assert_close(got[s, i, b], best.values, atol=1e-4, rtol=1e-4)
    assert min(chosen) > 0


@torch.no_grad()
@pytest.mark.parametrize("spec", [ONE_STEP, make_spec(horizon=1)], ids=["constant", "varying"])
def test_it_is_independent_ddpg_where_nothing_follows(spec):
    algorithm, batch = make(spec), make_batch(spec, SEEDS)
    ended = torch.ones_like(batch.terminated)
    batch = batch.__class__(batch.obs, batch.action, batch.reward, batch.next_obs, ended)
    torch.testing.assert_close(algorithm._target(batch), batch.reward[:, None].expand(-1, 3, -1))
    assert not hasattr(algorithm, "bounds")
    with torch.enable_grad():
        assert set(update(algorithm, batch, 0.0)) == {"td_loss"}


def test_an_agent_learns_from_its_own_observations_and_actions():
    algorithm, batch = make(), make_batch(make_spec(), SEEDS)
    for loss, network in (
        (algorithm._bounds_loss, "bounds"),
        (algorithm._reward_loss, "reward"),
        (algorithm._td_loss, "critic"),
        (algorithm._actor_loss, "actor"),
    ):
        before = loss(batch)
        for i in range(3):
            other = batch.__class__(*(x.clone() for x in vars(batch).values()))
            for part in (other.obs, other.action, other.next_obs):
                part[:, :, i] = 0.3
            changed = (loss(other) - before).abs()
            if network != "critic":  # whose candidates are drawn anew
                assert (changed > 0).tolist() == [[j == i for j in range(3)]] * 2, network
            (grad,) = torch.autograd.grad(loss(batch)[:, i].sum(), getattr(algorithm, network).flat)
            weight = getattr(algorithm, network).layers(grad)[0][0].view(2, 3, -1)
            touched = weight.abs().sum(-1) > 0
            assert touched.tolist() == [[j == i for j in range(3)]] * 2, network


def test_beliefs_are_what_was_replayed():
    algorithm, batch = make(ONE_STEP), make_batch(ONE_STEP, SEEDS)
    algorithm.replay.sample = lambda k, streams: batch
    drawn = algorithm.beliefs(torch.zeros(2, 3, 5, 1), 11, None)
    assert drawn.shape == (2, 3, 1, 11, 3, 1)
    assert torch.equal(drawn[:, 2, 0], batch.action)
