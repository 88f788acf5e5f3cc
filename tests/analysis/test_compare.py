"""`rocompare compare` and `rocompare table --statistic` on results written by hand."""

import json
import math
import sys

import pytest
import yaml

from rocompare.analysis import compare
from rocompare.analysis import table as report
from rocompare.errors import ResultsError
from tests.support.made_up import cells_of, run, write

HIGH = [9.5, 9.6, 9.7, 9.8, 9.9]
LOW = [-0.1, -0.2, -0.3, -0.4, 9.9]


def test_a_difference_that_seeds_show(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): HIGH, ("narrow", "other"): [0.5, 0.4, 0.3, 0.2, 0.1]})
    found = compare.compare(tmp_path, "maddpg", "other")
    (c,) = found.comparisons
    assert c.p_return == pytest.approx(2 / 252)
    assert c.p_success == pytest.approx(2 / 252)
    text = compare.render(found)
    assert "maddpg − other: 9.40, 95% interval [9.17, 9.63]" in text
    assert "maddpg has the higher mean return." in text
    assert "maddpg finds the optimum more often." in text
    assert "beats one of other: 1.00 [0.57, 1.00]" in text
    assert "other has the higher" not in text
    # The same the other way round.
    swapped = compare.render(compare.compare(tmp_path, "other", "maddpg"))
    assert "other − maddpg: -9.40" in swapped
    assert "maddpg has the higher mean return." in swapped


def test_a_difference_that_seeds_do_not_show(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): [*HIGH[:3], 0.0, 0.1], ("narrow", "other"): LOW})
    text = compare.render(compare.compare(tmp_path, "maddpg", "other"))
    assert "do not show which has the higher mean return: differences from" in text
    assert "do not show which finds the optimum more often." in text


def test_too_few_seeds_are_said(tmp_path):
    write(tmp_path, {("wide", "maddpg"): HIGH[:3], ("wide", "other"): LOW[:3]})
    text = compare.render(compare.compare(tmp_path, "maddpg", "other"))
    assert "3 against 3 seeds cannot show a difference in returns at 0.05, however large" in text
    assert "the smallest p is 0.1. Train at least 4 seeds of each." in text


def test_holm_over_scenarios(tmp_path):
    low = [0.5, 0.4, 0.3, 0.2, 0.1]
    write(
        tmp_path,
        {(s, a): x for s in ("narrow", "wide") for a, x in (("maddpg", HIGH), ("other", low))},
    )
    found = compare.compare(tmp_path, "maddpg", "other")
    assert [c.p_return for c in found.comparisons] == pytest.approx([4 / 252] * 2)
    assert "(Holm over 2 scenarios)" in compare.render(found)


def test_equal_and_single_seeds(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): [1.0] * 5, ("narrow", "other"): [1.0] * 4})
    text = compare.render(compare.compare(tmp_path, "maddpg", "other"))
    assert "Every seed of both has the same return." in text
    write(tmp_path / "one", {("narrow", "maddpg"): [1.0], ("narrow", "other"): [2.0]})
    text = compare.render(compare.compare(tmp_path / "one", "maddpg", "other"))
    assert "no interval from a single seed" in text
    assert "1 against 1 seed cannot show" in text


def test_diverged_seeds_are_counted_and_said(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): [*HIGH, None], ("narrow", "other"): [None] * 6})
    found = compare.compare(tmp_path, "maddpg", "other")
    (c,) = found.comparisons
    assert (c.a.successes, c.a.total, c.a.diverged) == (5, 6, 1)
    assert math.isnan(c.p_return)
    text = compare.render(found)
    assert "n=5/6" in text
    assert "1 of 6 seeds of maddpg diverged" in text
    assert "no return: all of 6 seeds diverged; optimum 0/6" in text
    assert "maddpg finds the optimum more often." in text


def test_what_is_missing_or_failed_is_said(tmp_path):
    write(
        tmp_path,
        {
            ("narrow", "maddpg"): HIGH,
            ("narrow", "other"): LOW,
            ("wide", "maddpg"): HIGH,
            ("wide", "other"): RuntimeError("out of\n\x1b[31mmemory"),
        },
    )
    text = compare.render(compare.compare(tmp_path, "maddpg", "other"))
    assert "not compared: other has no finished seeds on wide" in text
    assert "failed: other on wide: out of ?[31mmemory" in text


def test_unlike_budgets_are_said(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): HIGH, ("narrow", "other"): LOW})
    (file,) = tmp_path.glob("*/narrow/other/*/config.yaml")
    file.write_text(file.read_text().replace("env_steps: 100", "env_steps: 900"))
    text = compare.render(compare.compare(tmp_path, "maddpg", "other"))
    assert "not alike on narrow: budget.env_steps 100 → 900" in text


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("maddgp", "other", "no finished seeds of 'maddgp'; did you mean 'maddpg'?"),
        ("maddpg", "maddpg", "cannot be compared with itself"),
        ("maddpg", "other", "share no scenario"),
    ],
)
def test_errors_of_compare(tmp_path, a, b, message):
    write(tmp_path, {("narrow", "maddpg"): HIGH, ("wide", "other"): LOW})
    with pytest.raises(ResultsError) as error:
        compare.compare(tmp_path, a, b)
    assert message in str(error.value)


def test_two_configurations_are_refused(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): HIGH})
    write(tmp_path, {("narrow", "maddpg"): LOW}, hidden=32)
    with pytest.raises(ResultsError, match="two configurations"):
        compare.load(tmp_path)


def test_two_suites_with_one_name_are_refused(tmp_path):
    """What is compared by name across folders must be one thing in each."""
    write(tmp_path, {("narrow", "maddpg"): HIGH})
    (tmp_path / "made_up").rename(tmp_path / "mine")
    write(tmp_path, {("narrow", "maddpg"): LOW})
    with pytest.raises(ResultsError, match="give the folder of one suite"):
        compare.load(tmp_path)


def test_the_command(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): HIGH, ("narrow", "other"): LOW})
    first = run("compare", tmp_path, "maddpg", "other")
    assert first.exit_code == 0
    assert first.stdout.startswith("narrow\n  maddpg  mean 9.70 ± 0.16, median 9.70")
    assert first.stdout == run("compare", tmp_path, "maddpg", "other").stdout


def test_declared_returns():
    scenario = cells_of()["narrow", "maddpg"].resolved()["scenario"]
    assert compare.declared_returns(scenario) == (0.0, 10.0)
    with pytest.raises(ResultsError, match="scenario 'narrow': its environment cannot"):
        compare.declared_returns({**scenario, "params": {"s2": "x"}})
    with pytest.raises(ResultsError, match="'narrow': .* nowhere_to_be_found:Env are not rec"):
        compare.declared_returns({**scenario, "env": "nowhere_to_be_found:Env"})


READERS = {
    "table": ["--statistic", "gap"], "diagnose": [], "plot": ["--out", "pictures"],
    "report": ["--out", "page.html"], "check": ["--against", "results"],
    "compare": ["maddpg", "other"],
}  # fmt: skip


@pytest.mark.parametrize("env", ["planted:Env", "rocompare.envs.parallel:Parallel"])
@pytest.mark.parametrize("command", READERS)
def test_reading_results_runs_no_code_that_they_name(command, env, tmp_path, monkeypatch):
    write(tmp_path / "results", {("narrow", "maddpg"): HIGH, ("narrow", "other"): LOW})
    for file in (tmp_path / "results").rglob("config.yaml"):
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        returns = {"optimal_return": 10.0, "safe_return": 0.0, "horizon": 1}
        config["scenario"]["params"] = {"factory": "planted:make", **returns}
        config["scenario"]["env"] = env
        config["algorithm"]["use"] = "planted:Algorithm"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
    for file in (*tmp_path.rglob("summary.json"), *tmp_path.rglob("diagnosis.csv")):
        file.unlink()
    (tmp_path / "planted.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = run(command, "results", *READERS[command])
    assert "it ran" not in done.output + str(done.exception)
    assert done.exit_code in (0, 2, 3) or isinstance(done.exception, ResultsError)
    assert "planted" not in sys.modules


@pytest.fixture
def table_path(tmp_path):
    values = [9.0, 9.2, 9.4, 9.6, 9.8, 0.0, None]
    return write(tmp_path, {("narrow", "maddpg"): values, ("narrow", "other"): [1.0] * 7})


@pytest.mark.parametrize(
    ("statistic", "expected", "constant"),
    [
        ("mean-std", "7.83 ± 3.85 (n=6/7)", "1.00 ± 0.00"),
        ("median", "9.30 [0.00, 9.80] (n=6/7)", "1.00 [1.00, 1.00]"),
        ("success", "5/7 [0.36, 0.92]", "0/7 [0.00, 0.35]"),
        ("gap", "2.17 ± 3.85 (n=6/7)", "9.00 ± 0.00"),
    ],
)
def test_statistics_of_the_table(table_path, statistic, expected, constant):
    table = report.return_table(table_path, statistic=statistic)
    n = report.usual_n(table)
    entry = table.entries["maddpg", "narrow"]
    assert report.cell_text(entry, n) == expected
    assert report.cell_text(table.entries["other", "narrow"], n) == constant
    assert entry.best
    assert not table.entries["other", "narrow"].best
    assert table.notes[0] == report.DEFINITIONS[statistic]
    for form in ("rich", "markdown", "latex"):
        assert f"{entry.value:.2f}" in report.render(table, form) or statistic == "success"
    assert report.render(table, "csv") == report.render(table, "csv")


def test_interquartile_mean_of_the_table(table_path):
    table = report.return_table(table_path, statistic="iqm")
    entry = table.entries["maddpg", "narrow"]
    assert entry.value == pytest.approx((9.0 + 9.2 + 9.4 + 9.6) / 4)
    assert 0.0 < entry.low < entry.value < entry.high < 9.8
    assert report.cell_text(table.entries["other", "narrow"], 7) == "1.00 [1.00, 1.00]"
    assert report.render(table, "latex") == report.render(table, "latex")
    assert rf"$\mathbf{{9.30\ [{entry.low:.2f}, {entry.high:.2f}]\ (n=6/7)}}$" in report.render(
        table, "latex"
    )


def test_statistics_in_csv_and_json(table_path):
    header = {
        "mean-std": "mean,std",
        "median": "median,low,high",
        "iqm": "iqm,low,high",
        "success": "success,low,high",
        "gap": "gap,std",
    }
    for statistic, columns in header.items():
        csv = run("table", table_path, "--statistic", statistic, "--format", "csv").stdout
        assert csv.startswith(f"algorithm,scenario,{columns},n,seeds,in_optimum,best\n")
    out = run("table", table_path, "--statistic", "success", "--format", "json").stdout
    assert json.loads(out)["cells"][0]["success"] == pytest.approx(5 / 7)


def test_table_of_seeds_that_all_diverged(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): [None, None]})
    for statistic in report.DEFINITIONS:
        table = report.return_table(tmp_path, statistic=statistic)
        text = report.cell_text(table.entries["maddpg", "narrow"], 2)
        assert text == ("0/2 [0.00, 0.66]" if statistic == "success" else "diverged (n=0/2)")


def test_a_seed_far_from_the_others_does_not_decide_which_mean_is_higher(tmp_path):
    """Every seed of one is a little better, and one of the other is far worse."""
    better = [9.90 + 0.001 * i for i in range(20)]
    worse = [9.80 + 0.001 * i for i in range(19)] + [2.0]
    write(tmp_path, {("narrow", "other"): better, ("narrow", "maddpg"): worse})
    [compared] = compare.compare(tmp_path, "other", "maddpg").comparisons
    assert compared.p_return < 0.001
    assert "not surely in the mean" in compare.render(compare.compare(tmp_path, "other", "maddpg"))
