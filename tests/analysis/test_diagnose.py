"""`rocompare diagnose` and the tables of executed and perceived RO, on numbers written by hand."""

import math

import pytest

from rocompare.analysis import plots
from rocompare.analysis import table as report
from rocompare.errors import ResultsError
from rocompare.results import store as results
from rocompare.suite.load import parse_suite
from tests.support.made_up import run, seed_result

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
    seeds = sorted({row[0] for row in rows}) or [0]
    records = [seed_result(seed, 9.0) for seed in seeds]
    curve = [(seed, step, 1.0, 1.0, 0.0, 0.0) for seed in seeds for step in (50, 100)]
    results.save(root, CELLS[scenario, algorithm], results.CellResult(records, curve, rows), {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    steps = (20, 40, 60, 80, 100)
    rows = [(seed, t, 100.0 / t, 10.0 - t / 10 + seed) for seed in (0, 2) for t in steps]
    save(root, "wide", "svnr", rows)
    save(root, "wide", "maddpg", [])  # as an earlier version left it
    save(root, "narrow", "silent", [(0, t, 0.5, math.nan) for t in steps])
    save(root, "ten", "svnr", [(0, t, 0.25, math.nan) for t in steps])
    save(root, "gather", "svnr", [(0, t, 0.25, math.nan) for t in (40, 100)])
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
    assert "wide · maddpg: trained before" in answer.output
    assert "perceived RO, silent: the algorithm does not say" in answer.output
    assert "perceived RO, ten: " in answer.output and "10 agents" in answer.output
    assert "perceived RO, gather: episodes last up to 25 steps" in answer.output


def test_tables(folder):
    table = report.return_table(folder, statistic="perceived-ro")
    assert table.entries["svnr", "wide"].value == 1.0
    assert report.cell_text(table.entries["svnr", "wide"], 2) == "1.00 ± 1.41"
    assert table.entries["svnr", "wide"].best
    assert ("maddpg", "wide") not in table.entries and ("svnr", "ten") not in table.entries
    assert "—: wide · maddpg: not measured; see `rocompare diagnose`" in table.notes
    executed = report.return_table(folder, statistic="executed-ro")
    assert executed.entries["svnr", "ten"].value == 0.25
    for form in ("markdown", "csv", "latex", "json", "rich"):
        assert "1.00" in report.render(executed, form) or "1.0" in report.render(executed, form)


def test_a_table_of_nothing_measured(folder):
    table = report.return_table(folder / "made_up" / "wide" / "maddpg", statistic="executed-ro")
    assert table.entries == {}
    for form in ("markdown", "csv", "latex", "json", "rich"):
        assert isinstance(report.render(table, form), str)


def test_noiseless_and_ro_exclude_each_other(folder):
    with pytest.raises(ResultsError, match="drop one"):
        report.return_table(folder, "return_noiseless", "executed-ro")


def test_added_seeds_join_the_diagnosis(folder, tmp_path):
    save(tmp_path, "wide", "svnr", [(1, 50, 0.1, 0.2), (1, 100, 0.3, math.nan)])
    save(tmp_path, "wide", "svnr", [(0, 50, 0.5, 0.6)])
    rows = results.load_diagnosis(tmp_path)
    assert rows[["seed", "env_steps", "executed_ro"]].values.tolist() == [
        [0, 50, 0.5],
        [1, 50, 0.1],
        [1, 100, 0.3],
    ]
    assert rows["perceived_ro"].isna().tolist() == [False, False, True]


def test_a_foreign_file_is_refused(tmp_path):
    save(tmp_path, "wide", "svnr", [(1, 50, 0.1, 0.2)])
    [file] = tmp_path.rglob("diagnosis.csv")
    file.write_text("seed,env_steps\n1,2\n")
    with pytest.raises(ResultsError, match=r"diagnosis\.csv"):
        results.load_diagnosis(tmp_path)


def test_the_picture(folder):
    data = plots.load(folder / "made_up" / "wide")
    plot = next(p for p in plots.all_plots(data) if p.name == "diagnosis-wide")
    executed, perceived = plot.figure.axes
    assert executed.lines[0].get_ydata().tolist() == [5.0, 2.5, 100 / 60, 1.25, 1.0]
    assert perceived.lines[0].get_ydata().tolist() == [9.0, 7.0, 5.0, 3.0, 1.0]
    assert plot.render("png").startswith(b"\x89PNG")
    labels = [label.get_text() for label in executed.get_yticklabels()]
    assert labels[:4] == ["0", "1", "3", "10"]
    data = plots.load(folder / "made_up" / "gather")
    plot = next(p for p in plots.all_plots(data) if p.name == "diagnosis-gather")
    assert [axes.get_ylabel() for axes in plot.figure.axes] == ["executed RO"]


def test_sweeps_are_scenarios_that_differ_in_one_number():
    def entry(env="a:B", steps=100, **params):
        scenario = {"env": env, "params": params}
        return {"scenario": scenario, "budget": {"env_steps": steps}, "evaluation": {}}

    scenarios = {
        "hill_s2_2.0": entry(s2=2.0, q=[1, 2], wide=True),
        "hill_s2_1.0": entry(s2=1.0, q=[1, 2], wide=True),
        "hill_s2_4.0": entry(s2=4.0, q=[1, 2], wide=True),
        "other_q": entry(s2=8.0, q=[1, 3], wide=True),
        "other_env": entry("c:D", s2=8.0, q=[1, 2], wide=True),
        "narrow": entry(s2=0.5, q=[1, 2], wide=False),
        "longer": entry(steps=200, s2=16.0, q=[1, 2], wide=True),
    }
    [sweep] = plots.find_sweeps({"one": scenarios})
    assert (sweep.name, sweep.parameter) == ("hill", "s2")
    assert sweep.scenarios == [(1.0, "hill_s2_1.0"), (2.0, "hill_s2_2.0"), (4.0, "hill_s2_4.0")]


def test_a_sweep_is_of_one_suite():
    def suite(start, *values):
        return {
            f"{start}_{value}": {
                "scenario": {"env": "a:B", "params": {"k": value}}, "budget": {}, "evaluation": {},
            }
            for value in values
        }  # fmt: skip

    short, long, other = suite("game", 1, 2, 3), suite("game", 1, 2, 3, 4), suite("game", 1, 2, 5)
    sweeps = plots.find_sweeps({"a": short, "b": long, "c": suite("play", 1, 3, 9), "d": other})
    assert [(sweep.name, [value for value, _ in sweep.scenarios]) for sweep in sweeps] == [
        ("game", [1, 2, 3, 4]),
        ("play", [1, 3, 9]),
        ("game@d", [1, 2, 5]),
    ]


def test_success_against_difficulty(tmp_path):
    suite = parse_suite("""
name: sweep
seeds: 4
budget: {env_steps: 100}
algorithms: {svnr: {}}
scenarios:
  game_1: {env: max_of_three, s2: 1.0}
  game_2: {env: max_of_three, s2: 2.0}
  game_3: {env: max_of_three, s2: 3.0}
""")
    for good, one in zip((0, 3, 4), suite.cells(), strict=True):
        seeds = [seed_result(i, 9.0 if i < good else 0.0) for i in range(4)]
        results.save(tmp_path, one, results.CellResult(seeds, []), {})
    data = plots.load(tmp_path)
    [plot] = [p for p in plots.all_plots(data) if p.name == "success_by_s2-game"]
    axes = plot.figure.axes[0]
    [curve] = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert list(curve.get_ydata()) == [0, 0.75, 1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    # Wilson's 95% interval of 3 in 4.
    low, high = axes.lines[1].get_ydata()
    assert (round(low, 3), round(high, 3)) == (0.301, 0.954)
