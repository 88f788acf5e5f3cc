"""Lemmas 4.1 and 4.2 and Theorem 4.3 on random finite games, and what independent agents miss."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rocompare.analysis import tabular
from rocompare.analysis.tabular import Game
from rocompare.envs.matrix_game import MatrixGame
from rocompare.learn.ro import Grid, executed_ro
from tests.support.helpers import line

CLIMBING = torch.tensor([[11.0, -30, 0], [-30, 7, 6], [0, 0, 5]])


@st.composite
def games(draw):
    """A game of 1 to 3 states and 2 or 3 agents of 2 or 3 actions, a generator, a temperature."""
    states = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(2, 3), min_size=2, max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    reward = 10 * torch.randn(states, *sizes, generator=generator, dtype=torch.float64)
    logits = 2 * torch.randn(states, *sizes, states, generator=generator, dtype=torch.float64)
    gamma = draw(st.sampled_from([0.0, 0.5, 0.9]))
    alpha = draw(st.sampled_from([0.3, 1.0, 10.0]))
    return Game(reward, logits.softmax(-1), gamma), generator, alpha


def soft_value_iteration(game, alpha, rounds=600):
    """The optimal soft Q, without policies: an independent formula."""
    q = torch.zeros_like(game.reward)
    for _ in range(rounds):
        value = alpha * (q / alpha).flatten(1).logsumexp(1)
        q = game.reward + game.gamma * game.transition @ value
    return q


@settings(max_examples=60, deadline=None)
@given(games(), st.booleans())
def test_evaluation_converges_to_the_policys_soft_q(drawn, nested):
    game, generator, alpha = drawn
    policy = tabular.factors(game, nested, generator)
    limit = tabular.evaluate(game, policy, alpha)
    q = 100 * torch.randn(game.reward.shape, generator=generator, dtype=torch.float64)
    error = (q - limit).abs().max().item()
    for k in range(1, 30):
        q = tabular.backup(game, q, policy, alpha)
        assert (q - limit).abs().max().item() <= error * game.gamma**k + 1e-9 * (1 + error)


@settings(max_examples=150, deadline=None)
@given(games(), st.booleans(), st.data())
@pytest.mark.slow
def test_improvement_of_any_agent_never_lowers_q(drawn, nested, data):
    game, generator, alpha = drawn
    policy = tabular.factors(game, nested, generator)
    q = tabular.evaluate(game, policy, alpha)
    for _ in range(4):
        agent = data.draw(st.integers(0, game.n_agents - 1))
        policy = tabular.improve(policy, q, alpha, agent)
        total = tabular.joint(policy).flatten(1).logsumexp(1)
        torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-9, rtol=0)
        better = tabular.evaluate(game, policy, alpha)
        assert (better >= q - 1e-8 * (1 + q.abs())).all()
        q = better


@settings(max_examples=40, deadline=None)
@given(games())
def test_one_nested_round_is_the_soft_policy_itself(drawn):
    game, generator, alpha = drawn
    policy = tabular.factors(game, True, generator)
    q = tabular.evaluate(game, policy, alpha)
    for agent in reversed(range(game.n_agents)):
        policy = tabular.improve(policy, q, alpha, agent)
    expected = (q / alpha).flatten(1).log_softmax(1)
    torch.testing.assert_close(tabular.joint(policy).flatten(1), expected, atol=1e-8, rtol=1e-8)


@settings(max_examples=40, deadline=None)
@given(games())
@pytest.mark.slow
def test_nested_iteration_reaches_the_best_soft_q(drawn):
    game, generator, alpha = drawn
    policy = tabular.iterate(game, tabular.factors(game, True, generator), alpha, 60)
    best = soft_value_iteration(game, alpha)
    got = tabular.evaluate(game, policy, alpha)
    torch.testing.assert_close(got, best, atol=1e-5, rtol=1e-6)
    other = tabular.evaluate(game, tabular.factors(game, True, generator), alpha)
    assert (got >= other - 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(games())
@pytest.mark.slow
def test_annealed_nested_iteration_finds_the_optimal_joint_action(drawn):
    game, generator, _ = drawn
    policy = tabular.factors(game, True, generator)
    policy = tabular.anneal(game, policy, [10.0, 1.0, 0.1, 0.01], 40)
    hard = torch.zeros_like(game.reward)
    for _ in range(600):
        hard = game.reward + game.gamma * game.transition @ hard.flatten(1).amax(1)
    # The entropy's bonus is at most alpha log |U| in every step.
    slack = 0.01 * math.log(game.reward[0].numel()) / (1 - game.gamma)
    got = tabular.evaluate(game, policy, 0.01)
    assert (got - hard).abs().max().item() <= slack + 1e-6


def test_improvement_by_hand():
    # Independent agents, the second plays its columns with 1/2 and 1/2: rows are worth 1 and 2.
    game = tabular.one_step(torch.tensor([[2.0, 0.0], [1.0, 3.0]]))
    policy = tabular.improve(tabular.factors(game, False), game.reward, 1.0, 0)
    expected = torch.tensor([1.0, 2.0]).double().softmax(0)
    torch.testing.assert_close(policy[0].exp().flatten(), expected)
    # The second hears the first: softmax of each row.
    policy = tabular.improve(tabular.factors(game, True), game.reward, 1.0, 1)
    expected = torch.tensor([[2.0, 0.0], [1.0, 3.0]]).double().softmax(1)
    torch.testing.assert_close(policy[1].exp()[0], expected)
    # The first, before a uniform second, which leaves it log 2 of entropy either way.
    policy = tabular.improve(tabular.factors(game, True), game.reward, 1.0, 0)
    torch.testing.assert_close(
        policy[0].exp().flatten(), torch.tensor([1.0, 2.0]).double().softmax(0)
    )


@pytest.mark.parametrize("nested", [True, False])
def test_only_nested_agents_leave_the_climbing_games_hill(nested):
    game = tabular.one_step(CLIMBING)
    alphas = [100 * 0.7**k for k in range(25)]
    policy = tabular.anneal(game, tabular.factors(game, nested), alphas, 20)
    at = tabular.joint(policy)[0].exp()
    best = int(at.argmax())
    assert at.flatten()[best] > 0.99
    assert CLIMBING.flatten()[best] == (11 if nested else 7)


def beliefs_of(policy):
    """The policy's own marginals as draws for ``Grid.perceived_ro``, in exact proportion."""
    count = (1000 * tabular.joint(policy)[0].exp()).round().long()
    rows = [
        torch.tensor([j - 1.0, k - 1.0]).expand(int(count[j, k]), -1)
        for j, k in itertools.product(range(3), range(3))
    ]
    draws = torch.cat(rows).unsqueeze(-1)  # [K, 2, 1]
    return draws.expand(1, 2, 1, -1, -1, -1)


@pytest.mark.parametrize(("nested", "regret"), [(True, 0.0), (False, 4.0)])
def test_converged_and_annealed_policies_are_free_of_ro_only_if_nested(nested, regret):
    """Theorems 3.1 and 3.2: 0 and 0 for nested agents; independent ones believe in the 7."""
    game = tabular.one_step(CLIMBING)
    alphas = [100 * 0.7**k for k in range(30)]
    policy = tabular.anneal(game, tabular.factors(game, nested), alphas, 20)
    env = MatrixGame(MatrixGame.Config(), [0], 1)
    grid = Grid(env.reward, 2, 0.06, line(3))
    draws = beliefs_of(policy)
    assert grid.perceived_ro(draws).item() == pytest.approx(regret, abs=0.05)
    assert executed_ro(env.reward, draws[:, 0, 0], line(201)).item() == pytest.approx(0, abs=1e-5)


def test_a_converged_policy_at_any_temperature_is_free_of_perceived_ro():
    """Theorem 3.1 is about the optimal policy at the same alpha, however random it is."""
    game = tabular.one_step(CLIMBING)
    policy = tabular.iterate(game, tabular.factors(game, True), 5.0, 3)
    env = MatrixGame(MatrixGame.Config(), [0], 1)
    assert Grid(env.reward, 2, 5.0, line(3)).perceived_ro(beliefs_of(policy)).item() < 0.02
