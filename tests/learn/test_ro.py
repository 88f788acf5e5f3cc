"""Executed and perceived RO against values worked out by hand."""

import dataclasses
import math
from contextlib import nullcontext

import pytest
import torch

from rocompare import api
from rocompare.envs.discrete_matrix_game import DiscreteMatrixGame
from rocompare.envs.matrix_game import MatrixGame
from rocompare.envs.max_of_n import MaxOfN
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.envs.particle_gather import ParticleGather
from rocompare.envs.predator_prey import PredatorPrey
from rocompare.learn import ro
from rocompare.learn.rng import Streams
from rocompare.learn.ro import Grid, executed_ro, joint_of
from rocompare.suite import registry
from tests.support.helpers import CPU, fill, line, make_batch, make_spec

CLIMB = MatrixGame(MatrixGame.Config(), [0], 1)
THREE = MaxOfThree(MaxOfThree.Config(s2=1.5), [0], 1)
ONE_STEP = make_spec(n_agents=2, obs_dim=1, action_dim=1, horizon=1, constant_obs=True)


def plays(*points):
    """``[1, M, N, 1]``"""
    return torch.tensor(points).unsqueeze(0).unsqueeze(-1)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(-1.0, -1.0)], 0),  # the optimum
        ([(0.0, 0.0)], 0),  # 7 is an equilibrium: no answer is better
        ([(1.0, 1.0)], 1),  # 5; agent 1 answers with 6
        ([(-1.0, 0.0)], 41),  # -30; agent 2 answers with 11, agent 1 with 7 gains only 37
        ([(0.0, -1.0)], 41),  # the same with the agents exchanged
        ([(-1.0, -1.0), (-1.0, 0.0)], 20.5),  # the average of 0 and 41
        # Agent 1 gains 1 at (5) and 37 here, agent 2 0 and 41: the larger of the averages.
        ([(1.0, 1.0), (-1.0, 0.0)], 20.5),
    ],
)
def test_executed_ro_of_the_climbing_game(points, expected):
    assert executed_ro(CLIMB.reward, plays(*points), line(201)).item() == pytest.approx(
        expected, abs=1e-4
    )


def test_executed_ro_of_max_of_three():
    at = [(0.7, 0.7, -0.3), (-0.5, -0.5, 0.3), (0.7, 0.4, -0.3)]
    gains = [executed_ro(THREE.reward, plays(a), line(201)).item() for a in at]
    assert gains == pytest.approx([0, 0, 6], abs=1e-4)  # 10 - 3^2 / 1.5 is answered with 10


def test_seeds_are_apart_and_a_nan_stays():
    action = torch.cat([plays((0.0, -1.0)), plays((math.nan, 0.0)), plays((1.0, 1.0))])
    assert torch.nan_to_num(
        executed_ro(CLIMB.reward, action, line(201)), -7
    ).tolist() == pytest.approx([41, -7, 1])
    grid = Grid(CLIMB.reward, 2, 0.06, line(3))
    draws = action.unsqueeze(1).unsqueeze(1).expand(-1, 2, -1, -1, -1, -1)
    assert grid.perceived_ro(draws).isnan().tolist() == [False, True, False]


DISCRETE = DiscreteMatrixGame(DiscreteMatrixGame.Config(game="fully_stochastic_climbing"), [0], 1)


def chooses(*entries):
    """Joint actions of the discrete game by their numbers: ``[1, M, 2, 3]``."""
    return torch.nn.functional.one_hot(torch.tensor(entries), 3).float().unsqueeze(0)


@pytest.mark.parametrize(
    ("entry", "expected"), [((0, 0), 0), ((1, 1), 0), ((2, 2), 1), ((0, 1), 41), ((1, 2), 1)]
)
def test_executed_ro_of_discrete_actions(entry, expected):
    """Of mean rewards: at (1, 2), 6, agent 2 answers with 7."""
    answers = ro.answers_of(DISCRETE.spec, 99, torch.zeros(1))
    assert answers.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert executed_ro(DISCRETE.reward, chooses(entry), answers).tolist() == [expected]


def test_perceived_ro_of_discrete_actions():
    """Who believes that the other plays the safe action answers with it: 5 instead of 11, or 6
    where agent 1 can make that of it."""
    grid = ro.grid_of(DISCRETE.spec, DISCRETE)
    assert grid.alpha == pytest.approx(0.06)
    for entry, expected in (((0, 0), 0), ((2, 2), 6), ((1, 1), 4)):
        draws = chooses(entry).view(1, 1, 1, 1, 2, 3).expand(1, 2, 1, 8, 2, 3)
        assert grid.perceived_ro(draws).item() == pytest.approx(expected, abs=0.1)
    uniform = chooses((0, 0), (1, 1), (2, 2)).view(1, 1, 1, 3, 2, 3).expand(1, 2, 1, 3, 2, 3)
    # Against a uniform partner agent 1's third action is worth 5/3, agent 2's 11/3, alpha log 3
    # for what is left to chance aside.
    assert grid.perceived_ro(uniform).item() == pytest.approx(11 - 5 / 3, abs=0.1)


def test_executed_ro_of_a_discrete_game_that_lasts():
    """All stand on one cell, and one predator never catches. If the other one does not either, an
    answer is punished. If it always does, it is punished ten times: answers make 10 of -60."""

    class Together(PredatorPrey):
        def _draw(self):
            start, drift = super()._draw()
            return torch.zeros_like(start), drift

    for partner, expected in ((0, 0.0), (5, 70.0)):
        prey = Together(PredatorPrey.Config(motion=0.0), (0, 1), 10, "answers/0")
        assert ro.executed_unavailable(prey.spec, prey) == ""
        choice = torch.nn.functional.one_hot(torch.tensor([0, partner]), 6).float()
        gain = ro.rollout_ro(prey, lambda obs, c=choice: c.expand(*obs.shape[:3], 6), nullcontext)
        assert gain.tolist() == [expected] * 2


def gather(seeds=(0, 1)):
    return ParticleGather(ParticleGather.Config(), seeds, ro.ROLLOUT_EPISODES, "answers/0")


def away(obs):
    """Nobody moves: an equilibrium, since a particle has two agents and entering takes both."""
    return torch.zeros(*obs.shape[:3], 1)


def half(obs):
    """The first particle enters; the second would, but for its y, which goes to the wall."""
    at = obs[:, :, 0].unflatten(-1, (2, 2))
    action = -at.clone()
    action[:, :, 1, 1] = at[:, :, 1, 1].sign()
    return action.flatten(2).unsqueeze(-1)


def late(obs):
    """As ``half``, but nobody moves as long as the first particle stands where episodes begin."""
    action = half(obs)
    started = (obs[..., :2].square().sum(-1) > 0.35).unsqueeze(-1)
    action[:, :, :2] = torch.where(started[:, :, :2], 0.0, action[:, :, :2])
    return action


def test_executed_ro_where_episodes_last():
    # All stay: the return is 0 and no single agent can do better.
    assert ro.rollout_ro(gather(), away, nullcontext).tolist() == [0, 0]
    # -1; agents 1 to 3 can make it 0 by keeping a particle out, agent 4 enters as well: 5.
    assert ro.rollout_ro(gather(), half, nullcontext).tolist() == pytest.approx([6, 6])
    # 0 for 25 steps; agent 4 has no answer, for the first particle never enters.
    assert ro.rollout_ro(gather(), late, nullcontext).tolist() == [0, 0]


class Countdown:
    """Two agents, two steps: ``x <- x + u_1 + u_2``, then the reward is ``-(x - 1)^2``, at the end."""

    spec = make_spec(n_agents=2, horizon=2)

    def __init__(self, n_envs):
        self.x, self.age = torch.zeros(1, n_envs), 0

    def reset(self):
        return self.x.view(1, -1, 1, 1).expand(-1, -1, 2, -1)

    def step(self, action):
        self.x, self.age = self.x + action.sum((2, 3)), self.age + 1
        done = torch.full_like(self.x, self.age == 2, dtype=torch.bool)
        reward = torch.where(done, -(self.x - 1).square(), 0.0)
        obs = self.x.view(1, -1, 1, 1).expand(-1, -1, 2, -1)
        return api.Step(obs, obs, reward, done, ~done & done, done.long())

    def fork(self, copies):
        twin = Countdown(self.x.shape[1] * copies)
        twin.x, twin.age = self.x.repeat_interleave(copies, 1), self.age
        return twin


@pytest.mark.parametrize(("action", "expected"), [(0.0, 1), (-0.25, 4), (-1.0, 24), (0.25, 0)])
def test_answers_look_ahead_to_the_end(action, expected):
    """Both always play ``action``: x ends at four times it.

    0: the return is -1; playing 1 once makes it 0. -0.25: -4; playing 1 and then 0.5 makes it 0.
    -1: -25; playing 1 twice leaves x = 0 and so -1. 0.25: it is 0 already.
    """
    act = lambda obs: torch.full((*obs.shape[:3], 1), action)  # noqa: E731
    gain = ro.rollout_ro(Countdown(3), act, nullcontext)
    assert gain.item() == pytest.approx(expected, abs=1e-6)


def believed(*points):
    """Draws ``[1, 2, 1, K, 2, 1]`` that both agents have."""
    return plays(*points).unsqueeze(1).unsqueeze(1).expand(-1, 2, -1, -1, -1, -1)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(-1.0, -1.0)], 0),  # beliefs of the optimal policy
        ([(0.0, 0.0)], 4),  # 11 - 7: the best beside the middle
        # Agent 1's best beside the last column is worth 6, agent 2's beside the last row 5.
        ([(1.0, 1.0)], 6),
        # Half and half: agent 1 has rows -9.5, -11.5, 0 (11 - 0), agent 2 the same columns with
        # -9.5, -11.5 and 3 (11 - 3); the belief's entropy, log 2, is worth 0.01 log 2.
        ([(-1.0, -1.0), (0.0, 0.0)], 11 - 0.01 * math.log(2)),
    ],
)
def test_perceived_ro_at_a_low_temperature_is_what_beliefs_cost(points, expected):
    grid = Grid(CLIMB.reward, 2, 0.01, line(3))
    assert grid.perceived_ro(believed(*points)).item() == pytest.approx(expected, abs=1e-6)


def test_perceived_ro_at_a_high_temperature_by_hand():
    """Payoffs 2 log 2, 0, 0, 0 at alpha = 2: pi* is 2/5, 1/5, 1/5, 1/5."""
    payoff = [[2 * math.log(2), 0.0], [0.0, 0.0]]

    def reward(action):
        place = ((action.squeeze(-1) + 1) / 2).long()
        return torch.tensor(payoff, dtype=torch.float64)[place[..., 0], place[..., 1]]

    grid = Grid(reward, 2, 2.0, line(2))
    assert grid.log_optimal[0].exp().flatten().tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2])
    # Its marginal is (3/5, 2/5): rows have E[log pi*] = .6 log .4 + .4 log .2 and log .2.
    entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    first = math.exp(0.6 * math.log(0.4) + 0.4 * math.log(0.2) + entropy)
    least = -math.log(first + 0.2 * math.exp(entropy))
    assert grid.least.tolist() == pytest.approx([least, least])
    # Certain of the second column: both rows 1/5, -log(2/5).
    draws = torch.ones(1, 2, 1, 4, 2, 1)
    assert grid.perceived_ro(draws).item() == pytest.approx(2 * (-math.log(0.4) - least))
    # Draws in the marginal's own proportion: no regret.
    column = torch.tensor([-1.0, -1, -1, 1, 1]).view(1, 1, 1, 5, 1, 1).expand(1, 2, 1, 5, 2, 1)
    assert grid.perceived_ro(column).item() == pytest.approx(0, abs=1e-12)


def test_beliefs_may_depend_on_the_own_action():
    """Others that answer the own action optimally: an agent's best is then the optimum."""
    grid = Grid(CLIMB.reward, 2, 0.01, line(3))
    answer = torch.tensor([-1.0, 0.0, 0.0])  # to the first row column 1, else the middle
    draws = answer.view(1, 1, 3, 1, 1, 1).expand(1, 2, 3, 5, 2, 1)
    assert grid.perceived_ro(draws).item() == pytest.approx(0, abs=1e-6)


def test_several_optima_leave_no_regret():
    """pi* of the penalty game plays both corners: beside its marginal the best is the middle row,
    worth 0. Certain of the middle an agent gets 2, so the definition finds no regret."""
    env = MatrixGame(MatrixGame.Config(game="penalty"), [0], 1)
    grid = Grid(env.reward, 2, 0.01, line(3))
    assert grid.least.mul(0.01).tolist() == pytest.approx([10, 10], abs=0.01)
    assert grid.perceived_ro(believed((0.0, 0.0))).item() == 0


def test_three_agents_are_not_mixed_up():
    grid = Grid(THREE.reward, 3, 0.1, line(41))
    q = torch.tensor([0.7, 0.7, -0.3]).view(1, 1, 1, 1, 3, 1).expand(1, 3, 1, 8, 3, 1)
    assert grid.perceived_ro(q).item() == pytest.approx(0, abs=0.1)
    p = torch.tensor([-0.5, -0.5, 0.3]).view(1, 1, 1, 1, 3, 1).expand(1, 3, 1, 8, 3, 1)
    assert grid.perceived_ro(p).item() == pytest.approx(10, abs=0.2)
    swapped = q[..., [2, 1, 0], :]  # agents 1 and 3 exchanged: worse than the safe hill
    assert grid.perceived_ro(swapped).item() > 10


def test_joint_of_puts_others_in_their_places():
    rest = torch.tensor([[1, 2], [2, 0], [0, 1]])
    others = torch.arange(1.0, 7).view(1, 3, 1, 2)  # agent i's own order
    joint = joint_of(others, rest, 1)[0, :, 0, 0, :, 0]
    assert joint.tolist() == [[0, 1, 2], [4, 0, 3], [5, 6, 0]]


def test_what_cannot_be_measured_is_said():
    gather = ParticleGather(ParticleGather.Config(), [0], 1)
    assert ro.executed_unavailable(gather.spec, gather) == ""
    assert "25 steps" in ro.perceived_unavailable(gather.spec, gather, None)
    assert "method fork" in ro.executed_unavailable(gather.spec, object())
    ten = MaxOfN(MaxOfN.Config(n_agents=10), [0], 1)
    maddpg = registry.load("algorithm", "maddpg")
    assert ro.executed_unavailable(ten.spec, ten) == ""
    assert "10 agents" in ro.perceived_unavailable(ten.spec, ten, maddpg)
    assert ro.perceived_unavailable(CLIMB.spec, CLIMB, maddpg) == ""
    assert "beliefs" in ro.perceived_unavailable(CLIMB.spec, CLIMB, object())
    prey = PredatorPrey(PredatorPrey.Config(horizon=51), [0], 1)
    assert "beyond 50" in ro.executed_unavailable(prey.spec, prey)
    assert ro.executed_unavailable(DISCRETE.spec, DISCRETE) == ""
    iql = registry.load("algorithm", "iql")
    assert ro.perceived_unavailable(DISCRETE.spec, DISCRETE, iql) == ""
    many = dataclasses.replace(DISCRETE.spec, n_agents=12)
    assert "for 12 agents is too large (up to 200,000 joint" in ro.perceived_unavailable(
        many, DISCRETE, iql
    )
    for unknown in ("optimal_return", "safe_return"):
        spec = dataclasses.replace(CLIMB.spec, **{unknown: None})
        assert "return is unknown" in ro.perceived_unavailable(spec, CLIMB, maddpg)
        assert ro.executed_unavailable(spec, CLIMB) == ""


BELIEVERS = [
    name for name in registry.ALGORITHMS if hasattr(registry.load("algorithm", name), "beliefs")
]


@pytest.mark.parametrize("name", BELIEVERS)
def test_an_algorithm_says_what_its_agents_believe(name):
    """What else holds of beliefs is a check of `rocompare doctor`. Only PR2's depend on the own
    action."""
    cls = registry.load("algorithm", name)
    spec = ONE_STEP if "continuous" in cls.actions else DISCRETE.spec
    algorithm = cls(spec, cls.Config(), (3, 5), CPU)
    fill(algorithm, make_batch(spec, (3, 5)))
    own = ro.answers_of(spec, 5, torch.zeros(1)).expand(2, 2, -1, -1)
    with torch.no_grad():
        draws = algorithm.beliefs(own, 7, Streams((3, 5), "beliefs"))
    m = 5 if name in ("pr2", "pr2_soft") else 1
    assert draws.shape == (2, 2, m, 7, 2, spec.action_dim)


def test_lenient_beliefs_leave_out_what_is_forgiven():
    cls = registry.load("algorithm", "lenient_madrl")
    algorithm = cls(ONE_STEP, cls.Config(), (0,), CPU)
    batch = make_batch(ONE_STEP, (0,), size=10)
    batch.reward[:] = -1000.0
    batch.reward[0, 3] = 1000.0  # the only outcome better than expected; the others are new
    fill(algorithm, batch)
    with torch.no_grad():
        draws = algorithm.beliefs(torch.zeros(1, 2, 3, 1), 100, Streams((0,), "beliefs"))
    torch.testing.assert_close(draws, batch.action[:, 3].view(1, 1, 1, 1, 2, 1).expand_as(draws))
