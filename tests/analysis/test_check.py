"""`rocompare check`: what it reads, refuses, says and exits with. The judgement itself is tested in
test_judge.py."""

import json
from xml.etree import ElementTree

import pytest

from rocompare.analysis import check
from rocompare.analysis.judge import Settings
from rocompare.errors import ResultsError
from rocompare.results import store
from rocompare.suite.load import parse_suite
from tests.support.made_up import SUITE, cells_of, run, seed_result, write

GOOD, LOST = [9.9] * 20, [0.0] * 12 + [9.9] * 8
CELL = ("narrow", "maddpg")


def check_command(new, old, *options):
    return run("check", new, "--against", old, *options)


@pytest.fixture
def folders(tmp_path):
    write(tmp_path / "old", {CELL: GOOD, ("wide", "maddpg"): GOOD})
    return tmp_path


def test_an_unchanged_tree_passes(folders):
    answer = check_command(folders / "old", folders / "old")
    assert answer.exit_code == 0
    assert answer.output.splitlines()[-1].startswith("pass: 2 pass, 0 unguarded, 0 regressed")
    assert "success is a score of 0.9" in answer.output


def test_lost_seeds_are_a_regression_with_its_fall_in_units_of_return(folders):
    write(folders / "new", {CELL: LOST, ("wide", "maddpg"): GOOD})
    answer = check_command(folders / "new", folders / "old")
    assert answer.exit_code == 1
    assert "return               9.90 → 3.96, worse by 5.94, p = " in answer.output
    assert "success              100% → 40% of 20 and 20 seeds, worse by 60%, p = " in answer.output
    data = json.loads(check_command(folders / "new", folders / "old", "--format", "json").output)
    assert data["state"] == "regressed"
    narrow, wide = data["cells"]
    assert (narrow["state"], wide["state"]) == ("regressed", "pass")
    assert narrow["answers"][0]["fall"] == pytest.approx(5.94)
    tree = ElementTree.fromstring(
        check_command(folders / "new", folders / "old", "--format", "junit").output.encode()
    )
    assert (tree.get("tests"), tree.get("failures"), tree.get("errors")) == ("2", "1", "0")
    assert "worse by 5.94" in tree.find("testcase/failure").get("message")


def test_seeds_that_all_get_there_but_return_less_are_noticed(folders):
    write(folders / "new", {CELL: [9.4] * 20, ("wide", "maddpg"): GOOD})
    report = check.check(folders / "new", folders / "old", Settings(tolerance=0.1))
    answers = {a.question: a for a in report.verdicts[0].answers}
    assert not answers["success"].beyond
    assert answers["return of successes"].significant
    assert report.state == "regressed"


def test_a_missing_or_failed_cell_is_inconclusive_unless_that_is_allowed(folders):
    write(folders / "new", {CELL: GOOD})
    answer = check_command(folders / "new", folders / "old")
    assert answer.exit_code == 3
    assert "missing in NEW" in answer.output
    assert check_command(folders / "new", folders / "old", "--allow-inconclusive").exit_code == 0
    write(folders / "new", {("wide", "maddpg"): ValueError("boom")})
    assert "failed in NEW: boom" in check_command(folders / "new", folders / "old").output


def test_slower_learning_is_a_regression_where_it_is_asked_for(folders):
    def save(root, first):
        records = []
        for seed in range(20):
            record = seed_result(seed, 9.9)
            modes = {mode: [first + seed / 1000, 9.9] for mode in record.returns}
            curve = record.curve.model_copy(update={"returns": modes})
            records.append(record.model_copy(update={"curve": curve}))
        store.save(root, cells_of()[CELL], records, {})

    save(folders / "fast", 9.9)
    save(folders / "slow", 0.0)
    assert check_command(folders / "slow", folders / "fast").exit_code == 0
    for question in ("auc", "steps-to-success"):
        answer = check_command(folders / "slow", folders / "fast", "--on", question)
        assert answer.exit_code == 1, answer.output
        assert question in answer.output


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [("env_steps: 100", "env_steps: 200", "budget.env_steps 100 → 200"),
     ("episodes: 2", "episodes: 3", "evaluation.episodes 2 → 3"),
     ("s2: 1.0", "s2: 1.25", "scenario.params.s2 1.0 → 1.25")],
)  # fmt: skip
def test_other_games_budgets_or_evaluations_are_refused(before, after, said, folders):
    suite = parse_suite(SUITE.format(hidden=16).replace(before, after))
    (cell,) = [c for c in suite.cells() if (c.scenario.name, c.algorithm.name) == CELL]
    store.save(folders / "new", cell, [seed_result(i, 9.9) for i in range(20)], {})
    with pytest.raises(ResultsError, match="--ignore-configuration") as info:
        check.check(folders / "new", folders / "old", Settings())
    assert said in str(info.value)
    report = check.check(folders / "new", folders / "old", Settings(), ignore_configuration=True)
    assert report.verdicts[0].state == "pass"


def test_another_hyperparameter_is_said(folders):
    write(folders / "new", {CELL: GOOD, ("wide", "maddpg"): GOOD}, hidden=32)
    output = check_command(folders / "new", folders / "old").output
    assert "configuration differs: params.hidden 16 → 32" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--alpha", "0"), "--alpha: expected a number between 0 and 1, got 0"),
        (("--tolerance", "nan"), "--tolerance: expected a number of at least 0, got nan"),
        (("--on", "return,speed"), "--on: unknown question 'speed'; known: return, success"),
        (("--alpha", "1e-15"), "these seeds can never reach it"),
        # 1 / C(44, 22) = 4.75e-13 and 1 / C(46, 23) = 1.21e-13, against 1.5e-12 / 4 and / 2
        (("--alpha", "1.5e-12"), "is 7.3e-12 over 4 questions; train at least 23 seeds"),
        (
            ("--alpha", "1.5e-12", "--on", "return"),
            "is 7.3e-12 over 2 questions; train at least 22 seeds",
        ),
    ],
)
def test_wrong_options_are_messages(options, message, folders):
    answer = check_command(folders / "old", folders / "old", *options)
    assert isinstance(answer.exception, ResultsError)
    assert message in str(answer.exception)
