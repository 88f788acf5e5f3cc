"""Short names of what rocompare ships, imported when used. Nothing here imports torch.

A suite's ``use`` (or ``env``) is one of these names or anybody's ``"module:Class"``.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from typing import Any

ALGORITHMS = {
    "svnr": "rocompare.svnr:SVNR",
    "maddpg": "baselines.maddpg:MADDPG",
    "masql": "baselines.masql:MASQL",
    "pr2": "baselines.pr2:PR2",
    "rommeo": "baselines.rommeo:ROMMEO",
    "lenient_madrl": "baselines.lenient:LenientMADRL",
}
ENVIRONMENTS = {
    "max_of_three": "rocompare.envs.max_of_three:MaxOfThree",
    "max_of_n": "rocompare.envs.max_of_n:MaxOfN",
    "matrix_game": "rocompare.envs.matrix_game:MatrixGame",
    "particle_gather": "rocompare.envs.particle_gather:ParticleGather",
}
REFERENCES = {
    "paper_table1": "paper_table1.csv",
}

_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


class UnknownName(ValueError):
    """A name that stands for nothing; the message says what would."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where a known name is close, else the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""


def target(kind: str, name: str) -> str:
    """The ``"module:Class"`` that ``name`` stands for; ``kind`` is algorithm or environment."""
    table = ALGORITHMS if kind == "algorithm" else ENVIRONMENTS
    if name in table:
        return table[name]
    if ":" in name:
        if _TARGET.fullmatch(name):
            return name
        raise UnknownName(f"'{name[:80]}' is not of the form 'package.module:Class'")
    raise UnknownName(f"unknown {kind} '{name[:80]}'{nearest(name, table)}")


def short_name(kind: str, place: str) -> str:
    """The name that stands for ``place``, or else ``place``: the reverse of :func:`target`."""
    table = ALGORITHMS if kind == "algorithm" else ENVIRONMENTS
    return next((name for name, known in table.items() if known == place), place)


def load(kind: str, name: str) -> Any:
    """Import the class that ``name`` stands for and check that it can serve as ``kind``."""
    module_name, class_name = target(kind, name).split(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may fail in any way; say which and how
        raise UnknownName(
            f"cannot import '{module_name}' of '{name}': {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        classes = [k for k, v in vars(module).items() if isinstance(v, type)]
        raise UnknownName(
            f"module '{module_name}' has no '{class_name}'{nearest(class_name, classes)}"
        )
    needed = ("act", "note", "update") if kind == "algorithm" else ("reset", "step")
    missing = [
        attribute
        for attribute in ("Config", "version", *needed, "state_dict", "load_state_dict")
        if not hasattr(found, attribute)
    ]
    if missing:
        raise UnknownName(f"'{name}' is not an {kind}: it has no {', '.join(missing)}")
    return found
