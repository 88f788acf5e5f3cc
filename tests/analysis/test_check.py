"""The regression gate: what it lets pass, what it catches, and how often it errs."""

import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from rocompare.analysis import check
from rocompare.analysis.compare import Loaded, Sample
from rocompare.errors import ResultsError
from tests.support.made_up import run, write

NARROW, WIDE = ("narrow", "maddpg"), ("wide", "maddpg")
GOOD = [9.2, 9.4, 9.5, 9.6, 9.8, 9.9]
BAD = [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6]
SCALES = {"narrow": (0.0, 10.0), "wide": (0.0, 10.0)}


def sample(returns):
    finite = [x for x in returns if x is not None]
    return Sample(tuple(finite), sum(x > 5 for x in finite), len(returns))


def judge(new, reference, tolerance=0.1, alpha=0.05):
    """The gate on ``{(scenario, algorithm): returns}``."""
    sides = [
        Loaded({name: sample(x) for name, x in side.items()}, {}, {}) for side in (new, reference)
    ]
    scales = {scenario: (0.0, 10.0) for scenario, _ in reference}
    return check.judge(*sides, scales, tolerance, alpha)


def states(report):
    return {(v.scenario, v.algorithm): v.state for v in report.verdicts}


def test_the_same_results_pass():
    report = judge({NARROW: GOOD, WIDE: BAD}, {NARROW: GOOD, WIDE: BAD}, tolerance=0.0)
    assert states(report) == {NARROW: "pass", WIDE: "pass"}
    assert report.exit_code == 0


def test_a_harmless_refactor_passes():
    random = np.random.default_rng(0)
    new = [x + random.normal(0, 0.05) for x in GOOD]
    assert judge({NARROW: new}, {NARROW: GOOD}).exit_code == 0


def test_better_results_pass():
    assert judge({NARROW: GOOD}, {NARROW: BAD}).exit_code == 0


def test_a_lost_optimum_is_a_regression():
    report = judge({NARROW: BAD, WIDE: GOOD}, {NARROW: GOOD, WIDE: GOOD})
    assert states(report) == {NARROW: "regressed", WIDE: "pass"}
    assert report.exit_code == 1
    verdict = report.verdicts[0]
    assert verdict.p_return == verdict.p_success == pytest.approx(2 * 2 / 924)
    assert verdict.return_fall == pytest.approx((np.mean(GOOD) - np.mean(BAD)) / 10)
    assert verdict.success_fall == 1.0
    assert "the mean return fell by 0.99, p = 0.0043" in verdict.reasons


def test_returns_alone_can_regress():
    new = [x - 3.5 for x in GOOD]  # still in the optimum's basin
    verdict = judge({NARROW: new}, {NARROW: GOOD}).verdicts[0]
    assert verdict.state == "regressed"
    assert verdict.success_fall == 0.0


def test_rates_alone_can_regress():
    # The mean hides it: the reference had one seed far off.
    new, reference = [4.9] * 8, [*[5.1] * 7, -100.0]
    verdict = judge({NARROW: new}, {NARROW: reference}).verdicts[0]
    assert verdict.return_fall < 0
    assert verdict.state == "regressed"
    assert verdict.reasons[0].startswith("the rate of seeds in the optimum's basin fell by 0.88")


def test_a_significant_fall_within_the_tolerance_passes():
    new = [x - 0.9 for x in [9.9] * 6]
    report = judge({NARROW: new}, {NARROW: [9.9, 9.91, 9.92, 9.93, 9.94, 9.95]}, tolerance=0.1)
    assert report.verdicts[0].p_return < 0.05
    assert report.exit_code == 0
    assert judge({NARROW: [8.0] * 6}, {NARROW: [9.0] * 6}, tolerance=0.1).exit_code == 0
    assert judge({NARROW: [8.0] * 6}, {NARROW: [9.0] * 6}, tolerance=0.05).exit_code == 1


def test_a_fall_that_is_not_significant_is_inconclusive():
    report = judge({NARROW: [*GOOD[:4], 0.0, 0.1]}, {NARROW: GOOD})
    assert states(report) == {NARROW: "inconclusive"}
    assert report.exit_code == 3
    assert "the mean return fell by 0.33, which is not significant" in report.verdicts[0].reasons


def test_a_regression_outranks_what_is_inconclusive():
    report = judge({NARROW: BAD}, {NARROW: GOOD, WIDE: GOOD})
    assert states(report) == {NARROW: "regressed", WIDE: "inconclusive"}
    assert report.exit_code == 1


def test_diverged_seeds_never_pass():
    # Nothing was in the optimum before, and the seeds that are left return the same.
    report = judge({NARROW: [*BAD[:5], None]}, {NARROW: BAD})
    assert states(report) == {NARROW: "inconclusive"}
    report = judge({NARROW: [*[0.0] * 29, None]}, {NARROW: [0.0] * 30})
    assert report.verdicts[0].reasons == ["1 of 30 seeds diverged (0 of 30 in REFERENCE)"]
    report = judge({NARROW: [None] * 6}, {NARROW: BAD})
    assert states(report) == {NARROW: "regressed"}
    assert "the rate of seeds that diverge rose by 1.00" in report.verdicts[0].reasons[0]
    assert judge({NARROW: [None] * 6}, {NARROW: [None] * 6}).exit_code == 3
    assert judge({NARROW: BAD}, {NARROW: [*BAD, None]}).exit_code == 0


def test_an_alpha_out_of_reach_is_refused():
    with pytest.raises(ResultsError) as error:
        judge({NARROW: BAD[:3]}, {NARROW: GOOD[:3]})
    assert "--alpha 0.05: these seeds can never reach it" in str(error.value)
    assert "the smallest two-sided p of 3 against 3 seeds is 0.1" in str(error.value)
    assert "train at least 4 seeds" in str(error.value)
    assert judge({NARROW: BAD[:3]}, {NARROW: GOOD[:3]}, alpha=0.1).exit_code == 1


def test_holm_counts_in_what_can_be_reached():
    names = [(f"s{i}", "a") for i in range(7)]
    with pytest.raises(ResultsError, match="over 7 cells is 0.056"):
        judge(dict.fromkeys(names, GOOD[:5]), dict.fromkeys(names, GOOD[:5]))
    new = dict.fromkeys(names[:6], GOOD[:5])
    assert judge(new, new).exit_code == 0
    new[names[0]] = BAD[:5]
    assert states(judge(new, dict.fromkeys(names[:6], GOOD[:5])))[names[0]] == "regressed"


def test_a_cell_with_too_few_seeds_is_inconclusive_and_costs_the_others_nothing():
    report = judge({NARROW: GOOD[:2], WIDE: BAD}, {NARROW: GOOD, WIDE: GOOD}, alpha=0.005)
    assert states(report) == {NARROW: "inconclusive", WIDE: "regressed"}
    assert report.family == 1
    assert "too few seeds: the smallest p of 2 against 6 is 0.071" in report.verdicts[0].reasons[0]


def test_what_these_seeds_can_find():
    verdict = judge({NARROW: [9.0] * 10}, {NARROW: [9.0] * 10}).verdicts[0]
    assert verdict.detectable_fall == 0.1  # below the tolerance nothing counts
    assert verdict.detectable_successes == 5
    wide_tolerance = judge({NARROW: [9.0] * 10}, {NARROW: [9.0] * 10}, tolerance=0.7).verdicts[0]
    assert wide_tolerance.detectable_successes == 2
    at_the_edge = [9.0] * 5 + [0.0] * 5
    assert judge({NARROW: at_the_edge}, {NARROW: [9.0] * 10}).verdicts[0].state == "regressed"


def test_two_hundred_suites_without_a_change_raise_few_alarms():
    """Same distribution on both sides, new seeds: two peaks, and now and then a diverged seed.

    With no tolerance, so that significance alone holds the alarms back.
    """
    random = np.random.default_rng(1)
    shares = {(f"s{i}", "a"): p for i, p in enumerate((0.0, 0.3, 0.5, 0.7, 0.95, 1.0))}

    def draw(p):
        values = np.where(random.random(8) < p, 10, 0) - random.exponential(0.5, 8)
        return [
            None if lost else x for x, lost in zip(values, random.random(8) < 0.05, strict=True)
        ]

    alpha, alarms = 0.05, 0
    for _ in range(200):
        new, reference = ({name: draw(p) for name, p in shares.items()} for _ in range(2))
        alarms += judge(new, reference, tolerance=0.0, alpha=alpha).state == "regressed"
    assert alarms <= alpha * 200


def test_a_loss_of_half_the_seeds_is_mostly_caught():
    random = np.random.default_rng(2)

    def draw(p):
        return list(np.where(random.random(10) < p, 10, 0) - random.exponential(0.5, 10))

    caught = [judge({NARROW: draw(0.3)}, {NARROW: draw(0.95)}).state for _ in range(40)]
    assert caught.count("regressed") >= 30


def test_the_command_and_its_exit_codes(tmp_path):
    reference = write(tmp_path / "reference", {NARROW: GOOD, WIDE: GOOD})
    worse = write(tmp_path / "worse", {NARROW: GOOD, WIDE: BAD})
    doubtful = write(tmp_path / "doubtful", {NARROW: GOOD, WIDE: [*GOOD[:5], 0.0]})
    assert run("check", reference, "--against", reference).exit_code == 0
    done = run("check", worse, "--against", reference)
    assert done.exit_code == 1
    assert "regressed     wide · maddpg\n" in done.stdout
    assert "these seeds can find: a return lower by 0.10 in four cases of five" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("regressed: 1 passed, 1 regressed, 0 incon")
    assert run("check", doubtful, "--against", reference).exit_code == 3
    assert done.stdout == run("check", worse, "--against", reference).stdout
    assert run("check", worse, "--against", reference, "--tolerance", 1.1).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "0"], "--alpha: expected a number between 0 and 1, got 0.0"),
        (["--alpha", "nan"], "--alpha: expected a number between 0 and 1, got nan"),
        (["--tolerance", "-1"], "--tolerance: expected a number of at least 0"),
        (["--tolerance", "inf"], "--tolerance: expected a number of at least 0"),
        (["--alpha", "1e-9"], "these seeds can never reach it"),
    ],
)
def test_errors_of_the_command(tmp_path, options, message):
    path = write(tmp_path, {NARROW: GOOD})
    done = run("check", path, "--against", path, *options)
    assert isinstance(done.exception, ResultsError)  # which main() turns into exit code 2
    assert message in str(done.exception)


def test_failed_and_missing_cells_are_reported(tmp_path):
    other = ("narrow", "other")
    reference = write(tmp_path / "reference", {NARROW: GOOD, WIDE: GOOD, other: GOOD})
    new = write(tmp_path / "new", {NARROW: RuntimeError("out of memory"), other: GOOD})
    done = run("check", new, "--against", reference)
    assert done.exit_code == 3
    assert "inconclusive  narrow · maddpg\n" in done.stdout
    assert "failed in NEW: out of memory" in done.stdout
    assert "missing in NEW" in done.stdout
    # What is only in NEW is said, and judged by nothing.
    swapped = run("check", reference, "--against", new)
    assert swapped.exit_code == 0
    assert "not in REFERENCE, and so not checked: maddpg on wide" in swapped.stdout
    assert "failed in REFERENCE: maddpg on narrow: out of memory" in swapped.stdout


def test_a_folder_in_which_all_failed(tmp_path):
    reference = write(tmp_path / "reference", {NARROW: GOOD})
    new = write(tmp_path / "new", {NARROW: RuntimeError("no \x1b[1m memory")})
    done = run("check", new, "--against", reference)
    assert done.exit_code == 3
    assert "failed in NEW: no ?[1m memory" in done.stdout
    with pytest.raises(ResultsError, match="every cell failed"):
        check.check(reference, new)
    with pytest.raises(ResultsError, match="no such folder"):
        check.check(tmp_path / "absent", reference)


def test_a_cell_whose_last_attempt_failed_does_not_pass(tmp_path):
    reference = write(tmp_path / "reference", {NARROW: GOOD})
    new = write(tmp_path / "new", {NARROW: GOOD})
    write(new, {NARROW: RuntimeError("out of memory")})
    assert run("check", new, "--against", reference).exit_code == 3
    # A failure of another configuration is none of this one's.
    write(reference, {NARROW: RuntimeError("old bug")}, hidden=99)
    done = run("check", reference, "--against", reference)
    assert done.exit_code == 0
    assert "in NEW: failed with another configuration" in done.stdout


def test_cells_are_matched_by_name_and_differing_configurations_are_said(tmp_path):
    reference = write(tmp_path / "reference", {NARROW: GOOD})
    new = write(tmp_path / "new", {NARROW: GOOD}, hidden=32)
    (new / "made_up").rename(new / "another_suite")
    done = run("check", new, "--against", reference)
    assert done.exit_code == 0
    assert "configuration differs: algorithm.params.hidden 16 → 32" in done.stdout


def test_json(tmp_path):
    reference = write(tmp_path / "reference", {NARROW: GOOD, WIDE: GOOD})
    new = write(tmp_path / "new", {NARROW: BAD})
    data = json.loads(run("check", new, "--against", reference, "--format", "json").stdout)
    assert data["state"] == "regressed"
    states = {(c["scenario"], c["algorithm"]): c["state"] for c in data["cells"]}
    assert states == {NARROW: "regressed", WIDE: "inconclusive"}
    first, second = data["cells"]
    assert first["new"]["in_optimum"] == 0
    assert first["p_return"] == pytest.approx(2 / 924)
    assert second["new"] is None
    assert second["return_fall"] is None


def test_junit(tmp_path):
    reference = write(tmp_path / "reference", {NARROW: GOOD, WIDE: GOOD, ("wide", "other"): GOOD})
    new = write(
        tmp_path / "new",
        {NARROW: BAD, WIDE: [*GOOD[:5], 0.0], ("wide", "other"): RuntimeError("a < b\x00")},
    )
    done = run("check", new, "--against", reference, "--format", "junit")
    assert done.exit_code == 1
    suite = ElementTree.fromstring(done.stdout.encode())
    assert (suite.tag, suite.get("tests")) == ("testsuite", "3")
    assert [suite.get(k) for k in ("failures", "errors", "skipped")] == ["1", "1", "1"]
    kinds = {(c.get("classname"), c.get("name")): [e.tag for e in c] for c in suite}
    assert kinds[NARROW] == ["failure", "system-out"]
    assert kinds[WIDE] == ["skipped", "system-out"]
    assert kinds["wide", "other"] == ["error"]


def test_numbers_stay_finite_in_every_format():
    report = judge({NARROW: [None] * 6, WIDE: [1.0] * 6}, {NARROW: GOOD, WIDE: [None] * 6})
    assert math.isnan(report.verdicts[0].return_fall)
    for form in ("text", "json", "junit"):
        assert check.render(report, form)
    text = check.render(report, "text")
    assert "return   9.57 → none (n = 6, 0)\n" in text
    assert "return   none → 1.00 (n = 0, 6)\n" in text
