"""MADDPG's target and gradients against one network at a time, and its noise."""

import pytest
import torch

from baselines.maddpg import MADDPG
from tests.baselines.support import update
from tests.learn.test_nn import plain
from tests.support.helpers import CPU, make_batch, make_spec


def make(spec=None, seeds=(0, 1), **config):
    return MADDPG(spec or make_spec(), MADDPG.Config(**config), seeds, CPU)


def one(mlp, s, i):
    """The network of seed ``s``, agent ``i``, as plain torch with the fixed scales."""
    net = plain(mlp, s * mlp.groups[1] + i)
    return lambda x: net(x * mlp.input_scale) * mlp.output_scale


def perturbed(algorithm):
    """Targets that differ from the networks, so that a mix-up shows."""
    for target in (algorithm.target_actor, algorithm.target_critic):
        target.flat += 0.1 * torch.sin(torch.arange(target.flat.numel()))
    return algorithm


@pytest.mark.parametrize("constant", [False, True])
def test_critic_loss_is_equation_6(constant):
    spec = make_spec(constant_obs=constant)
    algorithm = perturbed(make(spec, gamma=0.9))
    batch = make_batch(spec, (0, 1))
    got = algorithm._td_loss(batch)
    for s in range(2):
        for i in range(3):
            errors = []
            for b in range(11):
                row = 0 if constant else b
                x, next_x = batch.obs[s, row], batch.next_obs[s, row]
                target_action = [
                    torch.tanh(one(algorithm.target_actor, s, j)(next_x[j])) for j in range(3)
                ]
                next_in = torch.cat([next_x.flatten(), *target_action])
                next_q = one(algorithm.target_critic, s, i)(next_in)
                y = batch.reward[s, b] + 0.9 * (1 - batch.terminated[s, b]) * next_q
                q = one(algorithm.critic, s, i)(
                    torch.cat([x.flatten(), batch.action[s, b].flatten()])
                )
                errors.append((q - y) ** 2)
            expected = torch.stack(errors).mean()
            torch.testing.assert_close(got[s, i], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("others", ["batch", "policy"])
@pytest.mark.parametrize("constant", [False, True])
def test_actor_loss_is_equation_5(others, constant):
    spec = make_spec(constant_obs=constant)
    algorithm = make(spec, others=others, saturation=0.3)
    batch = make_batch(spec, (0, 1))
    got = algorithm._actor_loss(batch)
    for s in range(2):
        for i in range(3):
            values = []
            for b in range(11):
                x = batch.obs[s, 0 if constant else b]
                current = torch.stack(
                    [torch.tanh(one(algorithm.actor, s, j)(x[j])) for j in range(3)]
                )
                joint = (batch.action[s, b] if others == "batch" else current).clone()
                joint[i] = current[i]
                values.append(
                    one(algorithm.critic, s, i)(torch.cat([x.flatten(), joint.flatten()]))
                )
            row_obs = batch.obs[s, :, i]
            z = one(algorithm.actor, s, i)(row_obs)
            expected = 0.3 * z.square().sum(-1).mean() - torch.stack(values).mean()
            torch.testing.assert_close(got[s, i], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("others", ["batch", "policy"])
def test_an_agents_objective_trains_that_agent_alone(others):
    algorithm = make(others=others)
    batch = make_batch(algorithm.spec, (0, 1))
    for i in range(3):
        loss = algorithm._actor_loss(batch)[:, i].sum()
        (grad,) = torch.autograd.grad(loss, algorithm.actor.flat)
        weight = algorithm.actor.layers(grad)[0][0].view(2, 3, -1)
        touched = weight.abs().sum(-1) > 0
        assert touched.tolist() == [[j == i for j in range(3)]] * 2


def test_exploration_noise_decays_and_execution_has_none():
    algorithm = make(noise_start=0.4, noise_end=0.1, noise_end_fraction=0.5)
    obs = torch.zeros(2, 5000, 3, 2)
    for progress, expected in ((0.0, 0.4), (0.25, 0.2), (0.9, 0.1)):
        mean = algorithm.act(obs, "decentralised", progress)
        assert torch.equal(mean, algorithm.act(obs, "deterministic", progress))
        difference = algorithm.act(obs, "explore", progress) - mean
        # Far from the border nothing is clipped; the initial actions lie near 0.
        assert difference.std().item() == pytest.approx(expected, rel=0.05)


def test_targets_follow_after_an_update():
    algorithm = make(tau=0.25)
    before = algorithm.target_critic.flat.clone()
    update(algorithm, make_batch(algorithm.spec, (0, 1)), 0.0)
    expected = before + 0.25 * (algorithm.critic.flat.detach() - before)
    torch.testing.assert_close(algorithm.target_critic.flat, expected)
