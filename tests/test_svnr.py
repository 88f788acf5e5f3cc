"""SVNR against autograd, brute force, exact samples and a small exact game."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from rocompare.learn.rng import Streams
from rocompare.svnr import SVNR
from tests.support.helpers import CPU, make_batch, make_spec


def make(spec=None, seeds=(0, 1), **config):
    return SVNR(spec or make_spec(), SVNR.Config(**config), seeds, CPU)


def test_who_hears_whom():
    """By agent, counted from 1, whose noise its action moves with."""
    nested, own = [{1}, {1, 2}, {1, 2, 3}], [{1}, {2}, {3}]
    for hears, rounds, expected in (
        ("nested", 1, nested),
        ("nested", 3, nested),
        ("own", 1, own),
        ("own", 2, own),
        ([[2], [3], [1, 2]], 1, [{1, 2}, {2, 3}, {1, 2, 3}]),
        ([[], [1], [2]], 1, [{1}, {1, 2}, {2, 3}]),
        ([[], [1], [2]], 2, nested),  # agent 3 hears of agent 1 through agent 2
    ):
        algorithm = make(hears=hears, rounds=rounds)
        obs = torch.randn(2, 5, 3, 2)
        noise = torch.randn(2, 5, 3, 2)
        base = algorithm._negotiate(obs, noise, rounds)
        assert base.shape == (2, 5, 3, 2)
        for j in range(3):
            other = noise.clone()
            other[:, :, j] += 1
            moved = (algorithm._negotiate(obs, other, rounds) - base).abs().amax((0, 1, 3)) > 1e-6
            assert moved.tolist() == [j + 1 in heard for heard in expected]


def test_rounds_hear_proposals():
    """Round 2 feeds agent i its own noise and the others' proposals of round 1."""
    algorithm = make()
    obs, noise = torch.randn(2, 5, 3, 2), torch.randn(2, 5, 3, 2)
    first = algorithm._negotiate(obs, noise, 1)
    for i in range(3):
        said = first.clone()
        said[:, :, i] = noise[:, :, i]
        expected = algorithm._negotiate(obs, said, 1)[:, :, i]
        torch.testing.assert_close(algorithm._negotiate(obs, noise, 2)[:, :, i], expected)


@pytest.mark.parametrize("rounds", [1, 2])
def test_an_agents_action_trains_that_agent_alone(rounds):
    algorithm = make()
    for i in range(3):
        u = algorithm._negotiate(torch.randn(2, 5, 3, 2), torch.randn(2, 5, 3, 2), rounds)
        (grad,) = torch.autograd.grad(u[:, :, i].sum(), algorithm.policy.flat)
        for weight, _ in algorithm.policy.layers(grad):
            touched = weight.view(2, 3, -1).abs().sum(-1) > 0
            assert touched.tolist() == [[j == i for j in range(3)]] * 2


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("kernel", ["nested", "full", "own", "heard"])
def test_policy_gradient_is_the_brute_force_direction(kernel, split):
    """Gradient of the loss on actions = minus the double loop of section 5, over K and states."""
    heard = {"kernel": kernel, "hears": [[], [1], [2]]}
    algorithm = make(**heard, split_particles=split, particles=6, seeds=(0,))
    obs, alpha, n, k = torch.randn(1, 2, 3, 2), 0.7, 3, 6
    drawn = algorithm._particles(obs, 6).detach().requires_grad_()  # [1, 2, K, N, A]
    algorithm._particles = lambda obs, k: drawn
    (got,) = torch.autograd.grad(algorithm._stein_loss(obs, alpha).sum(), drawn)
    coords = {
        "nested": [[0], [0, 1], [0, 1, 2]], "full": [[0, 1, 2]] * 3, "own": [[0], [1], [2]],
        "heard": [[0], [0, 1], [1, 2]],
    }[kernel]  # fmt: skip
    fixed_set, updated_set = (range(3, 6), range(3)) if split else (range(k), range(k))
    expected = torch.zeros_like(drawn)
    for b in range(2):
        u = drawn.detach()[0, b]  # [K, N, A]
        point = u.clone().requires_grad_()
        q = algorithm._q(algorithm.critic, obs[:, b : b + 1], point[None, None])
        (score,) = torch.autograd.grad(q.sum() / alpha, point)
        for i in range(n):

            def square(m, j, i=i, u=u):
                return float(((u[m] - u[j])[coords[i]] ** 2).sum())

            pairs = sorted(square(m, j) for m in fixed_set for j in updated_set)
            h = pairs[len(pairs) // 2] / math.log(len(fixed_set))
            for j in updated_set:
                total = torch.zeros(2)
                for m in fixed_set:
                    kern = math.exp(-square(m, j) / h)
                    total += kern * score[m, i] - 2 / h * (u[m, i] - u[j, i]) * kern
                expected[0, b, j, i] = -total / len(fixed_set)
    # The loss is the mean over a seed's states and updated particles.
    expected /= 2 * len(updated_set)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


def test_critic_target_of_a_one_step_game_is_the_reward():
    spec = make_spec(horizon=1, constant_obs=True)
    algorithm = make(spec)
    batch = make_batch(spec, (0, 1))
    q = algorithm._q(algorithm.critic, batch.obs.expand(-1, 11, -1, -1), batch.action)
    expected = (q - batch.reward).square().mean(1)
    torch.testing.assert_close(algorithm._td_loss(batch, 1.0), expected)


def test_critic_target_is_the_soft_bellman_backup():
    """With a known constant soft value: r + gamma (1 - terminated) V."""
    algorithm = make(gamma=0.9)
    batch = make_batch(algorithm.spec, (0, 1))
    algorithm._soft_value = lambda obs, alpha: torch.full(obs.shape[:2], 2.0)
    q = algorithm._q(algorithm.critic, batch.obs, batch.action)
    expected = (q - batch.reward - 1.8 * (1 - batch.terminated)).square().mean(1)
    torch.testing.assert_close(algorithm._td_loss(batch, 1.0), expected)


@pytest.mark.parametrize(("samples", "draws"), [(2000, 1), (2, 2000)])
def test_soft_value_is_the_mean_over_the_box(samples, draws):
    """Two agents with scalar actions: the estimate against a 400 x 400 grid of the critic.

    That of exp(V/alpha) has no bias, however few the samples; so V itself is low, by Jensen.
    """
    spec = make_spec(n_agents=2, action_dim=1)
    algorithm = make(spec, seeds=(0,), value_samples=samples)
    obs, alpha = torch.randn(1, 1, 2, 2), 0.5
    axis = (torch.arange(400) + 0.5) / 200 - 1
    grid = torch.cartesian_prod(axis, axis).view(1, 1, -1, 2, 1)
    q = algorithm._q(algorithm.target_critic, obs, grid).flatten()
    exact = alpha * (torch.logsumexp(q / alpha, 0) - math.log(400**2))
    value = algorithm._soft_value(obs.expand(1, draws, 2, 2), alpha)
    mean = alpha * torch.log(torch.exp(value / alpha).mean())
    assert mean.item() == pytest.approx(exact.item(), abs=0.05)
    assert draws == 1 or value.mean() < exact


class KnownQ:
    """log of a mixture of two Gaussians over two agents' actions, in place of the critic."""

    means = torch.tensor([[-0.4, -0.4], [0.4, 0.3]])
    std = 0.15

    def __call__(self, critic, obs, action, frozen=False):
        x = action.flatten(-2).unsqueeze(-2)
        square = ((x - self.means) / self.std).square().sum(-1)
        return torch.logsumexp(-0.5 * square, -1)

    def samples(self, n, seed):
        rng = np.random.default_rng(seed)
        which = rng.integers(0, 2, n)
        return self.means.numpy()[which] + self.std * rng.standard_normal((n, 2))


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.slow
def test_particles_converge_to_a_known_density(rounds):
    """Frozen Q = log mixture, alpha = 1: particles against exact samples.

    Energy-distance permutation test: the independent agents' product distribution, and the
    mixture with one mode lost, must both be told apart by the same test.
    """
    spec = make_spec(n_agents=2, obs_dim=1, action_dim=1, horizon=1, constant_obs=True)
    algorithm = make(spec, seeds=(7,), particles=64, rounds=rounds)
    algorithm._q = KnownQ()
    obs = torch.zeros(1, 1, 2, 1)
    for step in range(1500):
        lr = 0.5 * (1 + math.cos(math.pi * step / 1500)) + 0.01
        alpha = max(10 * (1 - step / 500), 1.0)
        algorithm.policy_adam.step(algorithm._stein_loss(obs, alpha), lr * 0.5)
    n = 150
    noise = Streams([99], "test").normal(n, 2, 1)
    drawn = algorithm._negotiate(obs.expand(-1, n, -1, -1), noise, rounds)
    drawn = drawn[0, :, :, 0].detach().numpy()
    exact = KnownQ().samples(n, 1)
    assert energy_pvalue(drawn, exact) > 0.01
    shuffled = np.stack([exact[:, 0], np.random.default_rng(2).permutation(exact[:, 1])], 1)
    assert energy_pvalue(shuffled, KnownQ().samples(n, 3)) < 0.01
    one_mode = exact[exact[:, 0] > 0]
    assert energy_pvalue(one_mode, KnownQ().samples(n, 3)) < 0.01


def energy_pvalue(x, y, rounds=300):
    """Two-sample permutation test on the energy distance in the plane (Szekely and Rizzo)."""
    both = np.concatenate([x, y])
    distance = np.sqrt(((both[:, None] - both[None]) ** 2).sum(-1))

    def energy(index):
        a, b = index[: len(x)], index[len(x) :]
        across = distance[np.ix_(a, b)].mean()
        within = distance[np.ix_(a, a)].mean() + distance[np.ix_(b, b)].mean()
        return 2 * across - within

    rng = np.random.default_rng(0)
    observed = energy(np.arange(len(both)))
    larger = sum(energy(rng.permutation(len(both))) >= observed for _ in range(rounds))
    return (larger + 1) / (rounds + 1)


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.slow
def test_policy_improvement_on_an_exact_game(rounds):
    """Two agents, exact Q with a wide safe hill and a narrow optimum: annealing finds it.

    As alpha falls the policy's mean Q rises (Lemma 4.2) and ends at the optimum.
    """
    spec = make_spec(n_agents=2, obs_dim=1, action_dim=1, horizon=1, constant_obs=True)
    algorithm = make(spec, seeds=(0, 1, 2), rounds=rounds)

    def q(critic, obs, action, frozen=False):
        a = 10 * action.squeeze(-1)
        safe = -0.8 * (a + 5).square().sum(-1) / 3
        best = 10 - (a - 5).square().sum(-1)
        return torch.maximum(safe, best)

    algorithm._q = q
    obs = torch.zeros(3, 1, 2, 1)
    means = []
    for step in range(600):
        alpha = 30 * (0.1 / 30) ** min(step / 450, 1)
        algorithm.policy_adam.step(algorithm._stein_loss(obs, alpha), 1 - step / 650)
        if step in (0, 200, 400, 599):
            noise = Streams([1, 2, 3], "test").normal(200, 2, 1)
            u = algorithm._negotiate(obs.expand(-1, 200, -1, -1), noise, rounds).detach()
            means.append(q(None, None, u).mean(1))
    assert all((after > before).all() for before, after in pairwise(means))
    assert means[-1].min() > 9.5


@pytest.mark.parametrize("rounds", [1, 2])
def test_deterministic_execution_draws_nothing(rounds):
    algorithm = make(rounds=rounds)
    obs = torch.randn(2, 5, 3, 2)
    first = algorithm.act(obs, "deterministic", 0.0)
    assert torch.equal(first, algorithm.act(obs, "deterministic", 0.0))
    zero = algorithm._negotiate(obs, torch.zeros(2, 5, 3, 2), rounds)
    assert torch.equal(first, zero)


@pytest.mark.parametrize("mode", ["explore", "shared", "decentralised"])
def test_noise_is_standard_normal_and_new_each_time(mode):
    seen = []
    algorithm = make(seeds=(3,))
    algorithm._respond = lambda obs, noise, said: seen.append(noise) or obs
    for _ in range(2):
        algorithm.act(torch.zeros(1, 2000, 3, 2), mode, 0.0)
    drawn = [noise.flatten().numpy() for noise in (seen[0], seen[-1])]
    assert stats.kstest(drawn[0], "norm").pvalue > 0.01
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.05


def built_by_hand(rounds):
    """Two agents with scalar actions: u_1 = tanh(xi_1), u_2 = tanh(xi_2 + what it hears)."""
    spec = make_spec(n_agents=2, obs_dim=1, action_dim=1, horizon=1, constant_obs=True)
    algorithm = make(spec, seeds=(5,), rounds=rounds)
    small = 1e-2  # keeps the hidden tanh all but linear
    with torch.no_grad():
        flat = algorithm.policy.flat.zero_()
        (first, _), (middle, _), (last, _) = algorithm.policy.layers(flat)
        first[:, 1:, 0] = small  # inputs: the observation, xi_1 or u_1, xi_2
        middle[:, 0, 0] = 1
        last[:, 0, 0] = 1 / small
    return algorithm


# The correlation of xi_1 with xi_2 + xi_1 is 1/sqrt(2). With xi_2 + tanh(xi_1) it is
# E[1 - tanh^2] / sqrt(1 + E[tanh^2]) by Stein's lemma, where E[tanh^2] = 0.394.
@pytest.mark.parametrize(("rounds", "correlation"), [(1, 0.707), (2, 0.513)])
def test_decentralised_agents_draw_what_they_would_hear(rounds, correlation):
    """Agent 2's action goes with agent 1's in shared execution and knows nothing of it in
    decentralised execution; each agent's own actions have the same distribution in both."""
    algorithm = built_by_hand(rounds)
    obs = torch.zeros(1, 4000, 2, 1)
    shared, alone = (
        algorithm.act(obs, mode, 0.0)[0, :, :, 0].atanh().numpy()
        for mode in ("shared", "decentralised")
    )
    assert np.corrcoef(shared.T)[0, 1] == pytest.approx(correlation, abs=0.03)
    assert np.corrcoef(alone.T)[0, 1] == pytest.approx(0, abs=0.05)  # three standard errors
    for agent in range(2):
        assert stats.ks_2samp(shared[:, agent], alone[:, agent]).pvalue > 0.01


@pytest.mark.parametrize("hears", ["nested", "own", [[2], [], [2, 1]]])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_decentralised_agent_plays_all_those_it_hears_itself(rounds, hears):
    """Against one agent at a time, spelled out: its own copies of the noise, its own observation
    in everybody's place."""
    algorithm = make(rounds=rounds, hears=hears)
    obs, copies = torch.randn(2, 5, 3, 2), torch.randn(2, 3, 5, 3, 2)
    got = algorithm._act_alone(obs, copies)
    for i in range(3):
        known = obs[:, :, i : i + 1].expand(-1, -1, 3, -1)
        expected = algorithm._negotiate(known, copies[:, i], rounds)[:, :, i]
        torch.testing.assert_close(got[:, :, i], expected)


def test_decentralised_is_shared_execution_where_nobody_hears_anybody():
    """With the same numbers for the own noise."""
    algorithm = make(hears="own", rounds=1)
    obs, copies = torch.randn(2, 5, 3, 2), torch.randn(2, 3, 5, 3, 2)
    own = copies.diagonal(dim1=1, dim2=3).movedim(-1, 2)
    shared = algorithm._negotiate(obs, own, 1)
    torch.testing.assert_close(algorithm._act_alone(obs, copies), shared)


@pytest.mark.parametrize(
    ("hears", "problem"),
    [
        ("sparse", "expected nested, own, or for each agent a list"),
        ([1, 2], "expected nested, own, or for each agent a list"),
        (
            [[0], [1]],
            "agent 1 is to hear [0], but of 2 agents, one for each list, it can hear [2], each once",
        ),
        ([[2], [1, 1]], "agent 2 is to hear [1, 1]"),
        ([[2], [True]], "agent 2 is to hear [True]"),
    ],
)
def test_sets_that_cannot_be_heard_are_refused(hears, problem):
    with pytest.raises(ValidationError, match=re.escape(problem)):
        SVNR.Config(hears=hears)


def test_every_agent_needs_a_list():
    with pytest.raises(ValueError, match="SVNR cannot play here: 'hears' has 2 lists for 3 agents"):
        make(hears=[[], [1]])
