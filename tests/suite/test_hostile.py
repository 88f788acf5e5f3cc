"""Suites written to do harm: nothing reaches the terminal raw, and an answer comes within seconds."""

import os
import re
import sys
import time

import pytest

from rocompare import cli
from rocompare.errors import SuiteError
from rocompare.suite.load import load_suite, parse_suite
from tests.support.made_up import run
from tests.support.suites import problems

SUITE = """\
name: demo
seeds: 1
budget: {env_steps: 10}
evaluation: {episodes: 1, points: 1}
algorithms:
  maddpg: {hidden: 8}
scenarios:
  g: {env: max_of_three}
"""
ESCAPE = r'"\e]0;pwned\a\nsuite.yaml:1: forged \u202e[red]:smile:"'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: demo", f"name: {ESCAPE}"),
        ("name: demo", "name: !%1B]0;pwned%07 x"),
        ("name: demo", f"{ESCAPE}: 1\n{ESCAPE}: 2"),
        ("name: demo", f"name: demo\n{ESCAPE}: 1"),
        ("name: demo", f"name: demo\nreference: {ESCAPE}"),
        ("seeds: 1", f"seeds: {ESCAPE}"),
        ("seeds: 1", f"seeds: [{ESCAPE}]"),
        ("env_steps: 10", f"env_steps: {ESCAPE}"),
        ("env_steps: 10", f"{ESCAPE}: 10"),
        ("maddpg: {hidden: 8}", f"{ESCAPE}: {{hidden: 8}}"),
        ("hidden: 8", f"hidden: 8, use: {ESCAPE}"),
        ("hidden: 8", f"hidden: {ESCAPE}"),
        ("hidden: 8", f"{ESCAPE}: 8"),
        ("  g:", f"  {ESCAPE}:"),
        ("env: max_of_three", f"env: {ESCAPE}"),
        ("env: max_of_three", f"env: max_of_three, algorithms: {{{ESCAPE}: {{}}}}"),
        ("env: max_of_three", f"env: max_of_three, {ESCAPE}: 3"),
    ],
)
def test_what_is_printed_of_a_suite_is_lines_of_print(old, new, tmp_path, monkeypatch, capsys):
    assert old in SUITE
    file = tmp_path / "suite.yaml"
    file.write_text(SUITE.replace(old, new))
    for command in (["validate"], ["run", "--plan"], ["tune", "--trials", 1]):
        monkeypatch.setattr(sys, "argv", ["rocompare", *map(str, command), str(file)])
        with pytest.raises(SystemExit) as info:
            cli.main()
        assert info.value.code == 2
        printed = capsys.readouterr()
        lines = (printed.out + printed.err).splitlines()
        assert lines
        assert all(line.isprintable() and line.startswith(f"error: {file}") for line in lines)


def test_a_file_name_is_printed_as_one_line_too(tmp_path):
    file = tmp_path / "a\x1b]0;pwned\x07\nb.yaml"
    file.write_text(SUITE)
    answer = run("validate", file)
    assert answer.exit_code == 0
    [line] = answer.stdout.splitlines()
    assert line.isprintable() and r"a\x1b]0;pwned\x07\nb.yaml: valid" in line


def seconds_of(text):
    start = time.process_time()
    with pytest.raises(SuiteError) as info:
        parse_suite(text, "demo.yaml")
    return time.process_time() - start, info.value.problems


@pytest.mark.parametrize(
    "text",
    [
        SUITE.replace("maddpg:", "".join(f"maddgp{i}: {{}}\n  " for i in range(1500)) + "x:"),
        SUITE.replace("hidden: 8", ", ".join(f"hiden{i}: 8" for i in range(1500))),
        SUITE.replace("  g:", "".join(f"  g{i}: {{env: max_of_tree}}\n" for i in range(1500)) + "  g:"),
        SUITE.replace("maddpg:", "".join(f"name_{i}: {{use: maddpg}}\n  " for i in range(1500)) + "x:").replace(
            "of_three", "of_three, algorithms: {" + ", ".join(f"nam_{i}: {{}}" for i in range(1500)) + "}"
        ),
        SUITE.replace("  g:", "".join(f"  '{'../' * i}': {{env: max_of_three}}\n" for i in range(1, 300)) + "  g:"),
    ],
    ids=["algorithms", "hyperparameters", "scenarios", "own algorithms", "names"],
)  # fmt: skip
def test_1500_wrong_names_are_told_soon_and_not_all(text):
    seconds, found = seconds_of(text)
    assert seconds < 2
    assert len(found) == 51
    assert found[-1] == "demo.yaml: and more; mend these 50 first"


def test_the_nearest_of_very_many_names_is_found():
    names = "".join(f"{a}{b}_maddpg: {{use: maddpg}}\n  " for a in range(30) for b in "abcdefgh")
    text = SUITE.replace("maddpg:", names + "x: {use: maddpg}\n#").replace(
        "of_three}", "of_three, algorithms: {17c_madpg: {}}}"
    )
    [problem] = problems(text)
    assert "the suite has no algorithm '17c_madpg'; did you mean '17c_maddpg'?" in problem


ALIASES = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
ALIASES += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
MERGES = ["a0: &a0 {x: 1}"]
MERGES += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 10)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 500 + "]" * 500, "nested too deeply"),
        ("a: " + "{a: " * 200_000, "nested too deeply"),
        ("- " * 400_000, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: &a {<<: *a}", "nested too deeply"),
        ("\n".join(ALIASES), "too many entries"),
        ("\n".join(MERGES), "too many entries"),
        ("".join(f"k{i}: 1\n" for i in range(90_000)), "demo.yaml:15000: .*too many entries"),
        ("a: [" + "1, " * 300_000 + "]", "too many entries"),
        ("a: " + "9" * 900_000, "cannot read '99"),
        ("a: !!int " + "9" * 900_000, "cannot read '99"),
        ("? " + "x" * 900_000 + "\n: 1", "xxx: unknown key"),
        ("name: " + "x" * 900_000, "a name has 1 to 64"),
        ("a: !!bool maybe", "a: cannot read 'maybe' as bool"),
        ("a: !!int ''", "a: cannot read '' as int"),
        ("a: !!timestamp x", "a: cannot read 'x' as timestamp"),
        ("a: !!set {x, y}", "a: unknown key"),
        ("#" * 900_000, "the file is empty"),
    ],
    ids=range(18),
)
@pytest.mark.slow
def test_bombs_are_refused_soon(text, message):
    seconds, found = seconds_of(text)
    assert seconds < 4
    assert any(re.search(message, line) for line in found), found
    assert all(len(line) <= 500 for line in found)


def test_what_is_no_file_of_text(tmp_path):
    def message(path):
        with pytest.raises(SuiteError) as info:
            load_suite(path)
        return str(info.value)

    assert "no such file" in message(tmp_path / "none.yaml")
    assert "no regular file" in message(tmp_path)
    assert "no regular file" in message("/dev/zero")
    os.mkfifo(tmp_path / "fifo.yaml")
    assert "no regular file" in message(tmp_path / "fifo.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nx: \xff\n")
    assert "latin.yaml:2: not UTF-8" in message(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    assert "larger than 1 MiB" in message(tmp_path / "big.yaml")
    assert "not a path" in message("a\0b")
