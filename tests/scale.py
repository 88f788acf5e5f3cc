"""Ten thousand cells: what reading them costs. Not a test; run it by hand.

    python -m tests.scale FOLDER [CELLS [SEEDS]]

makes a results folder of made-up returns, then measures the commands that read all of it. `check`
reads it twice, as its own reference.
"""

import json
import math
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from rocompare.results import store
from rocompare.results.records import Curve
from rocompare.suite.load import parse_suite
from rocompare.suite.models import Cell
from tests.support.records import make_record


def suite_text(cells: int, seeds: int) -> str:
    """A suite of about ``cells`` cells: as many algorithms as scenarios."""
    side = math.ceil(math.sqrt(cells))
    return "\n".join(
        [
            "name: scale",
            f"seeds: {seeds}",
            "budget: {env_steps: 1000}",
            "algorithms:",
            *(f"  a{i}: {{use: maddpg, hidden: {i + 1}}}" for i in range(side)),
            "scenarios:",
            *(f"  s{i}: {{env: max_of_three, s2: {1 + i / 100}}}" for i in range(side)),
        ]
    )


def save(root: Path, cell: Cell) -> None:
    """What a finished cell leaves: 100 evaluation episodes a seed, 20 points a curve."""
    random.seed(cell.key)
    modes = "decentralised", "deterministic"
    records = []
    for seed in cell.seeds:
        found = random.random() < 0.5
        returns = [round(random.gauss(10 if found else 0, 0.1), 6) for _ in range(100)]
        curve = Curve(
            env_steps=[50 * (i + 1) for i in range(20)],
            returns=dict.fromkeys(modes, returns[:20]),
            in_optimum=dict.fromkeys(modes, [0.5] * 20),
            executed_ro=[1.0] * 20,
            perceived_ro=[None] * 20,
        )
        actions = [[random.random() for _ in range(3)] for _ in range(20)]
        changes = {"curve": curve, "actions": actions, "updates": 1800}
        records.append(make_record(seed, returns, env_steps=1000, **changes))
    store.save(root, cell, records, {"made": "up"})


def measured(*arguments: str) -> None:
    """Time and peak memory of a command."""
    start = time.monotonic()
    command = [sys.executable, "-m", "rocompare", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    # The largest of all children so far: commands stand in the order of what they need.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    last = (done.stdout or done.stderr).strip().splitlines()[-1:]
    print(f"{seconds:6.1f} s {peak:6.0f} MB  exit {done.returncode}  {arguments[0]}: {last}")


def main() -> None:
    folder = Path(sys.argv[1])
    cells, seeds = (int(a) for a in [*sys.argv[2:], "10000", "20"][:2])
    folder.mkdir(parents=True, exist_ok=True)
    suite = folder / "scale.yaml"
    suite.write_text(suite_text(cells, seeds))
    start = time.monotonic()
    os.fsync = lambda descriptor: None  # half a million of them take an hour
    root = folder / "results"
    for cell in parse_suite(suite.read_text()).cells():
        if not (root / cell.path / "summary.json").exists():
            save(root, cell)
    files = sum(1 for _ in root.rglob("*") if _.is_file())
    print(f"{files} files in {time.monotonic() - start:.0f} s")
    measured("run", str(suite), "--results", str(root), "--plan")
    measured("table", str(root))
    measured("check", str(root), "--against", str(root))
    print(json.dumps({"cells": cells, "seeds": seeds}))


if __name__ == "__main__":
    main()
