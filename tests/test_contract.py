"""What every registered algorithm must keep: seeds do not touch each other.

Sizes are small primes that differ, so that a mixed-up axis fails instead of broadcasting.
"""

import math

import pytest
import torch

from rocompare import registry
from rocompare.nn import MLP
from tests.helpers import CPU, make_batch, make_spec

SPECS = {
    "states": make_spec(n_agents=3, obs_dim=5, action_dim=2, horizon=7),
    "constant": make_spec(n_agents=3, obs_dim=1, action_dim=1, horizon=1, constant_obs=True),
    "two_agents": make_spec(n_agents=2, obs_dim=1, action_dim=1, horizon=3, constant_obs=True),
}
SEEDS = (3, 11, 4)
N_ENVS = 2
UPDATES = 4

pytestmark = pytest.mark.parametrize("name", registry.ALGORITHMS)


def build(name, spec, seeds):
    cls = registry.load("algorithm", name)
    return cls(spec, cls.Config(), seeds, CPU)


def observe(spec, seeds, salt):
    """``[S, E, N, O]``, each seed's rows its own."""
    if spec.constant_obs:
        return torch.zeros(len(seeds), N_ENVS, spec.n_agents, spec.obs_dim)
    return make_batch(spec, seeds, size=N_ENVS, salt=salt).obs


def train(algorithm, spec, seeds, updates=UPDATES):
    """Act, note and update a few times; everything that came out, in order."""
    outcome = []
    for step in range(updates):
        obs = observe(spec, seeds, 100 + step)
        action = algorithm.act(obs, "explore")
        extras = algorithm.note(obs, action)
        # Replayed rows carry what was noted; here row after row of it.
        rows = {k: v[:, torch.arange(11) % N_ENVS] for k, v in extras.items()}
        batch = make_batch(spec, seeds, salt=step, extras=rows)
        metrics = algorithm.update(batch, step / updates)
        outcome += [action, *metrics.values()]
    for mode in ("execute", "noiseless"):
        outcome.append(algorithm.act(observe(spec, seeds, 999), mode))
    return outcome


def networks(algorithm):
    return {name: part for name, part in vars(algorithm).items() if isinstance(part, MLP)}


@pytest.mark.parametrize("kind", SPECS)
def test_a_seed_in_a_batch_equals_the_seed_alone(name, kind):
    spec = SPECS[kind]
    together = build(name, spec, SEEDS)
    outcome = train(together, spec, SEEDS)
    for i, seed in enumerate(SEEDS):
        alone = build(name, spec, (seed,))
        for got, expected in zip(outcome, train(alone, spec, (seed,)), strict=True):
            torch.testing.assert_close(got[i], expected[0], atol=2e-5, rtol=2e-4)
        for part, net in networks(alone).items():
            twin = networks(together)[part]
            for a, b in zip(twin.per_seed(twin.flat), net.per_seed(net.flat), strict=True):
                torch.testing.assert_close(a[i], b[0], atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("kind", SPECS)
def test_same_seed_same_result(name, kind):
    spec = SPECS[kind]
    first, second = (train(build(name, spec, SEEDS), spec, SEEDS) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0][0], first[0][1])


def test_actions_and_metrics_have_their_shapes_and_bounds(name):
    spec = SPECS["states"]
    algorithm = build(name, spec, SEEDS)
    for mode in ("explore", "execute", "noiseless"):
        action = algorithm.act(observe(spec, SEEDS, 0), mode)
        assert action.shape == (3, N_ENVS, 3, 2)
        assert action.abs().max() <= 1
        assert not action.requires_grad
    obs = observe(spec, SEEDS, 0)
    extras = algorithm.note(obs, action)
    assert all(value.shape[:2] == (3, N_ENVS) for value in extras.values())
    rows = {k: v[:, torch.arange(11) % N_ENVS] for k, v in extras.items()}
    metrics = algorithm.update(make_batch(spec, SEEDS, extras=rows), 0.0)
    assert metrics
    assert all(value.shape == (3,) and not value.requires_grad for value in metrics.values())


def test_a_nan_stays_in_its_seed_and_is_reported(name):
    spec = SPECS["states"]
    algorithm, healthy = build(name, spec, SEEDS), build(name, spec, SEEDS)
    with torch.no_grad():
        for net in networks(algorithm).values():
            for part in net.per_seed(net.flat):
                part[1] = math.nan
    outcome, expected = train(algorithm, spec, SEEDS), train(healthy, spec, SEEDS)
    for got, want in zip(outcome, expected, strict=True):
        for i in (0, 2):
            torch.testing.assert_close(got[i], want[i], atol=2e-5, rtol=2e-4)
    obs = observe(spec, SEEDS, 0)
    extras = algorithm.note(obs, algorithm.act(obs, "explore"))
    rows = {k: v[:, torch.arange(11) % N_ENVS] for k, v in extras.items()}
    metrics = algorithm.update(make_batch(spec, SEEDS, extras=rows), 0.5)
    finite = torch.stack([value.isfinite() for value in metrics.values()]).all(0)
    assert finite.tolist() == [True, False, True]


@pytest.mark.parametrize("kind", SPECS)
def test_state_continues_bit_for_bit(name, kind):
    spec = SPECS[kind]
    algorithm = build(name, spec, SEEDS)
    train(algorithm, spec, SEEDS)
    state = torch.load(_saved(algorithm.state_dict()), weights_only=True)
    again = build(name, spec, SEEDS)
    again.load_state_dict(state)
    first, second = train(algorithm, spec, SEEDS), train(again, spec, SEEDS)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _saved(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_the_config_documents_itself(name):
    config = registry.load("algorithm", name).Config
    assert config().model_dump() == config(**config().model_dump()).model_dump()
    assert config.model_config["extra"] == "forbid"
    assert config.model_config["frozen"]
