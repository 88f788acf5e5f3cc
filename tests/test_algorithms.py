"""What the shipped algorithms have in common beyond the contract: what an update is made of, whence
they bootstrap, and what an agent acts on."""

import copy
import dataclasses
import math

import pytest
import torch

from rocompare.learn.rng import Streams
from rocompare.suite import registry
from tests.baselines.support import update
from tests.support.helpers import CPU, fill, make_batch, make_spec

SEEDS = (0, 1)
SCHEDULES = {
    "alpha_start": 8.0, "alpha_end": 0.5,
    "alpha_start_fraction": 0.2, "alpha_end_fraction": 0.6,
    "noise_anneal_start_fraction": 0.2, "noise_anneal_end_fraction": 0.6,
    "noise_start": 1.0, "noise_end": 0.25, "noise_end_fraction": 0.8,
    "epsilon_start": 0.5, "epsilon_end": 0.25, "epsilon_end_fraction": 0.8,
    "learning_starts_fraction": 0.2, "lr_end_factor": 0.1, "max_grad_norm": 1e9, "tau": 0.25,
}  # fmt: skip
PROGRESS, ALPHA, NOISE, LR_FACTOR = 0.4, 2.0, 0.5, 0.1 + 0.45 * (1 + math.cos(0.4 * math.pi))
"""Half way between 0.2 and 0.6 and between 0 and 0.8, for either kind of noise, and 0.4 of a cosine.
"""
ANNEALED = ("svnr", "masql", "pr2_soft", "rommeo")


def make(name, spec=None, seeds=SEEDS, **config):
    """The algorithm, with those of the schedules that it has, and targets unlike the networks."""
    cls = registry.load("algorithm", name)
    config |= {key: value for key, value in SCHEDULES.items() if key in cls.Config.model_fields}
    if name in ROLLOUTS:  # they learn from the start
        del config["learning_starts_fraction"]
    kind = {} if "continuous" in cls.actions else {"discrete": True, "action_dim": 4}
    algorithm = cls(spec or make_spec(**kind), cls.Config(**config), seeds, CPU)
    for target in targets(algorithm).values():
        target.flat += 0.1 * torch.sin(torch.arange(target.flat.numel()))
    return algorithm


def targets(algorithm):
    """Of each target network, the name of the network that it follows."""
    return {k[7:]: v for k, v in vars(algorithm).items() if k.startswith("target_")}


def td_loss(algorithm, batch):
    if hasattr(algorithm.config, "alpha_start"):
        return algorithm._td_loss(batch, ALPHA)
    return algorithm._td_loss(batch, **extras_of(algorithm, batch))


def extras_of(algorithm, batch):
    """What is replayed beside a batch: temperatures or leniencies, some of which forgive."""
    part = 0.1 * batch.action[..., 0].abs()
    names = {"LenientMADRL": "temperature", "LenientDQN": "leniency"}
    name = names.get(type(algorithm).__name__)
    return {name: part} if name else {}


def first_own(batch):
    """Each agent's own actions in the first states."""
    return batch.action[FIRST_STATES].transpose(1, 2)


FIRST_STATES = slice(None), slice(3)
CRITIC = ("critic",), td_loss
UPDATES = {
    "svnr": [CRITIC, (("policy",), lambda a, b: a._stein_loss(b.obs[FIRST_STATES], ALPHA))],
    "maddpg": [CRITIC, (("actor",), lambda a, b: a._actor_loss(b))],
    "masql": [CRITIC, (("policy",), lambda a, b: a._stein_loss(b.obs[FIRST_STATES], ALPHA))],
    "pr2": [
        CRITIC,
        (("rho",), lambda a, b: a._rho_loss(b.obs[FIRST_STATES], first_own(b), ALPHA)),
        (("policy",), lambda a, b: a._policy_loss(b.obs[FIRST_STATES], first_own(b), ALPHA)),
    ],
    "pr2_soft": [
        CRITIC,
        (("policy", "rho"), lambda a, b: sum(a._stein_losses(b.obs[FIRST_STATES], ALPHA))),
    ],
    "rommeo": [
        (("prior",), lambda a, b: a._prior_loss()),
        CRITIC,
        (
            ("model", "policy"),  # both ascend the same soft values, a mean over the batch
            lambda a, b: -a._soft_value(a.critic, b.obs, b.reward.shape[1], ALPHA).mean(2),
        ),
    ],
    "lenient_madrl": [CRITIC, (("actor",), lambda a, b: a._actor_loss(b))],
    "mmq": [
        (("bounds",), lambda a, b: a._bounds_loss(b)),
        (("reward",), lambda a, b: a._reward_loss(b)),
        CRITIC,
        (("actor",), lambda a, b: a._actor_loss(b)),
    ],
    "iql": [(("q",), td_loss)],
    "hysteretic": [(("q",), td_loss)],
    "distributed_q": [(("q",), td_loss)],
    "lenient_dqn": [(("q",), td_loss)],
    "vdn": [(("q",), td_loss)],
    "gvr": [CRITIC, (("q",), lambda a, b: a._shaped_loss(b))],
    "qmix": [(("q", "mixer"), td_loss)],
    "cw_qmix": [(("q", "mixer", "central"), td_loss)],
    "ow_qmix": [(("q", "mixer", "central"), td_loss)],
}
"""Of each algorithm, step by step: which networks descend which loss."""
RATES = {
    "rho": "policy_lr", "mixer": "q_lr", "central": "q_lr", "bounds": "model_lr",
    "reward": "model_lr",
}  # fmt: skip
"""Of networks that have no rate of their own."""
ROLLOUTS = ("mappo", "optimappo", "pareto_ac")
"""They learn from rollouts, by updates that their own tests describe."""
ALL = [*UPDATES, *ROLLOUTS]


def test_every_algorithm_is_here():
    assert set(ALL) == set(registry.ALGORITHMS)


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_descends_each_loss_at_the_scheduled_rate_and_temperature(name):
    few = {"states": 3} if hasattr(registry.load("algorithm", name).Config(), "states") else {}
    updated, expected = make(name, **few), make(name, **few)
    batch = make_batch(updated.spec, SEEDS)
    fill(expected, batch)  # ROMMEO's prior learns from what was observed
    if name in ANNEALED:
        expected.noise_size = torch.tensor(NOISE)
    before = {key: network.flat.clone() for key, network in targets(expected).items()}
    update(updated, batch, PROGRESS, **extras_of(updated, batch))
    for networks, loss in UPDATES[name]:
        flats = [getattr(expected, key).flat for key in networks]
        grads = torch.autograd.grad(loss(expected, batch).sum(), flats)
        for key, flat, grad in zip(networks, flats, grads, strict=True):
            assert grad.abs().max() > 1e-6
            own = f"{key}_lr"
            rate = own if hasattr(expected.config, own) else RATES[key]
            lr = getattr(expected.config, rate)
            with torch.no_grad():  # Adam's first step
                flat -= lr * LR_FACTOR * grad / (grad.abs() + 1e-8)
            # But for parameters whose gradient is rounding about 0.
            clear = grad.abs() > 1e-5 * grad.abs().max()
            got = getattr(updated, key).flat
            torch.testing.assert_close(got[clear], flat[clear], atol=1e-5, rtol=1e-4)
            with torch.no_grad():
                flat.copy_(got)
    for key, network in targets(updated).items():
        moved = before[key] + 0.25 * (getattr(updated, key).flat.detach() - before[key])
        torch.testing.assert_close(network.flat, moved)


@pytest.mark.parametrize("name", ["maddpg", "pr2", "lenient_madrl", "mmq"])
def test_exploration_noise_falls_and_execution_has_none(name):
    algorithm = make(name)
    obs = torch.zeros(2, 5000, 3, 2)
    for progress, scale in ((0.0, 1.0), (PROGRESS, NOISE), (0.9, 0.25)):
        mean = algorithm.act(obs, "decentralised", progress)
        assert torch.equal(mean, algorithm.act(obs, "deterministic", progress))
        noise = (algorithm.act(obs, "explore", progress) - mean) / scale
        inside = noise[(mean + scale * noise).abs() < 0.999]
        # Normal, as far as it was not clipped: half of it within 0.6745 of 0.
        assert (inside.abs() < 0.3).float().sum() / noise.numel() == pytest.approx(0.2358, abs=0.01)


def halve(streams):
    """Let ``streams`` hand out normal numbers of half their size."""
    normal = streams.normal
    streams.normal = lambda *shape: 0.5 * normal(*shape)


@pytest.mark.parametrize("name", ANNEALED)
def test_the_policies_noise_shrinks_to_nothing(name):
    obs = torch.zeros(2, 5, 3, 2)
    for mode in ("explore", "decentralised", "shared"):
        algorithm, plain = make(name), make(name)
        for part in vars(plain).values():
            if isinstance(part, Streams):
                halve(part)
        acted = algorithm.act(obs, mode, PROGRESS)
        assert torch.equal(acted, plain.act(obs, mode, 0.2))
        quiet = algorithm.act(obs, "deterministic", 0.2)
        assert not torch.equal(acted, quiet)
        for end in (mode, "deterministic"):
            torch.testing.assert_close(algorithm.act(obs, end, 0.6), quiet)


@pytest.mark.parametrize("name", ["svnr", "masql"])
def test_particles_are_of_the_noise_that_is_executed(name):
    algorithm, plain = make(name), make(name)
    algorithm.noise_size = torch.tensor(0.5)
    halve(plain.noise)
    obs = make_batch(plain.spec, SEEDS, size=3).obs
    got, expected = (a._stein_loss(obs, ALPHA) for a in (algorithm, plain))
    torch.testing.assert_close(got, expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["svnr", "masql", "rommeo"])
def test_beliefs_are_of_the_noise_that_is_executed(name):
    spec = make_spec(horizon=1, constant_obs=True)
    algorithm = make(name, spec)
    fill(algorithm, make_batch(spec, SEEDS))
    own = torch.zeros(2, 3, 1, 2)

    def drawn(size):
        algorithm.noise_size = torch.tensor(size)
        return algorithm.beliefs(own, 50, Streams(SEEDS, "beliefs")).std(3)

    assert drawn(0.0).max() < 1e-7
    assert (drawn(0.1).sum((2, 3, 4)) < 0.5 * drawn(1.0).sum((2, 3, 4))).all()


@pytest.mark.parametrize("name", UPDATES)
def test_bootstraps_from_the_targets_at_the_next_observation(name):
    """Where an episode goes on; where it ended, neither is anything to the loss."""
    algorithm = make(name)
    start = copy.deepcopy(algorithm.state_dict())
    batch = make_batch(algorithm.spec, SEEDS)
    other_obs = torch.roll(batch.next_obs, 1, 1)

    def loss(factor=1.0, **changes):
        algorithm.load_state_dict(copy.deepcopy(start))  # the same random numbers each time
        for target in targets(algorithm).values():
            target.flat *= factor
        return td_loss(algorithm, dataclasses.replace(batch, **changes)).detach()

    for ended in (False, True):
        terminated = torch.full_like(batch.terminated, float(ended))
        base = loss(terminated=terminated)
        for change in ({"next_obs": other_obs}, {"factor": 1.1}):
            difference = (loss(terminated=terminated, **change) - base).abs().min().item()
            assert (difference == 0) if ended else (difference > 1e-3), change
    for network in set(targets(algorithm)) & {"actor"}:
        base = loss(terminated=torch.zeros_like(batch.terminated))
        with torch.no_grad():
            start[network]["flat"].mul_(1.1)  # the actor that acts, not the one that is followed
        assert torch.equal(loss(terminated=torch.zeros_like(batch.terminated)), base)


def influence(algorithm, mode, agent):
    """How far other observations of ``agent`` move each agent's action: ``[N]``."""
    obs = torch.zeros(6, 20, 3, 2)
    other = obs.clone()
    around = torch.linspace(0, 6, 20)
    other[:, :, agent] = 9 * torch.stack([around.cos(), around.sin()], -1)
    start = copy.deepcopy(algorithm.state_dict())
    actions = []
    for seen in (obs, other):
        algorithm.load_state_dict(copy.deepcopy(start))
        actions.append(algorithm.act(seen, mode, 0.0))
    return (actions[1] - actions[0]).abs().amax((0, 1, 3))


@pytest.mark.parametrize("mode", ["explore", "decentralised", "deterministic", "shared"])
@pytest.mark.parametrize("name", ALL)
def test_an_agent_acts_on_its_own_observation(name, mode):
    """And SVNR's, after more than one round, on the proposals of those that it hears, unless
    execution is decentralised."""
    cls = registry.load("algorithm", name)
    if mode == "shared" and not cls.shares_noise:
        pytest.skip("it has no shared execution")
    rounds = {"rounds": 2} if name == "svnr" else {}
    hears = name == "svnr" and mode != "decentralised"
    for agent in range(3):
        # Many networks: one of discrete actions may prefer the same everywhere.
        moved = influence(make(name, seeds=range(6), **rounds), mode, agent)
        assert moved[agent] > 1e-3
        heard_by = [other == agent or (hears and other > agent) for other in range(3)]
        assert (moved > 0).tolist() == heard_by
        if hears:
            alone = influence(make(name, seeds=range(6), rounds=1), mode, agent)
            assert (alone > 0).tolist() == [other == agent for other in range(3)]


@pytest.mark.parametrize("name", ALL)
def test_decentralised_actions_are_independent(name):
    """At one observation no agent's actions go with another's."""
    algorithm = make(name)
    if hasattr(algorithm.config, "noise_start") or hasattr(algorithm.config, "epsilon_start"):
        pytest.skip("it executes no noise at all")
    obs = torch.zeros(2, 4000, 3, 2)
    for seed in range(2):
        action = algorithm.act(obs, "decentralised", 0.0)[seed]
        correlation = torch.corrcoef(action.flatten(1).T)  # [N*A, N*A]
        a = action.shape[-1]
        between = correlation.view(3, a, 3, a)[[0, 0, 1], :, [1, 2, 2]]
        assert between.abs().max() < 0.07  # over four standard errors, of at most 48 such numbers


@pytest.mark.parametrize("name", ["pr2", "pr2_soft", "rommeo"])
def test_who_models_the_others_does_not_play_alone(name):
    with pytest.raises(ValueError, match="cannot play here: it models the other agents"):
        make(name, make_spec(n_agents=1))


@pytest.mark.parametrize("name", UPDATES)
def test_agents_can_share_one_network(name):
    if "share_parameters" not in registry.load("algorithm", name).Config.model_fields:
        pytest.skip("its agents do not")
    algorithm = make(name, share_parameters=True)
    assert algorithm.q.groups == (2,)
    batch = make_batch(algorithm.spec, SEEDS)
    before = algorithm.q.flat.clone()
    update(algorithm, batch, PROGRESS, **extras_of(algorithm, batch))
    assert not torch.equal(algorithm.q.flat, before)
    obs = torch.zeros(2, 5, 3, 2)
    assert algorithm.act(obs, "decentralised", 1.0).shape == (2, 5, 3, 4)


@pytest.mark.parametrize(("name", "kind"), [("qmix", "continuous"), ("maddpg", "discrete")])
def test_other_actions_than_it_takes_are_refused(name, kind):
    with pytest.raises(ValueError, match=f"cannot play here: its actions are {kind}, and"):
        make(name, make_spec(discrete=kind == "discrete"))


def test_every_hyperparameter_is_described():
    for name in registry.ALGORITHMS:
        for key, field in registry.load("algorithm", name).Config.model_fields.items():
            assert field.description, (name, key)
            assert field.description.endswith("."), (name, key)
