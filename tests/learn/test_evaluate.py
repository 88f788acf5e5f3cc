"""Evaluations: first episodes, in every way of executing a policy, and RO beside them."""

import math

import pytest
import torch

from rocompare import api
from rocompare.envs.discrete_matrix_game import DiscreteMatrixGame
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.envs.particle_gather import ParticleGather
from rocompare.learn import evaluate, ro
from rocompare.learn.evaluate import RO, Evaluation, aside, executions, play
from rocompare.learn.rng import Streams
from tests.support.helpers import CPU, make_spec
from tests.support.probe import Recorder, Sharer, Walk

SEEDS = (3, 1)


class Still(api.Algorithm):
    """Plays ``action [N]``, and draws a number for each action that it chooses."""

    actions = ("continuous", "discrete")
    action = (0.0, 0.0)

    def __init__(self, spec, seeds=SEEDS):
        super().__init__(spec, None, seeds, CPU)
        self.noise = Streams(seeds, "execute")
        self.replay = None
        self.asked = []

    def act(self, obs, mode, progress):
        self.asked.append((mode, progress))
        self.noise.normal(obs.shape[1])
        action = torch.tensor(self.action).view(1, 1, -1, 1)
        return action.expand(*obs.shape[:2], -1, -1)

    def observe(self, transition):
        raise AssertionError("evaluations are not learnt from")

    def update(self, progress):
        raise AssertionError("evaluations are not learnt from")


def of(cls, **params):
    """The environment with 4 copies of each seed."""
    return cls(cls.Config(**params), SEEDS, 4)


def test_ways_of_execution_are_those_that_an_algorithm_has():
    spec = make_spec()
    for cls, modes in (
        (Recorder, ("decentralised", "deterministic")),
        (Sharer, ("decentralised", "deterministic", "shared")),
    ):
        assert executions(cls(spec, cls.Config(), SEEDS, CPU)) == modes


def test_an_episode_of_each_copy_is_played_in_one_mode():
    env = of(Walk, stop=0.0, horizon=3)
    algorithm = Still(env.spec)
    found = play(env, algorithm, "deterministic", 0.25, 4)
    assert algorithm.asked == [("deterministic", 0.25)] * 3
    assert found.returns.tolist() == [[3.0] * 4] * 2
    assert found.basin.tolist() == [[0] * 4] * 2
    assert found.in_optimum().tolist() == [1.0, 1.0]
    assert found.actions is None
    assert found.path is None


def test_only_first_episodes_count():
    """Walks end by chance; what a copy's next episode returns is not added."""
    env = of(Walk, stop=0.5, horizon=50)
    found = play(env, Still(env.spec), "decentralised", 0.0, 4)
    # When each walk stops, from the environment's own numbers: its first draw below a half.
    draws = Streams(SEEDS, "env")
    stops = torch.stack([draws.uniform(4) < 0.5 for _ in range(50)])
    assert found.returns.tolist() == (stops.float().argmax(0) + 1).tolist()
    assert found.basin.tolist() == [[1] * 4] * 2
    assert len({*found.returns.flatten().tolist()}) > 1


def test_copies_whose_episode_is_over_may_rest():
    """They are told after each step but the last, from which nothing follows."""
    env = of(Walk, stop=0.5, horizon=50)
    told = []
    env.rest = lambda done: told.append(done.clone())
    found = play(env, Still(env.spec), "decentralised", 0.0, 4)
    lengths = found.returns.long()
    assert len(told) == lengths.max() - 1
    for i, done in enumerate(told, 1):
        assert torch.equal(done, lengths <= i)


def test_a_share_of_the_episodes_is_in_the_optimum():
    basin = torch.tensor([[0, 0, 1, 2], [1, 1, 1, 0], [0, 0, 0, 0]])
    one = Evaluation(torch.zeros(3, 4), basin, None)
    assert one.in_optimum().tolist() == [0.5, 0.25, 1.0]


def test_a_game_of_one_step_keeps_its_actions():
    env = of(MaxOfThree)
    algorithm = Still(env.spec)
    algorithm.action = (0.7, 0.7, -0.3)
    found = play(env, algorithm, "decentralised", 0.0, 4)
    assert found.returns.flatten().tolist() == pytest.approx([10.0] * 8, abs=1e-4)
    torch.testing.assert_close(found.actions, torch.tensor([0.7, 0.7, -0.3]).expand(2, 4, 3))


def test_a_stochastic_game_of_one_step_returns_its_mean_reward():
    """Each entry of (b, b), 7, is 14 or 0."""
    env = of(DiscreteMatrixGame, game="fully_stochastic_climbing")
    algorithm = Still(env.spec)
    choice = torch.tensor([0.0, 1.0, 0.0])
    algorithm.act = lambda obs, mode, progress: choice.expand(*obs.shape[:2], 2, 3)
    assert play(env, algorithm, "decentralised", 0.0, 4).returns.tolist() == [[7.0] * 4] * 2


def test_a_path_is_that_of_the_first_episode():
    """Both particles go outwards to their corner and never enter."""
    env = of(ParticleGather, horizon=3)
    algorithm = Still(env.spec)
    algorithm.action = (1.0, 1.0, -1.0, -1.0)
    found = play(env, algorithm, "decentralised", 0.0, 4)
    assert found.path.shape == (2, 4, 2, 2)
    start = of(ParticleGather, horizon=3)
    assert torch.equal(found.path[:, 0], start.positions(start.reset())[:, 0])
    assert found.path[:, 3].tolist() == [[[1.0, 1.0], [-1.0, -1.0]]] * 2


def test_a_path_ends_with_its_episode():
    """Straight to the landmark: reached in one step, after which the path is NaN."""
    env = of(ParticleGather, horizon=3)
    algorithm = Still(env.spec)

    def act(obs, mode, progress):
        first, second = (-obs[:, :, 0, i : i + 2] for i in (0, 2))
        away = torch.cat([first[:1], -first[1:]])  # only the first seed's particles enter
        return torch.cat([away, second], -1).unsqueeze(-1)

    algorithm.act = act
    found = play(env, algorithm, "decentralised", 0.0, 4)
    assert found.returns.tolist() == [[5.0] * 4, [-1.0] * 4]
    assert found.basin.tolist() == [[0] * 4, [2] * 4]
    assert torch.equal(found.path[0, 1], torch.zeros(2, 2))
    assert found.path[:, :2].isfinite().all()
    assert found.path[:, 2:].isnan().all()


@pytest.mark.parametrize("horizon", [1, 5])
def test_an_evaluation_takes_the_numbers_of_one_action(horizon):
    """However long its episodes last: a seed's numbers must not depend on others'."""
    env = of(Walk, stop=0.0, horizon=horizon)
    algorithm, other = Still(env.spec), Still(env.spec)
    play(env, algorithm, "decentralised", 0.0, 4)
    other.act(env.reset(), "decentralised", 0.0)
    assert torch.equal(algorithm.noise.uniform(5), other.noise.uniform(5))
    assert torch.equal(algorithm.noise.normal(5), other.noise.normal(5))


def test_streams_are_put_back_also_after_a_failure():
    algorithm, untouched = Still(make_spec()), Still(make_spec())
    with pytest.raises(ValueError, match="on purpose"), aside(algorithm):
        algorithm.noise.normal(100)
        raise ValueError("on purpose")
    assert torch.equal(algorithm.noise.normal(5), untouched.noise.normal(5))


# RO


def test_ro_is_due_at_every_evaluation_of_a_game_of_one_step():
    env = of(MaxOfThree)
    measured = RO(env.spec, env, Still(env.spec), CPU)
    assert [measured.due(later) for later in range(7)] == [True] * 7


def test_ro_by_rollouts_is_due_at_every_fifth_evaluation_counted_from_the_last():
    env = of(ParticleGather)
    measured = RO(env.spec, env, Still(env.spec), CPU)
    assert [measured.due(later) for later in range(11)] == [i in (0, 5, 10) for i in range(11)]


def test_ro_is_never_due_where_it_cannot_be_measured():
    env = of(Walk)  # of several steps, and without fork
    assert not RO(env.spec, env, Still(env.spec), CPU).due(0)


@pytest.mark.parametrize(
    ("action", "expected"),
    [((0.7, 0.7, -0.3), 0.0), ((0.7, 0.4, -0.3), 3.0), ((0.7, 0.7, 0.0), 3.0)],
)
def test_executed_ro_of_a_game_of_one_step(action, expected):
    """s2 = 3: 10 - 3^2 / 3 = 7 is answered with 10."""
    env = of(MaxOfThree, s2=3.0)
    algorithm = Still(env.spec)
    algorithm.action = action
    found = play(env, algorithm, "decentralised", 0.0, 4)
    measured = RO(env.spec, env, algorithm, CPU)
    gain = measured.executed(found, lambda: pytest.fail("no copies are needed"), 0.0)
    assert gain.tolist() == pytest.approx([expected] * 2, abs=1e-4)


def test_executed_ro_of_a_longer_game_is_that_of_decentralised_execution(monkeypatch):
    env = of(ParticleGather)
    algorithm, untouched = Still(env.spec), Still(env.spec)
    algorithm.action = (0.0,) * 4
    closed = []

    class Answers(ParticleGather):
        def close(self):
            closed.append(self)

    def rollouts(env, act, aside):
        act(env.reset())
        with aside():
            act(env.reset())
        return torch.tensor([1.5, 2.5])

    monkeypatch.setattr(ro, "rollout_ro", rollouts)
    found = Evaluation(torch.zeros(2, 4), torch.zeros(2, 4), None)
    gain = RO(env.spec, env, algorithm, CPU).executed(found, lambda: of(Answers), 0.5)
    assert gain.tolist() == [1.5, 2.5]
    assert algorithm.asked == [("decentralised", 0.5)] * 2
    assert len(closed) == 1
    assert torch.equal(algorithm.noise.normal(5), untouched.noise.normal(5))


def test_copies_are_closed_when_measuring_fails(monkeypatch):
    env = of(ParticleGather)
    closed = []
    monkeypatch.setattr(evaluate, "close", closed.append)
    monkeypatch.setattr(ro, "rollout_ro", lambda *arguments: 1 / 0)
    found = Evaluation(torch.zeros(2, 4), torch.zeros(2, 4), None)
    with pytest.raises(ZeroDivisionError):
        RO(env.spec, env, Still(env.spec), CPU).executed(found, lambda: env, 0.0)
    assert closed == [env]


class Sure(Still):
    """Agents that are certain of the joint action ``action``."""

    def beliefs(self, own, k, streams):
        assert own.shape == (2, 3, 41, 1)
        assert own[0, 0, :, 0].tolist() == pytest.approx(torch.linspace(-1, 1, 41).tolist())
        return torch.tensor(self.action).view(1, 1, 1, 1, 3, 1).expand(2, 3, 1, k, 3, 1)


@pytest.mark.parametrize(
    ("action", "expected"), [((0.7, 0.7, -0.3), 0.0), ((-0.5, -0.5, 0.3), 10.0)]
)
def test_perceived_ro_is_that_of_the_beliefs(action, expected):
    """Beliefs of the optimum cost nothing, those of the safe hill the optimum: 10 - 0."""
    env = of(MaxOfThree, s2=1.5)
    algorithm = Sure(env.spec)
    algorithm.action = action
    regret = RO(env.spec, env, algorithm, CPU).perceived(Streams(SEEDS, "beliefs"), 2)
    assert regret.tolist() == pytest.approx([expected] * 2, abs=0.2)


def test_perceived_ro_of_an_algorithm_without_beliefs_is_unknown():
    env = of(MaxOfThree)
    regret = RO(env.spec, env, Still(env.spec), CPU).perceived(Streams(SEEDS, "beliefs"), 2)
    assert [math.isnan(value) for value in regret.tolist()] == [True, True]


def test_environments_without_close_need_none():
    evaluate.close(of(MaxOfThree))
    env = of(Walk)
    assert "env" in Walk.open
    evaluate.close(env)
    assert "env" not in Walk.open
