"""Cells on a real Ray cluster of two workers on this machine: the same files, whatever is lost."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from rocompare.errors import ExecutorError

pytest.importorskip("ray", reason="needs Ray: pip install 'rocompare[ray]'")
pytestmark = pytest.mark.filterwarnings("default")  # what Ray and its dependencies deprecate

import ray  # noqa: E402

# gone
from rocompare.execute.ray import ATTEMPTS, RayExecutor  # noqa: E402
from rocompare.execute.runner import ExecutorSettings, run_suite  # noqa: E402
from rocompare.suite.load import parse_suite  # noqa: E402
from tests.support.helpers import contents  # noqa: E402

SUITE = """
name: ray
seeds: 2
budget: {{env_steps: {steps}}}
evaluation: {{episodes: 4, points: 4}}
algorithms:
  one: {{use: "tests.support.probe:Recorder", {one}}}
  svnr: {{hidden: 8, particles: 4}}
scenarios: {{game: {{env: max_of_three}}}}
"""


def suite(one="random_fraction: 0.3", steps=40):
    return parse_suite(SUITE.format(one=one, steps=steps))


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def states(outcome):
    return [status.state for status in outcome.cells]


def test_the_files_are_those_of_the_local_engine(tmp_path):
    seen = set()

    def watch(statuses):
        seen.update(s.progress.fraction for s in statuses if s.progress and s.state == "running")

    chosen = suite("pause: 0.005", 60)
    outcome = run_suite(chosen, tmp_path / "ray", ExecutorSettings("ray", jobs=2), watch=watch)
    assert states(outcome) == ["done", "done"]
    assert len(seen) > 1, "no progress came back while cells ran"
    run_suite(chosen, tmp_path / "local", ExecutorSettings(jobs=1))
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_a_worker_killed_in_the_middle_of_a_cell_is_made_up_for(tmp_path):
    """Its cell is begun again, or goes on from its checkpoint, and ends as if nothing had been."""
    chosen = suite("pause: 0.02", 60)
    workers = []

    def watch(statuses):
        if not workers and statuses[0].progress and statuses[0].state == "running":
            workers.extend(training())
            os.kill(workers[0], signal.SIGKILL)

    outcome = run_suite(chosen, tmp_path / "ray", ExecutorSettings("ray", jobs=2), watch=watch)
    assert workers
    assert states(outcome) == ["done", "done"]
    run_suite(chosen, tmp_path / "local", ExecutorSettings(jobs=1))
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def training():
    """Processes that Ray shows as busy with a cell."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    mine = re.findall(r"^ *(\d+) +(\d+) ray::_train", listed, re.MULTILINE)
    raylets = re.findall(r"^ *(\d+) +\d+ \S*raylet", listed, re.MULTILINE)
    return [int(pid) for pid, parent in mine if parent in raylets]


def test_a_cell_that_always_loses_its_worker_is_given_up(tmp_path):
    outcome = run_suite(suite("kill_at: 0.5"), tmp_path, ExecutorSettings("ray", jobs=2))
    assert states(outcome) == ["failed", "done"]
    assert outcome.cells[0].error == f"its worker was lost {ATTEMPTS} times (out of memory?)"
    assert len(list(tmp_path.rglob("failure.json"))) == 1


def test_a_failure_is_data(tmp_path):
    outcome = run_suite(
        suite("fail_at: 0.5, odd_error: true"), tmp_path, ExecutorSettings("ray", jobs=2)
    )
    assert states(outcome) == ["failed", "done"]
    assert outcome.cells[0].error == "OddError: 1 and 2"
    assert "tests/probe.py" in next(tmp_path.rglob("failure.json")).read_text()


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c(presses, tmp_path):
    """Once: checkpoints. Twice: at once, whatever an update takes."""
    chosen = suite("pause: 0.05" if presses == 1 else "pause: 600", 200)

    def press():
        while not training():
            time.sleep(0.1)
        time.sleep(1)
        for _ in range(presses):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    threading.Thread(target=press, daemon=True).start()
    start = time.monotonic()
    outcome = run_suite(chosen, tmp_path / "ray", ExecutorSettings("ray", jobs=2))
    assert outcome.interrupted
    assert outcome.at_once == (presses == 2)
    assert states(outcome)[0] == "stopped"
    assert time.monotonic() - start < 60
    assert (presses == 2) or list(tmp_path.rglob("checkpoint.pt"))


def test_gpus_that_nobody_has_are_refused():
    with pytest.raises(ExecutorError, match=r"asks for 1 CPU and 0\.25 GPUs.*has 2 and 0"):
        RayExecutor(gpus_per_cell=0.25)


def test_no_cluster_at_an_address(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE.format(one="pause: 0.0", steps=10))
    command = [sys.executable, "-m", "rocompare", "run", str(tmp_path / "suite.yaml")]
    command += ["--executor", "ray", "--address", "127.0.0.1:1", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 2
    assert "error: --address 127.0.0.1:1: no Ray cluster can be had" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_running_cluster_is_joined(tmp_path):
    """``--address auto``, as on a cluster that Slurm or Kubernetes started."""
    (tmp_path / "suite.yaml").write_text(SUITE.format(one="pause: 0.0", steps=40))
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "rocompare", "run", str(tmp_path / "suite.yaml")]
    command += ["--executor", "ray", "--address", "auto", "--results", str(tmp_path / "ray")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "RAY_ADDRESS": address},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run_suite(suite("pause: 0.0"), tmp_path / "local", ExecutorSettings(jobs=1))
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
