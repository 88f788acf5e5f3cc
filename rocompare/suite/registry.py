"""Short names of what rocompare ships, imported when used. Nothing here imports torch.

A suite's ``use`` (or ``env``) is one of these names, anybody's ``"module:Class"``, or, where that
is allowed, a class in a file beside the suite: ``"./file.py:Class"``.
"""

from __future__ import annotations

import difflib
import hashlib
import heapq
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rocompare.errors import UnknownName

ALGORITHMS = {
    "svnr": "rocompare.svnr:SVNR",
    "maddpg": "baselines.maddpg:MADDPG",
    "masql": "baselines.masql:MASQL",
    "pr2": "baselines.pr2:PR2",
    "pr2_soft": "baselines.pr2_soft:PR2Soft",
    "rommeo": "baselines.rommeo:ROMMEO",
    "lenient_madrl": "baselines.lenient:LenientMADRL",
    "mappo": "baselines.mappo:MAPPO",
    "optimappo": "baselines.mappo:OptiMAPPO",
    "mmq": "baselines.mmq:MMQ",
    "pareto_ac": "baselines.pareto_ac:ParetoAC",
    "gvr": "baselines.gvr:GVR",
    "iql": "baselines.hysteretic:IQL",
    "hysteretic": "baselines.hysteretic:HystereticQ",
    "distributed_q": "baselines.hysteretic:DistributedQ",
    "lenient_dqn": "baselines.lenient_dqn:LenientDQN",
    "vdn": "baselines.qmix:VDN",
    "qmix": "baselines.qmix:QMIX",
    "cw_qmix": "baselines.wqmix:CWQMIX",
    "ow_qmix": "baselines.wqmix:OWQMIX",
}
ENVIRONMENTS = {
    "max_of_three": "rocompare.envs.max_of_three:MaxOfThree",
    "max_of_n": "rocompare.envs.max_of_n:MaxOfN",
    "two_modalities": "rocompare.envs.two_modalities:TwoModalities",
    "matrix_game": "rocompare.envs.matrix_game:MatrixGame",
    "discrete_matrix_game": "rocompare.envs.discrete_matrix_game:DiscreteMatrixGame",
    "particle_gather": "rocompare.envs.particle_gather:ParticleGather",
    "predator_prey": "rocompare.envs.predator_prey:PredatorPrey",
    "pettingzoo": "rocompare.envs.parallel:Parallel",
    "mamujoco": "rocompare.envs.mamujoco:MaMuJoCo",
}
REFERENCES = {
    "paper_table1": "paper_table1.csv",
}

MANY = 30
"""Names: beyond that not all are compared with a wrong one, or listed."""
MAX_BYTES = 1 << 20
_LOCAL = re.compile(r"\./((?:\w[\w.+-]*/)*[A-Za-z_]\w*\.py):([A-Za-z_]\w*)", re.ASCII)
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class LocalFile:
    """A user's file of code, which was allowed to run as it was when the suite was read."""

    path: str
    """Absolute."""
    sha256: str


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where a known name is close, else the known names."""
    names, name = sorted(known), name[:80]
    candidates = names
    if len(names) > MANY:  # difflib is slow: it sees only those that begin and end most alike
        candidates = heapq.nlargest(MANY, names, key=lambda other: _alike(name, other))
    close = difflib.get_close_matches(name, candidates, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    rest = ", ..." if len(names) > MANY else ""
    return f"; known: {', '.join(names[:MANY])}{rest}" if names else ""


def _alike(a: str, b: str) -> int:
    """Letters that two names share at the beginning and at the end."""
    count = 0
    for pairs in (zip(a, b, strict=False), zip(reversed(a), reversed(b), strict=False)):
        for x, y in pairs:
            if x != y:
                break
            count += 1
    return count


def target(kind: str, name: str) -> str:
    """The ``"module:Class"`` that ``name`` stands for; ``kind`` is algorithm or environment."""
    table = ALGORITHMS if kind == "algorithm" else ENVIRONMENTS
    if name in table:
        return table[name]
    if is_local(name):
        return name
    if ":" in name:
        if _TARGET.fullmatch(name):
            return name
        raise UnknownName(f"'{name[:80]}' is not of the form 'package.module:Class'")
    raise UnknownName(f"unknown {kind} '{name[:80]}'{nearest(name, table)}")


def short_name(kind: str, place: str) -> str:
    """The name that stands for ``place``, or else ``place``: the reverse of :func:`target`."""
    table = ALGORITHMS if kind == "algorithm" else ENVIRONMENTS
    return next((name for name, known in table.items() if known == place), place)


def is_local(name: str) -> bool:
    """Whether ``name`` means a class in a file beside the suite."""
    return name.startswith("./") or ".py:" in name


def is_foreign(place: str) -> bool:
    """Whether the environment at ``place`` runs code that does not come with rocompare."""
    ours = [known for name, known in ENVIRONMENTS.items() if name not in ("pettingzoo", "mamujoco")]
    return place not in ours


def refuse_local(name: str, folder: Path | None = None) -> None:
    """Raise UnknownName if ``"module:Class"`` lies in the working folder or in ``folder``.

    Nothing is imported to tell. A module that Python would find there is allowed all the same where
    its user has said so elsewhere: an installed package, or a folder in PYTHONPATH. Anything else
    than ``"module:Class"`` is allowed.

    Args:
        folder: the suite's.
    """
    if not _TARGET.fullmatch(name):
        return
    top = re.split("[.:]", name)[0]
    here = {Path.cwd().resolve(), *([folder.resolve()] if folder else [])}
    here -= {Path(p).resolve() for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p}
    if top in ("rocompare", "baselines") or not here & {*_homes(top, here)}:
        return
    from importlib.metadata import packages_distributions

    if top not in packages_distributions():  # else a package under development, installed in place
        raise UnknownName(
            f"'{name[:80]}' is code in this folder, which would run with all your rights; if you "
            "trust it, say --allow-local-code"
        )


def _homes(top: str, folders: Iterable[Path]) -> Iterator[Path]:
    """The folders that a module without dots in its name would be imported from.

    Where Python finds none, those of ``folders`` that hold it.
    """
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module of sys.modules that says nothing of itself
        spec = None
    if spec is None:
        names = (f"{top}.py", top)
        yield from (home for home in folders if any((home / n).exists() for n in names))
    elif spec.submodule_search_locations is not None:
        yield from (Path(place).parent.resolve() for place in spec.submodule_search_locations)
    elif spec.has_location and spec.origin:
        yield Path(spec.origin).parent.resolve()


def local_file(name: str, folder: Path | None) -> LocalFile:
    """The file of ``"./file.py:Class"``, which must lie in ``folder``; None: none is allowed."""
    match = _LOCAL.fullmatch(name)
    if not match:
        raise UnknownName(
            f"'{name[:80]}' is not of the form './file.py:Class', a file in the suite's folder"
        )
    if folder is None:
        raise UnknownName(
            f"'{name[:80]}' is code beside the suite, which would run with all your rights; if "
            "you trust it, say --allow-local-code"
        )
    path = (folder / match[1]).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UnknownName(f"'{name[:80]}' leads out of the suite's folder")
    return LocalFile(str(path), hashlib.sha256(_read(path)).hexdigest())


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UnknownName(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnknownName(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UnknownName(f"{path}: larger than 1 MiB, which is no file of code")
    return data


def _run(local: LocalFile) -> ModuleType:
    """The module of a local file: run once in a process, and only if it is as it was allowed."""
    path = Path(local.path)
    place = hashlib.sha256(f"{local.path}/{local.sha256}".encode()).hexdigest()[:16]
    name = f"rocompare_local_{place}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != local.sha256:
        raise UnknownName(f"{path}: changed since the suite was read; give the command again")
    module = ModuleType(name)
    module.__file__ = local.path
    sys.modules[name] = module  # where annotations are looked up
    try:
        exec(compile(data, local.path, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load(kind: str, name: str, local: LocalFile | None = None) -> Any:
    """Import the class that ``name`` stands for and check that it can serve as ``kind``.

    Args:
        local: the file of a class beside the suite, from :func:`local_file`.
    """
    found = _find(kind, name, local)
    needed = ("act", "observe", "update") if kind == "algorithm" else ("reset", "step")
    missing = [
        attribute
        for attribute in ("Config", "version", *needed, "state_dict", "load_state_dict")
        if not hasattr(found, attribute)
    ]
    if missing:
        raise UnknownName(f"'{name}' is not an {kind}: it has no {', '.join(missing)}")
    return found


def kind_of(name: str, local: LocalFile | None = None) -> str:
    """Whether ``name`` stands for an algorithm or an environment."""
    if name in ALGORITHMS or name in ENVIRONMENTS:
        return "algorithm" if name in ALGORITHMS else "environment"
    if ":" not in name:
        known = [*ALGORITHMS, *ENVIRONMENTS]
        raise UnknownName(
            f"unknown algorithm or environment '{name[:80]}'{nearest(name, known)}; a class of "
            "your own is 'package.module:Class' or './file.py:Class'"
        )
    return "environment" if hasattr(_find("algorithm", name, local), "step") else "algorithm"


def _find(kind: str, name: str, local: LocalFile | None) -> Any:
    if is_local(name) and local is None:
        raise UnknownName(f"'{name[:80]}' is code beside a suite, which is known only to that")
    module_name, class_name = target(kind, name).rsplit(":", 1)
    try:
        module = _run(local) if local else importlib.import_module(module_name)
    except UnknownName:
        raise
    except (Exception, SystemExit) as error:  # a user's module may fail in any way; say how
        raise UnknownName(
            f"cannot import '{module_name}' of '{name}': {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        classes = [k for k, v in vars(module).items() if isinstance(v, type)]
        raise UnknownName(
            f"module '{module_name}' has no '{class_name}'{nearest(class_name, classes)}"
        )
    return found
