"""The house: imports point one way between folders, and nothing heavy is imported before its use."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("rocompare", "baselines")
BLOCK = re.search(r"```layers\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL)
LAYERS = [line.split() for line in BLOCK[1].splitlines()]
LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}
MODULES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.parent.name != "templates"  # what `rocompare new` writes: a user's files
]
ALGORITHMS = [
    ROOT / "rocompare" / "svnr.py",
    *(p for p in sorted((ROOT / "baselines").glob("*.py")) if p.stem != "__init__"),
]
HEAVY = {"torch", "pandas", "numpy", "scipy", "matplotlib"}


def place_of(parts):
    """The folder, or top-level module, that a dotted name belongs to."""
    return "baselines" if parts[0] == "baselines" else parts[1] if len(parts) > 1 else ""


def imports(path):
    """Dotted names of this project that a module imports, wherever in the file; typing aside."""
    tree = ast.parse(path.read_text())
    typing = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield [*node.module.split("."), alias.name]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    me = place_of(path.relative_to(ROOT).with_suffix("").parts)
    for parts in imports(path):
        other = place_of(parts) if parts[0] in PACKAGES else ""
        if me in ("__init__", "__main__", other) or other in ("__version__", ""):
            continue
        assert me in LEVEL, f"{me} stands in no layer of ARCHITECTURE.md"
        assert other in LEVEL, f"{path.name} imports {other}, which stands in no layer"
        assert LEVEL[me] < LEVEL[other], f"{me} must not import {other}"


@pytest.mark.parametrize("path", ALGORITHMS, ids=lambda p: p.stem)
def test_an_algorithm_imports_neither_another_nor_the_engine(path):
    for parts in imports(path):
        assert place_of(parts) not in ("svnr", "baselines") or parts[0] not in PACKAGES, parts
        assert parts[:3] != ["rocompare", "learn", "engine"]


def test_the_house_keeps_its_size():
    assert len(list((ROOT / "rocompare").glob("*.py"))) <= 9
    long = {str(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > 450}
    assert not long, f"split by what a reader looks for: {long}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("rocompare.cli", HEAVY),
        ("rocompare.errors", HEAVY),
        ("rocompare.suite.load", HEAVY - {"numpy"}),
        ("rocompare.learn.engine", {"pandas", "scipy", "matplotlib"}),
        ("rocompare.svnr", {"pandas", "scipy", "matplotlib"}),
    ],
)
@pytest.mark.slow
def test_nothing_heavy_is_imported_before_its_use(module, absent):
    code = f"import sys, {module}; print(*{absent!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
