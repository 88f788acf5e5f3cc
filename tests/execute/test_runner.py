"""Suite to results: nothing is trained twice, failures are data, jobs change nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

import rocompare
from rocompare.errors import ResultsError
from rocompare.execute import runner
from rocompare.execute.runner import ExecutorSettings, plan, run_suite
from rocompare.suite.load import parse_suite
from tests.support.helpers import contents

pytestmark = pytest.mark.slow

SMALL = """
name: small
seeds: {seeds}
budget: {{env_steps: 40}}
evaluation: {{episodes: 4, points: 4}}
algorithms:
  svnr: {{hidden: 8, particles: 4}}
  maddpg: {{hidden: {hidden}}}
scenarios:
  easy: {{env: max_of_three}}
  hard: {{env: max_of_three, s2: 1.5}}
"""


def small(seeds=2, hidden=8):
    return parse_suite(SMALL.format(seeds=seeds, hidden=hidden))


def probe(algorithm, seeds=2, others=""):
    return parse_suite(
        f"""
name: probe
seeds: {seeds}
budget: {{env_steps: 40}}
evaluation: {{episodes: 2, points: 4}}
algorithms:
  probe: {{use: "tests.support.probe:Recorder", {algorithm}}}
{others}
scenarios: {{game: {{env: max_of_three}}}}
"""
    )


def test_jobs_change_nothing(tmp_path):
    for jobs in (1, 2):
        outcome = run_suite(small(), tmp_path / str(jobs), ExecutorSettings(jobs=jobs))
        assert {status.state for status in outcome.cells} == {"done"}
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert len(one) == 4 * 3  # of four cells the configuration and two seeds
    assert one == two


def test_the_python_interface_returns_the_suites_rows(tmp_path):
    frame = rocompare.run(small(), tmp_path, jobs=1)
    assert len(frame) == 8
    assert set(frame["algorithm"]) == {"svnr", "maddpg"}
    assert set(frame["basin"]) <= {"optimum", "safe"}
    assert (frame["env_steps"] == 40).all()
    assert (frame["updates"] == 72).all()  # two after each of the last 36 steps
    assert frame.equals(runner.load_suite_results(small(), tmp_path))


def test_nothing_is_trained_twice(tmp_path):
    def trained(suite):
        before = contents(tmp_path)
        stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("seed_*.json")}
        run_suite(suite, tmp_path, ExecutorSettings(jobs=1))
        after = contents(tmp_path)
        assert {name: after[name] for name in before if "curve" not in name} == {
            name: text for name, text in before.items() if "curve" not in name
        }
        assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
        return sorted(name for name in set(after) - set(before) if "seed_" in name)

    assert len(trained(small())) == 8
    assert trained(small()) == []
    added = trained(small(seeds="[0, 1, 5]"))
    assert len(added) == 4
    assert all(name.endswith("seed_5.json") for name in added)
    edited = trained(small(hidden=9))
    assert len(edited) == 4
    assert all("/maddpg/" in name for name in edited)
    assert trained(small(hidden=9)) == []


def test_an_added_seed_is_the_seed_of_a_whole_run(tmp_path):
    run_suite(small(seeds="[0]"), tmp_path / "a", ExecutorSettings(jobs=1))
    run_suite(small(seeds="[0, 1]"), tmp_path / "a", ExecutorSettings(jobs=1))
    run_suite(small(seeds="[0, 1]"), tmp_path / "b", ExecutorSettings(jobs=1))
    a, b = (rocompare.load_results(tmp_path / name) for name in "ab")
    for column in ("return", "return_deterministic"):
        assert a[column].tolist() == pytest.approx(b[column].tolist(), abs=1e-2)


def test_plan_trains_nothing(tmp_path):
    suite = small()
    assert [len(s.missing) for s in plan(suite, tmp_path)] == [2] * 4
    assert not list(tmp_path.iterdir())
    assert runner.estimate_seconds(plan(suite, tmp_path), tmp_path, 1) is None
    run_suite(suite.select(scenarios=["easy"]), tmp_path, ExecutorSettings(jobs=1))
    statuses = plan(small(seeds=3), tmp_path)
    assert [s.missing for s in statuses] == [(2,), (2,), (0, 1, 2), (0, 1, 2)]
    assert runner.estimate_seconds(statuses, tmp_path, 1) > 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_data(jobs, tmp_path):
    suite = probe("fail_at: 0.5", others="  maddpg: {hidden: 8}")
    outcome = run_suite(suite, tmp_path, ExecutorSettings(jobs=jobs))
    assert [s.state for s in outcome.cells] == ["failed", "done"]
    failure = json.loads(next(tmp_path.rglob("failure.json")).read_text())
    assert failure["error"] == "ValueError: it went wrong on purpose"
    assert "tests/support/probe.py" in failure["traceback"]
    assert len(rocompare.load_results(tmp_path)) == 2
    with pytest.raises(RuntimeError, match="1 cells failed: game · probe: ValueError"):
        rocompare.run(suite, tmp_path, jobs=1)


def test_a_killed_worker_is_data(tmp_path):
    suite = probe("kill_at: 0.5", others="  maddpg: {hidden: 8}")
    outcome = run_suite(suite, tmp_path, ExecutorSettings(jobs=2))
    assert [s.state for s in outcome.cells] == ["failed", "done"]
    assert "killed" in outcome.cells[0].error


def test_a_cell_in_anothers_hands_is_waited_for(tmp_path):
    suite = probe("random_fraction: 0.1")
    cell = suite.cells()[0]
    folder = tmp_path / cell.path
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".lock")
    lock.acquire()
    seen = []

    def watch(statuses):
        seen.append(statuses[0].state)
        if seen.count("elsewhere") == 2 and lock.is_locked:
            lock.release()

    outcome = run_suite(suite, tmp_path, ExecutorSettings(jobs=1), watch=watch)
    assert "elsewhere" in seen
    assert outcome.cells[0].state == "done"


def test_provenance_says_what_made_a_result(tmp_path):
    run_suite(probe("random_fraction: 0.1"), tmp_path, ExecutorSettings(jobs=1))
    provenance = json.loads(next(tmp_path.rglob("seed_0.json")).read_text())["provenance"]
    assert provenance["rocompare"] == rocompare.__version__
    assert {"commit", "dirty", "torch", "python", "machine", "device", "command"} <= set(provenance)


LONG = """
name: long
seeds: 2
budget: {env_steps: 1500}
evaluation: {episodes: 2, points: 4}
algorithms: {svnr: {hidden: 8, particles: 4, updates_per_step: 1}}
scenarios: {easy: {env: max_of_three}, hard: {env: max_of_three, s2: 1.5}}
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_then_the_same_command(jobs, tmp_path):
    """Interrupted in the middle, continued to the same files as without interruption."""
    path = tmp_path / "long.yaml"
    path.write_text(LONG)
    root = tmp_path / "results"
    command = [sys.executable, "-m", "rocompare", "run", str(path), "--jobs", jobs]
    command += ["--results", str(root)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(root.rglob(".lock")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert re.search(
        r"^easy · svnr: 0/2 seeds done, stopped( at \d+%)?  [0-9a-f]{12}$", output, re.M
    )
    assert re.search(r"^hard · svnr: 0/2 seeds done, stopped", output, re.M)
    assert "Traceback" not in errors
    assert f"continue with: {Path(sys.executable).name} -m rocompare run {path} --jobs" in errors
    assert list(root.rglob("checkpoint.pt"))
    again = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert not list(root.rglob("checkpoint.pt"))
    run_suite(parse_suite(LONG), tmp_path / "whole", ExecutorSettings(jobs=1))
    assert contents(root) == contents(tmp_path / "whole")


def test_an_unwritable_folder_is_a_message(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    command = [sys.executable, "-m", "rocompare", "run", "suites/smoke.yaml"]
    done = subprocess.run(
        [*command, "--results", str(blocked)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(blocked) in done.stderr


def test_a_corrupt_record_stops_the_run_with_its_name(tmp_path):
    suite = small()
    run_suite(
        suite.select(scenarios=["easy"], algorithms=["svnr"]), tmp_path, ExecutorSettings(jobs=1)
    )
    path = next(tmp_path.rglob("seed_1.json"))
    path.write_text("{")
    with pytest.raises(ResultsError, match="seed_1.json: corrupt"):
        run_suite(suite, tmp_path, ExecutorSettings(jobs=1))
