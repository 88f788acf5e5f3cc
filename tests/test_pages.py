"""Pages that are made from the program and the results say what these say today."""

import re
from pathlib import Path

import pytest

import rocompare
from rocompare.cli import app, pages
from rocompare.suite import registry
from tests.support.made_up import run

DOCS, REFERENCE = Path("docs"), Path("results/reference")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["commands.md", "algorithms.md", "methods.md"])
def test_the_committed_page_is_what_would_be_made(name):
    made = {
        "commands.md": pages.commands,
        "algorithms.md": pages.algorithms,
        "methods.md": lambda: pages.methods(REFERENCE),
    }[name]()
    assert (DOCS / name).read_text(encoding="utf-8") == made, "run `make docs`"


def test_every_command_and_option_is_there():
    text = pages.commands()
    for info in app.registered_commands:
        name = info.name or info.callback.__name__
        part = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
        shown = run(name, "--help").output
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown)) - {"--help"}
        assert options == set(re.findall(r"^\| `(--[a-z-]+)", part, re.M))


def test_docstrings_become_markdown():
    text = "It does ``x`` of :func:`~rocompare.run`::\n\n    a <- b\n\n    c\n\nThen it ends.\n"
    assert pages._markdown(text) == (
        "It does `x` of `rocompare.run`:\n\n```text\na <- b\n\nc\n```\n\nThen it ends.\n\n"
    )


@pytest.mark.slow
def test_success_rates_are_those_of_the_records():
    text = pages.methods(REFERENCE)
    for name in registry.ALGORITHMS:
        assert f"[{name}](algorithms.md#{name})" in text
    frame = rocompare.load_results(REFERENCE)
    frame = frame[frame["scenario"].str.startswith(("penalty", "climbing"))]
    frame = frame[(frame["algorithm"] == "maddpg") & (frame["suite"] != "discrete")]
    assert f"| {frame['success'].sum()}/{len(frame)} [" in text


def test_the_sites_navigation_has_every_page():
    text = Path("mkdocs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r": (\w+\.md)$", text, re.M)) == {p.name for p in DOCS.glob("*.md")}
