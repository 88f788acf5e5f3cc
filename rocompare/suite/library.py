"""Suites that come with rocompare: ``rocompare run max_of_three`` needs no file."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path

from rocompare.errors import SuiteError
from rocompare.suite import registry


def shipped() -> dict[str, Path]:
    """Their files by name."""
    package = Path(str(importlib.resources.files("rocompare")))
    installed = package / "suites"  # setup.py puts them there; in a checkout they lie at the top
    folder = installed if installed.is_dir() else package.parent / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(argument: str | Path) -> Path:
    """The suite file that ``argument`` stands for: a path, or else the name of a shipped suite.

    Raises:
        SuiteError: it looks like a name, and neither is there.
    """
    path = Path(argument)
    name = str(argument)
    if not re.fullmatch(r"\w[\w-]*", name) or path.is_file():
        return path
    suites = shipped()
    if name not in suites:
        raise SuiteError(
            f"{name}: no such file, and no suite that comes with rocompare has this name"
            f"{registry.nearest(name, suites)}"
        )
    return suites[name]


def about(path: Path) -> str:
    """The first sentence of the comment that a suite file begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line[2:].strip())
    return re.split(r"(?<=[.?!])\s", " ".join(lines), maxsplit=1)[0]
