"""What the gate says of samples: what it lets pass, what it catches, and how often it errs."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rocompare.analysis import judge as gate
from rocompare.analysis.judge import Cell, Seeds, Settings, judge
from tests.simulate_check import CHANGES, NOTHING, job, outcome, suites

GOOD = [9.2, 9.4, 9.5, 9.6, 9.8, 9.9]
BAD = [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6]


def seeds(returns, **more):
    """Of a game with the safe return 0 and the optimal one 10; None is a diverged seed."""
    x = np.array([r for r in returns if r is not None], dtype=float)
    return Seeds(x, (x >= 9).astype(float), len(returns), **more)


def judged(new, reference, scale=10.0, **settings):
    """The verdict on one cell."""
    cell = Cell(seeds(new), seeds(reference), scale)
    return judge({("s", "a"): cell}, Settings(**settings)).verdicts["s", "a"]


def answers(verdict):
    return {answer.question: answer for answer in verdict.answers}


def test_the_same_results_pass():
    verdict = judged(GOOD, GOOD, tolerance=0.0)
    assert verdict.state == "pass"
    assert [a.question for a in verdict.answers] == [
        "return",
        "success",
        "return of successes",
        "diverged",
    ]
    assert all(math.isnan(a.p) and not a.beyond for a in verdict.answers)


def test_better_results_pass():
    assert judged(GOOD, BAD).state == "pass"


def test_a_lost_optimum_is_a_regression():
    verdict = judged(BAD, GOOD)
    found = answers(verdict)
    assert verdict.state == "regressed"
    # One division of 924. Three questions can give as little: successful seeds scatter enough.
    assert found["return"].p == found["success"].p == pytest.approx(1 / 924)
    assert found["return"].adjusted == pytest.approx(3 / 924)
    assert found["return"].fall == pytest.approx(np.mean(GOOD) - np.mean(BAD))
    assert (found["return"].reference, found["return"].limit) == (pytest.approx(np.mean(GOOD)), 1.0)
    assert (found["success"].reference, found["success"].new, found["success"].fall) == (1, 0, 1)
    assert math.isnan(found["return of successes"].new)


def test_a_significant_fall_within_the_tolerance_passes():
    verdict = judged([9.0] * 6, [9.9, 9.91, 9.92, 9.93, 9.94, 9.95], on=("return",))
    assert verdict.state == "pass"
    assert judged([8.0] * 6, [9.0] * 6, on=("return",)).state == "pass"  # 1.0 is the tolerance
    assert judged([8.0] * 6, [9.0] * 6, on=("return",), tolerance=0.05).state == "regressed"


def test_all_still_get_there_but_return_less():
    verdict = judged(
        [x - 0.5 for x in [9.9, 9.92, 9.95, 9.96, 9.98, 9.99]], [9.9, 9.91, 9.93, 9.94, 9.97, 9.99]
    )
    found = answers(verdict)
    assert verdict.state == "regressed"
    assert not found["return"].beyond
    assert found["success"].fall == 0
    assert found["return of successes"].significant
    assert found["return of successes"].limit == 0.25  # a quarter of a tolerance of 0.1 of 10


def test_rates_alone_can_regress():
    # The mean hides it: the reference had one seed far off.
    verdict = judged([8.9] * 8, [*[9.1] * 7, -100.0])
    assert answers(verdict)["return"].fall < 0
    assert verdict.state == "regressed"
    assert answers(verdict)["success"].fall == pytest.approx(7 / 8)


def test_diverged_seeds_are_failures_and_counted():
    verdict = judged([None] * 6, BAD)
    assert verdict.state == "regressed"
    found = answers(verdict)
    assert (found["diverged"].reference, found["diverged"].new, found["diverged"].fall) == (0, 1, 1)
    assert found["diverged"].p == pytest.approx(1 / 924)
    assert math.isnan(found["return"].fall)
    assert answers(judged([*GOOD, None], GOOD))["success"].new == pytest.approx(6 / 7)
    assert judged([*GOOD, None, None], [*GOOD, None, None]).state == "pass"


def test_a_fall_that_these_seeds_could_hardly_show_is_unguarded():
    # 10 of 20 against 7 of 20 happens by chance every fifth time.
    half = [9.5 + i / 100 for i in range(10)] + [i / 100 for i in range(10)]
    worse = half[:7] + [0.2] * 3 + half[10:]
    verdict = judged(worse, half)
    assert verdict.state == "unguarded"
    assert answers(verdict)["success"].beyond
    assert verdict.lost_seed_power < 0.2


def test_a_fall_that_these_seeds_should_have_shown_is_inconclusive():
    # Sixty seeds find one lost in five nearly always; 53 of 60 is beyond the tolerance.
    random = np.random.default_rng(0)
    good = 10 - random.exponential(0.1, 60)
    worse = np.concatenate([10 - random.exponential(0.1, 53), np.zeros(7)])
    verdict = judged(list(worse), list(good), alpha=0.001)
    assert verdict.lost_seed_power > 0.8
    assert verdict.state == "inconclusive"
    assert judged(list(worse), list(good)).state == "regressed"


def test_a_regression_outranks_what_is_inconclusive_in_a_cell():
    powers = {"return": 0.9, "success": 0.9}
    verdict = judged(BAD, GOOD)
    doubtful = [
        replace(a, power=powers.get(a.question, 0.0), significant=False) for a in verdict.answers
    ]
    assert gate._state(doubtful) == "inconclusive"
    assert gate._state([*doubtful[:-1], replace(doubtful[-1], significant=True)]) == "regressed"


def test_slower_learning_and_scatter_are_questions_of_their_own():
    x = np.array(GOOD)
    old = Seeds(x, np.ones(6), 6, auc=x - 2, steps=np.linspace(0.2, 0.3, 6))
    new = Seeds(x, np.ones(6), 6, auc=x - 6, steps=np.linspace(0.6, 0.7, 6))
    cells = {("s", "a"): Cell(new, old, 10.0)}
    assert judge(cells, Settings()).verdicts["s", "a"].state == "pass"
    verdict = judge(cells, Settings(on=("auc", "steps-to-success"))).verdicts["s", "a"]
    found = answers(verdict)
    assert set(found) == {"auc", "steps-to-success", "diverged"}
    assert found["auc"].significant
    assert found["steps-to-success"].significant
    assert (found["steps-to-success"].reference, found["steps-to-success"].new) == pytest.approx(
        (0.25, 0.65)
    )
    assert found["steps-to-success"].fall == pytest.approx(0.4)
    random = np.random.default_rng(1)
    calm, wild = 5 + random.normal(0, 0.1, 20), 5 + random.normal(0, 3, 20)
    assert judged(list(wild), list(calm), on=("std",)).state == "regressed"
    assert judged(list(calm), list(wild), on=("std",)).state == "pass"
    assert answers(judged(list(wild), list(calm), on=("std",)))["std"].new == pytest.approx(
        wild.std(ddof=1)
    )


def test_games_whose_returns_are_unknown():
    """No scores, no successes; the tolerance is a share of the reference's mean return."""
    new, old = (
        replace(seeds(x), success=None)
        for x in ([60.0, 61.0, 62.0, 63.0], [100.0, 101.0, 102.0, 103.0])
    )
    verdict = judge({("s", "a"): Cell(new, old)}, Settings()).verdicts["s", "a"]
    assert [a.question for a in verdict.answers] == ["return", "diverged"]
    assert answers(verdict)["return"].limit == pytest.approx(10.15)
    assert verdict.state == "regressed"
    assert math.isnan(verdict.lost_seed_power)


def test_alike_cells_cost_the_others_nothing():
    """Twenty cells with every seed at the optimum have no question that any division of their
    seeds could answer by worse, and so the changed one is judged as if it were alone."""
    random = np.random.default_rng(2)
    cells = {
        ("s", str(i)): Cell(
            seeds(10 - random.exponential(0.02, 20)), seeds(10 - random.exponential(0.02, 20)), 10.0
        )
        for i in range(20)
    }
    lost = [*(10 - random.exponential(0.02, 15)), *[0.0] * 5]
    changed = {("s", "changed"): Cell(seeds(lost), seeds(10 - random.exponential(0.02, 20)), 10.0)}
    alone, among = judge(changed, Settings()), judge({**changed, **cells}, Settings())
    assert among.tested == alone.tested == 2
    assert among.verdicts["s", "changed"] == alone.verdicts["s", "changed"]
    assert among.verdicts["s", "changed"].state == "regressed"


def test_seeds_that_can_never_reach_alpha():
    cells = {("s", "a"): Cell(seeds(BAD[:3]), seeds(GOOD[:3]), 10.0)}
    assert not judge(cells, Settings(alpha=0.1)).reachable  # three questions at 1/20 each
    assert judge(cells, Settings(alpha=0.15)).reachable
    assert judge(cells, Settings(alpha=0.15)).verdicts["s", "a"].state == "regressed"


@pytest.mark.parametrize(("cells", "count"), [(1, 200), (6, 80), (21, 40)])
@pytest.mark.slow
def test_alpha_holds_where_nothing_changed(cells, count):
    """`python tests/simulate_check.py` prints more of it. Mixed success rates, from 0 to 1."""
    states = Counter(outcome(judge(s, Settings())) for s in suites(count, cells, 20, NOTHING))
    assert states["regressed"] <= 0.05 * count + 2 * math.sqrt(0.05 * 0.95 * count)
    assert states["inconclusive"] <= 0.05 * count


@pytest.mark.slow
def test_power_is_what_is_claimed():
    lost = next(change for change in CHANGES if change.lost == 0.2)
    found, claimed = [], []
    for suite in suites(120, 1, 20, lost):
        verdict = next(iter(judge(suite, Settings()).verdicts.values()))
        found.append(verdict.state == "regressed")
        claimed.append(verdict.lost_seed_power)
    assert np.mean(found) == pytest.approx(np.mean(claimed), abs=3 * math.sqrt(0.25 / 120))
    assert np.mean(claimed) > 0.6


@pytest.mark.parametrize("change", CHANGES[1:3], ids=lambda change: change.name)
def test_falls_of_all_seeds_are_found(change):
    for suite in suites(20, 6, 20, change):
        assert next(iter(judge(suite, Settings()).verdicts.values())).state == "regressed"


@pytest.mark.slow
def test_the_readmes_job_passes_on_an_unchanged_tree_and_finds_a_broken_algorithm():
    alike, broken = job(60, 24, 0.01), job(20, 24, 0.01, lost=0.6)
    assert alike["regressed"] <= 1
    assert alike["inconclusive"] <= 2
    assert broken["regressed"] >= 0.9 * 20
