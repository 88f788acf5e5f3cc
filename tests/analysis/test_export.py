"""What other packages read: their structure, and scores by the declared returns."""

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest

from rocompare.analysis import export
from rocompare.errors import ResultsError
from rocompare.results import store
from rocompare.suite.load import parse_suite
from tests.support.made_up import run, seed_result, write

RETURNS = {  # optimal 10, safe 0 in both
    ("narrow", "maddpg"): [5.0, 4.0, 6.0],
    ("narrow", "other"): [1.0, 0.5, 2.5],
    ("wide", "maddpg"): [10.0, 9.0, -5.0],
    ("wide", "other"): [10.0, 8.0, 9.5],
}


@pytest.fixture
def results(tmp_path):
    return write(tmp_path / "results", RETURNS)


def exported(results, form, *options):
    out = results.parent / "out"
    answer = run("export", results, "--format", form, "--out", out, *options)
    assert answer.exit_code == 0, (answer.output, answer.exception)
    return out, answer


def test_marl_evals_structure_and_scores(results):
    out, _ = exported(results, "marl-eval")
    data = json.loads(out.read_text())
    assert set(data) == {"max_of_three"}
    assert set(data["max_of_three"]) == {"narrow", "wide"}
    assert set(data["max_of_three"]["wide"]) == {"maddpg", "other"}
    assert data["max_of_three"]["narrow"]["maddpg"]["seed_2"] == {
        "step_0": {"step_count": 50, "return": [0.0], "score": [0.0], "evaluation_episodes": [2]},
        "step_1": {"step_count": 100, "return": [6.0], "score": [0.6], "evaluation_episodes": [2]},
        "absolute_metrics": {"return": [6.0, 6.0], "score": [0.6, 0.6]},
    }


def test_rliables_dictionary(results):
    """MADDPG is at half of the optimum on the narrow game, whoever else is compared."""
    out, _ = exported(results, "rliable")
    data = json.loads(out.read_text())
    assert data["tasks"] == ["narrow", "wide"]
    scores = {name: np.array(rows) for name, rows in data["scores"].items()}
    np.testing.assert_allclose(scores["maddpg"], [[0.5, 1.0], [0.4, 0.9], [0.6, -0.5]])
    np.testing.assert_allclose(scores["other"], [[0.1, 1.0], [0.05, 0.8], [0.25, 0.95]])


def test_rliable_reads_it(results):
    library = pytest.importorskip("rliable.library")
    from rliable import metrics

    out, _ = exported(results, "rliable")
    scores = {k: np.array(v) for k, v in json.loads(out.read_text())["scores"].items()}
    point, interval = library.get_interval_estimates(
        scores, lambda x: np.array([metrics.aggregate_mean(x)]), reps=50
    )
    assert point["maddpg"][0] == pytest.approx(2.9 / 6)
    assert interval["maddpg"].shape == (2, 1)


def test_marl_eval_reads_it(results):
    utils = pytest.importorskip("marl_eval.utils.data_processing_utils")
    out, _ = exported(results, "marl-eval")
    processed = utils.data_process_pipeline(
        raw_data=json.loads(out.read_text()), metrics_to_normalize=[]
    )
    assert "extra" in processed  # else it gave up and returned what it got
    seed = processed["max_of_three"]["narrow"]["maddpg"]["seed_2"]
    assert seed["step_1"]["mean_score"] == pytest.approx(0.6)


def test_parquet_has_a_row_per_seed(results):
    pytest.importorskip("pyarrow")
    out, _ = exported(results, "parquet")
    frame = pd.read_parquet(out)
    assert len(frame) == 12
    assert set(frame["env"]) == {"max_of_three"}
    assert not frame["curriculum"].any()
    row = frame[(frame["label"] == "wide") & (frame["algorithm"] == "other") & (frame["seed"] == 1)]
    assert row[["return", "score", "usable"]].iloc[0].tolist() == [8.0, 0.8, True]


def test_without_pyarrow_it_says_what_to_install(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    answer = run("export", results, "--format", "parquet", "--out", results.parent / "out")
    assert "pip install 'rocompare[parquet]'" in str(answer.exception)
    assert not (results.parent / "out").exists()


def test_diverged_seeds_are_low_and_said(tmp_path):
    results = write(tmp_path / "results", {("wide", "maddpg"): [10.0, None]})
    out, answer = exported(results, "rliable")
    assert json.loads(out.read_text())["scores"] == {"maddpg": [[1.0], [-1.0]]}
    assert "diverged seeds count as -1" in answer.output
    out, _ = exported(results, "marl-eval")
    seed = json.loads(out.read_text())["max_of_three"]["wide"]["maddpg"]["seed_1"]
    assert seed["absolute_metrics"] == {"return": [-10, -10], "score": [-1, -1]}


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (
            {name: values for name, values in RETURNS.items() if name != ("wide", "other")},
            "'other' has no results on wide; rliable needs every algorithm on every task",
        ),
        (
            RETURNS | {("wide", "other"): [1.0, 2.0]},
            r"'other' has different numbers of seeds \(3 on narrow, 2 on wide\)",
        ),
    ],
)
def test_cells_that_do_not_fit_together_are_refused(returns, message, tmp_path):
    results = write(tmp_path / "results", returns)
    with pytest.raises(ResultsError, match=message):
        export.export(results, "rliable", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_games_without_declared_returns_have_no_scores(tmp_path):
    suite = parse_suite(
        """
name: unknown
seeds: 2
budget: {env_steps: 100}
evaluation: {episodes: 2, points: 2}
algorithms: {maddpg: {}}
scenarios: {walk: {env: "tests.support.probe:Walk", known: false}}
"""
    )
    store.save(tmp_path / "results", suite.cells()[0], [seed_result(0, 3.0)], {})
    data, notes = export.marl_eval(tmp_path / "results", "decentralised")
    seed = json.loads(data)["tests.support.probe:walk"]["walk"]["maddpg"]["seed_0"]
    assert seed["absolute_metrics"] == {"return": [3.0, 3.0]}
    assert notes[-1].startswith("without scores: unknown/walk/maddpg/")
    with pytest.raises(ResultsError, match="no game declares its returns"):
        export.rliable(tmp_path / "results", "decentralised")


def test_names_that_differ_in_capitals_alone_are_refused(tmp_path):
    text = """
name: capitals
seeds: 1
budget: {env_steps: 100}
evaluation: {episodes: 2, points: 2}
algorithms: {maddpg: {}}
scenarios: {Wide: {env: max_of_three, s2: 3.0}, wide: {env: max_of_three, s2: 2.0}}
"""
    for cell in parse_suite(text).cells():
        store.save(tmp_path, cell, [seed_result(0, 3.0)], {})
    with pytest.raises(ResultsError, match="same name in lower case as another cell"):
        export.marl_eval(tmp_path, "decentralised")


def test_an_execution_that_nobody_has_is_said(results):
    with pytest.raises(ResultsError, match="no shared returns here"):
        export.marl_eval(results, "shared")
    deterministic = json.loads(export.rliable(results, "deterministic")[0])["scores"]
    assert deterministic["maddpg"][0] == [0.5, 1.0]
    assert not math.isnan(deterministic["other"][2][1])


@pytest.mark.parametrize("out", ["/dev/null", "."])
def test_it_writes_files_only(out, results):
    answer = run("export", results, "--format", "rliable", "--out", out)
    assert "is no regular file" in str(answer.exception) or "is a folder" in str(answer.exception)
