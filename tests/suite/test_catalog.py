"""What `rocompare list` says: everything that ships, and what every parameter is."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from rocompare.suite import catalog, library, listing, registry
from tests.support.made_up import run

KINDS = {
    "algorithms": registry.ALGORITHMS,
    "environments": registry.ENVIRONMENTS,
    "references": registry.REFERENCES,
    "suites": library.shipped(),
}
CLASSES = [
    entry for entry in catalog.overview() if entry.kind in catalog.TABLES
]  # fmt: skip


def shown(width, print_one, *arguments):
    console = Console(width=width, record=True, file=io.StringIO())
    print_one(*arguments, console)
    return console.export_text()


def test_everything_that_ships_is_listed_with_a_sentence():
    entries = json.loads(run("list", "--format", "json").output)
    names = {kind: [e["name"] for e in entries if f"{e['kind']}s" == kind] for kind in KINDS}
    assert names == {kind: list(table) for kind, table in KINDS.items()}
    for entry in entries:
        assert re.fullmatch(r"\S.{10,250}[.?]", entry["about"]), entry
    text = run("list").output
    assert all(name in text for table in KINDS.values() for name in table)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_alone(kind):
    entries = json.loads(run("list", kind, "--format", "json").output)
    assert [entry["name"] for entry in entries] == list(KINDS[kind])
    assert run("list", kind).output.startswith(f"{kind}\n")


@pytest.mark.parametrize("entry", CLASSES, ids=lambda entry: entry.name)
def test_every_parameter_has_a_type_and_a_meaning(entry):
    rows = catalog.parameters(entry)
    config = registry.load(entry.kind, entry.name).Config
    assert {row.name for row in rows} == set(config.model_fields)
    for row in rows:
        field = config.model_fields[row.name]
        assert row.required == field.is_required()
        assert re.fullmatch(r"[A-Z`a-z\d].{7,}[.:)]", row.meaning), row
        assert row.type != "value"


def test_types_bounds_and_defaults_are_those_of_the_class():
    entry = next(e for e in CLASSES if e.name == "maddpg")
    rows = {row.name: row for row in catalog.parameters(entry)}
    config = registry.load("algorithm", "maddpg").Config()
    hidden, tau, others = rows["hidden"], rows["tau"], rows["others"]
    assert (hidden.type, hidden.range, hidden.default) == ("integer", "> 0", config.hidden)
    assert (tau.type, tau.range, tau.default) == ("number", "> 0, ≤ 1", config.tau)
    assert (others.type, others.range) == ("one of", "batch, policy")
    assert others.start == "batch"
    assert list(rows).index("hidden") < list(rows).index("gamma")  # what is its own comes first
    entry = next(e for e in CLASSES if e.name == "max_of_three")
    p = next(row for row in catalog.parameters(entry) if row.name == "p")
    assert (p.type, p.start) == ("list of numbers", "[-5.0, -5.0, 3.0]")
    entry = next(e for e in CLASSES if e.name == "pettingzoo")
    factory = next(row for row in catalog.parameters(entry) if row.name == "factory")
    assert (factory.type, factory.start) == ("text", "must be given")


@pytest.mark.parametrize("width", [30, 40, 80, 109, 110, 200])
def test_it_is_whole_on_any_terminal(width):
    entry = next(e for e in CLASSES if e.name == "maddpg")
    text = shown(width, listing.print_each, [entry])
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for row in catalog.parameters(entry):
        assert row.name in words
        assert row.start in words
        if width < listing.WIDE_TABLE:
            assert row.meaning in words
    text = shown(width, listing.print_entries, catalog.overview())
    assert max(map(len, text.splitlines())) <= width
    assert all(entry.name in text for entry in catalog.overview())
    if width < listing.WIDE_LIST:
        assert all(entry.about in " ".join(text.split()) for entry in catalog.overview())


def test_a_name_of_an_environment_and_of_a_suite_is_both():
    entries = json.loads(run("list", "max_of_three", "--format", "json").output)
    assert [entry["kind"] for entry in entries] == ["environment", "suite"]
    assert [row["name"] for row in entries[0]["parameters"]][:2] == ["s2", "s1"]
    assert Path(entries[1]["place"]) == library.shipped()["max_of_three"]
    assert "s2  number > 0; default 3.0" in run("list", "max_of_three").output


@pytest.mark.slow
def test_a_wrong_name_has_a_hint():
    assert "did you mean 'maddpg'?" in str(run("list", "madpg").exception)
    assert "is called 'a\\x1bb'; known: " in str(run("list", "a\x1bb").exception)
