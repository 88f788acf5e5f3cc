"""ROMMEO: densities, losses and targets against independent formulas, and small behaviour."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from baselines.rommeo import ROMMEO, Squashed
from rocompare import api
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.learn.rng import Streams
from tests.baselines.support import play, see, update

CPU = torch.device("cpu")
S, B, N, A = 2, 3, 3, 2
SPEC = api.EnvSpec(N, 2, A, 5, 1.0, 0.0, ("optimum", "safe"))


class Fixed:
    """A stream that hands out the same numbers again, so that a test knows them."""

    def __init__(self, n_seeds: int = S) -> None:
        self.n_seeds = n_seeds

    def normal(self, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return torch.randn(self.n_seeds, *shape, generator=generator)


def make(spec: api.EnvSpec = SPEC, seeds: tuple[int, ...] = (0, 1), **config: Any) -> ROMMEO:
    return ROMMEO(spec, ROMMEO.Config(**{"hidden": 8, **config}), seeds, CPU)


def make_batch(seed: int = 0, spec: api.EnvSpec = SPEC, n_seeds: int = S) -> api.Batch:
    g = torch.Generator().manual_seed(seed)
    n, o, a = spec.n_agents, spec.obs_dim, spec.action_dim
    rows = 1 if spec.constant_obs else B
    return api.Batch(
        obs=torch.randn(n_seeds, rows, n, o, generator=g),
        action=torch.rand(n_seeds, B, n, a, generator=g) * 2 - 1,
        reward=torch.randn(n_seeds, B, generator=g),
        next_obs=torch.randn(n_seeds, rows, n, o, generator=g),
        terminated=torch.tensor([0.0, 1.0, 0.0]).expand(n_seeds, B),
    )


def net(mlp: Any, s: int, i: int, x: Tensor) -> Tensor:
    """One network of an MLP, written out."""
    index = s * mlp.groups[1] + i
    h = x * mlp.input_scale
    layers = mlp.layers(mlp.flat)
    for k, (weight, bias) in enumerate(layers):
        h = h @ weight[index] + bias[index, 0]
        if k < len(layers) - 1:
            h = torch.tanh(h) if mlp.activation == "tanh" else h * torch.sigmoid(h)
    return h * mlp.output_scale


def parts(output: Tensor) -> tuple[Tensor, Tensor]:
    d = output.shape[-1] // 2
    return output[:d], torch.exp(-5 + 7 / (1 + 0.4 * torch.exp(-output[d:])))


def distribution(output: Tensor) -> TransformedDistribution:
    mean, std = parts(output)
    return TransformedDistribution(Independent(Normal(mean, std), 1), [TanhTransform(cache_size=1)])


def draw(output: Tensor, noise: Tensor) -> Tensor:
    mean, std = parts(output)
    return torch.tanh(mean + std * noise)


def soft_value(
    algorithm: ROMMEO,
    critic: Any,
    obs: Tensor,
    noise: Tensor,
    alpha: float,
    s: int,
    i: int,
    size: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """V, its KL part, log pi and Q of one seed, agent and row; ``obs [N, O]``, ``noise [N*A]``.

    Q is of actions whose noise has the size given, the rest of full noise.
    """
    rho = net(algorithm.model, s, i, obs[i])
    others = draw(rho, size * noise[A:])
    pi = net(algorithm.policy, s, i, torch.cat([obs[i], others]))
    own = draw(pi, size * noise[:A])
    q = net(critic, s, i, torch.cat([obs.flatten(), own, others])).squeeze()
    others, own = draw(rho, noise[A:]), draw(pi, noise[:A])
    prior = net(algorithm.prior, s, i, obs[i]).detach()
    divergence = distribution(rho).log_prob(others) - distribution(prior).log_prob(others)
    log_pi = distribution(pi).log_prob(own)
    return q - alpha * log_pi - divergence, divergence, log_pi, q


@pytest.mark.parametrize("mean, log_std", [(0.0, 0.0), (1.3, -1.0), (-1.0, -0.5), (0.2, -3.0)])
def test_density_integrates_to_one_and_obeys_change_of_variables(
    mean: float, log_std: float
) -> None:
    squashed = Squashed(torch.tensor([mean]).double(), torch.tensor([log_std]).double())

    def density(u: float) -> float:
        return float(squashed.log_prob(torch.atanh(torch.tensor([u]).double())).exp())

    peak = math.tanh(mean)
    total = sum(
        quad(density, lo, hi, limit=200)[0] for lo, hi in ((-1 + 1e-12, peak), (peak, 1 - 1e-12))
    )
    assert total == pytest.approx(1, abs=1e-6)
    # P(u < 0.4) is P(z < atanh(0.4))
    below = quad(density, -1 + 1e-12, 0.4, points=[min(peak, 0.4)], limit=200)[0]
    assert below == pytest.approx(norm.cdf(math.atanh(0.4), mean, math.exp(log_std)), abs=1e-6)


def test_density_by_hand() -> None:
    # standard normal at z = 0: 1/sqrt(2 pi) over 1 - tanh(0)^2 = 1, two features
    zero = Squashed(torch.zeros(2), torch.zeros(2))
    assert float(zero.log_prob(torch.zeros(2))) == pytest.approx(-2 * 0.9189385, abs=1e-6)
    # at z = 10, log(1 - tanh^2) = log 4 - 20 to 1e-8, where float32's 1 - tanh^2 is 0
    at_10 = Squashed(torch.zeros(1), torch.zeros(1)).log_prob(torch.tensor([10.0]))
    assert float(at_10) == pytest.approx(-50 - 0.9189385 - (math.log(4) - 20), abs=1e-4)


def test_standard_deviation_is_one_at_first_and_bounded() -> None:
    squashed = Squashed.of(torch.tensor([[0.3, 0.0], [0.3, -100.0], [0.3, 100.0]]))
    expected = torch.tensor([[0.0], [-5.0], [2.0]])
    torch.testing.assert_close(squashed.log_std, expected, atol=1e-5, rtol=0)
    assert squashed.mean.flatten().tolist() == pytest.approx([0.3, 0.3, 0.3])


@torch.no_grad()
def test_prior_loss_is_minus_mean_log_likelihood_of_others() -> None:
    algorithm = make()
    batch = make_batch()
    see(algorithm, batch.obs, batch.action)
    loss = algorithm._prior_loss()
    for s in range(S):
        for i in range(N):
            total = 0.0
            for b in range(B):
                others = torch.cat([batch.action[s, b, j] for j in range(N) if j != i])
                head = net(algorithm.prior, s, i, batch.obs[s, b, i])
                total += float(distribution(head).log_prob(others))
            assert float(loss[s, i]) == pytest.approx(-total / B, abs=1e-4)


def test_prior_recovers_the_recent_distribution_and_forgets_the_old() -> None:
    spec = api.EnvSpec(2, 1, 1, 1, 1.0, 0.0, ("optimum", "safe"), constant_obs=True)
    algorithm = make(spec, prior_lr=0.02, prior_window=2000)
    obs = torch.zeros(S, 1000, 2, 1)
    see(algorithm, obs, torch.full((S, 1000, 2, 1), -0.9))  # will have left the window
    mean, std = torch.tensor([0.8, -0.4]), torch.tensor([0.3, 0.6])
    for block in range(2):
        generator = torch.Generator().manual_seed(block)
        z = mean[:, None] + std[:, None] * torch.randn(S, 1000, 2, 1, generator=generator)
        see(algorithm, obs, torch.tanh(z))
    assert algorithm.recent.shape == (S, 2000, 2, 2)
    for _ in range(300):
        algorithm.prior_adam.step(algorithm._prior_loss())
    prior = Squashed.of(algorithm.prior(torch.zeros(S, 2, 1, 1)).detach())
    # agent 0's prior is of agent 1's actions, and the other way round
    torch.testing.assert_close(prior.mean[0, :, 0, 0], mean.flip(0), atol=0.05, rtol=0)
    torch.testing.assert_close(prior.log_std.exp()[1, :, 0, 0], std.flip(0), atol=0.05, rtol=0)


@torch.no_grad()
def test_td_loss_bootstraps_the_soft_value() -> None:
    algorithm = make(gamma=0.9)
    algorithm.noise = Fixed()  # type: ignore[assignment]
    algorithm.target_critic.flat.mul_(1.1)  # unlike the critic
    batch, alpha = make_batch(), 0.7
    noise = Fixed().normal(N, B, N * A)
    loss = algorithm._td_loss(batch, alpha)
    for s in range(S):
        for i in range(N):
            total = 0.0
            for b in range(B):
                value, *_ = soft_value(
                    algorithm,
                    algorithm.target_critic,
                    batch.next_obs[s, b],
                    noise[s, i, b],
                    alpha,
                    s,
                    i,
                )
                y = batch.reward[s, b] + 0.9 * (1 - batch.terminated[s, b]) * value
                others = [batch.action[s, b, j] for j in range(N) if j != i]
                x = torch.cat([batch.obs[s, b].flatten(), batch.action[s, b, i], *others])
                total += float((net(algorithm.critic, s, i, x) - y).square())
            assert float(loss[s, i]) == pytest.approx(total / B, rel=1e-4)


@torch.no_grad()
def test_one_step_target_is_the_reward() -> None:
    spec = api.EnvSpec(N, 2, A, 1, 1.0, 0.0, ("optimum", "safe"), constant_obs=True)
    algorithm = make(spec)
    batch = make_batch(spec=spec)
    loss = algorithm._td_loss(batch, alpha=0.7)
    x = torch.cat(
        [batch.obs[1, 0].flatten().expand(B, -1), batch.action[1][:, [2, 0, 1]].flatten(1)], 1
    )
    q = net(algorithm.critic, 1, 2, x).squeeze(-1)
    assert float(loss[1, 2]) == pytest.approx(
        float((q - batch.reward[1]).square().mean()), rel=1e-4
    )


@pytest.mark.parametrize("size", [1.0, 0.5, 0.0])
def test_one_pass_gives_the_gradients_of_both_losses(size: float) -> None:
    algorithm = make()
    algorithm.noise_size = torch.tensor(size)
    algorithm.noise = Fixed()  # type: ignore[assignment]
    batch, alpha = make_batch(), 0.7
    noise = Fixed().normal(N, B, N * A)
    value = algorithm._soft_value(algorithm.critic, batch.obs, B, alpha)
    flats = algorithm.model.flat, algorithm.policy.flat
    got = torch.autograd.grad(-value.sum() / B, flats)
    j_rho = j_pi = torch.zeros(())
    for s in range(S):
        for i in range(N):
            for b in range(B):
                v, divergence, log_pi, q = soft_value(
                    algorithm, algorithm.critic, batch.obs[s, b], noise[s, i, b], alpha, s, i, size
                )
                torch.testing.assert_close(value[s, i, b], v, rtol=1e-4, atol=1e-4)
                j_rho = j_rho + (divergence - q + alpha * log_pi) / B
                j_pi = j_pi + (alpha * log_pi - q) / B
    (for_model,) = torch.autograd.grad(j_rho, algorithm.model.flat, retain_graph=True)
    (for_policy,) = torch.autograd.grad(j_pi, algorithm.policy.flat)
    torch.testing.assert_close(got[0], for_model, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got[1], for_policy, rtol=1e-3, atol=1e-4)


def test_act_answers_the_model() -> None:
    algorithm = make()
    obs = make_batch().obs
    quiet = algorithm.act(obs, "deterministic", 0.0)
    rho = net(algorithm.model, 1, 2, obs[1, 0, 2])
    others = torch.tanh(rho[: (N - 1) * A])
    pi = net(algorithm.policy, 1, 2, torch.cat([obs[1, 0, 2], others]))
    torch.testing.assert_close(quiet[1, 0, 2], torch.tanh(pi[:A]), atol=1e-5, rtol=1e-4)
    assert torch.equal(quiet, algorithm.act(obs, "deterministic", 0.0))
    for mode in ("explore", "decentralised"):
        first, second = (algorithm.act(obs, mode, 0.0) for _ in range(2))  # type: ignore[arg-type]
        assert first.shape == (S, B, N, A) and not torch.equal(first, second)
        assert first.abs().max() <= 1


def test_seed_alone_equals_seed_in_company() -> None:
    both, alone = make(), make(seeds=(1,))
    for step in range(4):
        batch = make_batch(step)
        mine = api.Batch(
            *(getattr(batch, f)[1:] for f in ("obs", "action", "reward", "next_obs", "terminated"))
        )
        together = update(both, batch, step / 4)["td_loss"]
        torch.testing.assert_close(together[1:], update(alone, mine, step / 4)["td_loss"])
    together = both.act(batch.obs, "explore", 1.0)
    torch.testing.assert_close(
        together[1:], alone.act(mine.obs, "explore", 1.0), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["critic", "model", "prior", "policy"])
def test_nan_stays_in_its_seed(name: str) -> None:
    sick, healthy = make(), make()
    mlp = getattr(sick, name)
    for weight, bias in mlp.layers(mlp.flat.data):
        weight[:N], bias[:N] = math.nan, math.nan  # seed 0
    for step in range(3):
        batch = make_batch(step)
        for algorithm in (sick, healthy):
            update(algorithm, batch, step / 3)
    for part in ("critic", "target_critic", "model", "prior", "policy"):
        a, b = getattr(sick, part), getattr(healthy, part)
        for x, y in zip(a.per_seed(a.flat), b.per_seed(b.flat), strict=True):
            assert torch.equal(x[1], y[1])
        assert torch.isfinite(a.per_seed(a.flat)[0][1]).all()


def test_resume_is_bit_exact() -> None:
    first = make(prior_window=4)
    for step in range(2):
        update(first, make_batch(step), 0.2)
    second = make(prior_window=4)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for algorithm in (first, second):
        update(algorithm, make_batch(5), 0.3)
    obs = make_batch(6).obs
    acted = first.act(obs, "decentralised", 0.3)
    assert torch.equal(acted, second.act(obs, "decentralised", 0.3))
    assert torch.equal(first.recent, second.recent) and first.recent.shape[1] == 4
    assert torch.equal(first.critic.flat, second.critic.flat)


def test_constant_observation_bootstraps_too() -> None:
    spec = api.EnvSpec(4, 1, 1, 3, 1.0, 0.0, ("optimum", "safe"), constant_obs=True)
    algorithm = make(spec)
    batch = make_batch(spec=spec)
    metrics = update(algorithm, batch, 0.5)
    assert metrics["td_loss"].shape == (S,) and metrics["td_loss"].isfinite().all()
    assert algorithm.act(batch.obs.expand(-1, 7, -1, -1), "explore", 0.5).shape == (S, 7, 4, 1)


@pytest.mark.slow
def test_learns_a_single_hill() -> None:
    # Made without the validators, which refuse a game without a safe behaviour.
    game = MaxOfThree.Config.model_construct(p=(4.0, -6.0), q=(4.0, -6.0), s2=3.0)
    env = MaxOfThree(game, [0, 1], 1)
    config = ROMMEO.Config(hidden=32, batch_size=64, model_lr=1e-3)
    algorithm = ROMMEO(env.spec, config, [0, 1], CPU)
    obs = play(env, algorithm, Streams([0, 1], "random"), 300)
    assert (env.reward(algorithm.act(obs, "deterministic", 1.0)) > 9).all()
