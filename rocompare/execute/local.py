"""Where cells run: in this process, or in processes of this machine, one torch thread each.

Every executor hands back ``concurrent.futures`` and a stream of progress events, so the runner
does not know which one it has.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import platform
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from rocompare.execute import signals
from rocompare.learn.engine import Interrupted, Progress, train_cell
from rocompare.results.records import SeedRecord
from rocompare.suite.models import Cell

Event = tuple[str, Progress]
"""A cell's label and how far it has come."""


class CellFailed(Exception):
    """What an algorithm or environment raised, as text: not every exception can be sent."""

    def __init__(self, error: str, trace: str) -> None:
        super().__init__(error, trace)
        self.error = error
        self.trace = trace


class CellExecutor(Protocol):
    """What the runner asks of the place where cells run."""

    jobs: int
    """Cells that it is given at a time."""

    def submit(self, cell: Cell, checkpoint: Path) -> Future[list[SeedRecord]]: ...

    def events(self) -> list[Event]:
        """Progress since the last call."""

    def stop(self) -> None:
        """Ask running cells to checkpoint and end."""

    def kill(self) -> None:
        """End workers at once, as far as they are processes."""

    def close(self) -> None:
        """Wait for running cells and end the workers."""


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed, for the rest of this process's life.

    An update frees large buffers, which glibc by its defaults gives back to the system and fetches
    again, zeroed and page by page, for the next one. The most memory ever used stays what it was.
    Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    libc.mallopt(trim_threshold, (1 << 31) - 1)
    if not libc.mallopt(mmap_threshold, 1 << 30):
        libc.mallopt(mmap_threshold, 1 << 25)  # the most that older versions take


def train(
    cell: Cell,
    device: str,
    checkpoint: Path,
    report: Callable[[Event], None],
    should_stop: Callable[[], bool],
) -> list[SeedRecord]:
    """Train with one torch thread: threads and processes must not multiply.

    Raises:
        Interrupted: ``should_stop`` said so.
        CellFailed: the algorithm or the environment raised anything else.
    """
    import torch

    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_cell(
            cell,
            device=device,
            report=lambda progress: report((cell.label, progress)),
            should_stop=should_stop,
            checkpoint=checkpoint,
        )
    except Interrupted:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise CellFailed(text, traceback.format_exc()) from None
    finally:
        torch.set_num_threads(threads)


class ThreadExecutor:
    """Runs one cell at a time in a thread of this process, which no second process's start delays.

    A thread cannot be killed: ``kill`` lets it end at the next step, and whoever cannot wait for
    that must end this process.
    """

    jobs = 1

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._pool = ThreadPoolExecutor(1)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._killed = False

    def submit(self, cell: Cell, checkpoint: Path) -> Future[list[SeedRecord]]:
        return self._pool.submit(
            train, cell, self.device, checkpoint, self._events.put, self._stop.is_set
        )

    def events(self) -> list[Event]:
        return [self._events.get() for _ in range(self._events.qsize())]

    def stop(self) -> None:
        self._stop.set()

    def kill(self) -> None:
        self.stop()
        self._killed = True

    def close(self) -> None:
        self._pool.shutdown(wait=not self._killed, cancel_futures=True)


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Processes that start within import nothing from the working folder.

    Python puts it first until a worker has this process's ``sys.path``, and a file there may have
    the name of a module of the standard library.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        _restore(before)


_SAFE_PATH = "PYTHONSAFEPATH"


def _restore(value: str | None) -> None:
    os.environ.pop(_SAFE_PATH, None)
    if value is not None:
        os.environ[_SAFE_PATH] = value


_worker: dict[str, Any] = {}


def _start_worker(events: Any, stop: Any, safe_path: str | None) -> None:
    _restore(safe_path)  # an environment may start programs of its own
    signals.ignore()
    _worker.update(events=events, stop=stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A run that is killed takes its workers along: its locks are free, and another may start."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train_in_worker(cell: Cell, device: str, checkpoint: Path) -> list[SeedRecord]:
    stop = _worker["stop"]
    return train(cell, device, checkpoint, _worker["events"].send, lambda: bool(stop.value))


class _Slot:
    """One worker process, which starts with its first cell and then stays.

    A pool of its own, for if a worker is killed its pool is lost, and with it every other cell in
    it. A pipe of its own and no queue: a worker that is killed while it holds a queue's lock
    would silence the others.
    """

    def __init__(self, stop: Any) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of torch's threads may hang
        # Its sending end stays open here, so that a killed worker is silence and no end of file.
        self.events, self.sender = context.Pipe(duplex=False)
        settings = self.sender, stop, os.environ.get(_SAFE_PATH)
        with _safe_path():
            self.pool = ProcessPoolExecutor(
                1, context, initializer=_start_worker, initargs=settings
            )
        self.future: Future[list[SeedRecord]] | None = None

    @property
    def free(self) -> bool:
        return self.future is None or self.future.done()

    def submit(self, cell: Cell, device: str, checkpoint: Path) -> Future[list[SeedRecord]]:
        with signals.held(), _safe_path():  # both are inherited by a worker that starts now
            self.future = self.pool.submit(_train_in_worker, cell, device, checkpoint)
        return self.future

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.events.close()
        self.sender.close()


class ProcessExecutor:
    """Runs up to ``jobs`` cells at a time in processes of this machine."""

    def __init__(self, jobs: int, device: str = "cpu") -> None:
        self.jobs = jobs
        self.device = device
        # A byte and no event: an event has a lock, which a killed worker might hold.
        self._stop: Any = multiprocessing.get_context("spawn").RawValue("b", 0)
        self._slots = [_Slot(self._stop) for _ in range(jobs)]

    def submit(self, cell: Cell, checkpoint: Path) -> Future[list[SeedRecord]]:
        i = next(i for i, slot in enumerate(self._slots) if slot.free)
        try:
            return self._slots[i].submit(cell, self.device, checkpoint)
        except BrokenExecutor:  # its worker was killed, with its last cell or since
            self._slots[i].close()
            self._slots[i] = _Slot(self._stop)
            return self._slots[i].submit(cell, self.device, checkpoint)

    def events(self) -> list[Event]:
        found = []
        for slot in self._slots:
            while slot.events.poll():
                found.append(slot.events.recv())
        return found

    def stop(self) -> None:
        self._stop.value = 1

    def kill(self) -> None:
        for slot in self._slots:
            for process in list((getattr(slot.pool, "_processes", None) or {}).values()):
                process.kill()

    def close(self) -> None:
        for slot in self._slots:
            slot.close()


def local_executor(jobs: int, device: str = "cpu") -> CellExecutor:
    """One job runs in this process, more in processes of their own."""
    return ThreadExecutor(device) if jobs == 1 else ProcessExecutor(jobs, device)
