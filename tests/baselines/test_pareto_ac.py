"""Pareto-AC's optimism about partners, losses and targets, one network at a time and by hand."""

import itertools

import pytest
import torch

from baselines.pareto_ac import ParetoAC
from rocompare.api import Transition
from tests.learn.test_nn import plain
from tests.support.helpers import CPU, make_spec, make_transition

SEEDS = (0, 1)
SPEC = make_spec(n_agents=3, obs_dim=2, action_dim=4, discrete=True)


def make(**config):
    algorithm = ParetoAC(SPEC, ParetoAC.Config(**config), SEEDS, CPU)
    algorithm.target_critic.flat += 0.1 * torch.sin(
        torch.arange(algorithm.target_critic.flat.numel())
    )
    return algorithm


def one(mlp, s, i, *x):
    return plain(mlp, 3 * s + i)(torch.cat(x)) * mlp.output_scale


def at_best(algorithm, critic, s, i, obs):
    """``max over u_-i of Q_i(s, ., u_-i)``, ``[A]``, by trying them in turn."""
    rows = [
        one(critic, s, i, obs.flatten(), torch.eye(4)[j], torch.eye(4)[k])
        for j, k in itertools.product(range(4), range(4))
    ]
    return torch.stack(rows).max(0).values


@torch.no_grad()
def test_the_others_do_what_is_best():
    algorithm, obs = make(), make_transition(SPEC, SEEDS).obs
    got = algorithm._at_best(algorithm.critic, obs)
    for s in range(2):
        for i in range(3):
            for b in range(obs.shape[1]):
                expected = at_best(algorithm, algorithm.critic, s, i, obs[s, b])
                torch.testing.assert_close(got[s, i, b], expected, atol=1e-4, rtol=1e-4)


def test_the_objective_is_the_optimistic_advantage_and_the_entropy():
    algorithm, transition = make(), make_transition(SPEC, SEEDS)
    obs, action = transition.obs, transition.action
    got = algorithm._policy_loss(obs, action, 0.3)
    for s in range(2):
        for i in range(3):
            gains = []
            for b in range(obs.shape[1]):
                own = action[s, b, i].argmax()
                best = at_best(algorithm, algorithm.critic, s, i, obs[s, b])[own]
                advantage = best - one(algorithm.value, s, i, obs[s, b].flatten())
                policy = torch.distributions.Categorical(
                    logits=one(algorithm.actor, s, i, obs[s, b, i])
                )
                gains.append(advantage * policy.log_prob(own) + 0.3 * policy.entropy())
            expected = -torch.stack(gains).mean()
            torch.testing.assert_close(got[s, i], expected.squeeze(), atol=1e-4, rtol=1e-4)
    others = algorithm.critic.flat, algorithm.value.flat
    assert torch.autograd.grad(got.sum(), others, allow_unused=True) == (None, None)


def test_critics_and_values_regress_to_the_target():
    algorithm, transition = make(), make_transition(SPEC, SEEDS)
    obs, action = transition.obs, transition.action
    target = torch.randn(2, 3, obs.shape[1], generator=torch.Generator().manual_seed(0))
    critic_loss = algorithm._critic_loss(obs, action, target)
    value_loss = algorithm._value_loss(obs, target)
    for s in range(2):
        for i, (j, k) in enumerate(((1, 2), (0, 2), (0, 1))):
            q, v = [], []
            for b in range(obs.shape[1]):
                state, u = obs[s, b].flatten(), action[s, b]
                q.append(one(algorithm.critic, s, i, state, u[j], u[k])[u[i].argmax()])
                v.append(one(algorithm.value, s, i, state)[0])
            for loss, values in ((critic_loss, q), (value_loss, v)):
                expected = (torch.stack(values) - target[s, i]).square().mean()
                torch.testing.assert_close(loss[s, i], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_target_expects_the_best_partners_and_the_own_policy():
    algorithm, transition = make(n_steps=1, gamma=0.9), make_transition(SPEC, SEEDS)
    got = algorithm._target(Transition(*(part.unsqueeze(1) for part in transition)))
    for s in range(2):
        for i in range(3):
            for b in range(transition.reward.shape[1]):
                obs = transition.next_obs[s, b]
                policy = one(algorithm.actor, s, i, obs[i]).softmax(-1)
                value = policy @ at_best(algorithm, algorithm.target_critic, s, i, obs)
                goes_on = 0.9 * ~transition.terminated[s, b]
                expected = transition.reward[s, b] + goes_on * value
                torch.testing.assert_close(got[s, i, b], expected, atol=1e-4, rtol=1e-4)


def test_learns_when_a_rollout_is_full_and_from_it_once():
    algorithm = make(rollout_steps=2)
    for i in range(2):
        assert algorithm.update(0.1) == {}
        algorithm.observe(make_transition(SPEC, SEEDS, i))
    assert set(algorithm.update(0.1)) == {"policy_loss", "critic_loss", "value_loss"}
    assert algorithm.update(0.1) == {}


def test_an_update_descends_every_loss_at_the_scheduled_rate_and_entropy():
    config = {"rollout_steps": 1, "lr_end_factor": 0.1, "tau": 0.25}
    config |= {"entropy_start": 1.0, "entropy_end": 0.2, "entropy_end_fraction": 1.0}
    updated, expected = make(**config), make(**config)
    transition = make_transition(SPEC, SEEDS)
    for algorithm in (updated, expected):
        algorithm.observe(transition)
    updated.update(0.5)
    obs, action = transition.obs, transition.action
    target = expected._target(expected.rollout.take())
    losses = {
        "actor": expected._policy_loss(obs, action, 0.6),
        "critic": expected._critic_loss(obs, action, target),
        "value": expected._value_loss(obs, target),
    }
    for name, loss in losses.items():
        flat = getattr(expected, name).flat
        (grad,) = torch.autograd.grad(loss.sum(), flat)
        lr = expected.config.actor_lr if name == "actor" else expected.config.critic_lr
        step = lr * 0.55 * grad / (grad.abs() + 1e-8)
        clear = grad.abs() > 1e-4 * grad.abs().max()
        got = getattr(updated, name).flat
        torch.testing.assert_close(got[clear], (flat - step)[clear], atol=1e-5, rtol=1e-4)
    moved = expected.target_critic.flat.lerp(updated.critic.flat.detach(), 0.25)
    torch.testing.assert_close(updated.target_critic.flat, moved)


def test_too_many_joint_actions_are_refused():
    many = make_spec(n_agents=6, action_dim=6, discrete=True)
    with pytest.raises(ValueError, match=r"of which there are 7,776 here, more than 1,296"):
        ParetoAC(many, ParetoAC.Config(), SEEDS, CPU)
    assert ParetoAC.unfit(make_spec(n_agents=5, action_dim=6, discrete=True), None) == ""
    with pytest.raises(ValueError, match="there are none"):
        ParetoAC(make_spec(n_agents=1, discrete=True), ParetoAC.Config(), SEEDS, CPU)
