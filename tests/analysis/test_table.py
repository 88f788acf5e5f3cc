"""Tables: numbers worked out by hand, in every format."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from rich.console import Console

from rocompare.analysis import render, table
from rocompare.analysis.table import Entry
from rocompare.errors import ResultsError
from rocompare.results import store
from rocompare.results.reader import Results
from rocompare.suite.load import parse_suite
from tests.support import made_up
from tests.support.records import make_record

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
        record = make_record(seed, (value, value), **changes)
        store.save(root, CELLS[algorithm, scenario], [record], {})


def table_of(path, *arguments, **options):
    return table.return_table(Results(path), *arguments, **options)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, "svnr", PAPER, [9.0, 10.0, 11.0, 10.0])
    save(tmp_path, "maddpg", PAPER, [2.0, None, 4.0, 3.0])
    save(tmp_path, "svnr", "other", [1.0, 2.0])
    return tmp_path


def test_mean_and_std_by_hand(folder):
    found = table_of(folder)
    entry = found.entries["svnr", PAPER]
    assert entry.mean == 10
    assert entry.std == pytest.approx(math.sqrt(2 / 3))
    assert (entry.n, entry.total, entry.successes, entry.best) == (4, 4, 4, True)
    diverged = found.entries["maddpg", PAPER]
    assert (diverged.mean, diverged.std) == (3.0, 1.0)
    assert (diverged.n, diverged.total, diverged.successes, diverged.best) == (3, 4, 0, False)
    assert ("maddpg", "other") not in found.entries


def test_texts_say_how_many_seeds_where_it_matters(folder):
    found = table_of(folder)
    n = render.usual_n(found)
    assert n == 4
    assert render.cell_text(found.entries["svnr", PAPER], n) == "10.00 ± 0.82"
    assert render.cell_text(found.entries["maddpg", PAPER], n) == "3.00 ± 1.00 (n=3/4)"
    assert render.cell_text(found.entries["svnr", "other"], n) == "1.50 ± 0.71 (n=2)"
    assert render.cell_text(None, n) == "—"


def test_a_cell_whose_seeds_all_diverged(tmp_path):
    save(tmp_path, "svnr", PAPER, [None, None])
    save(tmp_path, "maddpg", PAPER, [-1.0, -0.001])
    found = table_of(tmp_path)
    assert render.cell_text(found.entries["svnr", PAPER], 2) == "diverged (n=0/2)"
    assert found.entries["maddpg", PAPER].best
    cells = json.loads(render.render(found, "json"))["cells"]
    assert cells[0]["mean"] is None


def test_published_values_stand_beside_ours(folder):
    found = table_of(folder, reference="paper_table1")
    ours = found.entries["svnr", PAPER]
    assert ours.published == (9.60, 0.30)
    assert ours.differs == ""  # 10.00 - 9.60 <= 0.82 + 0.30
    theirs = found.entries["maddpg", PAPER]
    assert theirs.published == (2.08, 4.63)
    assert found.entries["svnr", "other"].published is None
    markdown = render.render(found, "markdown")
    assert "| **10.00 ± 0.82** / 9.60 ± 0.30 | **1.50 ± 0.71 (n=2)** |" in markdown
    assert "paper_table1, as published" in markdown
    row = json.loads(render.render(found, "json"))["cells"][0]
    assert (row["published_mean"], row["published_std"]) == (9.60, 0.30)


def test_tuned_algorithms_stand_behind_the_others_with_the_same_published_values(folder):
    text = SUITE.replace("svnr: {}", "svnr_tuned: {use: svnr, rounds: 3}").replace("demo", "tuned")
    for cell in parse_suite(text).cells():
        if cell.algorithm.name == "svnr_tuned":
            store.save(folder, cell, [make_record(7, (7.0, 8.0))], {})
    found = table_of(folder, reference="paper_table1")
    assert found.algorithms == ["svnr", "maddpg", "svnr_tuned"]
    assert found.entries["svnr_tuned", PAPER].published == (9.60, 0.30)
    assert found.entries["svnr_tuned", PAPER].mean == 7.5


def test_numbers_in_names_go_by_size(tmp_path):
    names = ("game_10", "game_2", "game_0.75", "game_0.7")
    text = SUITE.split("scenarios")[0] + "scenarios: {"
    text += ", ".join(f"{name}: {{env: max_of_three}}" for name in names) + "}"
    for cell in parse_suite(text).cells():
        store.save(tmp_path, cell, [make_record(0)], {})
    expected = ["game_0.7", "game_0.75", "game_2", "game_10"]
    assert table_of(tmp_path).scenarios == expected
    assert Results(tmp_path).labels == expected


@pytest.mark.parametrize(
    ("mean", "std", "mark"),
    [(9.6, 0.0, ""), (9.95, 0.04, "↑"), (9.95, 0.06, ""), (9.0, 0.2, "↓"), (9.0, 0.4, "")],
)
def test_the_mark_of_a_difference(mean, std, mark):
    assert Entry(mean, std, 5, 5, published=(9.6, 0.3)).differs == mark


def test_every_published_value_of_table_1_is_there():
    published = table.load_reference("paper_table1")
    assert len(published) == 24
    assert {algorithm for algorithm, _ in published} == {
        "svnr", "maddpg", "masql", "pr2", "rommeo", "lenient_madrl",
    }  # fmt: skip
    assert published["lenient_madrl", "particle_gather"] == (-0.75, 0.0)
    with pytest.raises(ResultsError, match="unknown reference 'x'"):
        table.load_reference("x")


def test_of_two_configurations_of_one_name_the_newest_is_shown_and_that_is_said(folder):
    other = parse_suite(SUITE.replace("svnr: {}", "svnr: {rounds: 3}")).cells()[0]
    store.save(folder, other, [make_record(7)], {"time": "2026"})
    found = table_of(folder)
    assert found.entries["svnr", PAPER].mean == 1.5
    assert [n for n in found.notes if n.startswith(f"left out: {CELLS['svnr', PAPER].path}")]


def test_success_is_counted_by_score_in_the_execution_that_is_shown(tmp_path):
    modes = {"decentralised": [-9.0], "deterministic": [10.0], "shared": [9.0]}
    first = make_record(0, (9.0,)).model_copy(update={"returns": modes})
    second = make_record(1, (9.5,))
    returns = modes | {mode: [9.5] for mode in modes}
    records = [first, second.model_copy(update={"returns": returns})]
    store.save(tmp_path, CELLS["svnr", PAPER], records, {})
    expected = {"decentralised": (1, 2), "deterministic": (2, 2), "shared": (2, 2)}
    for execution, counts in expected.items():
        entry = table_of(tmp_path, "success", execution).entries["svnr", PAPER]
        assert (entry.successes, entry.total) == counts
    with pytest.raises(ResultsError, match="drop one"):
        table_of(tmp_path, "executed-ro", "shared")


def test_the_criterion_of_success_stands_under_every_table_of_returns(folder):
    for statistic in set(table.DEFINITIONS) - set(table.MEASURED):
        notes = " ".join(table_of(folder, statistic).notes)
        assert "(return - safe) / (optimal - safe)" in notes
        assert "at least 0.9" in notes or statistic == "score"


def test_scores_and_gaps_are_in_units_of_the_game(folder):
    score = table_of(folder, "score").entries["svnr", PAPER]
    assert (score.value, score.std) == (1.0, pytest.approx(math.sqrt(2 / 3) / 10))
    assert table_of(folder, "gap").entries["maddpg", PAPER].value == 7.0


def test_cost_is_seconds_updates_and_parameters(folder):
    found = table_of(folder, "cost")
    text = render.cell_text(found.entries["svnr", PAPER], 4)
    assert text == "0.50 s, 180 updates, 17 parameters, search —"


def test_cost_has_what_the_search_took_where_the_suite_says(tmp_path):
    searched = SUITE + "search: {svnr: {trials: 20, dimensions: 12, hours: 1.25}}\n"
    cell = parse_suite(searched).cells()[0]
    store.save(tmp_path, cell, [make_record(0)], {})
    found = table_of(tmp_path, "cost")
    text = render.cell_text(found.entries["svnr", PAPER], 1)
    assert text.endswith("17 parameters, search 20×12, 1.2 h")
    row = json.loads(render.render(found, "json"))["cells"][0]
    assert (row["search_trials"], row["search_hours"]) == (20, 1.25)
    config = next(tmp_path.rglob("config.yaml"))
    config.write_text(config.read_text().replace("trials: 20", "trials: many"))
    found = table_of(tmp_path, "cost")
    assert render.cell_text(found.entries["svnr", PAPER], 1).endswith("search —")


def test_who_had_a_curriculum_is_marked(tmp_path):
    eased = SUITE.replace("maddpg: {}", "maddpg: {curriculum: {s2: 20}}")
    for cell in parse_suite(eased).cells()[:2]:
        store.save(tmp_path, cell, [make_record(0)], {})
    found = table_of(tmp_path)
    assert "†: trained with a curriculum on the reward" in " ".join(found.notes)
    for form, mark in (("rich", "maddpg†"), ("markdown", "| maddpg† |"), ("html", "maddpg†</th>"),
                       ("latex", r"maddpg$^\dagger$ &")):  # fmt: skip
        text = render.render(found, form)
        assert mark in text
        assert "svnr†" not in text and r"svnr$^" not in text
    rows = json.loads(render.render(found, "json"))["cells"]
    assert {row["algorithm"]: row["curriculum"] for row in rows} == {"svnr": False, "maddpg": True}


HOSTILE = {
    "latex": (r"\input{evil}^~_%&#$<>", r"\textbackslash{}input\{evil\}\textasciicircum{}"
              r"\textasciitilde{}\_\%\&\#\$\textless{}\textgreater{}"),
    "markdown": ("<img onerror=a>|`b`*[c](d)\\", r"\<img onerror=a\>\|\`b\`\*\[c\](d)\\"),
    "html": ("<img onerror=a>", "&lt;img onerror=a&gt;"),
}  # fmt: skip


@pytest.mark.parametrize("form", HOSTILE)
def test_names_are_text_in_every_form(form, folder):
    found = table_of(folder)
    name, escaped = HOSTILE[form]
    entries = {(a.replace("svnr", name), s.replace("other", name)): e
               for (a, s), e in found.entries.items()}  # fmt: skip
    hostile = replace(
        found, algorithms=[name, "maddpg"], scenarios=[PAPER, name], entries=entries,
        notes=[f"a\n{name}"],
    )  # fmt: skip
    text = render.render(hostile, form)
    assert text.count(escaped) == (2 if form == "latex" else 3)  # a note is a comment in LaTeX
    assert not any(line.startswith(name) for line in text.splitlines())
    if form != "latex":
        assert name not in text


@pytest.mark.parametrize("start", "=+-@\t\r")
def test_no_cell_is_a_formula(start, folder):
    found = table_of(folder)
    entries = {(f"{start}1+1", s): e for (a, s), e in found.entries.items() if a == "svnr"}
    text = render.render(replace(found, algorithms=[f"{start}1+1"], entries=entries), "csv")
    first = [row[0] for row in csv.reader(io.StringIO(text, newline=""))]
    assert first == ["algorithm", f"'{start}1+1", f"'{start}1+1"]
    assert "\n-0.5," not in render.render(found, "csv")


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
    store.save(folder, cell, [make_record(7, (7.0, 8.0))], {})
    found = table_of(folder, reference="paper_table1")
    if not change:
        assert found.scenarios == [PAPER, "other"]
        assert found.entries["mine", PAPER].mean == 7.5
        assert not any("@" in note for note in found.notes)
        return
    demo, mine = f"{PAPER}@demo", f"{PAPER}@mine"
    assert sorted(found.scenarios) == [demo, mine, "other"]
    assert found.entries["svnr", demo].mean == 10
    assert found.entries[algorithm, mine].mean == 7.5
    assert ("maddpg", mine) not in found.entries
    assert found.entries["svnr", demo].published == (9.60, 0.30)
    assert any(note.startswith("name@suite:") for note in found.notes)


@pytest.mark.parametrize("width", [40, 78, 200])
def test_the_terminals_table_keeps_numbers_whole(folder, width):
    console = Console(width=width, force_terminal=True, no_color=True)
    with console.capture() as capture:
        render.print_table(table_of(folder, reference="paper_table1"), console)
    text = capture.get()
    for number in ("10.00 ± 0.82", "9.60 ± 0.30", "3.00 ± 1.00 (n=3/4)", "2.08 ± 4.63"):
        assert number in text


def test_a_failure_of_many_lines_is_one_note(tmp_path):
    values = {("narrow", "maddpg"): [1.0], ("narrow", "other"): ValueError("one\n\ttwo & \x1b[1m")}
    made_up.write(tmp_path, values)
    latex = render.render(table_of(tmp_path), "latex")
    [line] = [line for line in latex.splitlines() if "two" in line]
    assert line.startswith("% Failed: ") and line.endswith(r"one\n\ttwo & \x1b[1m")


def test_latex_escapes_names(folder):
    latex = render.render(table_of(folder), "latex")
    assert r"max\_of\_three\_s2\_3.0" in latex
    assert r"$\mathbf{10.00 \pm 0.82}$" in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_latex_compiles(folder, tmp_path_factory):
    tables = [table_of(folder, statistic=name) for name in table.DEFINITIONS]
    tables.append(table_of(folder, reference="paper_table1"))
    body = "\\par\n".join(render.render(one, "latex") for one in tables)
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body
    where = tmp_path_factory.mktemp("latex")
    (where / "page.tex").write_text(page + "\\end{document}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    answer = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[-1000:]
    assert "Missing character" not in answer.stdout


def test_html_is_one_escaped_table(folder):
    found = table_of(folder, reference="paper_table1")
    html = render.render(found, "html")
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
    escaped = replace(found, algorithms=["<b>&"], notes=["<i>"])
    assert "&lt;b&gt;&amp;" in render.render(escaped, "html")
    assert "<caption>&lt;i&gt;" in render.render(escaped, "html")


def test_the_order_of_rows_and_columns_is_the_references(folder):
    found = table_of(folder, reference="paper_table1")
    assert found.algorithms == ["svnr", "maddpg"]
    assert found.scenarios == [PAPER, "other"]
