"""Suite to results: skip what is done, train the rest, save each cell as it ends.

Failures are data: a cell that fails leaves a ``failure.json`` and the others go on.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from filelock import FileLock, Timeout

from rocompare import results
from rocompare.config import Cell, Suite

if TYPE_CHECKING:
    from rocompare.engine import Progress
    from rocompare.executor import LocalExecutor

POLL_SECONDS = 0.1


@dataclass
class CellStatus:
    """A cell of a run, as the display shows it."""

    cell: Cell
    missing: tuple[int, ...]
    """Seeds that have no result yet."""
    state: Literal["done", "waiting", "running", "elsewhere", "failed", "stopped"]
    progress: Progress | None = None
    error: str = ""


@dataclass
class Run:
    """What a run did."""

    cells: list[CellStatus]
    interrupted: bool = False
    seconds: float = 0.0
    messages: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[CellStatus]:
        return [status for status in self.cells if status.state == "failed"]


def plan(suite: Suite, root: Path) -> list[CellStatus]:
    """The suite's cells and which of their seeds are still to be trained."""
    statuses = []
    for cell in suite.cells():
        done = results.finished_seeds(root, cell)
        missing = tuple(seed for seed in cell.seeds if seed not in done)
        statuses.append(CellStatus(cell, missing, "waiting" if missing else "done"))
    return statuses


def estimate_seconds(statuses: list[CellStatus], root: Path, jobs: int) -> float | None:
    """Wall time of what is missing, from the measured times of finished seeds under ``root``.

    None where no finished cell of any algorithm tells how long one takes.
    """
    try:
        frame = results.load_results(root)
    except results.ResultsError:
        return None
    # Seconds per seed and environment step, of the same algorithm where there is one.
    rates = frame["seconds"] / frame["env_steps"]
    by_algorithm = rates.groupby(frame["algorithm"]).mean()
    overall = float(rates.mean())
    total = 0.0
    for status in statuses:
        rate = float(by_algorithm.get(status.cell.algorithm.name, overall))
        total += rate * len(status.missing) * status.cell.budget.env_steps
    return total / max(1, min(jobs, sum(bool(status.missing) for status in statuses)))


def default_jobs() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    suite: Suite,
    results_dir: str | Path = "results",
    *,
    jobs: int | None = None,
    device: str = "cpu",
    watch: Callable[[list[CellStatus]], None] = lambda statuses: None,
) -> pd.DataFrame:
    """Train what ``suite`` still lacks under ``results_dir`` and return its results.

    Args:
        jobs: cells that train at a time; None: one per core.
        watch: called about ten times a second with the state of every cell.

    Returns:
        The suite's rows of :func:`rocompare.load_results`.

    Raises:
        RuntimeError: a cell failed; the others were finished first.
        KeyboardInterrupt: the run was interrupted; checkpoints were written.
    """
    outcome = run_suite(suite, Path(results_dir), jobs=jobs, device=device, watch=watch)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.failed:
        errors = "; ".join(f"{status.cell.label}: {status.error}" for status in outcome.failed)
        raise RuntimeError(f"{len(outcome.failed)} cells failed: {errors}")
    return load_suite_results(suite, Path(results_dir))


def load_suite_results(suite: Suite, root: Path) -> pd.DataFrame:
    """The rows of exactly this suite's cells and seeds, in the suite's order."""
    frames = []
    for cell in suite.cells():
        if (root / cell.path).is_dir():
            frame = results.load_results(root / cell.path)
            frames.append(frame[frame["seed"].isin(cell.seeds)])
    if not frames:
        raise results.ResultsError(f"{root}: nothing of suite '{suite.name}' is finished here")
    return pd.concat(frames, ignore_index=True)


def run_suite(
    suite: Suite,
    root: Path,
    *,
    jobs: int | None = None,
    device: str = "cpu",
    watch: Callable[[list[CellStatus]], None] = lambda statuses: None,
) -> Run:
    """Like :func:`run`, but failures and interruption are part of the returned record."""
    start = time.monotonic()
    statuses = plan(suite, root)
    outcome = Run(statuses)
    todo = deque(status for status in statuses if status.missing)
    watch(statuses)
    if todo:
        from rocompare.executor import LocalExecutor

        jobs = max(1, min(jobs or default_jobs(), len(todo)))
        executor = LocalExecutor(jobs, device)
        try:
            _Loop(executor, root, todo, outcome, watch, device).run()
        except KeyboardInterrupt:  # the second Ctrl-C
            outcome.interrupted = True
            executor.stop()
            executor.kill()
        finally:
            executor.close()
    outcome.seconds = time.monotonic() - start
    watch(statuses)
    return outcome


class _Loop:
    """Hands cells to the executor, a lock held on each, and saves what comes back."""

    def __init__(
        self,
        executor: LocalExecutor,
        root: Path,
        todo: deque[CellStatus],
        outcome: Run,
        watch: Callable[[list[CellStatus]], None],
        device: str,
    ) -> None:
        self.executor = executor
        self.root = root
        self.todo = todo
        self.outcome = outcome
        self.watch = watch
        self.running: dict[Future[results.CellResult], tuple[CellStatus, FileLock]] = {}
        self.by_label = {status.cell.label: status for status in outcome.cells}
        self.provenance = provenance(device)

    def run(self) -> None:
        while self.todo or self.running:
            try:
                self._turn()
            except KeyboardInterrupt:
                # Once: workers stop at the next step and checkpoint. Twice: at once.
                self.outcome.interrupted = True
                self.executor.stop()
                for status in self.todo:
                    status.state = "stopped"
                self.todo.clear()

    def _turn(self) -> None:
        waiting_for_others = True
        for _ in range(len(self.todo)):
            if len(self.running) >= self.executor.jobs:
                break
            status = self.todo.popleft()
            if not self._start(status):
                self.todo.append(status)
        waiting_for_others = bool(self.todo) and not self.running
        if waiting_for_others:
            time.sleep(POLL_SECONDS)
        done, _ = wait(self.running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for label, progress in self.executor.events():
            self.by_label[label].progress = progress
        for future in done:
            self._finish(future)
        self.watch(self.outcome.cells)

    def _start(self, status: CellStatus) -> bool:
        """Begin a cell; False if another run holds it."""
        folder = self.root / status.cell.path
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            status.state = "elsewhere"
            return False
        # Another run may have finished seeds since the plan was made.
        done = results.finished_seeds(self.root, status.cell)
        status.missing = tuple(seed for seed in status.cell.seeds if seed not in done)
        if not status.missing:
            status.state = "done"
            lock.release()
            return True
        status.state = "running"
        cell = status.cell.with_seeds(status.missing)
        self.running[self.executor.submit(cell, folder / "checkpoint.pt")] = status, lock
        return True

    def _finish(self, future: Future[results.CellResult]) -> None:
        from rocompare.engine import Interrupted

        status, lock = self.running.pop(future)
        cell = status.cell.with_seeds(status.missing)
        try:
            results.save(self.root, cell, future.result(), self.provenance)
            (self.root / cell.path / "checkpoint.pt").unlink(missing_ok=True)
            status.state = "done"
        except Interrupted:
            status.state = "stopped"
        except BrokenExecutor:
            self._fail(status, "a worker process was killed (out of memory?)", "")
        except OSError as error:
            self._fail(status, f"cannot write results: {error}", traceback.format_exc())
        except Exception as error:  # whatever an algorithm or environment raises is data
            text = f"{type(error).__name__}: {error}"
            self._fail(status, text, "".join(traceback.format_exception(error)))
        finally:
            lock.release()

    def _fail(self, status: CellStatus, error: str, trace: str) -> None:
        status.state, status.error = "failed", error
        try:
            results.save_failure(self.root, status.cell, error, trace)
        except OSError as problem:
            self.outcome.messages.append(f"{status.cell.label}: {problem}")


def provenance(device: str) -> dict[str, Any]:
    """What produced a result: versions, commit, machine and command."""
    import torch

    from rocompare import __version__

    return {
        "rocompare": __version__,
        **_git(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that this package is in, if it is in one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
