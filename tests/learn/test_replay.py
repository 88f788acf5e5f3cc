"""The replay buffer: what goes in comes out, per seed, with the oldest overwritten."""

import pytest
import torch

from rocompare.api import EnvSpec
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams


def spec(constant=False):
    return EnvSpec(2, 3, 1, 5, 1.0, 0.0, ("optimum", "safe"), constant_obs=constant)


def make(capacity=10, seeds=(0, 1), constant=False):
    streams = Streams(seeds, "replay")
    return Replay(spec(constant), capacity, len(seeds), streams, torch.device("cpu"))


def add(replay, value, n_envs=1):
    """Transitions in which every number tells seed, environment and time: s + value + e/10."""
    base = torch.arange(2.0)[:, None] * 100 + value + torch.arange(n_envs) / 10
    obs = base[:, :, None, None].expand(2, n_envs, 2, 3)
    action = base[:, :, None, None].expand(2, n_envs, 2, 1)
    replay.add(obs, action, base, obs + 0.5, base > 3, {"t": action[..., 0] * 2})


def test_fields_stay_together_and_seeds_apart():
    replay = make()
    for value in range(6):
        add(replay, value)
    batch = replay.sample(50)
    assert batch.obs.shape == batch.next_obs.shape == (2, 50, 2, 3)
    assert batch.action.shape == (2, 50, 2, 1)
    r = batch.reward
    torch.testing.assert_close(batch.obs, r[..., None, None].expand_as(batch.obs))
    torch.testing.assert_close(batch.next_obs, batch.obs + 0.5)
    torch.testing.assert_close(batch.extras["t"], 2 * r[..., None].expand(2, 50, 2))
    assert torch.equal(batch.terminated, (r > 3).float())
    assert set(r[0].tolist()) == set(range(6))
    assert set(r[1].tolist()) == set(range(100, 106))


@pytest.mark.parametrize(("n_envs", "capacity"), [(1, 4), (3, 4), (3, 7), (5, 4)])
def test_the_oldest_is_overwritten(n_envs, capacity):
    replay = make(capacity)
    everything = []
    for value in range(6):
        add(replay, value, n_envs)
        everything += [value + e / 10 for e in range(n_envs)]
    assert replay.size == capacity
    kept = sorted(replay.sample(500).reward[0].unique().tolist())
    assert kept == pytest.approx(sorted(everything[-capacity:]))


def test_constant_observations_come_once():
    replay = make(constant=True)
    add(replay, 0, n_envs=4)
    batch = replay.sample(8)
    assert batch.obs.shape == batch.next_obs.shape == (2, 1, 2, 3)
    assert batch.reward.shape == (2, 8)


def test_state_continues_where_it_was():
    replay = make(4)
    for value in range(6):
        add(replay, value)
    replay.sample(3)
    state = replay.state_dict()
    again = make(4)
    again.load_state_dict(state)
    for one in (replay, again):
        add(one, 9)
    a, b = replay.sample(20), again.sample(20)
    assert torch.equal(a.obs, b.obs)
    assert torch.equal(a.extras["t"], b.extras["t"])
