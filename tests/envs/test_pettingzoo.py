"""Environments as PettingZoo environments, and PettingZoo environments as scenarios."""

import gc
import math
import sys
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from rocompare.api import EnvSpec, Step
from rocompare.dev import doctor
from rocompare.dev.checks import CPU
from rocompare.envs.parallel import Parallel, of_factory
from rocompare.errors import SuiteError, UnfitEnvironment
from rocompare.execute.runner import ExecutorSettings, run_suite
from rocompare.learn.engine import train_cell
from rocompare.learn.evaluate import play as play_episodes
from rocompare.learn.rng import derive
from rocompare.results.reader import Results
from rocompare.suite import registry
from rocompare.suite.load import load_suite, parse_suite
from tests.support.made_up import run

pytest.importorskip("pettingzoo")
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

with warnings.catch_warnings():  # newer versions of PettingZoo import their own deprecated games
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import parallel_api_test, parallel_seed_test

from rocompare.envs.pettingzoo import RocompareParallelEnv, parallel_env

OURS = [name for name in registry.ENVIRONMENTS if name not in ("pettingzoo", "mamujoco")]
HERE = "tests.envs.test_pettingzoo"


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
    opened = 0
    """Copies made and not closed, of this class and those derived from it."""

    def __init__(self):
        Countdown.opened += 1

    def close(self):
        Countdown.opened -= 1

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
        assert all(self.action_space(agent).contains(x) for agent, x in actions.items())
        self.age += 1
        factor = {"a": 1, "b": 2}
        rewards = {agent: factor[agent] * float(np.ravel(x)[0]) for agent, x in actions.items()}
        over = self.age >= self.horizon
        done = {agent: over or (agent == "b" and self.age >= 2) for agent in self.agents}
        obs = self._obs()
        self._leave(done)
        return obs, rewards, done, dict.fromkeys(done, False), {agent: {} for agent in done}

    def _leave(self, done):
        self.agents = [agent for agent in self.agents if not done[agent]]


class Lingering(Countdown):
    """Whose ``agents`` stay filled: it says who is done, and expects actions all the same."""

    def _leave(self, done):
        pass


class Narrow(Countdown):
    """Bounds that rounding steps over: 0.2 of float32 is 0.20000000298."""

    spaces: ClassVar = {
        "a": Box(np.float32(-0.1), np.float32(0.2), (1,), np.float32),
        "b": Box(-1 / 3, 0.1 + 0.2, (1,), np.float64),
    }

    def action_space(self, agent):
        return self.spaces[agent]


class Numbers(Countdown):
    """Discrete actions 2, 3 and 4."""

    def action_space(self, agent):
        return Discrete(3, start=2)


class Meeting:
    """A game of ours with discrete actions: 1 if both of two agents choose 2, else 0."""

    version = 1

    class Config(BaseModel):
        pass

    def __init__(self, config, seeds, n_envs, stream="env", device="cpu"):
        self.shape = len(seeds), n_envs
        self.spec = EnvSpec(2, 1, 3, 1, 1.0, 0.0, ("optimum", "safe"), discrete=True)

    def reset(self):
        return torch.zeros(*self.shape, 2, 1)

    def step(self, action):
        met = action[..., 2].prod(-1)
        obs, no = self.reset(), torch.zeros(self.shape, dtype=torch.bool)
        return Step(obs, obs, met, ~no, no, 1 - met.long())


def gather():
    return parallel_env("particle_gather", horizon=6)


def meet():
    return RocompareParallelEnv(Meeting, Meeting.Config(), "meeting")


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


IMPORTED = {
    "gather": OfGather,
    "countdown": OfCountdown,
    "lingering": of_factory(f"{HERE}:Lingering", horizon=4),
    "cut off": of_factory(f"{HERE}:Lingering", horizon=3),
    "narrow": of_factory(f"{HERE}:Narrow"),
    "discrete": of_factory(f"{HERE}:Numbers"),
    "there and back": of_factory(f"{HERE}:meet"),
}


@pytest.mark.parametrize("name", IMPORTED)
@pytest.mark.slow
def test_an_imported_environment_keeps_the_contract(name):
    for finding in doctor.examine(IMPORTED[name], "environment"):
        assert finding.problem is None, finding.check


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


def make(name, **params):
    config = Parallel.Config(factory=f"{HERE}:{name}", **{"horizon": 4, **params})
    return Parallel(config, [3, 4], 1, "evaluation", CPU)


def test_an_episode_ends_when_all_agents_have_though_they_stay_listed():
    env = make("Lingering", horizon=25)
    env.reset()
    steps = play(env, 1.0, 1.0, 1.0, 1.0)
    # Means over (a, b), (a, b), a, a: (4 + 8) / 2 twice, then 4.
    assert [s.reward[0, 0].item() for s in steps] == [6.0, 6.0, 4.0, 4.0]
    assert [s.terminated[0, 0].item() for s in steps] == [False, False, False, True]
    assert not any(s.truncated.any() for s in steps)
    assert steps[1].next_obs[0, 0, 1, 0] > 0 == steps[2].next_obs[0, 0, 1, 0]  # b has left


def test_actions_stay_in_their_space():
    """The environment itself asserts that its space contains them."""
    env = make("Narrow")
    env.reset()
    low, high, beyond = play(env, -1.0, 1.0, 7.0)
    assert low.reward[0, 0].item() == pytest.approx((-0.1 - 2 / 3) / 2)
    assert high.reward[0, 0].item() == pytest.approx((0.2 + 0.6) / 2)
    assert beyond.reward[0, 0].item() == np.float32(0.2)  # of a alone
    for value in torch.linspace(-1, 1, 101).tolist():
        play(env, value)


def test_discrete_actions_are_one_hot_in_and_numbers_out():
    env = make("Numbers")
    assert env.spec.discrete and env.spec.action_dim == 3
    env.reset()
    action = torch.zeros(2, 1, 2, 3)
    action[0, 0, 0, 2] = action[0, 0, 1, 0] = 1.0  # a chooses 4, b 2: (4 + 2 * 2) / 2
    action[1, 0, 0, 0] = action[1, 0, 1, 1] = 1.0  # a chooses 2, b 3: (2 + 2 * 3) / 2
    assert env.step(action).reward.tolist() == [[4.0], [4.0]]
    action[1] = action[0].flip(1)  # a chooses 2, b 4: (2 + 2 * 4) / 2
    assert env.step(action).reward.tolist() == [[4.0], [5.0]]


def test_an_exported_game_of_discrete_actions():
    parallel_api_test(meet(), num_cycles=20)
    env = meet()
    assert env.action_space("agent_1") == Discrete(3)
    for choices, reward, basin in (((2, 2), 1.0, "optimum"), ((2, 0), 0.0, "safe")):
        env.reset(seed=1)
        _, rewards, _, _, infos = env.step(dict(zip(env.agents, choices, strict=True)))
        assert rewards == {"agent_0": reward, "agent_1": reward}
        assert infos["agent_0"] == {"basin": basin}
    env.close()


def test_returns_that_nobody_knows():
    env = make("Countdown")
    assert env.spec.optimal_return is None and env.spec.safe_return is None
    assert env.spec.basins == ("all",)
    env.reset()
    for step in play(env, 1.0, 1.0, 1.0, 1.0):
        assert step.basin.tolist() == [[0], [0]]
    with pytest.raises(ValueError, match="give both, or none"):
        make("Countdown", optimal_return=3.0)
    with pytest.raises(ValueError, match="must be larger"):
        make("Countdown", optimal_return=3.0, safe_return=3.0)


def test_rewards_are_scaled_where_an_algorithm_learns_from_them():
    config = OfCountdown.Config(reward_scale=0.25)
    for stream, rewards in (("env", [1.5, 1.5, 1.0, 1.0]), ("evaluation/7", [6.0, 6.0, 4.0, 4.0])):
        env = OfCountdown(config, [3, 4], 1, stream, CPU)
        env.reset()
        steps = play(env, 1.0, 1.0, 1.0, 1.0)
        assert [s.reward[0, 0].item() for s in steps] == rewards
        assert steps[3].basin.tolist() == [[0], [0]]  # 20 is more than 10.5, scaled or not


def test_copies_that_rest():
    env, other = make("Countdown"), make("Countdown")
    for each in (env, other):
        each.reset()
    play(env, 1.0, 1.0)
    env.rest(torch.tensor([[True], [False]]))
    rested, ended = play(env, 1.0, 1.0)
    assert rested.reward.tolist() == [[0.0], [4.0]] and not rested.obs[0].any()
    assert rested.obs[1].any()
    assert ended.terminated.tolist() == [[False], [True]]
    play(other, 1.0, 1.0, 1.0, 1.0)  # both have begun another episode, of env only seed 4
    assert env.episodes == [1, 2] and other.episodes == [2, 2]
    env.reset()
    assert play(env, 1.0)[0].reward.tolist() == [[6.0], [6.0]]


class Uneasy(Countdown):
    """Lasts 3 or 4 steps, by its start; steps are counted."""

    steps = 0

    def reset(self, seed=None, options=None):
        answer = super().reset(seed)
        self.horizon = 3 if self.start < 0.5 else 4
        return answer

    def step(self, actions):
        Uneasy.steps += 1
        return super().step(actions)


def test_an_evaluation_steps_no_episode_on():
    config = Parallel.Config(factory=f"{HERE}:Uneasy", horizon=25)
    env = Parallel(config, [3, 4], 8, "evaluation", CPU)
    algorithm = registry.load("algorithm", "maddpg")
    policy = algorithm(env.spec, algorithm.Config(), [3, 4], CPU)
    Uneasy.steps = 0
    play_episodes(env, policy, "decentralised", 1.0, 8)
    names = [(seed, f"evaluation/copy {i}/episode 0") for seed in (3, 4) for i in range(8)]
    starts = [np.random.default_rng(derive(*name) % 2**31).random() for name in names]
    short = sum(start < 0.5 for start in starts)
    assert 0 < short < 16
    assert Uneasy.steps == 3 * short + 4 * (16 - short)


def test_a_saved_state_does_not_share_memory_with_actions():
    env, again = make("Countdown"), make("Countdown")
    for each in (env, again):
        each.reset()
    action = torch.full((2, 1, 2, 1), -1.0)
    env.step(action)
    action.fill_(1.0)  # whoever gave it uses its memory again
    state = env.state_dict()
    assert state == {"episodes": [1, 1], "played": [[[[-1.0], [-1.0]]], [[[-1.0], [-1.0]]]]}
    again.load_state_dict(state)
    assert torch.equal(env.step(action).obs, again.step(action).obs)


def test_copies_are_closed_once_whoever_ends_them():
    Countdown.opened = 0
    env = make("Countdown")
    assert Countdown.opened == 2
    env.close()
    env.close()
    assert Countdown.opened == 0
    env = make("Countdown")
    del env  # nobody closes it
    gc.collect()
    assert Countdown.opened == 0
    with pytest.raises(UnfitEnvironment):
        make("Uneven")
    assert Countdown.opened == 0


SUITE = """
name: theirs
seeds: 2
budget: {{env_steps: 30}}
evaluation: {{episodes: 2, points: 2}}
algorithms: {{maddpg: {{hidden: 8, batch_size: 4}}}}
scenarios:
  countdown: {{env: pettingzoo, factory: "{factory}", horizon: 4{more}}}
"""


def cell_of(factory, more=""):
    (cell,) = parse_suite(SUITE.format(factory=factory, more=more)).cells()
    return cell


@pytest.mark.parametrize("more", ["", ", optimal_return: 20.0, safe_return: 1.0"])
def test_a_suite_trains_on_it_and_leaves_no_copy_open(more):
    Countdown.opened = 0
    records = train_cell(cell_of(f"{HERE}:Countdown", more))
    assert [record.seed for record in records] == [0, 1]
    for record in records:
        assert not record.diverged
        assert all(0 < value <= 20 for value in record.returns["decentralised"])
    assert Countdown.opened == 0


def test_what_is_learnt_from_is_scaled_and_what_is_reported_is_not(monkeypatch):
    """An episode's rewards are 3, 3, 2 and 2 where every action is 0, and at most 6 a step."""
    learnt = []
    algorithm = registry.load("algorithm", "maddpg")
    observe = algorithm.observe
    monkeypatch.setattr(
        algorithm, "observe", lambda self, what: [learnt.append(what.reward), observe(self, what)]
    )
    records = train_cell(cell_of(f"{HERE}:Countdown", ", reward_scale: 0.001"))
    assert 0 < torch.stack(learnt).max() <= 0.006
    assert all(max(record.returns["decentralised"]) > 0.1 for record in records)


@pytest.mark.slow
def test_readers_of_results_do_not_make_it(tmp_path, monkeypatch):
    known = {"": (None, None), ", optimal_return: 20.0, safe_return: 1.0": (1.0, 20.0)}
    for i, more in enumerate(known):
        suite = parse_suite(SUITE.format(factory=f"{HERE}:Countdown", more=more))
        outcome = run_suite(suite, tmp_path / str(i), ExecutorSettings(jobs=1))
        assert [status.error for status in outcome.cells] == [""]
    monkeypatch.setattr(Parallel, "__init__", None)
    for i, returns in enumerate(known.values()):
        ((cell, _),) = Results(tmp_path / str(i)).by_cell()
        assert (cell.safe_return, cell.optimal_return) == returns


class Failing(Countdown):
    def step(self, actions):
        raise KeyError("no luck")


def test_a_training_that_fails_leaves_no_copy_open():
    Countdown.opened = 0
    with pytest.raises(KeyError):
        train_cell(cell_of(f"{HERE}:Failing"))
    assert Countdown.opened == 0


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
        parse_suite(SUITE.format(factory=factory, more=""))
    assert "scenarios.countdown.factory" in str(info.value)
    assert message in str(info.value)


class Uneven(Countdown):
    def observation_space(self, agent):
        return Box(-9, 9, (2 if agent == "a" else 3,), np.float32)


class UnevenActions(Countdown):
    def action_space(self, agent):
        return Box(0, 1, (2 if agent == "a" else 3,), np.float32)


class UnevenChoices(Countdown):
    def action_space(self, agent):
        return Discrete(2 if agent == "a" else 3)


class Mixed(Countdown):
    def action_space(self, agent):
        return Discrete(2) if agent == "a" else Box(0, 1, (2,), np.float32)


class Unbounded(Countdown):
    def action_space(self, agent):
        return Box(-np.inf, np.inf, (1,), np.float32)


class WholeNumbers(Countdown):
    def action_space(self, agent):
        return Box(0, 4, (1,), np.int32)


class Many(Countdown):
    def action_space(self, agent):
        return MultiDiscrete([3, 3])


class Images(Countdown):
    def observation_space(self, agent):
        return Box(0, 255, (84, 84, 3), np.uint8)


class Masked(Countdown):
    def observation_space(self, agent):
        return Dict({"observation": Box(0, 1, (2,)), "action_mask": Box(0, 1, (3,))})


class Liar(Countdown):
    def observation_space(self, agent):
        return Box(-9, 9, (3,), np.float32)


class OldReset(Countdown):
    def reset(self, return_info=False):
        return super().reset()[0]


class OldAnswer(Countdown):
    def reset(self, seed=None, options=None):
        return super().reset(seed)[0]


class OldStep(Countdown):
    def step(self, actions):
        return super().step(actions)[:4]


class Empty(Countdown):
    possible_agents = ()


class Absent(Countdown):
    def reset(self, seed=None, options=None):
        answer = super().reset(seed)
        self.agents = []
        return answer


class TakesTurns(Countdown):
    agent_selection = "a"


class SingleAgent:
    action_space = Box(0, 1, (1,), np.float32)
    observation_space = Box(0, 1, (1,), np.float32)

    def reset(self, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


def nothing():
    Countdown()


def needs_number(n):
    return Countdown()


THE_ONE = Countdown()


def always_the_same():
    return THE_ONE


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "returned None; it must return the environment"),
        ("needs_number", "missing a required argument: 'n'; name a function that needs no"),
        ("TakesTurns", "makes an AEC environment.*pettingzoo.utils.aec_to_parallel"),
        ("SingleAgent", "makes a SingleAgent, which is no PettingZoo ParallelEnv: it has no poss"),
        ("Empty", "`possible_agents` is empty"),
        ("Absent", "after reset.seed. `agents` is empty"),
        ("OldReset", "reset.. takes no seed; it must be reset.seed=None, options=None."),
        ("OldAnswer", "reset.seed. must return two dictionaries by agent"),
        ("OldStep", "step.actions. must return five dictionaries"),
        ("Uneven", "'b' differs from 'a' in the size of observations, 3 and 2; .*by padding"),
        ("UnevenActions", "'b' differs from 'a' in the size of actions, 3 and 2; .*by padding"),
        ("UnevenChoices", "'b' differs from 'a' in the number of actions, 3 and 2"),
        ("Mixed", "either all must be Box or all Discrete"),
        ("Unbounded", "actions of 'a' are Box.*they need finite bounds"),
        ("WholeNumbers", "actions of 'a' are whole numbers.*make the space Discrete"),
        ("Many", "actions of 'a' are MultiDiscrete.*only Box, of real numbers, or Discrete"),
        ("Images", r"observations of 'a' are images of shape .84, 84, 3."),
        ("Masked", "observations of 'a' are Dict.*let the factory wrap"),
        ("Liar", "'a' observes 2 numbers, and its observation space says 3"),
        ("Failing", "one step of what it makes raised KeyError: 'no luck'"),
    ],
)
def test_environments_that_cannot_be_scenarios(name, message):
    """They are told apart before anything trains, in words, and by name of the factory."""
    config = Parallel.Config(factory=f"{HERE}:{name}", horizon=4)
    with pytest.raises(UnfitEnvironment, match=f"^{HERE}:{name}: .*{message}"):
        Parallel.probe(config)


@pytest.mark.parametrize("name", ["nothing", "needs_number", "TakesTurns", "OldReset", "Images"])
def test_validate_and_doctor_refuse_them_too(name, tmp_path):
    file = tmp_path / "suite.yaml"
    file.write_text(SUITE.format(factory=f"{HERE}:{name}", more=""))
    with pytest.raises(UnfitEnvironment) as expected:
        Parallel.probe(Parallel.Config(factory=f"{HERE}:{name}", horizon=4))
    refused = run("validate", file, "--allow-local-code").exception
    assert isinstance(refused, SuiteError)
    assert refused.problems == [f"{file}:8: scenarios.countdown.factory: {expected.value}"]
    examined = run("doctor", f"{HERE}:{name}", "--allow-local-code").exception
    assert isinstance(examined, UnfitEnvironment)
    assert str(examined) == str(expected.value)


def test_validate_tells_which_actions_an_algorithm_cannot_take(tmp_path):
    file = tmp_path / "suite.yaml"
    file.write_text(SUITE.format(factory=f"{HERE}:Numbers", more=""))
    load_suite(file, allow_local_code=True)  # nobody asked to build it
    Countdown.opened = 0
    assert "its actions are discrete, which" in str(
        run("validate", file, "--allow-local-code").exception
    )
    gc.collect()
    assert Countdown.opened == 0


def test_a_factory_must_make_a_new_environment_each_time():
    with pytest.raises(UnfitEnvironment, match="returned the same object twice"):
        make("always_the_same")


def test_what_can_be_a_scenario_passes_the_probe():
    Countdown.opened = 0
    for name in ("Countdown", "Lingering", "Narrow", "Numbers", "meet"):
        Parallel.probe(Parallel.Config(factory=f"{HERE}:{name}", horizon=4))
    assert Countdown.opened == 0


def test_without_pettingzoo_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    monkeypatch.delitem(sys.modules, "rocompare.envs.pettingzoo")
    with pytest.raises(ImportError, match=r"pip install 'rocompare\[pettingzoo\]'"):
        import rocompare.envs.pettingzoo  # noqa: F401
