"""The command line: parse, call, print.

Exit codes: 0 all is well; 1 a cell failed or, in `check`, regressed; 2 wrong usage or input; 3 a
check is inconclusive; 128 and the signal's number where one interrupted: 130 Ctrl-C, 143 a batch
system, 129 a terminal that was closed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO, cast

from rocompare.cli import execute, read, write  # in the order of the help
from rocompare.cli.shared import app, say
from rocompare.errors import UserError, printable

__all__ = ["app", "execute", "main", "read", "write"]


class _Output:
    """An output stream whose reader may leave, as `head` does: the rest is dropped.

    The command goes on, so that a run trains all the same and a check has its own exit code.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


def _nowhere() -> TextIO:
    """For a process that was started without an output, as with ``>&-``."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for as long as it runs


def main() -> None:
    """The ``rocompare`` script: every expected error ends as a message and an exit code."""
    streams = tuple(stream or _nowhere() for stream in (sys.stdout, sys.stderr))
    for stream in streams:
        # What a terminal or a pipe cannot show, an odd file name say, is no error of the command.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout, sys.stderr = (cast("Any", _Output(stream)) for stream in streams)
    try:
        _main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams


def _main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except UserError as error:
        for problem in error.problems:
            say(f"error: {problem}")
        sys.exit(2)
    except OSError as error:
        say(f"error: {printable(error)}")
        sys.exit(2)
