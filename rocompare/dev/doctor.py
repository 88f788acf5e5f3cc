"""`rocompare doctor`: which part of its contract a class breaks, in words.

The checks themselves stand in ``checks_algorithm`` and ``checks_environment``; the tests of what
rocompare ships call the same ones, and so can those of anybody's class::

    doctor.ALGORITHM_CHECKS[check](MyAlgorithm, spec)   # a spec of doctor.specs(MyAlgorithm)
    doctor.ENVIRONMENT_CHECKS[check](MyEnvironment)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocompare.dev.checks import Broken
from rocompare.dev.checks_algorithm import ALGORITHM_CHECKS, check_config, check_update, specs
from rocompare.dev.checks_environment import ENVIRONMENT_CHECKS
from rocompare.dev.checks_environment import check_config as check_env_config
from rocompare.suite import registry

__all__ = [
    "ALGORITHM_CHECKS", "ENVIRONMENT_CHECKS", "Broken", "Finding", "examine", "find", "finding",
    "specs",
]  # fmt: skip

DECISIVE = (check_config, check_update, check_env_config)
"""Checks without which the following ones can say nothing."""


@dataclass(frozen=True)
class Finding:
    """A check of one class and how it ended."""

    check: str
    problem: str | None
    """None: it holds."""


CHECKS: dict[str, dict[str, Callable[..., None]]] = {
    "algorithm": {**ALGORITHM_CHECKS},
    "environment": {**ENVIRONMENT_CHECKS},
}


def examine(cls: Any, kind: str) -> list[Finding]:
    """Run every check of ``kind``, algorithm or environment, on a class."""
    found = []
    for check in CHECKS[kind]:
        found.append(finding(cls, kind, check))
        if found[-1].problem and CHECKS[kind][check] in DECISIVE:
            break
    return found


def finding(cls: Any, kind: str, check: str) -> Finding:
    """Run one check; an algorithm in every made-up game that it can play."""
    problem = None
    try:
        for case in [(spec,) for spec in specs(cls).values()] if kind == "algorithm" else [()]:
            CHECKS[kind][check](cls, *case)
    except Broken as broken:
        problem = str(broken)
    except Exception as error:  # a user's class may fail in any way; say where and how
        problem = f"{_place(error)} raised {type(error).__name__}: {error}"
    return Finding(check, problem)


def _place(error: BaseException) -> str:
    """The innermost function of the examined file that an exception came through."""
    trace, place = error.__traceback__, "it"
    while trace is not None:
        code = trace.tb_frame.f_code
        ours = Path(code.co_filename).parent == Path(__file__).parent
        if not ours and "torch/" not in code.co_filename:
            place = f"{code.co_qualname} (line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def find(name: str, folder: Path | None) -> tuple[Any, str]:
    """The class that ``name`` stands for, and whether it is an algorithm or an environment.

    A PettingZoo environment, or a function that makes one, stands for the scenario that is made
    of it.

    Args:
        folder: whose code may be run; None: only what is installed may.

    Raises:
        UnknownName: there is no such class, or it is neither of the two.
        UnfitEnvironment: what a factory makes cannot be a scenario.
    """
    if folder is None:
        registry.refuse_local(name)
    local = registry.local_file(name, folder) if registry.is_local(name) else None
    kind = registry.kind_of(name, local)
    if local is None and ":" in name:
        module, attribute = name.split(":")
        found = getattr(sys.modules[module], attribute)
        if not isinstance(found, type) or hasattr(found, "action_space"):  # PettingZoo's classes
            from rocompare.envs.parallel import of_factory

            made = of_factory(name)
            made.probe(made.Config.model_validate({}))
            return made, "environment"
    return registry.load(kind, name, local), kind
