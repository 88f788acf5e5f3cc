"""What `rocompare new` writes: an algorithm or an environment with its test, or a suite.

The skeletons are the files in ``templates``. They are small but whole: the algorithm learns, the
environment has relative over-generalization, both pass `rocompare doctor`, and the suite compares.
They are there to be changed.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rocompare.dev import doctor
from rocompare.dev.checks_environment import made
from rocompare.envs.parallel import Parallel
from rocompare.errors import SuiteError, UserError
from rocompare.suite import registry

TEMPLATES = Path(__file__).parent / "templates"
COMPARED = ("svnr", "maddpg")
"""Algorithms of rocompare that a new suite compares with, where they take the game's actions."""


def write(kind: str, name: str, folder: Path) -> list[str]:
    """Write ``NAME.py`` and ``test_NAME.py`` into ``folder`` and say what to do next.

    Args:
        kind: algorithm or environment.

    Raises:
        SuiteError: the name is none for a module, or one of the files exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise SuiteError(
            f"'{name[:80]}' is no name for a Python file to import: a letter, then letters, "
            "digits and '_', all lower case, and no word of Python, as in my_algo"
        )
    placeholder = f"My{kind.capitalize()}"
    class_name = "".join(part.capitalize() for part in name.split("_"))
    texts = {
        folder / f"{prefix}{name}.py": (TEMPLATES / f"{prefix}{kind}.py").read_text("utf-8")
        for prefix in ("", "test_")
    }
    for file in texts:
        _refuse_existing(file)
    if importlib.util.find_spec(name) is not None:
        raise SuiteError(f"'{name}' is a module that Python has already: choose another name")
    used = any(re.search(rf"\b{class_name}\b", text) for text in texts.values())
    if (used and class_name != placeholder) or keyword.iskeyword(class_name):
        raise SuiteError(f"'{name}': its class would be {class_name}, which means something else")
    for file, text in texts.items():
        text = text.replace(placeholder, class_name)
        _write(file, text.replace(f"from .{kind} import", f"from {name} import"))
    key = "use" if kind == "algorithm" else "env"
    return [
        f"{name}.py and test_{name}.py written; test: python -m pytest test_{name}.py",
        f"examine: rocompare doctor ./{name}.py:{class_name} --allow-local-code",
        f'in a suite: {{{key}: "./{name}.py:{class_name}"}}, or a whole suite for it: '
        f"rocompare new suite {name}_suite --{kind} ./{name}.py:{class_name} --allow-local-code",
    ]


def write_suite(
    name: str,
    folder: Path,
    algorithms: Sequence[str] = (),
    environments: Sequence[str] = (),
    allow_local_code: bool = False,
) -> list[str]:
    """Write ``NAME.yaml`` into ``folder`` and say what to do next.

    Args:
        algorithms: a user's, to be compared with those of rocompare.
        environments: what they play, also PettingZoo's as `rocompare doctor` takes them; none for
            a game of rocompare.
        allow_local_code: whether code that lies in ``folder`` may be run, to see what fits.

    Raises:
        UserError: a class cannot be had, the suite would not be valid, or the file exists.
    """
    from rocompare.suite.load import load_suite

    file = folder / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII):
        raise SuiteError(f"'{name[:80]}' is no name for a suite: letters, digits, '_' and '-'")
    _refuse_existing(file)
    code = folder if allow_local_code else None
    games = {_entry(env): _Game.of(env, code) for env in environments}
    kinds = {game.kind for game in games.values()} or {"continuous"}
    used = {_entry(use): _algorithm(use, code, kinds) for use in algorithms}
    if len(used) < len(algorithms) or len(games) < len(environments):
        raise SuiteError("two classes would have one name in the suite: write it by hand")
    for use in (*COMPARED, *registry.ALGORITHMS):
        fits = kinds <= set(registry.load("algorithm", use).actions)
        if fits and use not in used and len(used) < len(algorithms) + len(COMPARED):
            used[use] = "{}"
    if not used:
        raise SuiteError(
            f"no algorithm of rocompare takes {' and '.join(kinds)} actions: name yours with "
            "--algorithm"
        )
    text = (TEMPLATES / "suite.yaml").read_text("utf-8").replace("my_suite", name)
    text = _replace_entries(text, "algorithms", used)
    if games:
        text = _replace_entries(text, "scenarios", {k: game.text for k, game in games.items()})
    if any(game.lasts for game in games.values()):
        text = text.replace("{env_steps: 1000}", "{env_steps: 50000, envs: 16}")
    if any(game.slow for game in games.values()):
        text = text.replace("episodes: 100", "episodes: 10")
    _write(file, text)
    try:
        load_suite(file, allow_local_code)
    except UserError:
        file.unlink()
        raise
    allow = " --allow-local-code" if allow_local_code else ""
    return [
        f"{file.name} written; check: rocompare validate {file.name}{allow}",
        f"train: rocompare run {file.name}{allow}",
        f"then: rocompare table results/{name}",
    ]


@dataclass(frozen=True)
class _Game:
    """A scenario of a new suite."""

    text: str
    kind: str
    """Of its actions."""
    lasts: bool
    """Whether episodes have more than a step."""
    slow: bool
    """Whether each copy is a Python object, PettingZoo's."""

    @classmethod
    def of(cls, name: str, folder: Path | None) -> _Game:
        env_class = _find(name, "environment", folder)
        try:
            config = env_class.Config()
        except ValidationError as error:
            fields = ", ".join(str(detail["loc"][-1]) for detail in error.errors() if detail["loc"])
            raise SuiteError(
                f"'{name}' has parameters without a default ({fields}): write the suite by hand"
            ) from None
        with made(env_class) as env:
            spec = env.spec
        text = f'{{env: "{name}"}}'
        if getattr(config, "factory", None) == name:
            text = f'{{env: pettingzoo, factory: "{name}", horizon: {config.horizon}}}'
        return cls(
            text=text,
            kind="discrete" if spec.discrete else "continuous",
            lasts=spec.horizon > 1,
            slow=issubclass(env_class, Parallel),
        )


def _algorithm(name: str, folder: Path | None, kinds: set[str]) -> str:
    """An algorithm's entry in a suite whose games have ``kinds`` of actions."""
    lacking = kinds - set(_find(name, "algorithm", folder).actions)
    if lacking:
        raise SuiteError(f"'{name}' does not take {' and '.join(lacking)} actions")
    return "{}" if name in registry.ALGORITHMS else f'{{use: "{name}"}}'


def _find(name: str, kind: str, folder: Path | None) -> Any:
    found, is_kind = doctor.find(name, folder)
    if is_kind != kind:
        raise SuiteError(f"'{name}' is an {is_kind}, where an {kind} is needed")
    return found


def _entry(name: str) -> str:
    """What a class is called in a suite: ``./mine.py:MyAlgo`` is ``my_algo``."""
    name = name.rpartition(":")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _replace_entries(text: str, key: str, entries: dict[str, str]) -> str:
    lines = "".join(f"  {name}: {entry}\n" for name, entry in entries.items())
    return re.sub(rf"^{key}:\n(  .*\n)+", lambda _: f"{key}:\n{lines}", text, flags=re.MULTILINE)


def _refuse_existing(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise SuiteError(f"{file} exists; nothing was written: choose another name")


def _write(file: Path, text: str) -> None:
    with file.open("x", encoding="utf-8", newline="\n") as out:
        out.write(text)
