"""Results folders written to do harm, under every command that reads results.

Sentences of docs/security.md that are held here: that all that a file says is escaped before it
reaches a terminal, a table or a page; that only regular files of limited size are read.
"""

import os
import re
import shutil
import sys
import time

import pytest

from rocompare import cli
from rocompare.analysis import escape
from tests.support import made_up
from tests.support.drawn import save

pytestmark = pytest.mark.slow
COMMANDS = {
    "table": ["table", "R"],
    **{f"table {form}": ["table", "R", "--format", form]
       for form in ("markdown", "csv", "latex", "json", "html")},
    **{f"aggregate {form}": ["table", "R", "--aggregate", "--format", form]
       for form in ("rich", "markdown", "csv", "json")},
    "compare": ["compare", "R", "--all"],
    "compare json": ["compare", "R", "--all", "--format", "json"],
    "check": ["check", "R", "--against", "R"],
    "check json": ["check", "R", "--against", "R", "--format", "json"],
    "check junit": ["check", "R", "--against", "R", "--format", "junit"],
    "diagnose": ["diagnose", "R"],
    "diagnose json": ["diagnose", "R", "--format", "json"],
    "plot": ["plot", "R", "--out", "OUT", "--only", "success"],
    "report": ["report", "R", "--out", "OUT", "--only", "success"],
    "export": ["export", "R", "--format", "rliable", "--out", "OUT"],
    "play": ["play", "R"],
    "clean": ["clean", "R", "SUITE", "--yes"],
    "list": ["list", "R"],
}  # fmt: skip
"""Every command that reads results, R. One that is added is a line here."""
FORMATS = [c for c in COMMANDS if " " in c]
"""They read what their command reads without a format."""
NAMES = [
    r"\input{evil} $\frac$ 5%", "=1+1", "+cmd", "\t@sum", "a|b <img onerror=x> [a](javascript:x)",
    "a\nforged", "\x1b]0;pwned\x07 \u202e [red]x :smile:", "a,\"b\"", "x" * 250,
]  # fmt: skip


def answer(command, root, monkeypatch, capsys):
    """Exit code and text of ``command`` on the results in ``root / "r"``."""
    places = {"R": root / "r", "OUT": root / "out", "SUITE": root / "suite.yaml"}
    (root / "suite.yaml").write_text(made_up.SUITE.format(hidden=16))
    words = [str(places.get(word, word)) for word in COMMANDS[command]]
    monkeypatch.setattr(sys, "argv", ["rocompare", *words])
    with pytest.raises(SystemExit) as info:
        cli.main()
    printed = capsys.readouterr()
    return info.value.code or 0, printed.out + printed.err


def folder_of(root, name):
    """Two algorithms on one game, whose scenario and one algorithm have ``name``."""
    for algorithm, returns in (("svnr", [9.9, 9.8, None]), ("other", [5.0, 4.0, 3.0])):
        save(root / "r", algorithm, "two", returns)
    (scenario,) = (root / "r").glob("*/two")
    (scenario / "other").rename(scenario / name)
    scenario.rename(scenario.with_name(name))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_of_folders_are_text(name, command, tmp_path, monkeypatch, capsys):
    folder_of(tmp_path, name)
    code, text = answer(command, tmp_path, monkeypatch, capsys)
    assert code in (0, 1, 2, 3)
    assert all(line.isprintable() for line in text.split("\n"))
    assert not any(line.startswith("forged") for line in text.split("\n"))
    if code == 0 and "latex" in command:
        text = re.sub("^%.*", "", text, flags=re.MULTILINE)  # TeX reads no comment
        assert r"\input" not in text and r"\frac" not in text
    if code == 0 and "csv" in command:
        cells = re.findall(r'(?:^|,)"?([^",\n]*)', text, re.MULTILINE)
        assert not [c for c in cells if re.match(r"[=+@\t]|-[^\d.]", c)]
    if code == 0 and ("markdown" in command or "html" in command):
        assert "<img" not in text
    if code == 0 and "markdown" in command:
        assert not re.search(r"(?<!\\)\]\(javascript", text)
    if command == "table markdown" and "|" in name:
        assert r"a\|b &lt;img" in text
    if command == "report":
        assert "<img onerror" not in (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("text", "latex", "markdown", "csv"),
    [
        (r"\input{a}", r"\textbackslash{}input\{a\}", r"\\input{a}", r"\input{a}"),
        ("a_b 5%", r"a\_b 5\%", "a_b 5%", "a_b 5%"),
        ("=1+1", "=1+1", "=1+1", "'=1+1"),
        ("-x", "-x", "-x", "'-x"),
        ("@a|b", r"@a\textbar{}b", r"@a\|b", "'@a|b"),
        ("<b>&", r"\textless{}b\textgreater{}\&", "&lt;b&gt;&amp;", "<b>&"),
        ("a\nb", r"a\textbackslash{}nb", r"a\\nb", r"a\nb"),
        ("~^#$", r"\textasciitilde{}\textasciicircum{}\#\$", "~^#$", "~^#$"),
    ],
)
def test_one_text_in_each_format(text, latex, markdown, csv):
    assert escape.latex(text) == latex
    assert escape.markdown(text) == markdown
    assert escape.csv(text) == csv


DEEP = "[" * 200_000
FILES = {
    "deep json": ("seed_0.json", DEEP),
    "long number": ("seed_0.json", "9" * 100_000),
    "no object": ("seed_0.json", "[]"),
    "nan": ("seed_0.json", "NaN"),
    "no utf-8": ("seed_0.json", b"\xff\xfe"),
    "a tag": ("config.yaml", "a: !!bool maybe"),
    "an empty number": ("config.yaml", "a: !!int ''"),
    "a date": ("config.yaml", "a: !!timestamp x"),
    "an object": ("config.yaml", "a: !!python/object/apply:os.system [exit 1]"),
    "recursion": ("config.yaml", "a: &a [*a]"),
    "a merge": ("config.yaml", "a: &a {x: 1}\nb: {<<: *a}"),
    "aliases": ("config.yaml", "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 14))),
    "too long": ("config.yaml", "a: " + "x" * 3_000_000),
    "zero": ("seed_0.json", "/dev/zero"),
    "a pipe": ("seed_0.json", None),
}  # fmt: skip


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("list", *FORMATS)])
@pytest.mark.parametrize("kind", FILES)
def test_files_are_read_or_refused_within_seconds(kind, command, tmp_path, monkeypatch, capsys):
    folder_of(tmp_path, "other")
    name, content = FILES[kind]
    path = sorted((tmp_path / "r").rglob(name))[0]
    path.unlink()
    if content is None:
        os.mkfifo(path)
    elif content == "/dev/zero":
        path.symlink_to(content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    start = time.process_time()
    code, text = answer(command, tmp_path, monkeypatch, capsys)
    assert time.process_time() - start < 5
    assert code in (0, 1, 2, 3)
    assert "Traceback" not in text
    assert code == 0 or 0 < len(text) < 20_000
