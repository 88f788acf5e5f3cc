"""Multi-agent MuJoCo: the robots of Gymnasium, joints shared out; and what is refused."""

import importlib.util

import pytest
import torch
from pydantic import Field, ValidationError, create_model

from rocompare.dev import doctor
from rocompare.envs.mamujoco import PARTITIONS, MaMuJoCo
from rocompare.errors import SuiteError
from rocompare.learn.engine import train_cell
from rocompare.learn.rng import derive
from rocompare.suite.load import parse_suite

INSTALLED = all(importlib.util.find_spec(name) for name in ("gymnasium_robotics", "mujoco"))
needs_mujoco = pytest.mark.skipif(not INSTALLED, reason="the extra [mamujoco] is not installed")
SUITE = """
name: robots
seeds: 2
budget: {{env_steps: 30}}
evaluation: {{episodes: 1, points: 1}}
algorithms: {{maddpg: {{hidden: 8, batch_size: 4}}}}
scenarios:
  robot: {{env: mamujoco, {params}}}
"""


def short(task, partition, horizon=20):
    """The class with these defaults."""
    config = create_model(
        "Config",
        __base__=MaMuJoCo.Config,
        task=(str, task),
        partition=(str, partition),
        horizon=(int, Field(horizon)),
    )
    return type("Short", (MaMuJoCo,), {"Config": config})


def make(task="HalfCheetah", partition="2x3", **params):
    return MaMuJoCo(MaMuJoCo.Config(task=task, partition=partition, **params), [5], 1, "evaluation")


@needs_mujoco
@pytest.mark.parametrize(
    ("task", "partition"),
    [("HalfCheetah", "6x1"), ("Ant", "2x4"), ("CoupledHalfCheetah", "1p1"), ("Humanoid", "9|8")],
)
@pytest.mark.slow
def test_it_keeps_the_contract(task, partition):
    for finding in doctor.examine(short(task, partition), "environment"):
        assert finding.problem is None, finding.check


@needs_mujoco
@pytest.mark.parametrize(
    ("task", "partition", "sizes"),
    [
        # Agents, observations and joints of each, as the library makes them.
        ("HalfCheetah", "2x3", (2, 12, 3)),
        ("HalfCheetah", "6x1", (6, 9, 1)),
        ("Ant", "2x4", (2, 63, 4)),
        ("Ant", "2x4d", (2, 63, 4)),
        ("Ant", "4x2", (4, 42, 2)),
        ("CoupledHalfCheetah", "1p1", (2, 28, 6)),
        ("Hopper", "3x1", (3, 9, 1)),
        ("Humanoid", "9|8", (2, 242, 9)),
        ("HumanoidStandup", "9|8", (2, 242, 9)),
        ("Reacher", "2x1", (2, 10, 1)),
        ("Swimmer", "2x1", (2, 6, 1)),
        ("Walker2d", "2x3", (2, 12, 3)),
    ],
)
def test_every_partition_exists(task, partition, sizes):
    env = make(task, partition)
    spec = env.spec
    assert (spec.n_agents, spec.obs_dim, spec.action_dim) == sizes
    assert spec.optimal_return is None and spec.safe_return is None and spec.basins == ("all",)
    assert env.reset().isfinite().all()
    env.close()


def test_no_partition_is_untested():
    (mark,) = [
        mark for mark in test_every_partition_exists.pytestmark if mark.name == "parametrize"
    ]
    tested = {(task, partition) for task, partition, _ in mark.args[1]}
    assert tested == {(task, one) for task, known in PARTITIONS.items() for one in known}


@needs_mujoco
@pytest.mark.slow
def test_it_is_the_robot_of_gymnasium():
    """Agents 0 and 1 have the joints 0 to 2 and 3 to 5, so that their actions lie side by side."""
    import gymnasium

    env, robot = make(), gymnasium.make("HalfCheetah-v5")
    env.reset()
    robot.reset(seed=derive(5, "evaluation/copy 0/episode 0") % 2**31)
    for i in range(30):
        action = torch.rand(6, generator=torch.Generator().manual_seed(i)) * 2 - 1
        step = env.step(action.view(1, 1, 2, 3))
        obs, reward, *_ = robot.step(action.numpy())
        assert step.reward.item() == pytest.approx(reward, rel=1e-5)
        # Position and velocity of the agent's own joints come first, sorted by name: ffoot, fshin,
        # fthigh, whose positions are the last three of the cheetah's eight.
        torch.testing.assert_close(
            step.next_obs[0, 0, 1, [0, 2, 4]], torch.tensor(obs[[7, 6, 5]]).float()
        )
    assert not (step.terminated | step.truncated).any()
    env.close()
    robot.close()


@needs_mujoco
def test_a_fall_ends_an_episode_and_the_horizon_cuts_it_off():
    env = make("Walker2d", "2x3", horizon=400)
    env.reset()
    ends = [env.step(torch.ones(1, 1, 2, 3)) for _ in range(400)]
    assert any(step.terminated.any() for step in ends)
    assert not any(step.truncated.any() for step in ends)
    env.close()
    env = make(horizon=7)
    env.reset()
    ends = [env.step(torch.zeros(1, 1, 2, 3)) for _ in range(8)]
    assert [bool(step.truncated) for step in ends] == [False] * 6 + [True, False]
    env.close()


@needs_mujoco
def test_unequal_agents_are_padded():
    """Of Humanoid's agents the second observes 170 numbers, not 242, and has 8 joints, not 9."""
    envs = [make("Humanoid", "9|8") for _ in range(2)]
    for env in envs:
        env.reset()
    action = torch.full((1, 1, 2, 9), 0.5)
    one = envs[0].step(action)
    assert (one.next_obs[0, 0, 1, 170:] == 0).all()
    assert one.next_obs[0, 0, 0, 200:].any()
    action[..., 1, 8] = -1.0
    other = envs[1].step(action)
    assert torch.equal(one.next_obs, other.next_obs) and torch.equal(one.reward, other.reward)
    action[..., 1, 7] = -1.0
    assert not torch.equal(envs[0].step(action).next_obs, envs[1].step(-action).next_obs)
    for env in envs:
        env.close()


@needs_mujoco
@pytest.mark.slow
def test_workers_step_it_alike():
    outcomes = []
    for workers in (0, 2):
        config = MaMuJoCo.Config(task="Ant", partition="2x4", workers=workers, horizon=9)
        env = MaMuJoCo(config, [5, 6], 8, "evaluation")
        outcome = [env.reset()]
        for i in range(20):
            numbers = torch.Generator().manual_seed(i)
            outcome.extend(env.step(torch.rand(2, 8, 2, 4, generator=numbers) * 2 - 1))
        outcomes.append(outcome)
        env.close()
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@needs_mujoco
@pytest.mark.slow
def test_a_suite_trains_on_it(capfd):
    (cell,) = parse_suite(SUITE.format(params="horizon: 10, reward_scale: 0.1")).cells()
    records = train_cell(cell)
    assert all(abs(record.returns["decentralised"][0]) < 50 for record in records)
    assert not any(record.diverged for record in records)
    assert "Adroit" not in capfd.readouterr().err  # the library's notice about other environments


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("task: HalfCheeta", "robot.task: no task 'HalfCheeta'; did you mean 'HalfCheetah'?"),
        ("task: Pusher", "robot.task: no task 'Pusher'; known: Ant, CoupledHalfCheetah, Half"),
        (
            "partition: 3x2",
            "robot.partition: HalfCheetah has no partition '3x2'; known: 2x3, 6x1",
        ),
        (
            "partition: 1p1",
            "HalfCheetah has no partition '1p1'; known: 2x3, 6x1; '1p1' is of CoupledHalfCheetah",
        ),
        ("task: Ant", "robot.partition: Ant has no partition '2x3'"),
        ("task: Ant, partition: 2x5", "Ant has no partition '2x5'; did you mean '2x4'?"),
        ("horizon: 1001", "robot.horizon"),
        ("agent_obsk: -1", "robot.agent_obsk"),
        ("reward_scale: 0.0", "robot.reward_scale"),
        ("optimal_return: 9000.0", "give both, or none if not known"),
    ],
)
def test_wrong_parameters_are_refused_when_a_suite_is_read(params, message):
    with pytest.raises(SuiteError) as info:
        parse_suite(SUITE.format(params=params))
    (problem,) = info.value.problems
    assert message in problem


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValidationError,
        match=r"gymnasium_robotics and mujoco not installed: pip install 'rocompare\[mamujoco\]'",
    ):
        MaMuJoCo.Config()
