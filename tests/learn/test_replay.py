"""The replay buffer: what goes in comes out, per seed, with the oldest overwritten."""

import pytest
import torch

from rocompare.api import Transition
from rocompare.learn import replay as replay_module
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from tests.support.helpers import CPU, make_spec

SEEDS = (0, 1)


def make(capacity=10, **of_spec):
    spec = make_spec(n_agents=2, obs_dim=3, action_dim=1, horizon=5, **of_spec)
    return Replay(spec, capacity, SEEDS, CPU, extras={"t": (2,)})


def add(replay, value, n_envs=1):
    """Transitions in which every number tells seed, environment and time: 100 s + value + e/10.

    Agents' observations differ by 1000, but for those that all share.
    """
    base = torch.arange(2.0)[:, None] * 100 + value + torch.arange(n_envs) / 10
    agent = torch.zeros(2) if replay.spec.shared_obs else torch.tensor([0.0, 1000.0])
    obs = (base[:, :, None, None] + agent[:, None]).expand(2, n_envs, 2, 3)
    action = base[:, :, None, None].expand(2, n_envs, 2, 1)
    over = base > 3
    replay.add(Transition(obs, action, base, obs + 0.5, over, ~over), t=action[..., 0] * 2)


def everything(replay):
    """The rewards of seed 0 that are kept."""
    return sorted(replay.sample(2000).reward[0].unique().tolist())


def test_fields_stay_together_and_seeds_apart():
    replay = make()
    for value in range(6):
        add(replay, value)
    batch, extras = replay.sample_with(50)
    assert batch.obs.shape == batch.next_obs.shape == (2, 50, 2, 3)
    assert batch.action.shape == (2, 50, 2, 1)
    r = batch.reward
    agent = torch.tensor([0.0, 1000.0])[:, None]
    torch.testing.assert_close(batch.obs, (r[..., None, None] + agent).expand_as(batch.obs))
    torch.testing.assert_close(batch.next_obs, batch.obs + 0.5)
    torch.testing.assert_close(extras["t"], 2 * r[..., None].expand(2, 50, 2))
    assert torch.equal(batch.terminated, (r > 3).float())
    assert set(r[0].tolist()) == set(range(6))
    assert set(r[1].tolist()) == set(range(100, 106))


@pytest.mark.parametrize(("n_envs", "capacity"), [(1, 4), (3, 4), (3, 7), (5, 4), (9, 4)])
def test_the_oldest_is_overwritten(n_envs, capacity):
    replay = make(capacity)
    added = []
    for value in range(6):
        add(replay, value, n_envs)
        added += [value + e / 10 for e in range(n_envs)]
    assert replay.size == capacity
    assert everything(replay) == pytest.approx(sorted(added[-capacity:]))


def test_memory_grows_by_doubling_up_to_the_capacity(monkeypatch):
    monkeypatch.setattr(replay_module, "FIRST_ROWS", 2)
    replay = make(capacity=10)
    rows = []
    for value in range(12):
        add(replay, value)
        rows.append(replay.rows.shape[1])
        kept = range(max(0, value - 9), value + 1)
        # In their order: row i of a buffer that is not full is the i-th transition.
        assert everything(replay) == list(kept)
        if value < 10:
            where, _ = replay.fields["reward"]
            assert replay.rows[0, : value + 1, where].flatten().tolist() == list(kept)
    assert rows == [2, 2, 4, 4, 8, 8, 8, 8, 10, 10, 10, 10]
    assert replay.at == 2


def test_growing_does_not_change_what_is_sampled(monkeypatch):
    batches = []
    for first in (1, 64):
        monkeypatch.setattr(replay_module, "FIRST_ROWS", first)
        replay = make(capacity=40)
        for value in range(50):
            add(replay, value, n_envs=3)
        batches.append(replay.sample(30))
    assert torch.equal(batches[0].obs, batches[1].obs)
    assert torch.equal(batches[0].reward, batches[1].reward)


def test_constant_observations_come_once():
    replay = make(constant_obs=True)
    add(replay, 0, n_envs=4)
    batch = replay.sample(8)
    assert batch.obs.shape == batch.next_obs.shape == (2, 1, 2, 3)
    assert batch.reward.shape == (2, 8)
    assert "obs" not in replay.fields


def test_shared_observations_are_stored_once():
    replay, apart = make(shared_obs=True), make()
    for one in (replay, apart):
        for value in range(6):
            add(one, value)
    # obs and next_obs of one agent, O = 3 each, fewer a row.
    assert apart.rows.shape[2] - replay.rows.shape[2] == 6
    batch = replay.sample(8)
    assert batch.obs.shape == batch.next_obs.shape == (2, 8, 2, 3)
    torch.testing.assert_close(batch.obs, batch.reward[..., None, None].expand_as(batch.obs))
    torch.testing.assert_close(batch.next_obs, batch.obs + 0.5)


def test_each_seed_draws_its_own_rows():
    spec = make_spec(n_agents=2, obs_dim=3, action_dim=1)

    def rows(seeds, streams=None):
        replay = Replay(spec, 10, seeds, CPU)
        for value in range(8):
            one = torch.full((len(seeds), 1), float(value))
            obs = one[..., None, None].expand(-1, 1, 2, 3)
            replay.add(Transition(obs, obs[..., :1], one, obs, one > 9, one > 9))
        return replay.sample(20, streams).reward

    both = rows((0, 5))
    assert torch.equal(both[1], rows((5,))[0])
    assert not torch.equal(both[0], both[1])
    # With numbers of other streams those of the buffer are not touched.
    other = rows((0, 5), Streams((0, 5), "other"))
    assert not torch.equal(other, both)


def test_streams_that_are_given_leave_the_own_alone():
    replay, untouched = make(), make()
    for one in (replay, untouched):
        for value in range(6):
            add(one, value)
    replay.sample(7, Streams(SEEDS, "other"))
    assert torch.equal(replay.sample(20).reward, untouched.sample(20).reward)


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
    (a, a_extras), (b, b_extras) = replay.sample_with(20), again.sample_with(20)
    assert torch.equal(a.obs, b.obs)
    assert torch.equal(a_extras["t"], b_extras["t"])
    assert state["rows"].shape[1] == 4


def test_an_empty_buffer_cannot_be_sampled():
    with pytest.raises(ValueError, match="at least one add"):
        make().sample(1)
