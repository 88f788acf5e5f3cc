"""Kill runs at random moments and compare what is left at last with a run that nobody killed.

    python -m tests.kills [KILLS [ENV_STEPS]]

Every algorithm trains a few steps and checkpoints after each. A run is killed (SIGKILL) at a
random moment, the same run starts again, and so on until one comes to its end; then a new one
begins, until there were ``KILLS`` kills. Runs are forks of a process that has torch imported.
"""

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from rocompare.execute.runner import ExecutorSettings, run_suite
from rocompare.learn import engine
from rocompare.suite import registry
from rocompare.suite.load import parse_suite
from tests.support.helpers import contents, game_for

SUITE = """
name: killed
seeds: [0, 3]
budget: {{env_steps: {steps}}}
evaluation: {{episodes: 3, points: 4}}
algorithms:
{algorithms}
scenarios: {{game: {{env: max_of_three}}}}
"""


def suite(steps):
    small = {"svnr": "{hidden: 8, particles: 4}"}
    names = [name for name in registry.ALGORITHMS if game_for(name) == "max_of_three"]
    lines = [f"  {name}: {small.get(name, '{hidden: 8}')}" for name in names]
    lines.append("  pr2_squashed: {use: pr2, squash_term: true, hidden: 8}")
    return parse_suite(SUITE.format(steps=steps, algorithms="\n".join(lines)))


def run(chosen, root, seconds):
    """Whether the run came to its end within ``seconds``; else it is killed."""
    child = os.fork()
    if not child:
        engine.CHECKPOINT_SECONDS = 0.0
        with contextlib.suppress(BaseException):
            outcome = run_suite(chosen, root, ExecutorSettings(jobs=1))
            os._exit(any(status.state != "done" for status in outcome.cells))
        os._exit(2)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"the run failed: {status}"
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main():
    kills, steps = (int(a) for a in [*sys.argv[1:], "20", "60"][:2])
    torch.set_num_threads(1)
    chosen = suite(steps)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        assert run(chosen, Path(folder, "whole"), 600)
        whole = contents(Path(folder, "whole"))
        length = time.monotonic() - start
        random.seed(time.time_ns())
        done = runs = resumed = 0
        while done < kills:
            root = Path(folder, str(runs))
            left = random.randint(1, 5)  # kills of this run
            while not run(chosen, root, random.uniform(0, length / 2) if left else 600):
                done, left = done + 1, left - 1
                resumed += any(root.rglob("checkpoint.pt"))
            assert contents(root) == whole
            assert not [p for p in root.rglob("*") if p.suffix in (".tmp", ".pt")]
            runs += 1
    print(f"{done} kills, {resumed} of them with a checkpoint to go on from, in {runs} runs of")
    print(f"{len(chosen.cells())} cells: {len(whole)} files each, all equal")


if __name__ == "__main__":
    main()
