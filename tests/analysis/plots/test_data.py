"""What pictures are made of: one scan of the results, in one order, with what is missing said."""

import builtins
import os

import numpy as np
import pytest
import yaml

from rocompare.analysis import plots
from rocompare.analysis.plots import sweeps
from rocompare.analysis.plots.data import Data, in_order
from rocompare.errors import ResultsError
from rocompare.results import store
from rocompare.results.reader import Results
from tests.support.drawn import cell_of, save


def load(root, *arguments):
    return Data(Results(root, details=True), *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """'mine' has no seeds on the second scenario, where maddpg diverged once and pr2 failed."""
    root = tmp_path_factory.mktemp("results")
    save(root, "svnr", "three", [9.9, 9.8, 9.7])
    save(root, "maddpg", "three", [-0.4, 9.0, -50.0])
    save(root, "mine", "three", [-0.4, -0.2])
    save(root, "svnr", "two", [9.9, 9.8, 9.7])
    save(root, "maddpg", "two", [9.5, None, -0.3])
    store.save_failure(root, cell_of("pr2", "two"), "RuntimeError: <b>boom</b>", "Traceback")
    return root


def test_every_file_is_opened_at_most_once(folder, monkeypatch):
    opened = []
    real = builtins.open

    def counted(file, *arguments, **options):
        if not isinstance(file, int) and str(folder) in os.fspath(file):
            opened.append(os.fspath(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr("io.open", counted)
    pictures = list(plots.all_plots(load(folder)))
    assert len(pictures) > 8
    assert len(opened) == len(set(opened))
    # Five configurations, 14 records and one failure.
    assert len(opened) == 20


def test_success_is_a_score_and_counts_those_that_diverged(folder):
    data = load(folder)
    rates = {name: cell.rate for name, cell in data.cells.items()}
    assert rates == {
        ("svnr", "three"): (3, 3),
        ("maddpg", "three"): (1, 3),
        ("mine", "three"): (0, 2),
        ("svnr", "two"): (3, 3),
        ("maddpg", "two"): (1, 3),
    }
    assert data.cells["maddpg", "two"].returns[[0, 2]].tolist() == [9.5, -0.3]
    assert data.cells["maddpg", "two"].diverged.tolist() == [False, True, False]
    assert data.declared("two") == (0.0, 10.0)


def test_what_is_missing_is_said(folder):
    notes = "\n".join(load(folder).notes)
    assert "failed: drawn/two/pr2" in notes and "boom" in notes
    assert "drawn · two: no seeds of mine" in notes
    assert "drawn · three: 2 of 3 seeds of mine" in notes
    assert "two · maddpg: 1 of 3 seeds diverged" in notes


def test_a_curve_is_points_by_seeds(folder):
    steps, values = load(folder).cells["maddpg", "two"].return_curve()
    assert steps.tolist() == [50, 100]
    np.testing.assert_array_equal(values, [[7.5, -2.0, -2.3], [9.5, np.nan, -0.3]])


def test_returns_that_were_not_measured_are_said_and_not_counted(tmp_path):
    path = save(tmp_path, "svnr", "two", [9.9, 9.8]) / "seed_0.json"
    for seed in (0, 1):
        file = path.with_name(f"seed_{seed}.json")
        file.write_text(file.read_text().replace('"decentralised"', '"shared"'))
    data = load(tmp_path)
    assert data.cells["svnr", "two"].rate is None
    assert "svnr on two: not evaluated in decentralised execution" in "\n".join(data.notes)
    assert {plot.name for plot in plots.all_plots(data)} == {"diagnosis-two"}


def test_without_a_declared_return_there_is_no_success(tmp_path):
    file = save(tmp_path, "svnr", "two", [9.9, 9.8]) / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["scenario"]["declared"]["optimal_return"] = None
    file.write_text(yaml.safe_dump(config))
    data = load(tmp_path)
    assert "no score and no success" in "\n".join(data.notes)
    found = {plot.name: plot for plot in plots.all_plots(data)}
    assert "success" not in found and "profiles" not in found
    assert "success" not in found["seeds-two"].caption
    assert found["curves-two"].render("png").startswith(b"\x89PNG")


def test_svnr_leads_and_tuned_algorithms_stand_behind_untuned_ones():
    given = ["lenient_madrl", "maddpg", "svnr", "maddpg_tuned", "alone_tuned", "svnr_tuned"]
    assert in_order(given) == [
        "svnr", "svnr_tuned", "lenient_madrl", "maddpg", "maddpg_tuned", "alone_tuned",
    ]  # fmt: skip


def test_algorithms_and_scenarios_can_be_chosen(folder):
    data = load(folder, ["maddpg"], ["two"])
    assert list(data.cells) == [("maddpg", "two")]
    whole = load(folder)
    assert data.looks == whole.looks
    with pytest.raises(ResultsError, match="--algorithm: nothing is called 'madpg'.*'maddpg'"):
        load(folder, ["madpg"])
    with pytest.raises(ResultsError, match="--scenario: nothing is called 'four'"):
        load(folder, [], ["four"])
    with pytest.raises(ResultsError, match="no algorithm that was named"):
        load(folder, ["mine"], ["two"])


def config(scenario, value, algorithm="svnr", **params):
    """A stored cell of Max of Three with this ``s2``."""
    base = cell_of(algorithm, "three", **params).resolved()
    base["scenario"]["params"]["s2"] = value
    return base


def stored(configs):
    return [
        plots.data.StoredCell("suite", label, one["algorithm"]["name"], "key", None, one, label)
        for label, one in configs
    ]


def test_scenarios_that_differ_in_one_number_are_a_sweep():
    cells = stored([(f"hill_s2_{v}", config("three", v)) for v in (2.0, 1.0, 1.5)])
    [sweep] = sweeps.find_sweeps(cells)
    assert (sweep.name, sweep.parameter) == ("hill", "s2")
    assert sweep.points == [(1.0, "hill_s2_1.0"), (1.5, "hill_s2_1.5"), (2.0, "hill_s2_2.0")]
    assert sweeps.find_sweeps(cells[:2]) == []
    cells[0].config["budget"] = {"env_steps": 5}
    assert sweeps.find_sweeps(cells) == []


def test_variants_that_differ_in_one_hyperparameter_are_a_sensitivity():
    variants = [
        ("svnr", {}),
        ("svnr_few", {"particles": 8}),
        ("svnr_many", {"particles": 64}),
        ("svnr_other", {"critic_activation": "relu"}),
        ("svnr_both", {"particles": 8, "critic_activation": "relu"}),
        ("svnr_tuned", {"policy_activation": "relu"}),
    ]
    cells = stored([("three", config("three", 1.5, name, **p)) for name, p in variants])
    default = cells[0].config["algorithm"]["params"]
    found = {one.parameter: one for one in sweeps.find_sensitivities(cells)}
    assert found["particles"].algorithm == "svnr"
    assert found["particles"].scenarios == ["three"]
    assert found["particles"].points == [
        (8, "svnr_few"), (default["particles"], "svnr"), (64, "svnr_many"),
    ]  # fmt: skip
    assert set(found) == {"particles", "critic_activation"}
