"""Cells on a Ray cluster: on this machine, or on the many that Slurm or Kubernetes lend.

Ray decides where a cell runs, notices when its worker is lost, and lets cells share a GPU. What a
cell trains is what it trains anywhere: the same call with one torch thread, and so the same files.
A lost cell continues from its checkpoint where the results folder is one that every machine sees,
and starts anew where it is not.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocompare.errors import ExecutorError
from rocompare.execute.local import CellFailed, Event, train
from rocompare.learn.engine import Interrupted
from rocompare.results.records import SeedRecord
from rocompare.suite.models import Cell

try:
    import ray
except ModuleNotFoundError:
    raise ExecutorError("--executor ray: Ray is missing; pip install 'rocompare[ray]'") from None

ATTEMPTS = 3
"""Times that a cell is given to a worker, if workers are lost. Counted here, for Ray itself would
restart a cell that outgrows the memory without end."""
ASK_SECONDS = 0.5
"""Time between a worker's questions whether it should stop."""


class _Board:
    """An actor, on which workers leave their progress and read whether to stop."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stopping = False

    def put(self, event: Event) -> None:
        self.events.append(event)

    def take(self, stopping: bool) -> list[Event]:
        """Told anew each time: an actor that Ray had to restart has forgotten it."""
        self.stopping = stopping
        events, self.events = self.events, []
        return events

    def stopped(self) -> bool:
        return self.stopping


def _asks(board: Any) -> Callable[[], bool]:
    """Whether to stop, asked over the network only now and then."""
    asked, answer = time.monotonic(), False

    def should_stop() -> bool:
        nonlocal asked, answer
        if time.monotonic() - asked > ASK_SECONDS:
            try:
                answer = ray.get(board.stopped.remote())
            except ray.exceptions.RayError:  # without the board there is no runner
                answer = True
            asked = time.monotonic()
        return answer

    return should_stop


def _train(cell: Cell, device: str, checkpoint: Path, board: Any) -> list[SeedRecord] | Exception:
    """Train on a worker. What is expected is returned, for Ray wraps what is raised."""
    try:
        return train(cell, device, checkpoint, lambda e: board.put.remote(e), _asks(board))
    except (Interrupted, CellFailed) as ending:
        return ending


@dataclass
class _Task:
    """A cell in Ray's hands."""

    cell: Cell
    checkpoint: Path
    future: Future[list[SeedRecord]]
    attempt: int = 1


class RayExecutor:
    """Runs cells on the cluster at ``address``, or on one that it starts on this machine.

    Args:
        jobs: cells that Ray is given at a time; None: as many as the cluster has room for.
        gpus_per_cell: below 1, cells share a GPU; None: 1 where ``device`` is cuda.

    Raises:
        ExecutorError: no such cluster, or one that can never run a cell.
    """

    def __init__(
        self,
        jobs: int | None = None,
        device: str = "cpu",
        address: str | None = None,
        gpus_per_cell: float | None = None,
    ) -> None:
        self.device = device
        gpus = gpus_per_cell if gpus_per_cell is not None else float(device == "cuda")
        self._started = not ray.is_initialized()
        if self._started:
            _connect(jobs, address)
        resources = ray.cluster_resources()
        room = int(resources.get("CPU", 1))
        if gpus:
            room = min(room, int(resources.get("GPU", 0) / gpus))
        if room < 1 and address is None:
            self._shutdown()
            raise ExecutorError(
                f"--executor ray: a cell asks for 1 CPU and {gpus:g} GPUs, and this machine has "
                f"{resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}; see --gpus-per-cell"
            )
        self.jobs = jobs or max(1, room)
        self._train = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_train)
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board)
        self._board: Any = board.remote()
        self._tasks: dict[Any, _Task] = {}
        self._stopping = False
        self._killed = False

    def submit(self, cell: Cell, checkpoint: Path) -> Future[list[SeedRecord]]:
        task = _Task(cell, checkpoint, Future())
        self._begin(task)
        return task.future

    def _begin(self, task: _Task) -> None:
        ref = self._train.remote(task.cell, self.device, task.checkpoint, self._board)
        self._tasks[ref] = task

    def events(self) -> list[Event]:
        """Progress since the last call; futures of cells that ended are set here."""
        events: list[Event] = ray.get(self._board.take.remote(self._stopping))
        refs = list(self._tasks)
        ended = ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else []
        for ref in ended:
            self._end(ref, self._tasks.pop(ref))
        return events

    def _end(self, ref: Any, task: _Task) -> None:
        try:
            outcome = ray.get(ref)
        except ray.exceptions.RayTaskError as error:  # the worker could not even begin
            last = str(error).strip().splitlines()[-1]
            task.future.set_exception(CellFailed(last, str(error)))
        except ray.exceptions.RayError as error:
            if self._stopping:
                task.future.set_exception(Interrupted(task.cell.label))
            elif task.attempt < ATTEMPTS:
                task.attempt += 1
                self._begin(task)
            else:
                text = f"its worker was lost {ATTEMPTS} times (out of memory?)"
                task.future.set_exception(CellFailed(text, str(error)))
        else:
            if isinstance(outcome, Exception):
                task.future.set_exception(outcome)
            else:
                task.future.set_result(outcome)

    def stop(self) -> None:
        self._stopping = True

    def kill(self) -> None:
        tasks = {} if self._killed else self._tasks
        self._stopping = self._killed = True
        for ref in tasks:
            ray.cancel(ref, force=True)

    def close(self) -> None:
        while self._tasks and not self._killed:
            self.events()
            time.sleep(0.1)
        ray.kill(self._board)
        self._shutdown()

    def _shutdown(self) -> None:
        if self._started:
            ray.shutdown()


def _connect(jobs: int | None, address: str | None) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    host, _, port = (address or "").rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        if address is None:
            # Whoever reaches Ray's ports can run code: none but this machine does.
            ray.init(
                address="local",
                num_cpus=jobs,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (RuntimeError, ValueError, OverflowError, OSError) as error:
        where = f"--address {address}" if address else "--executor ray"
        text = " ".join(str(error).split())
        raise ExecutorError(f"{where}: no Ray cluster can be had: {text:.300}") from None
