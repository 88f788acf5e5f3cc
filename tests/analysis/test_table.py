"""Tables: numbers worked out by hand, in every format."""

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from rich.console import Console

from rocompare.analysis import table as report
from rocompare.errors import ResultsError
from rocompare.results import store as results
from rocompare.suite import registry
from rocompare.suite.load import parse_suite
from tests.results.test_store import cell_result
from tests.support import made_up

SUITE = """
name: demo
seeds: 4
budget: {env_steps: 1000}
evaluation: {episodes: 2, points: 2}
algorithms: {svnr: {}, maddpg: {}}
scenarios: {max_of_three_s2_3.0: {env: max_of_three}, other: {env: max_of_three, s2: 1.5}}
"""
CELLS = {(c.algorithm.name, c.scenario.name): c for c in parse_suite(SUITE).cells()}
PAPER = "max_of_three_s2_3.0"


def save(root, algorithm, scenario, returns, **changes):
    for seed, value in enumerate(returns):
        bad = value is None
        one = cell_result([seed], returns=(value, value), diverged=bad, **changes)
        results.save(root, CELLS[algorithm, scenario], one, {})


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, "svnr", PAPER, [9.0, 10.0, 11.0, 10.0])
    save(tmp_path, "maddpg", PAPER, [2.0, None, 4.0, 3.0])
    save(tmp_path, "svnr", "other", [1.0, 2.0], basin="safe")
    return tmp_path


def test_mean_and_std_by_hand(folder):
    table = report.return_table(folder)
    entry = table.entries["svnr", PAPER]
    assert entry.mean == 10
    assert entry.std == pytest.approx(math.sqrt(2 / 3))
    assert (entry.n, entry.total, entry.in_optimum, entry.best) == (4, 4, 4, True)
    diverged = table.entries["maddpg", PAPER]
    assert (diverged.mean, diverged.std) == (3.0, 1.0)
    assert (diverged.n, diverged.total, diverged.in_optimum, diverged.best) == (3, 4, 3, False)
    assert ("maddpg", "other") not in table.entries


def test_texts_say_how_many_seeds_where_it_matters(folder):
    table = report.return_table(folder)
    n = report.usual_n(table)
    assert n == 4
    assert report.cell_text(table.entries["svnr", PAPER], n) == "10.00 ± 0.82"
    assert report.cell_text(table.entries["maddpg", PAPER], n) == "3.00 ± 1.00 (n=3/4)"
    assert report.cell_text(table.entries["svnr", "other"], n) == "1.50 ± 0.71 (n=2)"
    assert report.cell_text(None, n) == "—"


def test_a_cell_whose_seeds_all_diverged(tmp_path):
    save(tmp_path, "svnr", PAPER, [None, None])
    save(tmp_path, "maddpg", PAPER, [-1.0, -0.001])
    table = report.return_table(tmp_path)
    assert report.cell_text(table.entries["svnr", PAPER], 2) == "diverged (n=0/2)"
    assert table.entries["maddpg", PAPER].best
    cells = json.loads(report.render(table, "json"))["cells"]
    assert cells[0]["mean"] is None


def test_published_values_stand_beside_ours(folder):
    table = report.return_table(folder, reference="paper_table1")
    ours = table.entries["svnr", PAPER]
    assert ours.published == (9.60, 0.30)
    assert ours.differs == ""  # 10.00 - 9.60 <= 0.82 + 0.30
    theirs = table.entries["maddpg", PAPER]
    assert theirs.published == (2.08, 4.63)
    assert table.entries["svnr", "other"].published is None
    markdown = report.render(table, "markdown")
    assert "| **10.00 ± 0.82** / 9.60 ± 0.30 | **1.50 ± 0.71 (n=2)** |" in markdown
    assert "paper_table1, as published" in markdown
    row = json.loads(report.render(table, "json"))["cells"][0]
    assert (row["published_mean"], row["published_std"]) == (9.60, 0.30)


def test_tuned_algorithms_stand_behind_the_others_with_the_same_published_values(folder):
    text = SUITE.replace("svnr: {}", "svnr_tuned: {use: svnr, rounds: 3}").replace("demo", "tuned")
    for cell in parse_suite(text).cells():
        if cell.algorithm.name == "svnr_tuned":
            results.save(folder, cell, cell_result([7], returns=(7.0, 8.0)), {})
    table = report.return_table(folder, reference="paper_table1")
    assert table.algorithms == ["svnr", "maddpg", "svnr_tuned"]
    assert table.entries["svnr_tuned", PAPER].published == (9.60, 0.30)
    assert table.entries["svnr_tuned", PAPER].mean == 7.5


def test_numbers_in_names_go_by_size(tmp_path):
    names = ("game_10", "game_2", "game_0.75", "game_0.7")
    text = SUITE.split("scenarios")[0] + "scenarios: {"
    text += ", ".join(f"{name}: {{env: max_of_three}}" for name in names) + "}"
    for cell in parse_suite(text).cells():
        results.save(tmp_path, cell, cell_result([0]), {})
    expected = ["game_0.7", "game_0.75", "game_2", "game_10"]
    assert report.return_table(tmp_path).scenarios == expected
    assert list(dict.fromkeys(results.load_results(tmp_path)["scenario"])) == expected


@pytest.mark.parametrize(
    ("mean", "std", "mark"),
    [(9.6, 0.0, ""), (9.95, 0.04, "↑"), (9.95, 0.06, ""), (9.0, 0.2, "↓"), (9.0, 0.4, "")],
)
def test_the_mark_of_a_difference(mean, std, mark):
    assert report.Entry(mean, std, 5, 5, 5, published=(9.6, 0.3)).differs == mark


def test_every_published_value_of_table_1_is_there():
    published = report.load_reference("paper_table1")
    assert len(published) == 24
    assert {algorithm for algorithm, _ in published} == set(registry.ALGORITHMS)
    assert published["lenient_madrl", "particle_gather"] == (-0.75, 0.0)
    with pytest.raises(ResultsError, match="unknown reference 'x'"):
        report.load_reference("x")


def test_mixed_configurations_are_never_averaged(folder):
    other = parse_suite(SUITE.replace("svnr: {}", "svnr: {rounds: 3}")).cells()[0]
    results.save(folder, other, cell_result([7]), {})
    with pytest.raises(ResultsError, match="two configurations"):
        report.return_table(folder)


@pytest.mark.parametrize(
    ("change", "to", "algorithm"),
    [
        ("svnr: {}", "svnr: {rounds: 3}", "svnr"),  # an algorithm twice
        ("", "", "mine"),  # a new one, alike; then under other conditions
        ("1000", "2000", "mine"),
        ("episodes: 2", "episodes: 3", "mine"),
        ("max_of_three}", "max_of_three, s2: 2.5}", "mine"),
    ],
)
def test_suites_that_differ_under_one_name_have_columns_of_their_own(folder, change, to, algorithm):
    text = SUITE.replace("maddpg: {}", "maddpg: {}, mine: {use: svnr}")
    cells = parse_suite(text.replace("demo", "mine").replace(change, to)).cells()
    [cell] = [c for c in cells if (c.algorithm.name, c.scenario.name) == (algorithm, PAPER)]
    results.save(folder, cell, cell_result([7], returns=(7.0, 8.0)), {})
    table = report.return_table(folder, reference="paper_table1")
    if not change:
        assert table.scenarios == [PAPER, "other"]
        assert table.entries["mine", PAPER].mean == 7.5
        assert not any("@" in note for note in table.notes)
        return
    demo, mine = f"{PAPER}@demo", f"{PAPER}@mine"
    assert sorted(table.scenarios) == [demo, mine, "other"]
    assert table.entries["svnr", demo].mean == 10
    assert table.entries[algorithm, mine].mean == 7.5
    assert ("maddpg", mine) not in table.entries
    assert table.entries["svnr", demo].published == (9.60, 0.30)
    assert any(note.startswith("name@suite:") for note in table.notes)


def test_a_suites_leftovers_under_other_conditions_are_refused(folder):
    text = SUITE.replace("1000", "2000").replace("maddpg: {}", "mine: {use: svnr}")
    [cell] = [c for c in parse_suite(text).cells() if c.path.parts[1:3] == (PAPER, "mine")]
    results.save(folder, cell, cell_result([7]), {})
    with pytest.raises(ResultsError, match=f"scenario '{PAPER}' differs between demo/"):
        report.return_table(folder)


@pytest.mark.parametrize("width", [40, 78, 200])
def test_the_terminals_table_keeps_numbers_whole(folder, width):
    console = Console(width=width, force_terminal=True, no_color=True)
    with console.capture() as capture:
        report.print_table(report.return_table(folder, reference="paper_table1"), console)
    text = capture.get()
    for number in ("10.00 ± 0.82", "9.60 ± 0.30", "3.00 ± 1.00 (n=3/4)", "2.08 ± 4.63"):
        assert number in text


def test_a_failure_of_many_lines_is_one_note(tmp_path):
    values = {("narrow", "maddpg"): [1.0], ("narrow", "other"): ValueError("one\n\ttwo & \x1b[1m")}
    made_up.write(tmp_path, values)
    latex = report.render(report.return_table(tmp_path), "latex")
    [line] = [line for line in latex.splitlines() if "two" in line]
    assert line.startswith("% Failed: ") and line.endswith("one two & ?[1m")


def test_latex_escapes_names(folder):
    latex = report.render(report.return_table(folder), "latex")
    assert r"max\_of\_three\_s2\_3.0" in latex
    assert r"$\mathbf{10.00 \pm 0.82}$" in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_latex_compiles(folder, tmp_path_factory):
    tables = [report.return_table(folder, statistic=name) for name in report.DEFINITIONS]
    tables.append(report.return_table(folder, reference="paper_table1"))
    body = "\\par\n".join(report.render(table, "latex") for table in tables)
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body
    where = tmp_path_factory.mktemp("latex")
    (where / "page.tex").write_text(page + "\\end{document}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    answer = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[-1000:]
    assert "Missing character" not in answer.stdout


def test_html_is_one_escaped_table(folder):
    table = report.return_table(folder, reference="paper_table1")
    html = report.render(table, "html")
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    assert rows[0] == (
        '<th scope="col">algorithm</th><th scope="col">max_of_three_s2_3.0</th>'
        '<th scope="col">other</th>'
    )
    assert rows[1] == (
        '<th scope="row">svnr</th><td><strong>10.00 ± 0.82</strong><br>9.60 ± 0.30</td>'
        "<td><strong>1.50 ± 0.71 (n=2)</strong></td>"
    )
    assert "<caption>Return: " in html
    escaped = replace(table, algorithms=["<b>&"], notes=["<i>"])
    assert "&lt;b&gt;&amp;" in report.render(escaped, "html")
    assert "<caption>&lt;i&gt;" in report.render(escaped, "html")


def test_the_order_of_rows_and_columns_is_the_references(folder):
    table = report.return_table(folder, reference="paper_table1")
    assert table.algorithms == ["svnr", "maddpg"]
    assert table.scenarios == [PAPER, "other"]
