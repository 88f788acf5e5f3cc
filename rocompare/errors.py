"""What a user can mend: raised anywhere, caught once, by the command line.

Importing this module costs nothing, so that any other can.
"""

from __future__ import annotations


class UserError(ValueError):
    """Wrong usage or input. The message says what is wrong, where, and what to do.

    Args:
        problems: one message, or several that are shown a line each.
    """

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
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
