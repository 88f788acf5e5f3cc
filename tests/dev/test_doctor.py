"""`rocompare doctor` finds every break and names it; `rocompare new` writes what has none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rocompare.dev import doctor
from rocompare.dev import new as skeleton
from rocompare.suite import registry
from tests.support.made_up import run

ALGORITHM = skeleton.ALGORITHM.replace("@Class", "Mine").replace("Field(64", "Field(8")
GATHER = Path("rocompare/envs/particle_gather.py").read_text()
MAX = Path("rocompare/envs/max_of_three.py").read_text()


def examine(folder, text, name, kind):
    """``{check: problem}`` of the broken ones."""
    (folder / "code.py").write_text(text)
    place = f"./code.py:{name}"
    cls = registry.load(kind, place, registry.local_file(place, folder))
    return {f.check: f.problem for f in doctor.examine(cls, kind) if f.problem}


CONFIG = "its Config and version are those of an algorithm"
ACTIONS = "actions are [S, E, N, A] in [-1, 1] in every mode"
TENSORS = "note and update give tensors per seed"
SAME = "the same seed gives the same result"
ALONE = "a seed in a batch equals the seed alone"
NAN = "a NaN stays in its seed and is reported"
STATE = "a saved state continues bit for bit"
EVALUATION = "evaluations leave training alone"


@pytest.mark.parametrize(
    ("old", "new", "check", "message"),
    [
        ("version = 1", "version = '1'", CONFIG, "version is '1': an int is needed"),
        ("(api.Config)", "(__import__('pydantic').BaseModel)", CONFIG, "extra='forbid' is missing"),
        ("self.config = config", "self.config = confg", CONFIG, "Mine.__init__ (line 30) raised NameError: name 'confg' is not defined"),
        (".clamp(-1, 1)", "", ACTIONS, "act(obs, 'explore') left [-1, 1]: an action of"),
        ("        return action\n", "        return action[0]\n", ACTIONS, "has shape (2, 3, 2): [S, E, N, A] is needed, here (3, 2, 3, 2)"),
        ("with torch.no_grad():", "if True:", ACTIONS, "carries gradients"),
        ('if mode == "explore"', "if True", ACTIONS, "'noiseless') gives another action when asked again"),
        ("return {}", "return {'x': action.sum()}", TENSORS, "note's 'x' begins with ()"),
        ("return {}", "return None", TENSORS, "note returned NoneType"),
        ('"loss": loss.detach()', '"loss": loss.mean().detach()', TENSORS, "metric 'loss' has shape (): [S] is needed, here (3,)"),
        ('"loss": loss.detach()', '"loss": loss', TENSORS, "carries gradients"),
        ('{"loss": loss.detach()}', "{}", TENSORS, "update returned no metrics"),
        ("self.explore.normal(*action.shape[1:])", "torch.randn_like(action)", SAME, "the action of step 0 differs between two runs of the same seeds"),
        ("Streams(seeds,", "Streams([0] * len(seeds),", SAME, "seeds 3 and 11 explore alike"),
        ("Streams(seeds,", "Streams([s + i for i, s in enumerate(seeds)],", ALONE, "of seed 11 differs when the seed trains alone"),
        ("torch.softmax(batch.reward, 1)", "torch.softmax(batch.reward + batch.reward.mean(0), 1)", ALONE, "differs when the seed trains alone (by up to"),
        ("self.adam.step(loss, ", "self.adam.step(loss * loss.detach().mean(), ", NAN, "NaN weights in seed 11 change the action of step 1 of seed 3"),
        ('"loss": loss.detach()', '"loss": loss.detach().nan_to_num()', NAN, "in none of update's metrics"),
        ("return state_of(self)", "return {k: v for k, v in state_of(self).items() if k != 'explore'}", STATE, "raised KeyError"),
        ("load_state_of(self, state)", "self.actor.load_state_dict(state['actor'])", STATE, "after load_state_dict differs"),
        ("return state_of(self)", "return {**state_of(self), 'me': doctor}", STATE, "NameError"),
        ("return state_of(self)", "return {**state_of(self), 'me': self.act}", STATE, "state_dict holds more than tensors"),
        ('if mode == "explore"', "noise = self.explore.normal(*action.shape[1:])\n            if mode == 'explore'", EVALUATION, "depends on whether there were evaluations"),
    ],
)  # fmt: skip
def test_every_break_of_an_algorithm_is_named(tmp_path, old, new, check, message):
    assert old in ALGORITHM
    problems = examine(tmp_path, ALGORITHM.replace(old, new), "Mine", "algorithm")
    assert message in problems.get(check, ""), problems


@pytest.mark.parametrize(
    ("text", "old", "new", "check", "message"),
    [
        (MAX, "obs_dim=1", "obs_dim=0", "Config", "spec.obs_dim is 0"),
        (MAX, "safe_return=0.0", "safe_return=11.0", "Config", "the optimal one must be the larger"),
        (MAX, '("optimum", "safe")', '("safe", "optimum")', "Config", "'optimum' must be the first"),
        (MAX, "reward=self.reward(action)", "reward=self.reward(action)[0]", "reset and step", "step().reward has shape (2,)"),
        (MAX, "basin=self.basin(action)", "basin=self.basin(action) + 2", "reset and step", "no index into the 2 spec.basins"),
        (MAX, "truncated=~self.ended", "truncated=self.ended", "reset and step", "both terminated and truncated"),
        (MAX, "next_obs=self.obs", "next_obs=self.obs + 1", "reset and step", "spec.constant_obs is True, but observations vary"),
        (MAX, "optimal_return=config.height", "optimal_return=0.5", "episodes end", "more than spec.optimal_return = 0.5"),
        (MAX, "return torch.maximum(*self.hills(action))", "return torch.maximum(*self.hills(action)).nan_to_num()", "a NaN", "is rewarded with a number"),
        (MAX, "return torch.maximum(*self.hills(action))", "r = torch.maximum(*self.hills(action)); return r + 0 * r.sum()", "a NaN", "changes the reward of another"),
        (GATHER, "self.age + 1 >= c.horizon", "self.age + 1 >= c.horizon + 1", "episodes end", "goes on after spec.horizon = 25 steps"),
        (GATHER, "self.position, self.age = self._draw_starts(), torch.zeros_like(self.age)", "self.age = torch.zeros_like(self.age)", "reset and step", None),
        (GATHER, "2 * math.pi * self.starts.uniform(n_envs, 2)", "2 * math.pi * torch.rand(self.position.shape[:3])", "the same seed", "two runs of the same seeds and actions differ"),
        (GATHER, "Streams(seeds, stream, device)", "Streams([s + i for i, s in enumerate(seeds)], stream, device)", "a seed beside", "seed 11 plays other episodes beside other seeds than alone"),
        (GATHER, 'self.position, self.age = state["position"], state["age"]', 'self.position = state["position"]', "a saved state", "differ from those of a run that was not interrupted"),
        (GATHER, 'self.starts.load_state_dict(state["starts"])', "pass", "a saved state", "differ from those of a run that was not interrupted"),
        (GATHER, "obs=self._observe(self.position),", "obs=self._observe(self.position * 0.5),", "reset and step", "obs differs from next_obs although the episode goes on"),
        (GATHER, "self.position.repeat_interleave(copies, 1)", "self.position.repeat(1, copies, 1, 1)", "fork", "next_obs of both copies must be"),
    ],
)  # fmt: skip
def test_every_break_of_an_environment_is_named(tmp_path, text, old, new, check, message):
    assert old in text
    name = "MaxOfThree" if text == MAX else "ParticleGather"
    problems = examine(tmp_path, text.replace(old, new), name, "environment")
    if message is None:  # an environment that starts elsewhere is another, not a broken one
        assert not problems
        return
    found = [problem for name, problem in problems.items() if check in name]
    assert found and message in found[0], problems


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(ALGORITHM.replace(".clamp(-1, 1)", ""))
    answer = run("doctor", "./mine.py:Mine")
    assert "--allow-local-code" in str(answer.exception)
    answer = run("doctor", "./mine.py:Mine", "--allow-local-code")
    assert answer.exit_code == 1
    assert "BROKEN  actions are [S, E, N, A] in [-1, 1]" in answer.output
    assert "./mine.py:Mine: 1 of 8 checks broken" in answer.output
    assert "did you mean 'maddpg'" in str(run("doctor", "madpg").exception)
    assert "is not an algorithm" in str(run("doctor", "pathlib:Path").exception)
    answer = run("doctor", "max_of_three")
    assert answer.exit_code == 0
    assert "max_of_three: sound" in answer.output


@pytest.mark.parametrize("kind", ["algorithm", "environment"])
def test_a_skeleton_is_sound_and_passes_its_own_test(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    answer = run("new", kind, "my_thing")
    assert answer.exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my_thing.py", "test_my_thing.py"]
    text = Path("my_thing.py").read_text()
    assert "@" not in text
    path = os.pathsep.join([str(Path(registry.__file__).parents[2]), *sys.path[1:]])
    test = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert test.returncode == 0, test.stdout
    again = run("new", kind, "my_thing")
    assert "exists; nothing was written" in str(again.exception)
    assert Path("my_thing.py").read_text() == text


@pytest.mark.parametrize(
    "name", ["", "My", "1a", "a-b", "../a", "class", "a.py", "a b", "é", "a\n"]
)
def test_names_that_are_none(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert "is no name for a Python file" in str(run("new", "algorithm", name).exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("algorithm", "adam"),
        ("algorithm", "none"),
        ("environment", "step"),
        ("environment", "true"),
    ],
)
def test_names_whose_class_would_hide_another(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    assert "which means something else" in str(run("new", kind, name).exception)
    assert not list(tmp_path.iterdir())
