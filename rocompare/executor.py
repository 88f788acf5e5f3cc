"""Where cells run: in this process, or in processes of this machine, one torch thread each.

Every executor hands back ``concurrent.futures`` and a stream of progress events, so the runner
does not know which one it has.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rocompare.config import Cell
from rocompare.engine import Progress, train_cell
from rocompare.results import CellResult

Event = tuple[str, Progress]
"""A cell's label and how far it has come."""


def _train(cell: Cell, device: str, checkpoint: Path | None, events: Any, stop: Any) -> CellResult:
    """Train with one torch thread: threads and processes must not multiply."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_cell(
            cell,
            device=device,
            report=lambda progress: events.put((cell.label, progress)),
            should_stop=stop.is_set,
            checkpoint=checkpoint,
        )
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal; the runner alone decides what it means.

    A worker must be deaf to it from its first moment, not only once its imports are done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_worker: dict[str, Any] = {}


def _start_worker(events: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(events=events, stop=stop)


def _train_in_worker(cell: Cell, device: str, checkpoint: Path | None) -> CellResult:
    return _train(cell, device, checkpoint, _worker["events"], _worker["stop"])


class LocalExecutor:
    """Runs up to ``jobs`` cells at a time on this machine.

    One job runs in a thread of this process, more run in processes that start afresh (``spawn``:
    a fork of a process with torch threads may hang).
    """

    def __init__(self, jobs: int, device: str = "cpu") -> None:
        self.jobs = jobs
        self.device = device
        self._pool: Executor
        self._events: Any
        self._stop: Any
        if jobs == 1:
            self._events, self._stop = queue.Queue(), threading.Event()
            self._pool = ThreadPoolExecutor(1)
        else:
            context = multiprocessing.get_context("spawn")
            self._events, self._stop = context.Queue(), context.Event()
            self._pool = ProcessPoolExecutor(
                jobs, context, initializer=_start_worker, initargs=(self._events, self._stop)
            )

    def submit(self, cell: Cell, checkpoint: Path | None) -> Future[CellResult]:
        if self.jobs == 1:
            return self._pool.submit(
                _train, cell, self.device, checkpoint, self._events, self._stop
            )
        with _sigint_ignored():  # inherited by a worker that starts now
            return self._pool.submit(_train_in_worker, cell, self.device, checkpoint)

    def events(self) -> list[Event]:
        """Progress since the last call."""
        found = []
        while True:
            try:
                found.append(self._events.get_nowait())
            except queue.Empty:
                return found

    def stop(self) -> None:
        """Ask running cells to checkpoint and end."""
        self._stop.set()

    def kill(self) -> None:
        """End worker processes at once."""
        for process in list((getattr(self._pool, "_processes", None) or {}).values()):
            process.kill()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
