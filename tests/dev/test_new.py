"""`rocompare new` writes what is sound: an algorithm, an environment, a suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rocompare.dev import new
from rocompare.dev.templates.test_algorithm import test_contract as test_algorithm_contract  # noqa: F401
from rocompare.dev.templates.test_algorithm import test_it_learns  # noqa: F401
from rocompare.dev.templates.test_environment import test_contract as test_environment_contract  # noqa: F401
from rocompare.dev.templates.test_environment import test_rewards  # noqa: F401
from rocompare.suite import registry
from rocompare.suite.load import load_suite
from tests.support.made_up import run
from tests.support.probe import Recorder  # noqa: F401

KINDS = ["algorithm", "environment"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # commands add the folder that they run in
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_skeleton_is_sound_and_passes_its_own_test(folder, kind):
    answer = run("new", kind, "my_thing")
    assert answer.exit_code == 0
    assert names(folder) == ["my_thing.py", "test_my_thing.py"]
    path = os.pathsep.join([str(Path(registry.__file__).parents[2]), *sys.path[1:]])
    test = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert test.returncode == 0, test.stdout
    answer = run("doctor", "./my_thing.py:MyThing", "--allow-local-code")
    assert "sound" in answer.output


@pytest.mark.parametrize("kind", KINDS)
def test_a_skeleton_has_its_own_names(folder, kind):
    answer = run("new", kind, "gather_more")
    assert "rocompare doctor ./gather_more.py:GatherMore --allow-local-code" in answer.output
    texts = [(folder / name).read_text() for name in ("gather_more.py", "test_gather_more.py")]
    for text in texts:
        assert text.startswith('"""GatherMore')
        assert f"My{kind.capitalize()}" not in text
        assert "templates" not in text
    assert "from gather_more import GatherMore\n" in texts[1]
    again = run("new", kind, "gather_more")
    assert "exists; nothing was written" in str(again.exception)
    assert [(folder / name).read_text() for name in names(folder)] == texts


@pytest.mark.parametrize(
    "name", ["", "My", "1a", "a-b", "../a", "class", "a.py", "a b", "é", "a\n"]
)
def test_names_that_are_none(folder, name):
    assert "is no name for a Python file" in str(run("new", "algorithm", name).exception)
    assert not names(folder)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("algorithm", "adam"),
        ("algorithm", "none"),
        ("environment", "tensor"),
        ("environment", "true"),
    ],
)
def test_names_whose_class_would_hide_another(folder, kind, name):
    assert "which means something else" in str(run("new", kind, name).exception)
    assert not names(folder)


@pytest.mark.parametrize("name", ["torch", "json", "rocompare"])
def test_names_of_modules_that_would_be_hidden(folder, name):
    assert "is a module that Python has already" in str(run("new", "algorithm", name).exception)
    assert not names(folder)


# Suites


def made(*arguments, name="my_compare"):
    """The suite that was written, as read."""
    answer = run("new", "suite", name, *arguments)
    assert answer.exit_code == 0, answer.exception
    allow = [word for word in arguments if word == "--allow-local-code"]
    answer = run("validate", f"{name}.yaml", *allow)
    assert answer.exit_code == 0 and "valid" in answer.output, answer.exception
    return load_suite(f"{name}.yaml", bool(allow))


def test_a_suite_is_valid_as_it_stands():
    suite = load_suite(new.TEMPLATES / "suite.yaml")
    assert [one.name for one in suite.algorithms] == list(new.COMPARED)


def test_a_suite_for_nothing_in_particular(folder):
    suite = made(name="first-one")
    assert suite.name == "first-one"
    assert [one.name for one in suite.algorithms] == ["svnr", "maddpg"]
    assert [one.name for one in suite.scenarios] == ["max_of_three_s2_1.5"]
    again = run("new", "suite", "first-one")
    assert "exists; nothing was written" in str(again.exception)


def test_a_suite_for_an_algorithm_and_an_environment(folder):
    run("new", "algorithm", "my_algo")
    run("new", "environment", "my_game")
    suite = made(
        "--algorithm", "./my_algo.py:MyAlgo", "--environment", "./my_game.py:MyGame",
        "--environment", "particle_gather", "--allow-local-code",
    )  # fmt: skip
    assert [(one.name, one.use) for one in suite.algorithms] == [
        ("my_algo", "./my_algo.py:MyAlgo"),
        ("svnr", "rocompare.svnr:SVNR"),
        ("maddpg", "baselines.maddpg:MADDPG"),
    ]
    assert [(one.name, one.env) for one in suite.scenarios] == [
        ("my_game", "./my_game.py:MyGame"),
        ("particle_gather", "rocompare.envs.particle_gather:ParticleGather"),
    ]
    assert suite.budget.env_steps == 50_000  # episodes of one of them last


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("pr2", ["pr2", "svnr", "maddpg"]),
        ("svnr", ["svnr", "maddpg", "masql"]),
        ("tests.support.probe:Sharer", ["sharer", "svnr", "maddpg"]),
    ],
)
def test_a_suite_names_each_algorithm_once(algorithm, expected):
    suite = made("--algorithm", algorithm)
    assert [one.name for one in suite.algorithms] == expected
    assert suite.budget.env_steps == 1000


def test_only_algorithms_that_take_a_games_actions_are_compared():
    suite = made(
        "--algorithm", "tests.support.probe:Recorder", "--environment", "tests.support.probe:Choices"
    )  # fmt: skip
    takes = [one.load().actions for one in suite.algorithms]
    assert all("discrete" in kinds for kinds in takes)
    assert suite.algorithms[0].name == "recorder"


def test_a_suite_for_a_pettingzoo_environment():
    pytest.importorskip("pettingzoo")
    suite = made("--environment", "rocompare.envs.pettingzoo:parallel_env")
    (game,) = suite.scenarios
    assert game.name == "parallel_env"
    assert game.env == "rocompare.envs.parallel:Parallel"
    assert game.params["factory"] == "rocompare.envs.pettingzoo:parallel_env"
    assert suite.evaluation.episodes == 10


@pytest.mark.parametrize("name", ["", "a b", "../a", ".a", "a\n", "a: b", "a.b"])
def test_names_that_are_no_suites(folder, name):
    assert "is no name for a suite" in str(run("new", "suite", name).exception)
    assert not names(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algorithm", "./a.py:A"], "--allow-local-code"),
        (["--algorithm", "madpg"], "did you mean 'maddpg'"),
        (["--algorithm", "max_of_three"], "'max_of_three' is an environment, where an algorithm is needed"),
        (["--environment", "maddpg"], "'maddpg' is an algorithm, where an environment is needed"),
        (["--environment", "pathlib:Path"], "is not an algorithm"),
        (["--algorithm", "tests.support.probe:Recorder", "--algorithm", "tests.dev.test_new:Recorder"], "one name in the suite"),
        (["--algorithm", "maddpg", "--environment", "tests.support.probe:Choices"], "'maddpg' does not take discrete actions"),
        (["--environment", "pettingzoo"], "'pettingzoo' has parameters without a default (horizon, factory)"),
    ],
)  # fmt: skip
def test_suites_that_cannot_be_written(folder, arguments, message):
    answer = run("new", "suite", "mine", *arguments)
    assert message in str(answer.exception)
    assert not names(folder)


def test_code_in_the_folder_is_not_run_without_leave(folder):
    (folder / "trap.py").write_text("raise SystemExit(7)")
    for name in ("./trap.py:Trap", "trap:Trap"):
        answer = run("new", "suite", "mine", "--algorithm", name)
        assert "--allow-local-code" in str(answer.exception)
    assert names(folder) == ["trap.py"]


def test_a_module_in_the_folder_will_do():
    run("new", "algorithm", "own_algo")
    suite = made("--algorithm", "own_algo:OwnAlgo", "--allow-local-code")
    assert suite.algorithms[0].name == "own_algo"


def test_options_of_suites_are_refused_elsewhere(folder):
    answer = run("new", "algorithm", "mine", "--algorithm", "maddpg")
    assert answer.exit_code == 2
    assert "are for a suite, not algorithm" in answer.output
    assert not names(folder)
