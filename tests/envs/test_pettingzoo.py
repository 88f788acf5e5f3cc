"""Environments as PettingZoo environments, and PettingZoo environments as scenarios."""

import math
import sys

import numpy as np
import pytest
import torch

from rocompare.dev import doctor
from rocompare.envs.parallel import Parallel
from rocompare.errors import SuiteError
from rocompare.execute.runner import Engine, run_suite
from rocompare.results import store as results
from rocompare.suite import registry
from rocompare.suite.load import parse_suite
from tests.support.helpers import CPU

pytest.importorskip("pettingzoo")
from gymnasium.spaces import Box, Discrete
from pettingzoo.test import parallel_api_test, parallel_seed_test

from rocompare.envs.pettingzoo import parallel_env

OURS = [name for name in registry.ENVIRONMENTS if name != "pettingzoo"]


@pytest.mark.parametrize("name", OURS)
def test_every_environment_passes_pettingzoos_own_tests(name):
    parallel_api_test(parallel_env(name), num_cycles=300)
    parallel_seed_test(lambda: parallel_env(name), num_cycles=50)


def test_rewards_and_ends_of_an_exported_game():
    env = parallel_env("max_of_three", s2=1.5)
    obs, infos = env.reset(seed=3)
    assert env.agents == ["agent_0", "agent_1", "agent_2"]
    assert obs["agent_1"].tolist() == [0.0] and infos["agent_1"] == {}
    best = {"agent_0": [0.7], "agent_1": [0.7], "agent_2": [-0.3]}
    obs, rewards, terminated, truncated, infos = env.step(best)
    assert rewards == pytest.approx(dict.fromkeys(best, 10.0), abs=1e-4)
    assert all(terminated.values()) and not any(truncated.values())
    assert infos["agent_2"] == {"basin": "optimum"}
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})


def test_an_episode_that_is_cut_off():
    env = parallel_env("particle_gather", horizon=3)
    first, _ = env.reset(seed=5)
    for i in range(3):
        obs, _, terminated, truncated, _ = env.step({agent: [0.0] for agent in env.agents})
        assert obs["agent_0"].tolist() == first["agent_0"].tolist()  # not the next episode's
        assert truncated["agent_3"] == (i == 2)
        assert not terminated["agent_3"]
    second, _ = env.reset()
    assert second["agent_0"].tolist() != first["agent_0"].tolist()
    assert env.reset(seed=5)[0]["agent_0"].tolist() == first["agent_0"].tolist()


class Countdown:
    """Two agents, ``a`` and ``b``; ``b`` leaves after 2 steps. Actions are in ``[0, 4]``.

    Begins at a random time; the reward of ``a`` is its action, of ``b`` twice its own.
    """

    possible_agents = ("a", "b")
    horizon = 4

    def observation_space(self, agent):
        return Box(-9, 9, (2, 1), np.float32)

    def action_space(self, agent):
        return Box(0.0, 4.0, (1,), np.float32)

    def _obs(self):
        return {agent: np.full((2, 1), self.start + self.age) for agent in self.agents}

    def reset(self, seed=None, options=None):
        self.start = np.random.default_rng(seed).random()
        self.agents, self.age = ["a", "b"], 0
        return self._obs(), {"a": {}, "b": {}}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.age += 1
        factor = {"a": 1, "b": 2}
        rewards = {agent: factor[agent] * float(x[0]) for agent, x in actions.items()}
        over = self.age >= self.horizon
        done = {agent: over or (agent == "b" and self.age >= 2) for agent in self.agents}
        obs = self._obs()
        self.agents = [agent for agent in self.agents if not done[agent]]
        return obs, rewards, done, dict.fromkeys(done, False), {agent: {} for agent in done}


class Discretes(Countdown):
    def action_space(self, agent):
        return Discrete(3)


class Uneven(Countdown):
    def observation_space(self, agent):
        return Box(-9, 9, (2 if agent == "a" else 3,), np.float32)


class Unbounded(Countdown):
    def action_space(self, agent):
        return Box(-np.inf, np.inf, (1,), np.float32)


def gather():
    return parallel_env("particle_gather", horizon=6)


class OfGather(Parallel):
    class Config(Parallel.Config):
        factory: str = "tests.envs.test_pettingzoo:gather"
        optimal_return: float = 5.0
        safe_return: float = 0.0
        horizon: int = 6


class OfCountdown(Parallel):
    class Config(Parallel.Config):
        factory: str = "tests.envs.test_pettingzoo:Countdown"
        optimal_return: float = 20.0
        safe_return: float = 1.0
        horizon: int = 4


@pytest.mark.parametrize("cls", [OfGather, OfCountdown])
@pytest.mark.parametrize("check", doctor.ENVIRONMENT_CHECKS)
def test_an_imported_environment_keeps_the_contract(cls, check):
    doctor.ENVIRONMENT_CHECKS[check](cls)


def play(env, *values):
    return [env.step(torch.full((2, 1, 2, 1), value)) for value in values]


def test_steps_by_hand():
    env = OfCountdown(OfCountdown.Config(), [3, 4], 1, "env", CPU)
    assert env.spec.n_agents == 2 and env.spec.obs_dim == 2 and env.spec.action_dim == 1
    start = env.reset()
    assert start.shape == (2, 1, 2, 2)
    assert start[0, 0, 0, 0] != start[1, 0, 0, 0]
    steps = play(env, -1.0, 0.0, 1.0, 1.0)  # 0, 2, 4 and 4 after stretching
    # Means over (a, b), (a, b), a, a: 0, (2 + 4) / 2, 4, 4.
    assert [s.reward[0, 0].item() for s in steps] == [0.0, 3.0, 4.0, 4.0]
    assert [s.terminated[0, 0].item() for s in steps] == [False, False, False, True]
    assert not any(s.truncated.any() for s in steps)
    assert steps[3].basin.tolist() == [[0], [0]]  # 11 is more than 10.5
    torch.testing.assert_close(steps[0].next_obs[0, 0], start[0, 0] + 1)
    assert steps[2].next_obs[0, 0, 1].tolist() == [0.0, 0.0]  # b has left
    assert steps[3].obs[0, 0, 0, 0] < 1 < steps[3].next_obs[0, 0, 0, 0]
    short = OfCountdown(OfCountdown.Config(horizon=3), [3, 4], 1, "env", CPU)
    short.reset()
    steps = play(short, -1.0, 0.0, math.nan)
    assert steps[2].truncated.all() and not steps[2].terminated.any()
    assert steps[2].reward.isnan().all()
    assert steps[2].basin.tolist() == [[1], [1]]


def test_our_own_game_comes_back_as_it_left():
    """The same starts, so that only the rewards' path through PettingZoo is compared."""
    env = OfGather(OfGather.Config(), [1], 1, "env", CPU)
    position = env.reset()[0, 0, 0]
    moved = (position.view(2, 2) + torch.tensor([[0.5, -0.25], [0.1, 0.2]])).clamp(-1, 1)
    step = env.step(torch.tensor([0.5, -0.25, 0.1, 0.2]).view(1, 1, 4, 1))
    torch.testing.assert_close(step.next_obs[0, 0, 0], moved.flatten())
    inside = (moved.square().sum(-1) < 0.16).sum().item()
    assert step.reward.item() == {0: 0.0, 1: -1.0, 2: 5.0}[inside]


SUITE = """
name: theirs
seeds: 2
budget: {{env_steps: 30}}
evaluation: {{episodes: 2, points: 2}}
algorithms: {{maddpg: {{hidden: 8, batch_size: 4}}}}
scenarios:
  countdown: {{env: pettingzoo, factory: "{factory}", optimal_return: 20.0, safe_return: 1.0, horizon: 4}}
"""


def test_a_suite_trains_on_it_and_readers_do_not_make_it(tmp_path, monkeypatch):
    suite = parse_suite(SUITE.format(factory="tests.envs.test_pettingzoo:Countdown"))
    outcome = run_suite(suite, tmp_path, Engine(jobs=1))
    assert [status.error for status in outcome.cells] == [""]
    (config,) = results.load_configs(tmp_path).values()
    assert config["scenario"]["declared"]["optimal_return"] == 20.0
    frame = results.load_results(tmp_path)
    assert (frame["return"] > 0).all()
    monkeypatch.setattr(Parallel, "__init__", None)
    from rocompare.analysis.compare import declared_returns

    assert declared_returns(config["scenario"]) == (1.0, 20.0)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nonsense", "not of the form 'package.module:function'"),
        ("no_such_pkg:make", "cannot import 'no_such_pkg'"),
        ("tests.envs.test_pettingzoo:none", "has no function 'none'"),
    ],
)
def test_factories_that_are_none(factory, message):
    with pytest.raises(SuiteError) as info:
        parse_suite(SUITE.format(factory=factory))
    assert "scenarios.countdown.factory" in str(info.value)
    assert message in str(info.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Discretes", "actions of 'a' are Discrete.3.; only continuous ones"),
        ("Uneven", "'b' differs from 'a' in the size"),
        ("Unbounded", "a finite .A. is needed"),
    ],
)
def test_environments_that_cannot_be_scenarios(name, message):
    with pytest.raises(ValueError, match=message):
        OfCountdown(OfCountdown.Config(factory=f"tests.envs.test_pettingzoo:{name}"), [0], 1)


def test_without_pettingzoo_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    monkeypatch.delitem(sys.modules, "rocompare.envs.pettingzoo")
    with pytest.raises(ImportError, match=r"pip install 'rocompare\[pettingzoo\]'"):
        import rocompare.envs.pettingzoo  # noqa: F401
