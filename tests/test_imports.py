"""Imports point one way, as the block in ARCHITECTURE.md says, and help does not wait for torch."""

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


def modules():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "baselines" else parts[1]


def project_imports(tree):
    """``(module, at module level)`` of every import of this project's packages."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    inside = {id(n) for f in functions for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            base = node.module.split(".")
            names = [[*base, a.name] for a in node.names] if base == ["rocompare"] else [base]
        elif isinstance(node, ast.Import):
            names = [a.name.split(".") for a in node.names]
        else:
            continue
        for parts in names:
            if parts[0] in PACKAGES:
                yield parts, id(node) not in inside


def under_type_checking(tree):
    blocks = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"
    ]
    return {id(n) for block in blocks for n in ast.walk(block)}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    tree = ast.parse(path.read_text())
    me = name_of(path)
    for parts, _ in project_imports(tree):
        other = "baselines" if parts[0] == "baselines" else parts[1] if len(parts) > 1 else ""
        if me == "__init__" or other in ("__version__", ""):
            continue
        assert other in LEVEL, f"{path.name} imports {other}, which stands in no layer"
        assert me in LEVEL, f"{me} stands in no layer"
        typing_only = not [p for p, _ in project_imports(_without_typing(tree)) if p == parts]
        if not typing_only and other != me:
            assert LEVEL[me] <= LEVEL[other], f"{me} must not import {other}"


def _without_typing(tree):
    skip = under_type_checking(tree)
    kept = [node for node in tree.body if id(node) not in skip]
    return ast.Module(body=kept, type_ignores=[])


def test_rocompare_does_not_import_baselines():
    for path in modules():
        if path.parts[-2] != "baselines":
            tree = ast.parse(path.read_text())
            assert not [p for p, top in project_imports(tree) if p[0] == "baselines" and top]


def test_algorithms_do_not_import_each_other():
    for path in [*(ROOT / "baselines").glob("*.py"), ROOT / "rocompare" / "svnr.py"]:
        imported = {".".join(parts) for parts, _ in project_imports(ast.parse(path.read_text()))}
        assert not [m for m in imported if m.startswith("baselines") or m == "rocompare.svnr"]


@pytest.mark.parametrize(
    "path",
    [*(ROOT / "baselines").glob("*.py"), ROOT / "rocompare" / "svnr.py"],
    ids=lambda path: path.stem,
)
def test_an_algorithm_fits_one_short_file(path):
    assert len(path.read_text().splitlines()) <= 200


def test_command_line_starts_without_torch_and_pandas():
    code = "import sys, rocompare.cli; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
