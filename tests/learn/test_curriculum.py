"""Curricula on the reward: the schedule, what becomes of the buffer, and what suites may say."""

import math

import pytest
import torch

from rocompare.api import EnvSpec, Transition
from rocompare.errors import SuiteError
from rocompare.learn.curriculum import STAGES, value_at
from rocompare.learn.engine import Interrupted, _Training, train_cell
from rocompare.learn.replay import Replay
from rocompare.suite.load import parse_suite

CPU = torch.device("cpu")
SUITE = """
name: eased
seeds: [2, 5]
budget: {env_steps: 100}
evaluation: {episodes: 4, points: 4}
algorithms: {it: {use: maddpg, hidden: 8, batch_size: 16, %s}}
scenarios: {game: {%s}}
"""
HILLS = "env: max_of_three, s2: 1.5"


def cell(curriculum="curriculum: {s2: 20}", env=HILLS):
    return parse_suite(SUITE % (curriculum, env)).cells()[0]


def test_values_between_numbers_of_one_sign_are_geometric_else_linear():
    assert value_at(0.5, 20, 5) == pytest.approx(10)
    assert value_at(0.5, -1, -100) == pytest.approx(-10)
    assert value_at(0.25, 10, -30) == 0
    assert value_at(0.5, 0, -6) == -3
    assert [value_at(share, 20, 1.5) for share in (0, 1, 1.2)] == [20, 1.5, 1.5]


def test_the_target_is_reached_and_evaluations_are_on_it():
    training = _Training(cell("curriculum: {s2: 20, until: 0.5}"), CPU)
    seen = []
    for _ in range(100):
        training.advance()
        seen.append(training.env.config.s2)
    assert seen[0] == 20
    assert seen[:50] == sorted(seen[:50], reverse=True)
    assert len(set(seen)) == STAGES + 1
    assert seen[49] > 1.5 and set(seen[50:]) == {1.5}
    assert training.make_env(1, "evaluation/0").config.s2 == 1.5
    best = torch.tensor([[[0.7], [0.7], [-0.3]]])
    assert training.ro.reward(best).item() == pytest.approx(10, abs=1e-4)


def test_rewards_of_the_buffer_are_those_of_the_task_in_force():
    training = _Training(cell(), CPU)
    for _ in range(40):
        training.advance()
    replay = training.algorithm.replay
    rows = replay.rows[:, : replay.size]
    action = rows[:, :, replay.fields["action"][0]].unflatten(-1, (3, 1))
    reward = rows[:, :, replay.fields["reward"][0]].squeeze(-1)
    stage = math.floor(39 / 60 * STAGES)
    assert training.env.config.s2 == pytest.approx(20 * (1.5 / 20) ** (stage / STAGES))
    torch.testing.assert_close(reward, training.env.reward(action))
    assert replay.size == 40


@pytest.mark.parametrize(("buffer", "most"), [("fresh", 3), ("2", 5)])
def test_what_the_buffer_keeps(buffer, most):
    training = _Training(cell(f"curriculum: {{s2: 20, buffer: {buffer}}}"), CPU)
    sizes = []
    for _ in range(60):
        training.advance()
        sizes.append(training.algorithm.replay.size)
    assert max(sizes) == most  # a stage lasts three steps
    training.advance()
    training.advance()
    assert training.algorithm.replay.size == most - 3 + 2  # the target's buffer grows


def test_forgetting_keeps_the_newest_across_the_rings_end():
    spec = EnvSpec(1, 1, 1, 1, 1.0, 0.0, ("a",), constant_obs=True)
    replay = Replay(spec, 5, (0,), CPU)
    zero = torch.zeros(1, 1, 1, 1)
    off = torch.zeros(1, 1, dtype=torch.bool)

    def add(*values):
        for value in values:
            replay.add(Transition(zero, zero, torch.tensor([[value]]), zero, off, off))

    def held():
        return replay.rows[0, : replay.size, replay.fields["reward"][0]].flatten().tolist()

    add(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert sorted(held()) == [2, 3, 4, 5, 6]
    replay.forget(3)
    assert held() == [4, 5, 6]
    add(7.0, 8.0, 9.0)
    assert sorted(held()) == [5, 6, 7, 8, 9]
    replay.forget(9)
    assert sorted(held()) == [5, 6, 7, 8, 9]
    replay.forget(0)
    replay.relabel(lambda action: action.sum((-2, -1)))
    assert held() == []
    add(1.0)
    replay.relabel(lambda action: action.sum((-2, -1)) + 7)
    assert held() == [7]


def test_longer_games_keep_the_rewards_that_were_given():
    training = _Training(
        cell("curriculum: {penalty: 0.0}", "env: particle_gather, horizon: 3"), CPU
    )
    assert training.spec.horizon == 3
    for _ in range(20):
        training.advance()
    assert training.env.config.penalty == pytest.approx(-1 * math.floor(19 / 60 * STAGES) / STAGES)
    assert training.algorithm.replay.size == 20


@pytest.mark.parametrize("stop_at", [1, 31, 80])
def test_it_resumes_bit_for_bit(stop_at, tmp_path):
    path = tmp_path / "checkpoint.pt"
    whole = train_cell(cell())
    asked = iter(range(1, 200))
    with pytest.raises(Interrupted):
        train_cell(cell(), should_stop=lambda: next(asked) >= stop_at, checkpoint=path)
    continued = train_cell(cell(), checkpoint=path)
    assert [one.model_copy(update={"seconds": 0}) for one in continued] == [
        one.model_copy(update={"seconds": 0}) for one in whole
    ]


def test_it_is_part_of_the_key_and_its_absence_is_not():
    plain = cell("gamma: 0.95")
    assert "curriculum" not in plain.resolved()["algorithm"]
    eased = cell()
    assert eased.resolved()["algorithm"]["curriculum"] == {
        "until": 0.6, "buffer": "keep", "s2": 20.0,
    }  # fmt: skip
    keys = {plain.key, eased.key, cell("curriculum: {s2: 10}").key}
    keys |= {cell("curriculum: {s2: 20, until: 0.5}").key}
    assert len(keys) == 4


def test_a_scenario_takes_what_it_has_and_may_have_its_own():
    suite = parse_suite(
        """
name: eased
seeds: 1
budget: {env_steps: 10}
evaluation: {episodes: 1, points: 1}
algorithms: {it: {use: maddpg, curriculum: {s2: [20, 1.5], k: 10}}}
scenarios:
  hills: {env: max_of_three, s2: 1.5}
  climbing: {env: matrix_game}
  own: {env: max_of_three, s2: 1.0, algorithms: {it: {gamma: 0.9, curriculum: {s2: 5}}}}
"""
    )
    trainings = {one.scenario.name: _Training(one, CPU) for one in suite.cells()}
    ranges = {name: one.schedule.ranges for name, one in trainings.items()}
    assert ranges == {
        "hills": {"s2": (20, 1.5)}, "climbing": {"k": (10, -30)}, "own": {"s2": (5, 1.0)},
    }  # fmt: skip
    trainings["climbing"].advance()  # a game that no suite may ask for
    assert trainings["climbing"].env.config.k == 10


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        ("curriculum: {s3: 20}", "it changes s3, and what can be changed is s2, s1, height"),
        ("curriculum: {a1: 20}", "what can be changed is s2, s1, height"),
        ("curriculum: {s2: -1}", "'s2' cannot be set to -1.0: Input should be greater than 0"),
        ("curriculum: {s2: [20, 2.0]}", "'s2' ends at 2, and the scenario's is 1.5"),
        ("curriculum: {s2: wide}", "s2"),
        ("curriculum: {s2: 20, until: 0}", "until"),
        ("curriculum: {s2: 20, buffer: some}", "buffer"),
        ("curriculum: {until: 0.5}", "expected a parameter of the environment"),
        ("curriculum: 20", "curriculum"),
        ("curriculum: {s2: .nan}", "s2"),
    ],
)
def test_a_wrong_curriculum_is_refused_when_the_suite_is_read(curriculum, message):
    with pytest.raises(SuiteError, match=r"^<suite>:\d+: ") as raised:
        cell(curriculum)
    assert message in str(raised.value)


def test_an_environment_without_settable_parameters_has_no_curriculum():
    with pytest.raises(SuiteError, match="what can be changed is nothing"):
        cell("curriculum: {s2: 20}", 'env: "tests.support.probe:Walk"')


@pytest.mark.slow
def test_it_overcomes_what_the_plain_algorithm_does_not(tmp_path):
    """Three of twenty seeds of MADDPG solve this game without it."""
    text = (
        SUITE.replace("[2, 5]", "6").replace("100}", "1000}").replace("episodes: 4", "episodes: 20")
    )
    eased = parse_suite(text % ("curriculum: {s2: 20, buffer: 200}", HILLS)).cells()[0]
    records = train_cell(eased)
    returns = [sum(one.returns["decentralised"]) / 20 for one in records]
    assert min(returns) > 9
