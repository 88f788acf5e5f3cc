"""Classes in files beside the suite: only when allowed, part of the key, never run by readers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rocompare.errors import SuiteError, UnknownName
from rocompare.execute.runner import ExecutorSettings, plan, run_suite
from rocompare.results.reader import Results
from rocompare.suite import registry
from rocompare.suite.load import load_suite
from tests.support.made_up import run, write

ROOT = Path(__file__).parents[2]

ALGORITHM = """
from __future__ import annotations

import torch
from rocompare import api


class Still(api.Algorithm):
    class Config(api.Config):
        at: float = 0.0

    def act(self, obs, mode, progress):
        return torch.full((*obs.shape[:3], self.spec.action_dim), self.config.at)

    def observe(self, transition):
        pass

    def update(self, progress):
        return {"loss": torch.zeros(len(self.seeds))}
"""

ENVIRONMENT = """
from pathlib import Path

from rocompare.envs.max_of_three import MaxOfThree

with (Path(__file__).parent / "ran.txt").open("a") as file:
    file.write("x")


class Flat(MaxOfThree):
    version = 7
"""

SUITE = """
name: mine
seeds: 2
budget: {env_steps: 5}
evaluation: {episodes: 2, points: 1}
algorithms:
  still: {use: "./code/still.py:Still", at: 0.25}
scenarios:
  flat: {env: "./flat.py:Flat", p: [-5, -5], q: [5, 5]}
"""


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "home"
    (home / "code").mkdir(parents=True)
    (home / "code" / "still.py").write_text(ALGORITHM)
    (home / "flat.py").write_text(ENVIRONMENT)
    (home / "mine.yaml").write_text(SUITE)
    return home


def problems(folder, text, allow=True):
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(SuiteError) as info:
        load_suite(folder / "mine.yaml", allow)
    return info.value.problems


def test_without_leave_nothing_runs(folder):
    found = problems(folder, SUITE, allow=False)
    assert [re.search(r"mine.yaml:(\d+): .*--allow-local-code", line)[1] for line in found] == [
        "7",
        "9",
    ]
    assert not (folder / "ran.txt").exists()
    for command in (["run"], ["validate"], ["tune", "--trials", 1]):
        answer = run(*command, folder / "mine.yaml")
        assert isinstance(answer.exception, SuiteError)
        assert "--allow-local-code" in str(answer.exception)
    assert not (folder / "ran.txt").exists()
    answer = run("validate", folder / "mine.yaml", "--allow-local-code")
    assert "valid: 1 algorithms" in answer.output


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("./code/../code/still.py:Still", "not of the form './file.py:Class'"),
        ("../still.py:Still", "not of the form './file.py:Class'"),
        ("/etc/still.py:Still", "not of the form './file.py:Class'"),
        ("code/still.py:Still", "not of the form './file.py:Class'"),
        ("./.hidden/still.py:Still", "not of the form './file.py:Class'"),
        ("./code/still.py", "not of the form './file.py:Class'"),
        ("./none.py:Still", "none.py: no such file"),
        ("./code/still.py:Stil", "has no 'Stil'; did you mean 'Still'"),
        ("./link.py:Still", "'./link.py:Still' leads out of the suite's folder"),
        ("./way/still.py:Still", "leads out of the suite's folder"),
        ("./broken.py:Still", r"cannot import './broken.py' of .*: SyntaxError"),
        ("./exits.py:Still", r"cannot import './exits.py' of .*: SystemExit: 3"),
        ("./flat.py:Path", "is not an algorithm: it has no Config"),
        ("./big.py:Big", "larger than 1 MiB"),
    ],
)
def test_what_is_no_code_beside_the_suite(folder, use, message):
    (folder.parent / "still.py").write_text(ALGORITHM)
    (folder / "link.py").symlink_to(folder.parent / "still.py")
    (folder / "way").symlink_to(folder.parent)
    (folder / "broken.py").write_text("class")
    (folder / "exits.py").write_text("raise SystemExit(3)")
    (folder / "big.py").write_bytes(b"#" * (1 << 20) + b"\n")
    found = problems(folder, SUITE.replace("./code/still.py:Still", use))
    assert len(found) == 1
    assert re.search(rf"mine.yaml:7: algorithms.still.use: .*{message}", found[0]), found


def test_an_edited_file_is_trained_again(folder, tmp_path):
    def missing():
        (status,) = plan(load_suite(folder / "mine.yaml", True), tmp_path)
        return len(status.missing)

    run_suite(load_suite(folder / "mine.yaml", True), tmp_path, ExecutorSettings(jobs=1))
    assert missing() == 0
    (folder / "code" / "still.py").write_text(ALGORITHM + "\n# edited\n")
    assert missing() == 2
    (folder / "code" / "still.py").write_text(ALGORITHM)
    assert missing() == 0
    (folder / "flat.py").write_text(ENVIRONMENT + "\n# edited\n")
    assert missing() == 2
    # Where the folder lies is no part of the key.
    (folder / "flat.py").write_text(ENVIRONMENT)
    folder.rename(folder.with_name("elsewhere"))
    moved = load_suite(folder.with_name("elsewhere") / "mine.yaml", True)
    assert plan(moved, tmp_path)[0].missing == ()


def test_a_file_that_changes_under_a_run_is_not_run(folder):
    suite = load_suite(folder / "mine.yaml", True)
    changed = suite.algorithms[0].local.__class__(suite.algorithms[0].local.path, "0" * 64)
    with pytest.raises(UnknownName, match="changed since the suite was read"):
        registry.load("algorithm", "./code/still.py:Still", changed)


@pytest.mark.slow
def test_worker_processes_run_it_and_readers_do_not(folder, tmp_path):
    text = SUITE.replace("scenarios:", '  other: {use: "./code/still.py:Still"}\nscenarios:')
    (folder / "mine.yaml").write_text(text)
    outcome = run_suite(
        load_suite(folder / "mine.yaml", True), tmp_path / "r", ExecutorSettings(jobs=2)
    )
    assert [status.state for status in outcome.cells] == ["done", "done"]
    results = Results(tmp_path / "r")
    config = results.cells[0].config
    assert config["scenario"]["declared"] == {
        "safe_return": 0.0, "optimal_return": 10.0, "basins": ["optimum", "safe"],
    }  # fmt: skip
    assert config["scenario"]["version"] == 7
    assert len(config["algorithm"]["sha256"]) == 64
    # Both agents at 2.5: 10 - 2 * 2.5**2 / 3 on the optimum's hill.
    returns = dict(zip(results.seeds["algorithm"], results.seeds["return"], strict=True))
    assert returns == pytest.approx({"still": 10 - 12.5 / 3, "other": 10 - 50 / 3}, abs=1e-5)

    (folder / "flat.py").write_text("raise ValueError('a reader ran it')")
    answer = run("table", tmp_path / "r", "--statistic", "gap", "--format", "markdown")
    assert "4.17" in answer.output and "16.67" in answer.output
    check = run("check", tmp_path / "r", "--against", tmp_path / "r", "--alpha", 0.9)
    assert check.exit_code in (0, 3), check.output


def test_tuning_works_and_stays_beside_the_code(folder, tmp_path):
    pytest.importorskip("optuna")
    command = "tune", folder / "mine.yaml", "--trials", 1, "--seeds", 1, "--jobs", 1
    command = *command, "--results", tmp_path / "t", "--allow-local-code"
    answer = run(*command, "--out", tmp_path / "out.yaml")
    assert "names files beside it" in str(answer.exception)
    assert run(*command).exit_code == 0
    tuned = load_suite(folder / "mine_tuned.yaml", True)
    assert tuned.algorithms[0].use == "./code/still.py:Still"
    assert tuned.algorithms[0].params["at"] == 0.25


EVIL = """
from pathlib import Path

Path("{proof}").write_text("ran")
"""
NAMES_EVIL = """\
name: evil
seeds: 1
budget: {env_steps: 5}
evaluation: {episodes: 2, points: 1}
algorithms:
  a: {use: maddpg, hidden: 8}
scenarios:
  s: {env: max_of_three}
  t: {env: max_of_three, s2: 1.5}
"""


def evil_folder(tmp_path, *modules):
    """A working folder with modules that leave a proof of having run."""
    home, proof = tmp_path / "home", tmp_path / "proof"
    home.mkdir()
    for module in modules:
        (home / module).parent.mkdir(exist_ok=True)
        (home / module).write_text(EVIL.format(proof=proof))
    (home / "evil.yaml").write_text(NAMES_EVIL)
    return home, proof


@pytest.fixture
def fresh_path(monkeypatch):
    """What a command puts on the path, and imports from there, is gone afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "evil"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("old", "new", "code", "where"),
    [
        ("use: maddpg", "use: 'evil:E'", "evil.py", "6: algorithms.a.use"),
        ("use: maddpg", "use: 'evil.deep:E'", "evil/deep.py", "6: algorithms.a.use"),
        ("use: maddpg", "use: 'evil.deep:E'", "evil/__init__.py", "6: algorithms.a.use"),
        ("env: max_of_three}", "env: 'evil:E'}", "evil.py", "8: scenarios.s.env"),
        (
            "env: max_of_three}",
            "env: pettingzoo, factory: 'evil:make', horizon: 2, optimal_return: 1.0, safe_return: 0.0}",
            "evil.py",
            "8: scenarios.s.factory",
        ),
    ],
    ids=["use", "package", "__init__", "env", "factory"],
)
@pytest.mark.slow
def test_a_module_of_the_working_folder_needs_leave(
    tmp_path, monkeypatch, fresh_path, old, new, code, where
):
    home, proof = evil_folder(tmp_path, code)
    (home / "evil.yaml").write_text(NAMES_EVIL.replace(old, new))
    monkeypatch.chdir(home)
    for arguments in (["validate"], ["run", "--plan"], ["run"], ["tune", "--trials", 1]):
        [problem] = run(*arguments, "evil.yaml").exception.problems
        assert problem.startswith(f"evil.yaml:{where}: 'evil")
        assert problem.endswith("if you trust it, say --allow-local-code")
        assert not proof.exists()
    run("validate", "evil.yaml", "--allow-local-code")
    assert proof.exists()


def test_a_module_beside_the_suite_is_not_imported_from_elsewhere(
    tmp_path, monkeypatch, fresh_path
):
    home, proof = evil_folder(tmp_path, "evil.py")
    (home / "evil.yaml").write_text(NAMES_EVIL.replace("use: maddpg", "use: 'evil:E'"))
    monkeypatch.syspath_prepend(home)  # as in a notebook that was started there
    with pytest.raises(SuiteError, match="'evil:E' is code in this folder"):
        load_suite(home / "evil.yaml")
    assert not proof.exists()
    monkeypatch.setenv("PYTHONPATH", str(home))  # its user has said that Python may
    with pytest.raises(SuiteError, match="module 'evil' has no 'E'"):
        load_suite(home / "evil.yaml")
    assert proof.exists()


def test_a_package_that_is_installed_in_place_is_installed(tmp_path, monkeypatch, fresh_path):
    """As by `pip install -e .` in the working folder."""
    home, proof = evil_folder(tmp_path, "evil.py")
    (home / "evil.yaml").write_text(NAMES_EVIL.replace("use: maddpg", "use: 'evil:E'"))
    monkeypatch.syspath_prepend(home)
    metadata = tmp_path / "site" / "theirs-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "top_level.txt").write_text("evil\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(SuiteError, match="module 'evil' has no 'E'"):
        load_suite(home / "evil.yaml")
    assert proof.exists()


def test_a_setting_names_no_local_code_either(tmp_path, monkeypatch, fresh_path):
    home, proof = evil_folder(tmp_path, "evil.py")
    monkeypatch.chdir(home)
    [problem] = run("validate", "evil.yaml", "--set", "a.use=evil:E").exception.problems
    assert "--set a.use=evil:E: algorithms.a.use: 'evil:E' is code in this folder" in problem
    assert not proof.exists()


def test_doctor_needs_leave_too(tmp_path, monkeypatch, fresh_path):
    home, proof = evil_folder(tmp_path, "evil.py")
    monkeypatch.chdir(home)
    assert "--allow-local-code" in str(run("doctor", "evil:E").exception)
    assert not proof.exists()
    answer = run("doctor", "evil:E", "--allow-local-code")
    assert "module 'evil' has no 'E'" in str(answer.exception)
    assert proof.exists()


SHADOWS = (
    "queue.py", "pickle.py", "socket.py", "random.py", "numpy.py", "torch.py", "pandas.py",
    "yaml.py", "pydantic.py", "contourpy.py", "baselines/__init__.py", "baselines/maddpg.py",
    "evil.py",
)  # fmt: skip
RUN_ALL = """
import sys
from rocompare import cli

if __name__ == "__main__":
    for line in sys.argv[1:]:
        sys.argv = ["rocompare", *line.split()]
        try:
            cli.main()
        except SystemExit as end:
            print(line, "->", end.code or 0)
"""


def run_all(home, *lines):
    """Commands, one after another in one process that starts as the installed script does."""
    script = home.parent / "script.py"
    script.write_text(RUN_ALL)
    done = subprocess.run(
        [sys.executable, script, *lines],
        capture_output=True, text=True, check=False, cwd=home, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("leave", ["", " --allow-local-code"], ids=["plain", "allowed"])
def test_what_lies_in_the_working_folder_shadows_nothing(tmp_path, leave):
    home, proof = evil_folder(tmp_path, *SHADOWS, "rocompare/__init__.py")
    output = run_all(
        home,
        f"validate evil.yaml{leave}",
        f"run evil.yaml --jobs 1 --results one{leave}",
        f"run evil.yaml --jobs 2 --results two{leave}",
    )
    assert "evil.yaml: valid" in output
    assert output.count("2 seeds trained") == 2
    assert not proof.exists()


@pytest.mark.slow
def test_python_m_does_not_import_from_the_working_folder(tmp_path):
    home, proof = evil_folder(tmp_path, *SHADOWS)
    done = subprocess.run(
        [sys.executable, "-m", "rocompare", "validate", "evil.yaml", "--set", "a.use=evil:E"],
        capture_output=True, text=True, check=False, cwd=home, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, proof.exists()) == (2, False)
    assert "'evil:E' is code in this folder" in done.stderr


@pytest.mark.slow
def test_readers_run_nothing_that_lies_in_the_working_folder(tmp_path):
    home, proof = evil_folder(tmp_path, *SHADOWS)
    write(home / "r", {("narrow", "maddpg"): [1.0, 2.0], ("narrow", "other"): [3.0, 4.0]})
    readers = (
        "table r", "table r --statistic gap", "diagnose r", "check r --against r",
        "compare r maddpg other", "plot r --out pictures", "report r", "list",
    )  # fmt: skip
    output = run_all(home, *readers)
    assert "algorithms" in output and "narrow" in output
    assert not proof.exists()
