"""MAPPO's advantages, ratios and normaliser against numbers worked out by hand."""

import math
from collections import Counter

import pytest
import torch
from torch.distributions import Categorical, Normal, TanhTransform, TransformedDistribution

from baselines.mappo import MAPPO, OptiMAPPO, shaped
from rocompare.api import Transition
from tests.learn.test_nn import plain
from tests.support.helpers import CPU, make_batch, make_spec, make_transition

SEEDS = (0, 1)
DISCRETE = make_spec(action_dim=4, discrete=True)


def make(spec=None, cls=MAPPO, **config):
    return cls(spec or make_spec(), cls.Config(**config), SEEDS, CPU)


@pytest.mark.parametrize(
    ("leak", "order", "expected"),
    [
        # -1, 0, 2, 4 have mean 1.25 and deviation sqrt(14.75 / 3).
        (0.5, "clip_first", [-1.01472, -0.56373, 0.33824, 1.24021]),
        # 0, 0, 2, 4 have mean 1.5 and deviation sqrt(11 / 3): clipped ones are negative again.
        (0.0, "clip_first", [-0.78335, -0.78335, 0.26112, 1.30558]),
        # -2, 0, 2, 4 have mean 1 and deviation sqrt(20 / 3).
        (0.5, "normalise_first", [-0.58095, -0.19365, 0.38730, 1.16190]),
        (1.0, "clip_first", [-1.16190, -0.38730, 0.38730, 1.16190]),
        (1.0, "normalise_first", [-1.16190, -0.38730, 0.38730, 1.16190]),
    ],
)
def test_advantages_are_shaped_and_normalised_for_each_seed(leak, order, expected):
    advantage = torch.tensor([[-2.0, 0.0, 2.0, 4.0], [8.0, -4.0, 0.0, 4.0]])
    got = shaped(advantage, leak, order)
    want = torch.tensor([expected, [expected[i] for i in (3, 0, 1, 2)]])  # twice the size
    torch.testing.assert_close(got, want, atol=2e-5, rtol=0)


def test_mappo_takes_advantages_as_they_are_and_optimappo_clips_first():
    assert (MAPPO.Config().leak, OptiMAPPO.Config().leak) == (1.0, 0.0)
    assert OptiMAPPO.Config().order == "clip_first"


def test_the_clipped_ratio_and_its_gradient():
    algorithm = make(make_spec(n_agents=1), clip=0.2)
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = torch.tensor([2.0, -2.0, 2.0, -2.0, 2.0])
    gains = [2.4, -3.0, 1.0, -1.6, 2.2]  # min(ratio * A, clipped ratio * A)
    slopes = [0.0, -3.0, 1.0, 0.0, 2.2]  # of the logarithm: ratio * A, or 0 where clipped
    log_prob = ratio.log().expand(2, 1, 5).clone().requires_grad_()
    entropy = torch.full((2, 1, 5), 7.0)
    algorithm._log_prob = lambda obs, action: (log_prob, entropy)
    nothing = torch.zeros(2, 5, 1)
    loss = algorithm._policy_loss(0.1, nothing, nothing, nothing, advantage.expand(2, 5))
    torch.testing.assert_close(loss, torch.full((2, 1), -sum(gains) / 5 - 0.7))
    (grad,) = torch.autograd.grad(loss.sum(), log_prob)
    torch.testing.assert_close(-5 * grad[1, 0], torch.tensor(slopes))


def test_a_ratio_is_never_infinite():
    algorithm = make(make_spec(n_agents=1))
    log_prob = torch.full((2, 1, 1), 500.0, requires_grad=True)
    algorithm._log_prob = lambda obs, action: (log_prob, log_prob)
    nothing = torch.zeros(2, 1, 1)
    loss = algorithm._policy_loss(0.0, nothing, nothing, nothing, torch.tensor([[-1.0], [0.0]]))
    (grad,) = torch.autograd.grad(loss.sum(), log_prob)
    assert loss.isfinite().all()
    assert grad.isfinite().all()


def squashed(algorithm, s, i, obs):
    """The policy of seed ``s``, agent ``i``, from its network as plain torch."""
    mean, log_std = plain(algorithm.actor, s * 3 + i)(obs).chunk(2, -1)
    normal = Normal(4 * torch.tanh(mean / 4), (log_std + math.log(0.7)).exp())
    return normal, TransformedDistribution(normal, [TanhTransform()])


def test_log_probabilities_of_gaussians():
    """They differ from those of actions by what tanh adds to every policy's alike."""
    algorithm, batch = make(std_start=0.7), make_batch(make_spec(), SEEDS)
    got, entropy = algorithm._log_prob(batch.obs, batch.action)
    for s in range(2):
        for i in range(3):
            action = batch.action[s, :, i]
            normal, policy = squashed(algorithm, s, i, batch.obs[s, :, i])
            tanh_adds = (1 - action.square()).log().sum(-1)
            expected = policy.log_prob(action).sum(-1) + tanh_adds
            torch.testing.assert_close(got[s, i], expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(entropy[s, i], normal.entropy().sum(-1))


def test_log_probabilities_of_choices():
    algorithm, transition = make(DISCRETE), make_transition(DISCRETE, SEEDS)
    got, entropy = algorithm._log_prob(transition.obs, transition.action)
    for s in range(2):
        for i in range(3):
            logits = plain(algorithm.actor, s * 3 + i)(transition.obs[s, :, i])
            policy = Categorical(logits=logits)
            expected = policy.log_prob(transition.action[s, :, i].argmax(-1))
            torch.testing.assert_close(got[s, i], expected)
            torch.testing.assert_close(entropy[s, i], policy.entropy())


def test_choices_are_drawn_with_the_policys_probabilities():
    algorithm = make(DISCRETE)
    with torch.no_grad():
        algorithm.actor.flat *= 4  # less even
    obs = torch.zeros(2, 20_000, 3, DISCRETE.obs_dim)
    for mode in ("explore", "decentralised"):
        share = algorithm.act(obs, mode, 0.0).mean(1)
        policy = algorithm.actor(obs[:, :1].transpose(1, 2))[:, :, 0].softmax(-1)
        assert policy.std() > 0.05
        torch.testing.assert_close(share, policy.detach(), atol=0.015, rtol=0)
    best = algorithm.act(obs[:, :1], "deterministic", 0.0)[:, 0]
    assert torch.equal(best.argmax(-1), policy.argmax(-1))


def test_gaussians_are_drawn_before_tanh():
    algorithm = make(std_start=0.5)
    obs = torch.zeros(2, 20_000, 3, 2)
    for mode in ("explore", "decentralised"):
        z = algorithm.act(obs, mode, 0.0)[1, :, 2].atanh()
        mean, log_std = plain(algorithm.actor, 5)(obs[1, :1, 2]).chunk(2, -1)
        torch.testing.assert_close(z.mean(0), mean[0].detach(), atol=0.02, rtol=0)
        std = 0.5 * log_std[0].detach().exp()
        torch.testing.assert_close(z.std(0), std, atol=0, rtol=0.03)
    middle = algorithm.act(obs[:, :1], "deterministic", 0.0)[1, 0, 2]
    torch.testing.assert_close(middle, torch.tanh(4 * torch.tanh(mean[0] / 4)).detach())


def rollout_of(reward):
    """A step of a one-step game in which the seeds' games are paid ``reward [S, E]``."""
    empty, ended = torch.zeros(*reward.shape, 1, 1), torch.ones_like(reward, dtype=torch.bool)
    step = Transition(empty, empty, reward, empty, ended, ~ended)
    return Transition(*(part.unsqueeze(1) for part in step))


def test_returns_are_normalised_by_a_mean_and_deviation_that_forget():
    spec = make_spec(n_agents=1, obs_dim=1, action_dim=1, horizon=1, constant_obs=True)
    algorithm = make(spec, value_norm_decay=0.5)
    first = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
    target = algorithm._targets(rollout_of(first))[1]
    torch.testing.assert_close(target[:, 0], torch.tensor([[-1.0, 1.0]] * 2), atol=1e-4, rtol=0)
    target = algorithm._targets(rollout_of(first + torch.tensor([[4.0], [40.0]])))[1]
    # Weights 1/3 and 2/3: mean (2 + 2 * 6) / 3, mean square (5 + 2 * 37) / 3, of 10 times these.
    mean, std = 14 / 3, math.sqrt(79 / 3 - (14 / 3) ** 2)
    expected = torch.tensor([[(5 - mean) / std, (7 - mean) / std]] * 2)
    torch.testing.assert_close(target[:, 0], expected, atol=1e-4, rtol=1e-4)


def test_the_value_bootstraps_in_units_of_reward():
    """With returns of mean 20 and deviation 4, an output of 0.5 is a value of 22."""
    spec = make_spec(n_agents=1, horizon=5)
    algorithm = make(spec, gamma=0.5, gae_lambda=1.0)
    algorithm.moments[:] = torch.tensor([1.0, 20.0, 416.0])[:, None]
    algorithm._value = lambda obs: torch.full(obs.shape[:-2], 0.5)
    transition = make_transition(spec, SEEDS)
    rollout = Transition(*(part.unsqueeze(1) for part in transition))
    advantage, _ = algorithm._targets(rollout)
    raw = transition.reward + torch.where(transition.terminated, 0.0, 11.0) - 22
    torch.testing.assert_close(advantage[:, 0], shaped(raw, 1.0, "clip_first"))


def test_each_epoch_sees_every_row_once_and_seeds_shuffle_for_themselves():
    algorithm = make(minibatches=3)
    parts = list(algorithm._minibatches(8))
    assert [part.shape for part in parts] == [(2, 3), (2, 3), (2, 2)]
    order = torch.cat(parts, 1)
    assert all(Counter(row.tolist()) == Counter(range(8)) for row in order)
    assert not torch.equal(order[0], order[1])


@pytest.mark.parametrize("spec", [make_spec(), DISCRETE], ids=["continuous", "discrete"])
def test_learns_when_a_rollout_is_full_and_from_it_once(spec):
    algorithm = make(spec, rollout_steps=3)
    before = algorithm.actor.flat.detach().clone()
    for i in range(3):
        assert algorithm.update(0.1) == {}
        algorithm.observe(make_transition(spec, SEEDS, i))
    assert torch.equal(algorithm.actor.flat, before)
    assert set(algorithm.update(0.1)) == {"policy_loss", "value_loss"}
    assert not torch.equal(algorithm.actor.flat, before)
    assert algorithm.update(0.1) == {}


def test_an_update_ascends_the_objective_at_the_scheduled_rate():
    config = {"rollout_steps": 1, "epochs": 1, "entropy_start": 0.2, "lr_end_factor": 0.1}
    updated, expected = make(**config), make(**config)
    transition = make_transition(make_spec(), SEEDS)
    for algorithm in (updated, expected):
        algorithm.observe(transition)
    updated.update(0.5)
    advantage, target = expected._targets(expected.rollout.take())
    obs, action = transition.obs, transition.action
    old = expected._log_prob(obs, action)[0].detach().transpose(1, 2)
    losses = {
        "actor": expected._policy_loss(0.1, obs, action, old, advantage.flatten(1)).sum(),
        "critic": expected._value_loss(obs, target.flatten(1)).sum(),
    }
    for name, loss in losses.items():
        flat = getattr(expected, name).flat
        (grad,) = torch.autograd.grad(loss, flat)
        step = getattr(expected.config, f"{name}_lr") * 0.55 * grad / (grad.abs() + 1e-8)
        clear = grad.abs() > 1e-4 * grad.abs().max()
        got = getattr(updated, name).flat
        torch.testing.assert_close(got[clear], (flat - step)[clear], atol=1e-5, rtol=1e-4)


def test_what_needs_the_policys_own_actions_has_no_uniform_phase():
    for key, value in (("random_fraction", 0.1), ("learning_starts_fraction", 0.1)):
        with pytest.raises(ValueError, match=key):
            MAPPO.Config(**{key: value})
