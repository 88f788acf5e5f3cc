"""`rocompare diagnose` and the tables of executed and perceived RO, on numbers written by hand."""

import json

import pytest

from rocompare.analysis import render, table
from rocompare.results import store
from rocompare.results.reader import Results
from rocompare.results.records import Curve
from rocompare.suite.load import parse_suite
from tests.support.made_up import run
from tests.support.records import make_record

SUITE = """
name: made_up
seeds: 10
budget: {env_steps: 100}
evaluation: {episodes: 2, points: 5}
algorithms: {svnr: {}, maddpg: {}, silent: {use: "tests.support.probe:Recorder"}}
scenarios:
  wide: {env: max_of_three, s2: 3.0}
  narrow: {env: max_of_three, s2: 1.0}
  ten: {env: max_of_n, n_agents: 10}
  gather: {env: particle_gather}
"""
CELLS = {(c.scenario.name, c.algorithm.name): c for c in parse_suite(SUITE).cells()}


def save(root, scenario, algorithm, rows):
    """Rows of ``seed, env_steps, executed RO, perceived RO``."""
    records = []
    for seed in sorted({row[0] for row in rows}) or [0]:
        own = [row[1:] for row in rows if row[0] == seed] or [(50, None, None), (100, None, None)]
        steps, executed, perceived = (list(column) for column in zip(*own, strict=True))
        flat = {mode: [1.0] * len(own) for mode in ("decentralised", "deterministic")}
        curve = Curve(
            env_steps=steps, returns=flat, in_optimum=flat,
            executed_ro=executed, perceived_ro=perceived,
        )  # fmt: skip
        records.append(make_record(seed, (9.0, 9.0), curve=curve))
    store.save(root, CELLS[scenario, algorithm], records, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    steps = (20, 40, 60, 80, 100)
    rows = [(seed, t, 100.0 / t, 10.0 - t / 10 + seed) for seed in (0, 2) for t in steps]
    save(root, "wide", "svnr", rows)
    save(root, "wide", "maddpg", [])
    save(root, "narrow", "silent", [(0, t, 0.5, None) for t in steps])
    save(root, "ten", "svnr", [(0, t, 0.25, None) for t in steps])
    save(root, "gather", "svnr", [(0, t, 0.25, None) for t in (40, 100)])
    return root


def test_the_report(folder):
    answer = run("diagnose", folder)
    assert answer.exit_code == 0, answer.output
    lines = answer.output.splitlines()
    # At 25% the evaluation at 40 steps, at 50% that at 60; perceived: 6 and 8, then 4 and 6 ...
    [svnr] = [line.split() for line in lines[lines.index("wide") :][:6] if "svnr" in line]
    assert svnr[1:5] == ["2.50", "1.67", "1.25", "1.00"]
    assert svnr[5:7] == ["±", "0.00"]
    assert svnr[7:11] == ["7.00", "5.00", "3.00", "1.00"]
    assert svnr[11:13] == ["±", "1.41"]
    missing = [line for line in lines if line.startswith("n/a:")]
    assert len(missing) == 4
    assert "wide · maddpg: neither was measured" in answer.output
    for place in ("narrow · silent", "ten · svnr", "gather · svnr"):
        assert f"n/a: {place}: perceived RO was not measured: it needs" in answer.output


def test_json_has_the_same_numbers(folder):
    data = json.loads(run("diagnose", folder, "--format", "json").output)
    rows = [r for r in data["measurements"] if (r["scenario"], r["algorithm"]) == ("wide", "svnr")]
    assert [(r["share"], r["env_steps"]) for r in rows[:4]] == [
        (0.25, 40), (0.5, 60), (0.75, 80), (1.0, 100),
    ]  # fmt: skip
    assert [r["mean"] for r in rows[4:]] == [7, 5, 3, 1]
    assert rows[7]["std"] == pytest.approx(2**0.5)
    assert {r["seeds"] for r in rows} == {2}
    assert not [r for r in data["measurements"] if r["algorithm"] == "maddpg"]


def test_tables(folder):
    results = Results(folder)
    found = table.return_table(results, "perceived-ro")
    assert found.entries["svnr", "wide"].value == 1.0
    assert render.cell_text(found.entries["svnr", "wide"], 2) == "1.00 ± 1.41"
    assert found.entries["svnr", "wide"].best
    assert ("maddpg", "wide") not in found.entries
    assert ("svnr", "ten") not in found.entries
    assert "—: wide · maddpg: not measured; see `rocompare diagnose`" in found.notes
    executed = table.return_table(results, "executed-ro")
    assert executed.entries["svnr", "ten"].value == 0.25
    for form in ("markdown", "csv", "latex", "json", "rich"):
        text = render.render(executed, form)
        assert "1.00" in text or "1.0" in text


def test_a_table_of_nothing_measured(folder):
    results = Results(folder / "made_up" / "wide" / "maddpg")
    found = table.return_table(results, "executed-ro")
    assert found.entries == {}
    for form in ("markdown", "csv", "latex", "json", "rich"):
        assert isinstance(render.render(found, form), str)
