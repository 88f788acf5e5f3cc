"""Lenient MADRL: temperatures by hand, leniency by its frequency, losses against loops."""

import copy
import dataclasses
import math

import pytest
import torch

from baselines.lenient import LenientMADRL
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.learn.rng import Streams
from tests.baselines.support import play, see
from tests.support.helpers import CPU, fill, make_batch, make_spec

SEEDS = (0, 1)
GAME = make_spec(n_agents=2, obs_dim=1, action_dim=1, horizon=1, constant_obs=True)


def make(spec, **config):
    return LenientMADRL(spec, LenientMADRL.Config(**{"hidden": 8, **config}), SEEDS, CPU)


def net(mlp, s, i, x):
    """One network of an MLP, written out."""
    index, h = s * mlp.groups[1] + i, x * mlp.input_scale
    layers = mlp.layers(mlp.flat)
    for k, (weight, bias) in enumerate(layers):
        h = h @ weight[index] + bias[index, 0]
        if k < len(layers) - 1:
            h = torch.relu(h) if mlp.activation == "relu" else h * torch.sigmoid(h)
    return h * mlp.output_scale


def test_temperature_decays_by_hand():
    algorithm = make(GAME, max_temperature=2.0, temperature_decay=0.5, action_bins=4)
    obs = torch.zeros(2, 1, 2, 1)

    def visit(*actions):
        action = torch.tensor(actions)[:, None, :, None]  # [S, E, N, A]
        return algorithm._visit(obs, action)[:, 0].tolist()

    # intervals of 0.5 from -1; seed 0 and seed 1, two agents each
    assert visit([-0.9, 0.1], [0.9, 1.0]) == [[2.0, 2.0], [2.0, 2.0]]
    assert visit([-0.6, 0.6], [-0.9, 0.9]) == [[1.0, 2.0], [2.0, 1.0]]
    assert visit([-1.0, 0.1], [0.9, 0.6]) == [[0.5, 1.0], [1.0, 0.5]]
    expected = [
        [[0.25, 2, 2, 2], [2, 2, 0.5, 1]],
        [[1, 2, 2, 0.5], [2, 2, 2, 0.25]],
    ]
    assert algorithm.temperature.tolist() == expected


def test_visits_by_several_environments_at_once_all_count():
    algorithm = make(GAME, temperature_decay=0.9, action_bins=2)
    action = torch.tensor([[0.1, 0.1], [0.2, -0.3], [0.3, -0.4]]).expand(2, 3, 2)[..., None]
    before = algorithm._visit(torch.zeros(2, 3, 2, 1), action)
    assert torch.equal(before, torch.ones(2, 3, 2))
    expected = torch.tensor([[1, 0.9**3], [0.9**2, 0.9]]).expand(2, 2, 2)
    torch.testing.assert_close(algorithm.temperature, expected)


def test_temperatures_depend_on_observation_and_own_action_only():
    spec = make_spec()
    algorithm = make(spec, hash_bits=6, action_bins=5)
    assert algorithm.temperature.shape == (2, 3, 2**6 * 5**2)
    batch = make_batch(spec, SEEDS, size=50)
    entry = algorithm._entry(batch.obs, batch.action)
    assert entry.shape == (2, 3, 50)
    assert entry.min() >= 0 and entry.max() < 2**6 * 5**2
    for s in range(2):
        for i in range(3):
            for e in range(50):
                cell = [math.floor((float(u) + 1) / 0.4) for u in batch.action[s, e, i]]
                side = batch.obs[s, e, i] @ algorithm.projection[s, i]
                bits = [int(x > 0) for x in side + algorithm.offset[s, i, 0]]
                code = sum(bit << k for k, bit in enumerate(bits))
                assert int(entry[s, i, e]) == cell[0] + 5 * cell[1] + 25 * code


@pytest.mark.parametrize("action_dim", [2, 8, 15])
def test_where_pairs_share_entries_observation_and_action_still_tell_them_apart(action_dim):
    """Any size of action: entries of a small table are used alike, and both parts count."""
    spec = dataclasses.replace(make_spec(), action_dim=action_dim)
    algorithm = make(spec, hash_bits=12, action_bins=20, table_size=64)
    assert algorithm.temperature.shape == (2, 3, 64)
    batch = make_batch(spec, SEEDS, size=2000)
    entry = algorithm._entry(batch.obs, batch.action)
    assert entry.min() >= 0 and entry.max() < 64
    bits = (batch.obs.transpose(1, 2) @ algorithm.projection + algorithm.offset > 0).long()
    cell = ((batch.action + 1) * 10).long().clamp(0, 19)
    for s, e in ((0, 0), (1, 7)):
        factors = [*algorithm.bin_value[s].flatten(), *algorithm.bit_value[s].flatten()]
        pair = [*cell[s, e, 1], *bits[s, 1, e]]
        total = sum(int(f) * int(x) for f, x in zip(factors, pair, strict=True))
        assert int(entry[s, 1, e]) == total % (2**31 - 1) % 64
    for s in range(2):
        counts = torch.bincount(entry[s].flatten(), minlength=64)
        assert counts.min() > 20 and counts.max() < 250  # 94 on average
    for other in (
        algorithm._entry(batch.obs.roll(1, 1), batch.action),
        algorithm._entry(batch.obs, batch.action.roll(1, 1)),
    ):
        assert (other != entry).float().mean() > 0.7  # some observations have the same signs


def test_leniency_may_leave_bootstrapped_values_alone():
    """With temperatures for full leniency, what is bootstrapped teaches and what ends does not."""
    algorithm = make(make_spec(), leniency_factor=1e3, lenient_on="terminal")
    plain = make(make_spec(), leniency_factor=0.0)
    batch = make_batch(make_spec(), SEEDS, size=40)
    batch = dataclasses.replace(batch, reward=batch.reward - 100)  # all worse than expected
    hot = torch.ones(2, 40, 3)
    ended = dataclasses.replace(batch, terminated=torch.ones(2, 40))
    assert algorithm._td_loss(ended, hot).abs().max() == 0
    going = dataclasses.replace(batch, terminated=torch.zeros(2, 40))
    torch.testing.assert_close(algorithm._td_loss(going, hot), plain._td_loss(going, hot))
    assert make(make_spec(), leniency_factor=1e3)._td_loss(going, hot).abs().max() == 0


def test_negative_errors_pass_as_often_as_leniency_leaves():
    algorithm = make(GAME, leniency_factor=2.0)
    temperature = torch.tensor([0.0, 0.1, 0.5, 1.0])[:, None].expand(4, 5000).reshape(1, 1, -1)
    temperature = temperature.expand(2, 2, -1)
    passed = algorithm._passes(torch.full_like(temperature, -0.1), temperature)
    rate = passed.float().view(2, 2, 4, 5000).mean(-1)
    expected = torch.tensor([1.0, 0.8187, 0.3679, 0.1353]).expand(2, 2, 4)  # exp(-2 T)
    torch.testing.assert_close(rate, expected, atol=0.03, rtol=0)  # over four standard errors
    for delta in (0.0, 0.1):
        assert algorithm._passes(torch.full_like(temperature, delta), temperature).all()
    # a NaN is not hidden
    assert algorithm._passes(torch.full_like(temperature, math.nan), temperature).all()


@torch.no_grad()
def test_td_loss_against_loops():
    spec = make_spec()
    algorithm = make(spec, gamma=0.9, leniency_factor=1.5)
    algorithm.target_critic.flat.mul_(1.1)  # unlike the critic
    algorithm.target_actor.flat.mul_(0.9)
    temperature = make_batch(spec, SEEDS).action[..., 0].abs()  # [S, B, N]
    batch = make_batch(spec, SEEDS)
    draw = Streams(SEEDS, "update").uniform(3, 11)
    loss = algorithm._td_loss(batch, temperature)
    skipped = 0
    for s in range(2):
        for i in range(3):
            total = 0.0
            for b in range(11):
                next_obs = batch.next_obs[s, b, i]
                next_action = torch.tanh(net(algorithm.target_actor, s, i, next_obs))
                x = torch.cat([next_obs, next_action])
                y = batch.reward[s, b] + 0.9 * (1 - batch.terminated[s, b]) * net(
                    algorithm.target_critic, s, i, x
                )
                x = torch.cat([batch.obs[s, b, i], batch.action[s, b, i]])
                delta = float(y - net(algorithm.critic, s, i, x))
                leniency = 1 - math.exp(-1.5 * float(temperature[s, b, i]))
                if delta >= 0 or float(draw[s, i, b]) > leniency:
                    total += delta**2
                else:
                    skipped += 1
            assert float(loss[s, i]) == pytest.approx(total / 11, rel=1e-4)
    assert skipped > 3


def test_without_leniency_the_critic_is_an_ordinary_one():
    algorithm = make(GAME, leniency_factor=0.0)
    batch = make_batch(GAME, SEEDS)
    loss = algorithm._td_loss(batch, torch.ones(2, 11, 2)).detach()
    x = torch.cat([batch.obs[1, :, 0].expand(11, -1), batch.action[1, :, 0]], 1)
    q = net(algorithm.critic, 1, 0, x).squeeze(-1).detach()
    y = batch.reward[1] + 0.95 * (1 - batch.terminated[1]) * _next_q(algorithm, batch)
    assert float(loss[1, 0]) == pytest.approx(float((q - y).square().mean()), rel=1e-4)


@torch.no_grad()
def _next_q(algorithm, batch):
    obs = batch.next_obs[1, 0, 0]
    action = torch.tanh(net(algorithm.target_actor, 1, 0, obs))
    return net(algorithm.target_critic, 1, 0, torch.cat([obs, action]))


@torch.no_grad()
def test_actor_loss_against_loops():
    spec = make_spec()
    algorithm = make(spec, saturation=0.3)
    algorithm.target_critic.flat.mul_(1.1)  # unlike the critic, which it is that counts
    batch = make_batch(spec, SEEDS)
    loss = algorithm._actor_loss(batch)
    for s in range(2):
        for i in range(3):
            total = 0.0
            for b in range(11):
                obs = batch.obs[s, b, i]
                z = net(algorithm.actor, s, i, obs)
                q = net(algorithm.critic, s, i, torch.cat([obs, torch.tanh(z)]))
                total += 0.3 * float(z.square().sum()) - float(q)
            assert float(loss[s, i]) == pytest.approx(total / 11, rel=1e-4)


def test_agents_are_independent():
    """Others' observations and actions change nothing in an agent's losses."""
    spec = make_spec()
    batch, other = make_batch(spec, SEEDS), make_batch(spec, SEEDS)
    temperature = torch.ones(2, 11, 3)
    for name in ("obs", "action", "next_obs"):
        getattr(other, name)[:, :, 1:] *= -0.5
    first, second = make(spec), make(spec)
    loss = first._td_loss(batch, temperature)[:, 0]
    assert torch.equal(loss, second._td_loss(other, temperature)[:, 0])
    assert torch.equal(first._actor_loss(batch)[:, 0], second._actor_loss(other)[:, 0])


def advance(algorithm, step):
    """Explore at one observation, see other actions there as well, and learn of them all."""
    obs = torch.zeros(2, 1, 2, 1)
    see(algorithm, obs, algorithm.act(obs, "explore", step / 10))
    fill(algorithm, make_batch(GAME, SEEDS, salt=step))
    return algorithm.update(step / 10)


def test_nan_stays_in_its_seed():
    sick, healthy = make(GAME), make(GAME)
    with torch.no_grad():
        for part in (
            *sick.critic.per_seed(sick.critic.flat),
            *sick.actor.per_seed(sick.actor.flat),
        ):
            part[0] = math.nan
    obs = torch.zeros(2, 1, 2, 1)
    for step in range(3):
        of_sick, of_healthy = (advance(a, step)["td_loss"] for a in (sick, healthy))
        assert torch.equal(of_sick[1], of_healthy[1])
        assert of_healthy.isfinite().all()
    assert of_sick.isnan().tolist() == [True, False]
    assert torch.equal(sick.temperature[1], healthy.temperature[1])
    of_sick, of_healthy = (a.act(obs, "deterministic", 1.0) for a in (sick, healthy))
    assert torch.equal(of_sick[1], of_healthy[1])
    assert not of_sick[0].isfinite().any()


def test_resume_is_bit_exact():
    first, second = make(GAME), make(GAME)
    obs = torch.zeros(2, 1, 2, 1)
    for step in range(3):
        advance(first, step)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for algorithm in (first, second):
        advance(algorithm, 4)
        advance(algorithm, 5)
    assert torch.equal(first.temperature, second.temperature)
    assert torch.equal(first.critic.flat, second.critic.flat)
    assert torch.equal(first.act(obs, "explore", 0.5), second.act(obs, "explore", 0.5))


@pytest.mark.slow
def test_leniency_overcomes_over_generalization():
    """Independent learners prefer the broad, safe hill, lenient ones the optimum beside it."""
    in_optimum = {}
    for leniency in (0.0, 10.0):
        seeds = range(50, 54)
        env = MaxOfThree(MaxOfThree.Config(s2=2.0), seeds, 1)
        config = LenientMADRL.Config(hidden=32, batch_size=64, leniency_factor=leniency)
        algorithm = LenientMADRL(env.spec, config, seeds, CPU)
        obs = play(env, algorithm, Streams(seeds, "random"), 300)
        action = algorithm.act(obs, "deterministic", 1.0)
        in_optimum[leniency] = int((env.basin(action) == 0).sum())
    assert in_optimum[10.0] >= 3
    assert in_optimum[0.0] <= 1
