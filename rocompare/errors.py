"""What a user can mend: raised anywhere, caught once, by the command line.

Importing this module costs nothing, so that any other can.
"""

from __future__ import annotations

MAX_TEXT = 500
"""Letters of a message: beyond that its middle is left out."""


def printable(text: object, limit: int = MAX_TEXT) -> str:
    """``text`` as one line that is safe on a terminal, whoever wrote it.

    Newlines, terminal escapes, marks that reverse the writing direction and whatever else does not
    print are shown as Python writes them in a string, ``\\x1b`` for example. A text of more than
    ``limit`` letters loses its middle: messages say first where something is, and last what to do.
    """
    text = str(text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > limit:
        tail = limit // 3
        text = f"{text[: limit - tail - 5]} ... {text[-tail:]}"
    return text


class UserError(ValueError):
    """Wrong usage or input. The message says what is wrong, where, and what to do.

    Args:
        problems: one message, or several that are shown a line each; :func:`printable` is applied
            to each, so that they may quote what a file says.
    """

    def __init__(self, problems: str | list[str]) -> None:
        problems = [problems] if isinstance(problems, str) else problems
        self.problems = [printable(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


class SuiteError(UserError):
    """A suite file, or the part of it that was asked for, is wrong; names file, line and key."""


class UnknownName(UserError):
    """A name that stands for no algorithm, environment or reference."""


class ResultsError(UserError):
    """Results that cannot be read; names the file."""


class ExecutorError(UserError):
    """The place where cells should run cannot be had."""


class TuneError(UserError):
    """A search that cannot be made."""


class UnfitEnvironment(UserError):
    """A factory of a PettingZoo environment that cannot be a scenario; says what to change."""
