"""Equal-budget tuning: same trials for all, again the same when continued, on seeds of its own."""

import math
import re
import signal
import sys
from typing import Annotated

import pytest
import torch
import yaml
from pydantic import Field, model_validator

from rocompare import api
from rocompare.errors import SuiteError, TuneError
from rocompare.execute import search as searching
from rocompare.execute import tune, tuned
from rocompare.suite import registry
from rocompare.suite.load import load_suite, parse_suite
from tests.support.made_up import run

pytestmark = pytest.mark.slow

SUITE = """
name: aims
seeds: 3
budget: {env_steps: 4}
evaluation: {episodes: 2, points: 1}
algorithms:
  aim: {use: "tests.execute.test_tune:Aim", batch_size: 2, lr_end_factor: 0.02}
  other:
    {use: "tests.execute.test_tune:Aim", batch_size: 2, lr_end_factor: 0.02, random_fraction: 0.25}
scenarios:
  wide: {env: max_of_three, p: [-5, -5], q: [5, 5], s1: 6.0, s2: 8.0}
  narrow: {env: max_of_three, p: [-5, -5], q: [5, 5], s1: 6.0, s2: 4.0, height: 20.0}
"""
SEEDS = (1000, 1001)


class Aim(api.Algorithm):
    """Executes ``at``, and so has known returns; ``bad_above`` it diverges, or fails."""

    version = 1

    class Config(api.OffPolicyConfig):
        at: Annotated[float, api.Search(-1, 1, log=False)] = -0.5
        steps: Annotated[int, api.Search(1, 64)] = 8
        bad_above: float = 9.0
        bad: str = "one seed"
        fixed: float = Field(0.5, ge=0)

        @model_validator(mode="after")
        def _check(self):
            if self.bad == "refuse" and self.at > self.bad_above:
                raise ValueError("at is too far")
            return self

    def act(self, obs, mode, progress):
        return torch.full((*obs.shape[:3], self.spec.action_dim), self.config.at)

    def observe(self, transition):
        pass

    def update(self, progress):
        loss, c = torch.zeros(len(self.seeds)), self.config
        if c.at > c.bad_above:
            if c.bad == "error":
                raise ValueError("it went wrong on purpose")
            loss[:] = math.nan if c.bad == "all seeds" else 0
            loss[0] = math.nan
        return {"loss": loss}


def unit(at, s2, height):
    """The score of executing ``at``, by Max of Three's formula."""
    a = 10 * at
    return max(-0.8 * (a + 5) ** 2 / 3, height - (a - 5) ** 2 / s2) / height


def search(tmp_path, trials, text=SUITE, **options):
    pytest.importorskip("optuna")
    options = {"seeds": SEEDS, "jobs": 1} | options
    return tune.tune(parse_suite(text), tmp_path, trials, **options)


def said(tuning):
    """All of a search that the clock has no part in."""
    return [
        (t.algorithm, t.number, t.values, t.search, t.confirmation, t.error, t.returns)
        for trials in tuning.trials.values()
        for t in trials
    ]


def test_every_algorithm_has_the_same_trials_and_each_its_score(tmp_path):
    tuning = search(tmp_path, 12)
    assert {name: len(trials) for name, trials in tuning.trials.items()} == {"aim": 18, "other": 12}
    for name, trials in tuning.trials.items():
        assert [t.number for t in trials] == list(range(18 if name == "aim" else 12))
        first = trials[0].values
        assert first["at"] == -0.5 and first["steps"] == 8
        assert ("random_fraction" in first) == (name == "aim")  # the suite sets the other's
        assert first.get("random_fraction", 0.3) == 0.3
        for t in trials:
            at = t.values["at"]
            wide, narrow = unit(at, 4.0, 10.0), unit(at, 2.0, 20.0)
            assert [*t.search[0], *t.search[1]] == pytest.approx(
                [wide] * 2 + [narrow] * 2, abs=1e-4
            )
            assert tuning.merit(t.search).score == pytest.approx((wide + narrow) / 2, abs=1e-4)
            assert t.returns["wide"] == pytest.approx(10 * unit(at, 4.0, 10.0), abs=1e-3)
            assert (t.env_steps, t.updates) == (2 * 2 * 4, 2 * 2 * 8)  # two scenarios, two seeds
            assert float(f"{at:.4g}") == at
            assert isinstance(t.values["steps"], int) and 1 <= t.values["steps"] <= 64
        assert tuning.merit(tuning.best(name).search) == max(tuning.merit(t.search) for t in trials)
    assert said(tuning)[1:11] != said(tuning)[19:29]


def test_what_the_suite_sets_can_be_searched_too_from_its_values_on(tmp_path):
    given = SUITE.replace('Aim", batch_size: 2', 'Aim", at: 0.25, steps: 99, batch_size: 2', 1)
    tuning = search(tmp_path, 4, given, search_given=True)
    for name, at, random_fraction in (("aim", 0.25, 0.3), ("other", -0.5, 0.25)):
        first, *rest = tuning.trials[name]
        assert (first.values["at"], first.values["random_fraction"]) == (at, random_fraction)
        assert len({t.values["at"] for t in rest}) == len(rest) >= 3
        # 99 steps are outside the range that is searched, and so stay.
        assert ("steps" in first.values) == (name == "other")
    text = tuned.suite_text(tuning, "aims.yaml")
    assert "# which began with the values set there," in text.splitlines()
    made = parse_suite(text)
    assert made.algorithms[0].params["steps"] == 99
    assert made.algorithms[0].params["at"] == tuning.best("aim").values["at"]
    assert "which began" not in tuned.suite_text(search(tmp_path, 4, given), "aims.yaml")


def test_the_search_learns_from_its_scores(tmp_path):
    tuning = search(tmp_path, 30)
    scores = [tuning.merit(t.search).score for t in tuning.trials["aim"]]
    grid = [-1 + i / 500 for i in range(1001)]
    blind = sum(unit(at, 4.0, 10.0) + unit(at, 2.0, 20.0) for at in grid) / 2 / len(grid)
    assert sum(scores[20:]) / len(scores[20:]) > blind
    assert max(scores) > 0.9


def test_the_same_seed_makes_the_same_search_whatever_the_jobs(tmp_path):
    one = search(tmp_path / "1", 11)
    search(tmp_path / "2", 10, jobs=2)
    assert said(one) == said(search(tmp_path / "2", 11))
    assert said(one) != said(search(tmp_path / "3", 11, search_seed=1))


def test_a_search_continues_where_it_stopped(tmp_path):
    whole = search(tmp_path / "whole", 17)
    parts = tmp_path / "parts"
    search(parts, 7)
    calls = iter(range(10**6))

    def ctrl_c(statuses):
        if next(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    assert search(parts, 17, watch=ctrl_c).signal
    stamps = {p: p.stat().st_mtime_ns for p in parts.rglob("seed_*.json")}
    assert (11 + 7) * 2 * 2 <= len(stamps) < (26 + 17) * 2 * 2
    again = search(parts, 17)
    assert said(again) == said(whole)
    assert not again.signal
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    assert len(list(parts.rglob("seed_*.json"))) == (26 + 17) * 2 * 2


def test_the_winner_is_the_best_of_those_confirmed_on_fresh_seeds(tmp_path):
    tuning = search(tmp_path, 10, fresh_seeds=(2000, 2001, 2002))
    for name, trials in tuning.trials.items():
        confirmed = [t for t in trials if t.confirmation]
        order = sorted(trials, key=lambda t: (tuning.merit(t.search), -t.number), reverse=True)
        assert tuning.ranked(name) == [t.number for t in order]
        assert {t.number for t in confirmed} == {0} | {t.number for t in order[:5]}
        assert all([len(seeds) for seeds in t.confirmation] == [3, 3] for t in confirmed)
        merits = {t.number: tuning.merit(t.confirmation) for t in confirmed}
        assert merits[tuning.best(name).number] == max(merits.values())
        assert tuning.optimism(name) == pytest.approx(0, abs=1e-6)  # Aim returns what it returns
    head, *rows = tuned.table(tuning)
    assert head.split()[:6] == ["algorithm", "dimensions", "trials", "hours", "winner", "search"]
    assert rows[0].split()[:3] == ["aim", "3", "15"]
    assert {"confirmed_score", "confirmed_lower_bound"} <= set(tuned.trials_frame(tuning).columns)
    with pytest.raises(TuneError, match="overlap those of the confirmation"):
        search(tmp_path, 1, fresh_seeds=(1001,))


def test_the_default_wins_if_the_best_of_the_search_was_luck():
    """On fresh seeds trial 1 is less reliable than it looked, and by its 0.97 minus 0.84 so much
    too good was its score."""
    trials = [
        tune.Trial("a", 0, {}, search=((0.95, 0.95),), confirmation=((0.95, 0.95, 0.95),)),
        tune.Trial("a", 1, {}, search=((0.98, 0.98),), confirmation=((0.98, 0.98, 0.0),)),
        tune.Trial("a", 2, {}, search=None),
    ]
    suite = parse_suite(SUITE)
    tuning = tune.Tuning(
        suite, suite.scenarios[:1], SEEDS, (2000,), 0, {"a": 3}, False, {"a": trials}
    )
    assert tuning.ranked("a") == [1, 0]
    assert tuning.best("a") is trials[0]
    assert tuning.optimism("a") == pytest.approx(0)
    unconfirmed = [tune.replace(t, confirmation=None) for t in trials]
    tuning.trials["a"] = unconfirmed
    assert tuning.best("a") is unconfirmed[1]
    assert tuning.optimism("a") is None


def test_without_known_returns_the_mean_return_is_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "_has_score", lambda scenario: False)
    with pytest.raises(TuneError, match=r"'wide': its optimal .* is unknown.*--scenario wide"):
        search(tmp_path, 2)
    tuning = search(tmp_path, 2, scenarios=["wide"])
    for trial in tuning.trials["aim"]:
        expected = 10 * unit(trial.values["at"], 4.0, 10.0)
        assert trial.search[0] == pytest.approx([expected] * 2, abs=1e-3)
    assert "the share of seeds that did not diverge" in " ".join(tuned.explained(tuning))


def test_who_has_more_to_search_has_more_trials():
    spaces = {"a": dict.fromkeys("xyz"), "b": dict.fromkeys("xy"), "c": {}}
    assert searching.trials_of(spaces, 10) == {"a": 15, "b": 10, "c": 1}


@pytest.mark.parametrize(
    ("bad", "diverged", "error"),
    [
        ("one seed", 2, ""),
        ("all seeds", 4, "wide: every seed diverged; narrow: every seed diverged"),
        ("error", 0, "wide: ValueError: it went wrong on purpose; narrow: ValueError"),
        ("refuse", 0, "Value error, at is too far"),
    ],
)
def test_what_diverges_or_fails_is_data(tmp_path, bad, diverged, error):
    text = SUITE.replace("batch_size: 2", f"batch_size: 2, bad_above: 0, bad: {bad}", 1)
    tuning = search(tmp_path, 11, text)
    trials = tuning.trials["aim"]
    wrong = [t for t in trials if t.values["at"] > 0]
    assert wrong
    for t in wrong:
        at = t.values["at"]
        assert t.diverged == diverged
        assert t.error.startswith(error)
        if bad == "one seed":
            units = unit(at, 4.0, 10.0), unit(at, 2.0, 20.0)
            expected = sum((u + min(-1, u)) / 2 for u in units) / 2
            assert tuning.merit(t.search).score == pytest.approx(expected, abs=1e-4)
        else:
            assert t.search is None
    assert all(t.error == "" and t.search is not None for t in trials if t not in wrong)
    if bad != "one seed":  # half of its seeds may still succeed where no other's do
        assert tuning.best("aim") not in wrong
    assert tuning.trials["other"][3].error == ""


def test_the_tuned_suite_is_a_suite_with_the_best_values(tmp_path):
    text = SUITE.replace("scenarios:", "scenarios:") + "reference: paper_table1\n"
    tuning = search(tmp_path, 11, text)
    written = tuned.suite_text(tuning, "aims.yaml")
    made, suite = parse_suite(written), parse_suite(text)
    assert made.name == "aims_tuned"
    for part in ("seeds", "budget", "evaluation", "scenarios", "reference"):
        assert getattr(made, part) == getattr(suite, part)
    for before, after in zip(suite.algorithms, made.algorithms, strict=True):
        assert after.name == f"{before.name}_tuned"  # beside the untuned in one table
        assert after.use == before.use
        assert after.params == before.params | tuning.best(before.name).values
    head = [line for line in written.splitlines() if line.startswith("#")]
    assert any("on the tuning seeds 1000..1001, none of which" in line for line in head)
    assert any(re.match(r"# aim +3 +17 +[\de.-]+ +\d+ +\d+% ", line) for line in head)
    assert made.algorithms[0].search == tuning.cost("aim")
    assert (tuning.cost("aim").trials, tuning.cost("aim").dimensions) == (17, 3)
    seconds = sum(trial.seconds for trial in tuning.trials["aim"])
    assert tuning.cost("aim").hours == pytest.approx(seconds / 3600, abs=1e-4)
    assert (
        made.cells()[0].key
        == made.model_copy(
            update={"algorithms": (made.algorithms[0].model_copy(update={"search": None}),)}
        )
        .cells()[0]
        .key
    )
    frame = tuned.trials_frame(tuning)
    assert len(frame) == 17 + 11
    assert frame["best"].sum() == 2
    assert frame["return:wide"][0] == pytest.approx(0.0, abs=1e-6)  # -0.5 is the safe hill's top


def test_names_that_yaml_would_read_otherwise_are_quoted(tmp_path):
    text = SUITE.replace("  narrow:", '  "1.5":').replace("  wide:", '  "null":')
    text = text.replace("  other:", '  "1e3":')
    made = parse_suite(tuned.suite_text(search(tmp_path, 1, text), "aims.yaml"))
    assert {s.name for s in made.scenarios} == {"1.5", "null"}
    assert {a.name for a in made.algorithms} == {"aim_tuned", "1e3_tuned"}


def test_tuning_seeds_are_seeds(tmp_path):
    with pytest.raises(TuneError, match="from 0 to 2"):
        search(tmp_path, 1, seeds=(2**63 - 1, 2**63))


def test_trials_may_run_on_some_scenarios_and_the_tuned_suite_has_all(tmp_path):
    tuning = search(tmp_path, 3, scenarios=["narrow"])
    first = tuning.trials["aim"][0]
    assert first.returns.keys() == {"narrow"}
    assert tuning.merit(first.search).score == pytest.approx(unit(-0.5, 2.0, 20.0), abs=1e-6)
    written = tuned.suite_text(tuning, "aims.yaml")
    assert "# on narrow alone," in written.splitlines()
    assert parse_suite(written).scenarios == parse_suite(SUITE).scenarios
    assert "return:wide" not in tuned.trials_frame(tuning)
    with pytest.raises(SuiteError, match=r"--scenario: suite 'aims' has no 'narow'.*narrow"):
        search(tmp_path, 3, scenarios=["narow"])


def test_where_nothing_is_searched_there_is_one_trial(tmp_path):
    text = SUITE.replace("random_fraction: 0.25", "random_fraction: 0.25, at: 0.5, steps: 3")
    tuning = search(tmp_path, 3, text)
    assert {name: len(trials) for name, trials in tuning.trials.items()} == {"aim": 3, "other": 1}
    assert tuning.merit(tuning.trials["other"][0].search).score == pytest.approx(1.0)
    assert parse_suite(tuned.suite_text(tuning, "aims.yaml"))


def test_tuning_seeds_must_be_others_than_the_reported_ones():
    suite = parse_suite(SUITE.replace("seeds: 3", "seeds: [5, 1001, 2000]"))
    with pytest.raises(TuneError, match=r"1000\.\.1009 overlap .*'aims' reports \(1001\)"):
        tune.refuse_overlap(suite, tuple(range(1000, 1010)))
    tune.refuse_overlap(suite, (1000, 1002))


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    (tmp_path / "aims.yaml").write_text(SUITE)
    answer = run("tune", tmp_path / "aims.yaml", "--trials", 3, "--allow-local-code")
    assert isinstance(answer.exception, TuneError)
    assert "pip install 'rocompare[tune]'" in str(answer.exception)


@pytest.mark.parametrize("name", registry.ALGORITHMS)
def test_every_algorithm_declares_a_space_around_its_defaults(name):
    suite = parse_suite(SUITE)
    entry = suite.algorithms[0].model_copy(
        update={
            "name": name,
            "use": registry.target("algorithm", name),
            "params": registry.load("algorithm", name).Config().model_dump(),
            "given": (),
        }
    )
    space = searching.space_of(entry)
    values = "q" if "q_lr" in entry.params else "critic"
    assert {"lr_end_factor", f"{values}_lr"} <= set(space)
    # Like for like among those that can be compared; who has more is given more trials.
    low, high = (10, 14) if {"continuous"} == set(entry.load().actions) else (7, 10)
    assert low <= len(space) <= high
    if "buffer_size" in entry.params:
        assert {"random_fraction", "batch_size", f"{values}_output_scale"} <= set(space)
    if "alpha_end" in space:
        assert space["alpha_end"].at.low == 0.001
        assert "alpha_end_fraction" in space
    if name in ("svnr", "masql", "pr2_soft", "rommeo"):
        assert "noise_anneal_start_fraction" in space


@pytest.mark.parametrize(
    ("low", "high", "log", "message"),
    [
        (0.6, 0.7, True, "'at' is searched from 0.6 to 0.7, a range that must hold its default"),
        (-1, 1, True, "on a logarithmic scale; begin above 0"),
        (-0.5, -0.5, False, "a range that must hold its default, which is -0.5"),
    ],
)
def test_a_space_that_is_none_is_refused(low, high, log, message, monkeypatch):
    info = Aim.Config.model_fields["at"]
    monkeypatch.setattr(info, "metadata", [api.Search(low, high, log)])
    with pytest.raises(TuneError, match=message):
        searching.space_of(parse_suite(SUITE).algorithms[0])


def test_only_numbers_can_be_searched(monkeypatch):
    info = Aim.Config.model_fields["bad"]
    monkeypatch.setattr(info, "metadata", [api.Search(1, 2)])
    with pytest.raises(TuneError, match="'bad' is searched .* only an int or a float can be"):
        searching.space_of(parse_suite(SUITE).algorithms[0])


def test_the_command(tmp_path):
    pytest.importorskip("optuna")
    file, trials = tmp_path / "aims.yaml", tmp_path / "trials"
    file.write_text(SUITE)
    command = (
        "tune",
        file,
        "--trials",
        3,
        "--seeds",
        2,
        "--results",
        trials,
        "--jobs",
        1,
        "--allow-local-code",
    )
    command = *command, "--confirm", 2
    answer = run(*command)
    assert answer.exit_code == 0, answer.output
    assert "8/8 trials; best: aim " in answer.output
    table = (trials / "aims" / "trials.csv").read_text().splitlines()
    assert len(table) == 1 + 5 + 3
    assert table[0].startswith(
        "algorithm,trial,best,success_rate,lower_bound,score,confirmed_success_rate,"
        "confirmed_lower_bound,confirmed_score,return:wide,return:narrow,diverged,error"
    )
    tuned = load_suite(tmp_path / "aims_tuned.yaml", True)
    first = (tmp_path / "aims_tuned.yaml").read_text()
    assert run(*command).exit_code == 0  # it may write its own file again
    assert (tmp_path / "aims_tuned.yaml").read_text() == first
    answer = run(
        "run",
        tmp_path / "aims_tuned.yaml",
        "--results",
        tmp_path / "r",
        "--jobs",
        1,
        "--allow-local-code",
    )
    assert "12 seeds trained" in answer.output
    config = next((tmp_path / "r").rglob("aim_tuned/*/config.yaml")).read_text()
    assert yaml.safe_load(config)["search"]["trials"] == 5
    assert tuned.seeds == (0, 1, 2)
    again = run(*command, "--out", file)
    assert "not of `rocompare tune`" in str(again.exception)
    assert file.read_text() == SUITE
    overlap = run(*command, "--first-seed", 2)
    assert "--first-seed" in str(overlap.exception)


def test_a_name_too_long_for_its_tuned_one_is_refused_before_anything_trains(tmp_path):
    pytest.importorskip("optuna")
    file, name = tmp_path / "aims.yaml", "a" * 59
    file.write_text(SUITE.replace("aim: {", f"{name}: {{"))
    answer = run(
        "tune", file, "--trials", 2, "--results", tmp_path / "t", "--jobs", 1, "--allow-local-code"
    )
    assert isinstance(answer.exception, TuneError)
    assert f"'{name}' has 59 letters; the tuned suite adds '_tuned'" in str(answer.exception)
    assert not (tmp_path / "t").exists()


def test_the_command_when_every_trial_fails(tmp_path):
    pytest.importorskip("optuna")
    file = tmp_path / "aims.yaml"
    file.write_text(SUITE.replace("batch_size: 2", "batch_size: 2, bad_above: -2, bad: error", 1))
    answer = run(
        "tune", file, "--trials", 2, "--results", tmp_path / "t", "--jobs", 1, "--allow-local-code"
    )
    assert answer.exit_code == 1
    assert "every trial of 'aim' failed; the first: wide: ValueError: it went" in answer.output
    assert not (tmp_path / "aims_tuned.yaml").exists()
