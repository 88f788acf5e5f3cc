"""Ctrl-C, and the signals of a batch system or a closed terminal, as one request to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C; what Slurm's scancel and time limits send; what a terminal sends when it closes."""


@contextlib.contextmanager
def first_signal(action: Callable[[int], None]) -> Iterator[None]:
    """Call ``action`` with the number of the first stopping signal; the second one raises
    ``KeyboardInterrupt``. Signals that the process ignores, as under nohup, stay ignored."""
    if threading.current_thread() is not threading.main_thread():  # not ours to decide
        yield
        return
    default = (signal.SIG_DFL, signal.default_int_handler)
    before = {one: signal.getsignal(one) for one in STOPPING}
    ours = [one for one, handler in before.items() if handler in default]

    def second(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    def first(number: int, frame: FrameType | None) -> None:
        for one in ours:
            signal.signal(one, second)
        action(number)

    for one in ours:
        signal.signal(one, first)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, before[one])


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Block the stopping signals; a process that starts meanwhile inherits that.

    They reach every process of a terminal or of a batch job, but the runner alone decides what they
    mean: a worker must be deaf to them from its first moment, not only once its imports are done.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Be deaf to them, as a worker is."""
    for one in STOPPING:
        signal.signal(one, signal.SIG_IGN)
