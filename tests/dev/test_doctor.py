"""`rocompare doctor` finds every break and names it."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn.functional import one_hot

from rocompare import api
from rocompare.dev import doctor
from rocompare.dev.templates.environment import MyEnvironment
from rocompare.envs.particle_gather import ParticleGather
from rocompare.errors import UnknownName
from rocompare.learn.nn import MLP, Adam, seed_mean
from rocompare.learn.rng import Streams
from rocompare.suite import registry
from tests.support.made_up import run

TEMPLATE = Path(doctor.__file__).parent / "templates" / "algorithm.py"
ALGORITHM = TEMPLATE.read_text().replace("Field(64", "Field(8")


def load(folder, text):
    """The class of a changed skeleton."""
    (folder / "code.py").write_text(text)
    place = "./code.py:MyAlgorithm"
    return registry.load("algorithm", place, registry.local_file(place, folder))


def problems(cls, kind):
    return {f.check: f.problem for f in doctor.examine(cls, kind) if f.problem}


CONFIG = "its Config and version are those of an algorithm"
ACTIONS = "actions are [S, E, N, A] in the action space in every mode"
METRICS = "observe and update give metrics per seed"
SAME = "the same seed gives the same result"
ALONE = "a seed in a batch equals the seed alone"
NAN = "a NaN stays in its seed and is reported"
STATE = "a saved state continues bit for bit"
EXECUTION = "executing leaves training alone"
POLICY = "a policy that is kept acts like the algorithm"
BELIEFS = "beliefs, if it has them, are per seed and leave training alone"

STATE_DICT = "    def state_dict(self):\n        state = super().state_dict()\n        {}\n        return state\n"
BELIEVE = """    def beliefs(self, own, k, streams):
        joint = self.replay.sample(k, streams).action
        return joint[:, None, None].expand(-1, self.spec.n_agents, -1, -1, -1, -1)
"""
END = "    def _policy(self"


def added(text, old="", new=""):
    """A method more, with ``old`` replaced by ``new``."""
    assert old in text
    return END, text.replace(old, new) + "\n" + END


@pytest.mark.parametrize(
    ("old", "new", "check", "message"),
    [
        ("version = 1", "version = '1'", CONFIG, "version is '1': an int is needed"),
        ("version = 1", "actions = 'discrete'\n    version = 1", CONFIG, "actions is 'discrete': a tuple of the kinds"),
        ("version = 1", "shares_noise = 1\n    version = 1", CONFIG, "shares_noise is 1: True or False is needed"),
        ("(api.OffPolicyConfig)", "(__import__('pydantic').BaseModel)", CONFIG, "extra='forbid' is missing"),
        ("(api.OffPolicyConfig)", "(__import__('rocompare').envs.base.EnvConfig)", CONFIG, "Config does not extend rocompare.api.Config"),
        ("Field(8, gt=0)", "Field(gt=0)", CONFIG, "Config() cannot be made (fields: hidden): every field needs a default"),
        ("self.replay = Replay(spec, ", "self.replay = Replay(spek, ", CONFIG, "MyAlgorithm.__init__ (line 53) raised NameError: name 'spek' is not defined"),
        (".clamp(-1, 1)", "", ACTIONS, "act(obs, 'explore') left [-1, 1]: an action of"),
        ("        return action\n", "        return action[0]\n", ACTIONS, "has shape (2, 3, 2): [S, E, N, A] is needed, here (3, 2, 3, 2)"),
        ("with torch.no_grad():", "if True:", ACTIONS, "act(obs, 'explore') carries gradients"),
        ('if mode == "explore"', "if True", ACTIONS, "'deterministic') gives another action when asked again"),
        ('"loss": loss.detach().mean(1)', '"loss": loss.detach().mean()', METRICS, "metric 'loss' has shape (): [S] is needed, here (3,)"),
        ('"loss": loss.detach().mean(1)', '"loss": loss.mean(1)', METRICS, "carries gradients"),
        ('return {"loss": loss.detach().mean(1)}', "return loss.detach().mean(1)", METRICS, "update returned Tensor: a dict is needed"),
        ('{"loss": loss.detach().mean(1)}', "{}", METRICS, "update returned no metrics in 1024 steps"),
        ("self.replay.add(transition)", "self.replay.add(*transition)", METRICS, "MyAlgorithm.observe (line 66) raised TypeError"),
        ("self.explore.normal(*action.shape[1:])", "torch.randn_like(action)", SAME, "the action of step 5 differs between two runs of the same seeds"),
        ("Streams(seeds,", "Streams([0] * len(seeds),", SAME, "seeds 3 and 11 explore alike"),
        ("Streams(seeds,", "Streams([s + i for i, s in enumerate(seeds)],", ALONE, "of seed 11 differs when the seed trains alone"),
        ("torch.softmax(batch.reward, 1)", "torch.softmax(batch.reward + batch.reward.mean(), 1) * len(self.seeds)", ALONE, "differs when the seed trains alone (by up to"),
        ("self.actor_adam.step(loss, ", "self.actor_adam.step(loss * loss.detach().mean(), ", NAN, "NaN weights in seed 11 change the action of step 6 of seed 3"),
        ("loss.detach().mean(1)", "loss.detach().mean(1).nan_to_num()", NAN, "in none of update's metrics"),
        (*added(STATE_DICT.format("del state['explore']")), STATE, "after load_state_dict differs"),
        (*added(STATE_DICT.format("del state['replay']")), STATE, "weights, optimiser, memory or random streams are missing"),
        (*added(STATE_DICT.format("state['me'] = self.act")), STATE, "state_dict holds more than tensors"),
        ('if mode == "explore"', "noise = self.explore.normal(*action.shape[1:])\n        if mode == 'explore'", EXECUTION, "depends on whether there were evaluations"),
        ('if mode == "explore"', "self.actor.flat.data += 1e-3 * (mode == 'deterministic')\n        if mode == 'explore'", EXECUTION, "executing changed 'actor' of state_dict"),
        (*added(BELIEVE, "-1, -1, -1, -1)", "-1, -1, -1, -1)[0]"), BELIEFS, "beliefs() has shape (3, 1, 7, 3, 1)"),
        (*added(BELIEVE, "(k, streams)", "(k)"), BELIEFS, "beliefs() changed 'replay' of state_dict"),
        (*added(BELIEVE, "(k, streams).action", "(k, streams).action * 2"), BELIEFS, "beliefs() left [-1, 1]"),
        (*added(BELIEVE, "streams).action", "streams).action * streams.uniform(1).mean()"), BELIEFS, "beliefs() of seed 3 differ when the seed trains alone"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_every_break_of_an_algorithm_is_named(tmp_path, old, new, check, message):
    assert old in ALGORITHM
    cls = load(tmp_path, ALGORITHM.replace(old, new))
    found = doctor.finding(cls, "algorithm", check)
    assert message in (found.problem or ""), found


def test_a_kept_policy_without_a_network_that_acts_is_named(tmp_path):
    first, memory = "class MyAlgorithm(api.Algorithm):\n", "        self.replay = Replay("
    assert first in ALGORITHM and memory in ALGORITHM
    text = ALGORITHM.replace(first, f"{first}    executes_with = ('extra',)\n")
    extra = "        self.extra = torch.zeros(len(seeds), 1)\n"
    cls = load(tmp_path, text.replace(memory, extra + memory))
    problem = doctor.finding(cls, "algorithm", POLICY).problem
    assert "executes_with must name every network" in (problem or "")


def test_a_class_without_a_state_is_no_algorithm(tmp_path):
    with pytest.raises(UnknownName, match="it has no state_dict, load_state_dict"):
        load(tmp_path, ALGORITHM.replace("(api.Algorithm)", ""))


def test_beliefs_that_keep_the_contract_pass(tmp_path):
    old, new = added(BELIEVE)
    cls = load(tmp_path, ALGORITHM.replace(old, new))
    assert doctor.finding(cls, "algorithm", BELIEFS).problem is None


@pytest.mark.slow
def test_without_metrics_nothing_else_is_examined(tmp_path):
    cls = load(tmp_path, ALGORITHM.replace('{"loss": loss.detach().mean(1)}', "{}"))
    assert [f.check for f in doctor.examine(cls, "algorithm")] == [CONFIG, ACTIONS, METRICS]


class Rollouts(api.Algorithm):
    """Learns from whole rollouts of 6 steps, which it then forgets, and takes actions of both
    kinds: chosen actions become the likelier the better they were rewarded."""

    actions = ("continuous", "discrete")
    steps = 6

    class Config(api.Config):
        pass

    def __init__(self, spec, config, seeds, device):
        super().__init__(spec, config, seeds, device)
        sizes = spec.obs_dim, 8, spec.action_dim
        self.actor = MLP((len(seeds), spec.n_agents), sizes, "tanh", Streams(seeds, "init"))
        self.adam = Adam(self.actor, 0.01)
        self.explore = Streams(seeds, "explore")
        self.execute = Streams(seeds, "execute")
        self.forget()

    def forget(self):
        n_seeds, n = len(self.seeds), self.spec.n_agents
        self.obs = torch.zeros(n_seeds, 0, n, self.spec.obs_dim)
        self.action = torch.zeros(n_seeds, 0, n, self.spec.action_dim)
        self.reward = torch.zeros(n_seeds, 0)
        self.length = torch.zeros((), dtype=torch.long)

    def scores(self, obs):
        return self.actor(obs.transpose(1, 2)).transpose(1, 2)

    def act(self, obs, mode, progress):
        with torch.no_grad():
            z = self.scores(obs)
        if mode != "deterministic":
            streams = self.explore if mode == "explore" else self.execute
            z = z + streams.normal(*z.shape[1:])
        if self.spec.discrete:
            return one_hot(z.argmax(-1), self.spec.action_dim).float()
        return torch.tanh(z)

    def observe(self, transition):
        for name in ("obs", "action", "reward"):
            parts = getattr(self, name), getattr(transition, name)
            setattr(self, name, torch.cat(parts, 1))
        self.length = self.length + 1

    def update(self, progress):
        if self.length < self.steps:
            return {}
        z = self.scores(self.obs)
        weight = (self.reward - self.reward.mean(1, keepdim=True))[..., None, None]
        loss = seed_mean(weight * (torch.tanh(z) - self.action).square())
        self.adam.step(loss)
        self.forget()
        return {"loss": loss.detach()}


class Forgetful(Rollouts):
    """One whose state lacks the rollout that it is in."""

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.forget()


class Slow(Rollouts):
    steps = 50


class Softly(Rollouts):
    """One that takes chances for actions."""

    def act(self, obs, mode, progress):
        action = super().act(obs, mode, progress)
        return action * 0.9 if self.spec.discrete else action


@pytest.mark.slow
def test_what_waits_for_a_rollout_and_takes_both_kinds_of_actions_is_sound():
    assert set(doctor.specs(Rollouts)) == {
        "states", "constant", "two_agents", "shared", "discrete", "discrete_constant",
    }  # fmt: skip
    for cls in (Rollouts, Slow):
        assert problems(cls, "algorithm") == {}


def test_a_rollout_is_part_of_the_state():
    assert "memory" in doctor.finding(Forgetful, "algorithm", STATE).problem


@pytest.mark.slow
def test_actions_of_discrete_games_are_one_hot():
    found = problems(Softly, "algorithm")
    assert (
        "act(obs, 'explore') is not one-hot, as actions of discrete games are: [" in found[ACTIONS]
    )
    assert "0.9" in found[ACTIONS]


# Environments


def of_spec(base, **changes):
    def __init__(self, *arguments):
        base.__init__(self, *arguments)
        self.spec = dataclasses.replace(self.spec, **changes)

    return type("Mine", (base,), {"__init__": __init__})


def with_step(base, change):
    """One whose steps are changed by ``change(self, step, action)``."""
    step = lambda self, action: change(self, base.step(self, action), action)  # noqa: E731
    return type("Mine", (base,), {"step": step})


def having(base, **methods):
    return type("Mine", (base,), methods)


def replaced(**changes):
    """A changer of steps: each field by a function of the step."""
    return lambda self, step, action: step._replace(**{k: f(step) for k, f in changes.items()})


def other_seeds(self, config, seeds, *rest):
    ParticleGather.__init__(self, config, [s + i for i, s in enumerate(seeds)], *rest)


def without(key):
    """A ``load_state_dict`` that leaves a part as it is."""

    def load(self, state):
        ParticleGather.load_state_dict(self, {**state, key: ParticleGather.state_dict(self)[key]})

    return load


def mixed_fork(self, copies):
    twin = ParticleGather.fork(self, copies)
    twin.position = self.position.repeat(1, copies, 1, 1)
    return twin


def shared_fork(self, copies):
    self.position = self.position + 0.1
    return ParticleGather.fork(self, copies)


def loud_close(self, closed=[]):  # noqa: B006
    if self in closed:
        raise OSError("closed already")
    closed.append(self)


def rest_all(self, done):
    self.position = torch.zeros_like(self.position)


def set_class(self, **parameters):
    MyEnvironment.set(self, **parameters)
    type(self).all_of_them = self.config


def set_spec(self, **parameters):
    MyEnvironment.set(self, **parameters)
    self.spec = dataclasses.replace(self.spec, optimal_return=1 + self.config.steepness)


GAME, GATHER = MyEnvironment, ParticleGather
NAN_REWARD = replaced(reward=lambda step: step.reward.nan_to_num())


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    [
        (of_spec(GAME, obs_dim=0), "its Config", "spec.obs_dim is 0: an int of at least 1 is needed"),
        (of_spec(GAME, safe_return=11.0), "its Config", "the optimal one must be the larger"),
        (of_spec(GAME, safe_return=float("inf")), "its Config", "must be finite, or None where unknown"),
        (of_spec(GAME, basins=("safe", "optimum")), "its Config", "'optimum' must be the first"),
        (of_spec(GAME, basins=("optimum",)), "its Config", "needs two names at least"),
        (of_spec(GAME, basins=("optimum", "optimum")), "its Config", "needs names that differ"),
        (of_spec(GAME, discrete=True), "its Config", "spec.action_dim is 1: discrete actions are one-hot"),
        (with_step(GAME, replaced(reward=lambda s: s.reward[0])), "reset and step", "step().reward has shape (2,)"),
        (with_step(GAME, replaced(reward=lambda s: s.reward.double().long())), "reset and step", "is of torch.int64: a float is needed"),
        (with_step(GAME, replaced(basin=lambda s: s.basin + 2)), "reset and step", "no index into the 2 spec.basins"),
        (with_step(GAME, replaced(truncated=lambda s: s.terminated)), "reset and step", "both terminated and truncated"),
        (with_step(GAME, replaced(next_obs=lambda s: s.obs + 1)), "reset and step", "spec.constant_obs is True, but observations vary"),
        (with_step(GAME, replaced(reward=lambda s: s.reward / 0)), "reset and step", "step().reward is not finite"),
        (with_step(GATHER, replaced(obs=lambda s: s.obs * 0.5)), "reset and step", "obs differs from next_obs although the episode goes on"),
        (with_step(GATHER, replaced(obs=lambda s: s.obs * torch.arange(4)[:, None], next_obs=lambda s: s.next_obs * torch.arange(4)[:, None])), "reset and step", "spec.shared_obs is True, but agents observe different things"),
        (of_spec(GATHER, horizon=24), "episodes end", "goes on after spec.horizon = 24 steps"),
        (of_spec(GATHER, optimal_return=-0.5, safe_return=-1.0), "episodes end", "more than spec.optimal_return = -0.5"),
        (of_spec(GAME, optimal_return=-1.0, safe_return=-2.0), "episodes end", "more than spec.optimal_return = -1"),
        (with_step(GATHER, replaced(reward=lambda s: s.reward - torch.rand(s.reward.shape))), "the same seed", "two runs of the same seeds and actions differ"),
        (having(GATHER, __init__=other_seeds), "a seed beside", "seed 11 plays other episodes beside other seeds than alone"),
        (with_step(GAME, NAN_REWARD), "a NaN", "is rewarded with a number"),
        (with_step(GATHER, replaced(reward=lambda s: s.reward + 0 * s.reward.sum())), "a NaN", "changes the reward of another"),
        (having(GATHER, load_state_dict=without("age")), "a saved state", "differ from those of a run that was not interrupted"),
        (having(GATHER, load_state_dict=without("starts")), "a saved state", "differ from those of a run that was not interrupted"),
        (having(GATHER, positions=lambda self, obs: obs), "reward and positions", "positions(obs) has shape (3, 2, 4, 4): [S, E, P, 2] is needed"),
        (with_step(GAME, replaced(reward=lambda s: s.reward - 1)), "reward and positions", "reward(action) differs from the reward of step(action)"),
        (having(GATHER, fork=mixed_fork), "fork, if", "next_obs of both copies must be"),
        (having(GATHER, fork=shared_fork), "fork, if", "next_obs of both copies must be"),
        (having(GATHER, rest=rest_all), "rest, if", "rest(done) changes the episodes of copies that are not done"),
        (having(GATHER, rest=lambda self, done: None), "rest, if", "a copy that rests is rewarded"),
        (having(GAME, set=lambda self, **parameters: None), "set, if", "set(no_such_parameter=1) passes"),
        (having(GAME, set=set_spec), "set, if", "set() changed spec"),
        (having(GAME, state_dict=lambda self: {"set": {}}), "set, if", "what set() changed is missing in state_dict"),
        (having(GAME, all_of_them=None, set=set_class, hills=lambda self, action: MyEnvironment.hills(having(GAME)(self.all_of_them or self.config, [0], 1), action)), "set, if", "set() of one environment changes the episodes of another"),
        (having(GAME, close=loud_close), "close, if", "a second close() raised OSError: closed already; it may be called again"),
    ],
)  # fmt: skip
def test_every_break_of_an_environment_is_named(cls, check, message):
    (name,) = (name for name in doctor.ENVIRONMENT_CHECKS if check in name)
    found = doctor.finding(cls, "environment", name)
    assert message in (found.problem or ""), found


def test_unknown_returns_are_no_break():
    cls = of_spec(MyEnvironment, optimal_return=None, safe_return=None, basins=("anywhere", "safe"))
    assert problems(cls, "environment") == {}


def test_rewards_by_chance_are_no_break():
    """Their mean is what reward() says, and may be below what a lucky step returns."""

    def by_chance(self, step, action):
        if not hasattr(self, "chance"):
            self.chance = Streams(self.seeds, self.stream)
        return step._replace(reward=step.reward * 3 * self.chance.uniform(2))

    def __init__(self, config, seeds, n_envs, stream="env", device="cpu"):
        MyEnvironment.__init__(self, config, seeds, n_envs, stream, device)
        self.chance = Streams(seeds, stream)

    def state_dict(self):
        return {**MyEnvironment.state_dict(self), "chance": self.chance.state_dict()}

    def load_state_dict(self, state):
        MyEnvironment.load_state_dict(self, state)
        self.chance.load_state_dict(state["chance"])

    cls = with_step(
        having(
            MyEnvironment, __init__=__init__, state_dict=state_dict, load_state_dict=load_state_dict
        ),
        by_chance,
    )
    assert problems(cls, "environment") == {}


class Discretes(MyEnvironment):
    """The same game with three actions each: at -0.5, 0 and 0.5."""

    def describe(self):
        return dataclasses.replace(super().describe(), action_dim=3, discrete=True)

    def hills(self, action):
        return super().hills((action @ torch.tensor([-0.5, 0.0, 0.5])).unsqueeze(-1))


def test_a_discrete_game_is_sound():
    assert problems(Discretes, "environment") == {}


# The command


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(ALGORITHM.replace(".clamp(-1, 1)", ""))
    answer = run("doctor", "./mine.py:MyAlgorithm")
    assert "--allow-local-code" in str(answer.exception)
    answer = run("doctor", "./mine.py:MyAlgorithm", "--allow-local-code")
    assert answer.exit_code == 1
    assert "BROKEN  actions are [S, E, N, A] in the action space" in answer.output
    assert "./mine.py:MyAlgorithm: 1 of 10 checks broken" in answer.output
    assert "did you mean 'maddpg'" in str(run("doctor", "madpg").exception)
    assert "is not an algorithm" in str(run("doctor", "pathlib:Path").exception)
    answer = run("doctor", "max_of_three")
    assert answer.exit_code == 0
    assert "max_of_three: sound" in answer.output


@pytest.mark.slow
def test_a_pettingzoo_environment_is_examined():
    pytest.importorskip("pettingzoo")
    answer = run("doctor", "rocompare.envs.pettingzoo:parallel_env")
    assert answer.exit_code == 0, answer.output
    assert "rocompare.envs.pettingzoo:parallel_env: sound" in answer.output
