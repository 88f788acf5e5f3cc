"""Suite to results: skip what is done, train the rest, save each cell as it ends.

Failures are data: a cell that fails leaves a ``failure.json`` and the others go on.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
from filelock import FileLock, Timeout

from rocompare.errors import ExecutorError, ResultsError
from rocompare.execute import signals
from rocompare.execute.provenance import provenance
from rocompare.results import reader, store
from rocompare.suite.models import Cell, Suite

if TYPE_CHECKING:
    from rocompare.execute.local import CellExecutor
    from rocompare.learn.engine import Progress
    from rocompare.results.records import SeedRecord

POLL_SECONDS = 0.1
GUARD = (
    "in a script, call rocompare.run below `if __name__ == '__main__':`, for every worker process "
    "imports the script; or give jobs=1"
)


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
    signal: int = 0
    """The signal that interrupted it, Ctrl-C's or a batch system's; 0: none did."""
    at_once: bool = False
    """By a second one, which did not wait for checkpoints."""
    seconds: float = 0.0
    messages: list[str] = field(default_factory=list)

    @property
    def interrupted(self) -> bool:
        return bool(self.signal)

    @property
    def exit_code(self) -> int:
        """As a shell would say it: 128 and the signal; 1 if a cell failed."""
        return 128 + self.signal if self.signal else int(bool(self.failed))

    @property
    def failed(self) -> list[CellStatus]:
        return [status for status in self.cells if status.state == "failed"]


def plan(suite: Suite, root: Path) -> list[CellStatus]:
    """The suite's cells and which of their seeds are still to be trained."""
    statuses = []
    for cell in suite.cells():
        done = store.finished_seeds(root, cell)
        missing = tuple(seed for seed in cell.seeds if seed not in done)
        todo = missing or store.unfinished(root / cell.path)
        statuses.append(CellStatus(cell, missing, "waiting" if todo else "done"))
    return statuses


def estimate_seconds(statuses: list[CellStatus], root: Path, jobs: int) -> float | None:
    """Wall time of what is missing, from the measured times of finished seeds under ``root``.

    None where no finished cell of any algorithm tells how long one takes.
    """
    try:
        frame = reader.load_results(root)
    except ResultsError:
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


@dataclass(frozen=True)
class ExecutorSettings:
    """Where cells run, as ``rocompare run`` is told it."""

    name: Literal["local", "ray"] = "local"
    jobs: int | None = None
    """Cells that train at a time; None: one per core of this machine, or of the cluster."""
    device: str = "cpu"
    address: str | None = None
    """Ray: a running cluster to join, ``auto`` or ``host:port``; None: one of this machine's."""
    gpus_per_cell: float | None = None
    """Ray: what a cell asks for; below 1, cells share a GPU. None: 1 on cuda and 0 on cpu."""


def run(
    suite: Suite,
    results_dir: str | Path = "results",
    *,
    jobs: int | None = None,
    device: str = "cpu",
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    watch: Callable[[list[CellStatus]], None] = lambda statuses: None,
) -> pd.DataFrame:
    """Train what ``suite`` still lacks under ``results_dir`` and return its results.

    Args:
        jobs: cells that train at a time; None: one per core.
        executor: where they train: on this machine, or on a Ray cluster.
        address: a running Ray cluster to join; None: one of this machine's cores.
        watch: called about ten times a second with the state of every cell.

    Returns:
        The suite's rows of :func:`rocompare.load_results`.

    Raises:
        RuntimeError: a cell failed; the others were finished first.
        KeyboardInterrupt: the run was interrupted; checkpoints were written.
    """
    place = ExecutorSettings(executor, jobs, device, address)
    outcome = run_suite(suite, Path(results_dir), place, watch=watch)
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
            frame = reader.load_results(root / cell.path)
            frames.append(frame[frame["seed"].isin(cell.seeds)])
    if not frames:
        raise ResultsError(f"{root}: nothing of suite '{suite.name}' is finished here")
    return pd.concat(frames, ignore_index=True)


def run_suite(
    suite: Suite,
    root: Path,
    executor: ExecutorSettings = ExecutorSettings(),
    *,
    fail_fast: bool = False,
    watch: Callable[[list[CellStatus]], None] = lambda statuses: None,
) -> Run:
    """Like :func:`run`, but failures and interruption are part of the returned record.

    Args:
        fail_fast: stop the run, as Ctrl-C does, once a cell has failed.

    Raises:
        OSError: nothing can be written below ``root``.
        ResultsError: a file there is no result of this tool.
        ExecutorError: the executor cannot be had.
    """
    _refuse_reimport()
    start = time.monotonic()
    statuses = plan(suite, root)
    outcome = Run(statuses)
    todo = deque(status for status in statuses if status.state == "waiting")
    watch(statuses)
    if todo:
        check_writable(root / suite.name)
        workers = _executor(executor, len(todo))
        loop = _Loop(
            workers, root, todo, outcome, watch, executor.device, fail_fast, suite.keep_policies
        )
        try:
            with signals.first_signal(loop.interrupt), _closing(workers):
                loop.run()
        except KeyboardInterrupt:  # the second signal, which may have come while closing
            outcome.signal = outcome.signal or signal.SIGINT
            outcome.at_once = True
            workers.kill()
            for status in statuses:
                if status.state in ("running", "waiting", "elsewhere"):
                    status.state = "stopped"
    outcome.seconds = time.monotonic() - start
    watch(statuses)
    return outcome


@contextlib.contextmanager
def _closing(executor: CellExecutor) -> Iterator[None]:
    """End the workers, whatever happens: at once or, mostly, at their next safe point."""
    try:
        yield
    except KeyboardInterrupt:
        executor.kill()
        raise
    finally:
        executor.stop()
        executor.close()


def check_writable(folder: Path) -> None:
    """Better now than after the first hour of training.

    Raises:
        OSError: no file can be made in ``folder``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=".") as file:
            file.write(b"?")
    except OSError as error:
        raise OSError(
            f"{folder}: cannot write results here ({error.strerror}); free it, or give another "
            "folder with --results"
        ) from None


def _executor(settings: ExecutorSettings, n_cells: int) -> CellExecutor:
    if settings.name == "ray":
        from rocompare.execute.ray import RayExecutor

        return RayExecutor(settings.jobs, settings.device, settings.address, settings.gpus_per_cell)
    from rocompare.execute.local import local_executor

    jobs = max(1, min(settings.jobs or default_jobs(), n_cells))
    script = _script()
    if multiprocessing.current_process().daemon or (script and not Path(script).exists()):
        jobs = 1  # a pool's worker may start no processes, and those of standard input cannot begin
    return local_executor(jobs, settings.device)


def _refuse_reimport() -> None:
    """A worker process imports the script that started it, and so would start a run of its own."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ExecutorError(GUARD)


class _Loop:
    """Hands cells to the executor, a lock held on each, and saves what comes back."""

    def __init__(
        self,
        executor: CellExecutor,
        root: Path,
        todo: deque[CellStatus],
        outcome: Run,
        watch: Callable[[list[CellStatus]], None],
        device: str,
        fail_fast: bool,
        keep_policies: bool,
    ) -> None:
        self.executor = executor
        self.root = root
        self.todo = todo
        self.outcome = outcome
        self.watch = watch
        self.fail_fast = fail_fast
        self.keep_policies = keep_policies
        self.running: dict[Future[list[SeedRecord]], tuple[CellStatus, FileLock]] = {}
        self.by_label = {status.cell.label: status for status in outcome.cells}
        self.provenance = provenance(device)
        self.stopping = False

    def run(self) -> None:
        while self.todo or self.running:
            self._turn()

    def interrupt(self, number: int) -> None:
        # A flag, for this is called in the middle of anything.
        self.outcome.signal, self.stopping = number, True

    def _turn(self) -> None:
        if self.stopping:
            self.executor.stop()
            for status in self.todo:
                status.state = "stopped"
            self.todo.clear()
        for _ in range(len(self.todo)):
            if len(self.running) >= self.executor.jobs or self.stopping:
                break
            status = self.todo.popleft()
            if not self._start(status):
                self.todo.append(status)
        if self.running:
            done, _ = wait(self.running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        else:
            done = set()
            if self.todo:  # all of them in another run's hands
                time.sleep(POLL_SECONDS)
        for label, progress in self.executor.events():
            self.by_label[label].progress = progress
            if progress.message:
                self.outcome.messages.append(f"{label}: {progress.message}")
        for future in done:
            self._finish(future)
        self.watch(self.outcome.cells)

    def _start(self, status: CellStatus) -> bool:
        """Begin a cell; False if another run holds it."""
        folder = self.root / status.cell.path
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            if status.state != "elsewhere":
                self.outcome.messages.append(
                    f"{status.cell.label}: another run holds {folder / '.lock'} and trains this "
                    "cell; if none is alive (its machine is gone), delete that file"
                )
            status.state = "elsewhere"
            return False
        except (OSError, NotImplementedError) as error:
            self._fail(status, _not_begun(folder, error), traceback.format_exc())
            return True
        try:
            store.clean(folder)
            # Another run may have finished seeds since the plan was made.
            done = store.finished_seeds(self.root, status.cell)
            status.missing = tuple(seed for seed in status.cell.seeds if seed not in done)
            checkpoint = folder / store.CHECKPOINT
            if status.missing:
                cell = status.cell.with_seeds(status.missing)
                future = self.executor.submit(cell, checkpoint.absolute())
                self.running[future] = status, lock
                status.state = "running"
                return True
            checkpoint.unlink(missing_ok=True)
            status.state = "done"
        except (OSError, ResultsError) as error:
            self._fail(status, str(error), traceback.format_exc())
        lock.release()
        return True

    def _finish(self, future: Future[list[SeedRecord]]) -> None:
        from rocompare.execute.local import CellFailed
        from rocompare.learn.engine import Interrupted

        status, lock = self.running.pop(future)
        cell = status.cell.with_seeds(status.missing)
        try:
            store.save(self.root, cell, future.result(), self.provenance, self.keep_policies)
            (self.root / cell.path / store.CHECKPOINT).unlink(missing_ok=True)
            status.state = "done"
        except Interrupted:
            status.state = "stopped"
        except BrokenExecutor:
            text = "a worker process was killed (out of memory?)"
            if _script() is not None and status.progress is None:
                text += f"; {GUARD}"
                self.stopping = True  # it would be no better with the next
            self._fail(status, text, "")
        except CellFailed as failure:  # whatever an algorithm or environment raises is data
            self._fail(status, failure.error, failure.trace)
        except OSError as error:
            text = f"{self.root / cell.path}: cannot write results: {error}"
            self._fail(status, text, traceback.format_exc())
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self._fail(status, text, traceback.format_exc())
        finally:
            lock.release()

    def _fail(self, status: CellStatus, error: str, trace: str) -> None:
        status.state, status.error = "failed", error
        self.stopping = self.stopping or self.fail_fast
        try:
            cell = status.cell.with_seeds(status.missing)
            store.save_failure(self.root, cell, error, trace)
        except OSError as problem:
            self.outcome.messages.append(f"{status.cell.label}: {problem}")


def _not_begun(folder: Path, error: OSError | NotImplementedError) -> str:
    """Why a cell's folder cannot be had, and what helps."""
    unlockable = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
    if isinstance(error, NotImplementedError) or error.errno in unlockable:
        return (
            f"{folder / '.lock'}: this file system cannot lock files ({error}), and without a lock "
            "two runs might train one cell; give --results on a local disk and copy the folder "
            "afterwards, or mount the file system with locking"
        )
    return f"{folder}: cannot write results: {error}"


def _script() -> str | None:
    """The file of a user's script that this process runs, which workers import again."""
    main = sys.modules.get("__main__")
    package = getattr(main, "__spec__", None)
    found = getattr(main, "__file__", None)
    return None if package is not None or Path(sys.argv[0]).stem == "rocompare" else found
