"""Copies of a PettingZoo environment dealt out to processes that step them side by side.

A worker is a plain child process that reads requests from its standard input and writes answers to
its standard output, both pickled. So it neither imports the script that started the run nor minds
in which kind of process it is started, and it ends when the other end of its input closes: with
whoever started it, also if that was killed. Copies, seeds and actions are the same as in one
process, and so is every number that comes back.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np

from rocompare.envs.copies import Copies, Moves, Recipe
from rocompare.envs.spaces import Sizes
from rocompare.errors import UnfitEnvironment

_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from rocompare.envs.workers import serve; serve()"
)
CLOSING_SECONDS = 10.0
"""How long a worker may take to close its environments before it is killed."""


class Workers:
    """As ``copies.Copies``: ``n`` copies, here in ``processes`` processes.

    Raises:
        UnfitEnvironment: as ``Copies`` does.
        RuntimeError: a worker's environment raised something else, or the worker died.
    """

    def __init__(self, recipe: Recipe, n: int, horizon: int, processes: int) -> None:
        self._workers: list[_Worker] = []
        self._bounds = [n * i // processes for i in range(processes + 1)]
        try:
            for _ in range(processes):
                self._workers.append(_Worker(recipe.factory))
        except BaseException:
            self.close()
            raise
        parts = zip(self._bounds, self._bounds[1:], strict=False)
        made = self._ask("make", [(recipe, end - start, horizon) for start, end in parts])
        self.sizes: Sizes = made[0]

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        return np.concatenate(self._ask("reset", self._deal(seeds)))

    def step(self, action: np.ndarray, seeds: Sequence[int | None]) -> Moves:
        parts = self._ask("step", self._deal(action, seeds))
        return Moves(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def replay(
        self, seeds: Sequence[int | None], played: Sequence[Sequence[np.ndarray]]
    ) -> list[float]:
        return [total for part in self._ask("replay", self._deal(seeds, played)) for total in part]

    def close(self) -> None:
        """End every worker, once."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.bury()

    def _deal(self, *columns: Any) -> list[tuple[Any, ...]]:
        """The arguments of each worker: its copies' part of each column."""
        parts = zip(self._bounds, self._bounds[1:], strict=False)
        return [tuple(column[start:end] for column in columns) for start, end in parts]

    def _ask(self, method: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """The answers of all workers, which work at the same time."""
        try:
            for worker, mine in zip(self._workers, arguments, strict=True):
                worker.send((method, mine))
            return [worker.receive() for worker in self._workers]
        except BaseException:
            self.close()  # answers that were not read would be taken for those of the next request
            raise


class _Worker:
    """One process, seen from the one that started it."""

    def __init__(self, factory: str) -> None:
        self.factory = factory
        # A session of its own: Ctrl-C in the terminal is the run's to answer, not the worker's.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.send(sys.path)

    def send(self, message: Any) -> None:
        assert self.process.stdin is not None
        try:
            pickle.dump(message, self.process.stdin, pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
        except OSError:  # a broken pipe
            raise self._died() from None

    def receive(self) -> Any:
        assert self.process.stdout is not None
        try:
            value, problem, trace = pickle.load(self.process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise self._died() from None
        if problem is None:
            return value
        if not trace:
            raise UnfitEnvironment(problem)
        error = RuntimeError(f"{self.factory}: {problem}")
        error.add_note(f"in a worker process:\n{trace}")
        raise error

    def dismiss(self) -> None:
        """Tell it that nothing more comes."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def bury(self) -> None:
        """Wait until it has ended; end it if it does not."""
        try:
            self.process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _died(self) -> RuntimeError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        code = self.process.poll()
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return RuntimeError(f"{self.factory}: a worker process that steps copies died, {how}")


def serve() -> None:
    """What a worker does: make copies, then answer requests until its input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    # What an environment prints must not be read as an answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else 2, 1)
    copies: Copies | None = None
    try:
        while True:
            method, arguments = pickle.load(requests)
            answer: tuple[Any, str | None, str]
            try:
                if copies is None:
                    # What a module says when it is imported, not every worker needs to say.
                    with contextlib.redirect_stderr(io.StringIO()):
                        arguments[0].maker()
                    copies = Copies(*arguments)
                    answer = copies.sizes, None, ""
                else:
                    answer = getattr(copies, method)(*arguments), None, ""
            except UnfitEnvironment as error:
                answer = None, str(error), ""
            except Exception as error:  # foreign code may fail in any way
                answer = None, f"{type(error).__name__}: {error}", traceback.format_exc()
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):  # nobody is there any more
        pass
    finally:
        if copies is not None:
            copies.close()
