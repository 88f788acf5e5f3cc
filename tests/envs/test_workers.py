"""Worker processes that step copies: the same numbers, and nothing left behind."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from rocompare.dev.checks import same
from rocompare.envs import workers
from rocompare.envs.copies import Copies
from rocompare.envs.parallel import COPIES_PER_WORKER, Parallel
from rocompare.envs.workers import Workers
from rocompare.errors import UnfitEnvironment
from rocompare.suite.load import parse_suite

SUITE = """
name: lines
seeds: 2
budget: {{env_steps: 30}}
algorithms: {{maddpg: {{}}}}
scenarios:
  line: {{env: pettingzoo, factory: "tests.support.lines:Line", workers: {workers}, horizon: {horizon}}}
"""
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
N = 2 * COPIES_PER_WORKER + 1  # per seed: not the same number for every worker
STEPS = 25


def make(name="Line", processes=2, n_envs=N, seeds=(3, 4)):
    config = Parallel.Config(
        factory=f"tests.support.lines:{name}", horizon=7, workers=processes, reward_scale=0.5
    )
    return Parallel(config, seeds, n_envs, "env")


def play(env, first=0, steps=STEPS):
    """Every tensor of some steps, whose actions depend on the step alone."""
    outcome = []
    for i in range(first, first + steps):
        numbers = torch.Generator().manual_seed(i)
        action = torch.rand(*env.shape, 2, 1, generator=numbers) * 2 - 1
        if i == 3:
            action[0, 1] = float("nan")
        outcome.extend(env.step(action))
    return outcome


def all_same(ours, theirs):
    return all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def pids(env):
    return [worker.process.pid for worker in env.copies._workers]


def running(pid):
    """Whether a process is there and not merely unburied."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone_within(found, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(running(pid) for pid in found):
        time.sleep(0.02)
    return not any(running(pid) for pid in found)


@pytest.fixture(scope="module")
def alone():
    """What one process gives: the first observations and all steps, and the state after 9."""
    env = make(processes=0)
    assert isinstance(env.copies, Copies)
    outcome = [env.reset(), *play(env, 0, 9)]
    state = env.state_dict()
    return [*outcome, *play(env, 9, STEPS - 9)], state


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_same_numbers_bit_for_bit(alone, processes):
    env = make(processes=processes)
    assert isinstance(env.copies, Workers) and len(pids(env)) == processes
    outcome = [env.reset(), *play(env)]
    env.close()
    assert all_same(outcome, alone[0])
    assert any(step.any() for step in outcome[4::6]) and any(step.any() for step in outcome[5::6])


def test_a_state_continues_with_another_number_of_workers(alone):
    outcome, state = alone
    later = outcome[1 + 6 * 9 :]
    env = make(processes=2)
    env.load_state_dict(state)
    assert all_same(play(env, 9, STEPS - 9), later)
    env.close()
    env = make(processes=2)
    env.reset()
    play(env, 0, 9)
    assert env.state_dict() == state
    env.close()


def test_results_are_found_again_with_another_number_of_workers():
    keys = {
        parse_suite(SUITE.format(workers=workers, horizon=horizon)).cells()[0].key
        for workers, horizon in ((0, 7), (2, 7), (0, 8))
    }
    assert len(keys) == 2


def test_few_copies_are_stepped_here():
    for n_envs, processes in ((COPIES_PER_WORKER - 1, 0), (2 * COPIES_PER_WORKER - 1, 1), (N, 2)):
        env = make(processes=4, n_envs=n_envs, seeds=(1,))
        assert isinstance(env.copies, Workers) == bool(processes)
        assert not processes or len(pids(env)) == processes
        env.close()


def test_no_process_is_left_whether_closed_or_not():
    env = make()
    env.reset()
    found = pids(env)
    assert len(found) == 2 and all(map(running, found))
    env.close()
    env.close()
    assert not any(map(running, found))
    env = make()  # never reset
    found = pids(env)
    del env
    gc.collect()
    assert not any(map(running, found))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("Failing", RuntimeError, "tests.support.lines:Failing: KeyError: 'no luck'"),
        ("Dying", RuntimeError, "a worker process that steps copies died, exit code 3"),
    ],
)
def test_a_failure_is_told_and_leaves_no_process(name, kind, message):
    env = make(name)
    env.reset()
    found = pids(env)
    with pytest.raises(kind, match=message) as info:
        play(env, 0, 1)
    if name == "Failing":
        assert "in step\n    raise KeyError" in info.value.__notes__[0]
    assert not any(map(running, found))
    env.close()


def test_a_killed_worker_is_told():
    env = make()
    env.reset()
    os.kill(pids(env)[1], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="died, signal 9"):
        play(env)


def test_what_cannot_be_a_scenario_is_refused_as_in_one_process():
    with pytest.raises(UnfitEnvironment, match="lines:Flat: observations of 'left' are images"):
        make("Flat")


def test_what_an_environment_prints_is_no_answer(capfd):
    env = make("Loud")
    env.reset()
    play(env, 0, 1)
    env.close()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("hello from C") == 2 * N


def test_a_worker_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(workers, "CLOSING_SECONDS", 0.2)
    env = make("Sleeping")
    env.reset()
    found = pids(env)
    for worker in env.copies._workers:
        worker.send(("step", (torch.zeros(N, 2, 1).numpy(), [0] * N)))
    env.close()
    assert not any(map(running, found))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_whoever_started_them(how):
    code = (
        "import tests.envs.test_workers as t; env = t.make(); env.reset(); "
        "print(*t.pids(env), flush=True); t.time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    found = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(found) == 2 and all(map(running, found))
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    assert gone_within(found, 10)


def test_ctrl_c_in_a_terminal_is_not_the_workers(alone):
    env = make()
    outcome = [env.reset()]
    for pid in pids(env):
        assert os.getsid(pid) != os.getsid(0)
        os.kill(pid, signal.SIGINT)
    outcome += play(env)
    env.close()
    assert all_same(outcome, alone[0])


def test_a_worker_imports_no_torch():
    code = "import sys, rocompare.envs.workers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
