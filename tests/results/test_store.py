"""Result files: what is written is what is read, and nothing else is."""

import dataclasses
import json
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rocompare
from rocompare.errors import ResultsError
from rocompare.results import store as results
from rocompare.results.store import COLUMNS, CellResult, SeedResult
from rocompare.suite.load import parse_suite

SUITE = """
name: demo
seeds: 3
budget: {env_steps: 100}
evaluation: {episodes: 2, points: 2}
algorithms: {svnr: {}, maddpg: {}}
scenarios: {easy: {env: max_of_three}, hard: {env: max_of_three, s2: 1.5}}
"""
CELLS = parse_suite(SUITE).cells()


def record(seed, returns=(1.0, 2.0), **changes):
    values = {
        "seed": seed,
        "returns": list(returns),
        "returns_noiseless": [3.0, 3.0],
        "basin": "optimum",
        "basin_noiseless": "optimum",
        "diverged": False,
        "env_steps": 100,
        "updates": 180,
        "parameters": 17,
        "seconds": 0.5,
        "actions": [[0.7, 0.7, -0.3]],
    }
    return SeedResult(**{**values, **changes})


def cell_result(seeds, **changes):
    curve = [(s, t, 0.5, 0.6, 0.0, 1.0) for t in (50, 100) for s in seeds]
    return CellResult([record(s, **changes) for s in seeds], curve)


def folder_of(root, cell=CELLS[0]):
    return root / cell.path


def test_what_is_saved_is_loaded(tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([0, 1]), {"torch": "x"})
    results.save(tmp_path, CELLS[3], cell_result([2], returns=(None, 1.0), diverged=True), {})
    frame = rocompare.load_results(tmp_path)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["seed"].tolist() == [0, 1, 2]
    assert frame["return"].tolist()[:2] == [1.5, 1.5]
    assert math.isnan(frame["return"][2])
    assert frame["diverged"].tolist() == [False, False, True]
    assert frame["scenario"].tolist() == ["easy", "easy", "hard"]
    assert frame["algorithm"].tolist() == ["svnr", "svnr", "maddpg"]
    assert set(frame["key"]) == {CELLS[0].key, CELLS[3].key}
    assert results.finished_seeds(tmp_path, CELLS[0]) == {0, 1}
    assert results.load_actions(folder_of(tmp_path))[1] == [[0.7, 0.7, -0.3]]


def test_part_of_a_folder_can_be_loaded(tmp_path):
    for cell in CELLS:
        results.save(tmp_path, cell, cell_result([0]), {})
    assert len(rocompare.load_results(tmp_path)) == 4
    assert len(rocompare.load_results(tmp_path / "demo" / "easy")) == 2
    one = rocompare.load_results(folder_of(tmp_path))
    assert one[["suite", "scenario", "algorithm"]].values.tolist() == [["demo", "easy", "svnr"]]


def test_added_seeds_join_the_curve(tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([1]), {})
    results.save(tmp_path, CELLS[0], cell_result([0, 2]), {})
    curves = results.load_curves(tmp_path)
    assert curves["seed"].tolist() == [0, 0, 1, 1, 2, 2]
    assert curves["env_steps"].tolist() == [50, 100] * 3


def test_episodes_are_kept_beside_the_seeds(tmp_path):
    first = [[[0.5, 0.5], [0.0, -0.5]], [[0.0, 0.0], [0.0, 0.1]]]
    results.save(tmp_path, CELLS[0], dataclasses.replace(cell_result([1]), episodes={1: first}), {})
    again = dataclasses.replace(cell_result([0, 10]), episodes={0: first[:1], 10: []})
    results.save(tmp_path, CELLS[0], again, {})
    assert results.load_episodes(folder_of(tmp_path)) == {0: first[:1], 1: first, 10: []}
    assert len(rocompare.load_results(tmp_path)) == 3


def test_results_without_episodes_are_read(tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([1]), {})
    assert results.load_episodes(folder_of(tmp_path)) == {}


def test_a_save_that_an_older_version_began_is_finished(tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([1]), {})
    folder = folder_of(tmp_path)
    pending = {
        "format": 1, "config": CELLS[0].resolved(), "provenance": {},
        "curve": cell_result([2]).curve, "seeds": [dataclasses.asdict(record(2))],
    }  # fmt: skip
    (folder / results.PENDING).write_text(json.dumps(pending))
    results.finish_save(folder)
    assert rocompare.load_results(tmp_path)["seed"].tolist() == [1, 2]


def test_a_curve_keeps_its_digits_when_seeds_are_added(tmp_path):
    path = folder_of(tmp_path) / "curve.csv"
    one = CellResult([record(1)], [(1, 50, 0.1 + 0.2, 1 / 3, 0.0, 1.0)])
    results.save(tmp_path, CELLS[0], one, {})
    line = "1,50,0.30000000000000004,0.3333333333333333,0.0,1.0"
    assert path.read_text().splitlines()[1:] == [line]
    results.save(tmp_path, CELLS[0], cell_result([0]), {})
    assert path.read_text().splitlines()[3:] == [line]
    path.write_text(path.read_text() + "one,50,0,0,0,0\n")
    with pytest.raises(ResultsError, match="not a learning curve"):
        results.save(tmp_path, CELLS[0], cell_result([2]), {})


def test_no_temporary_files_stay(tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([0]), {})
    names = sorted(p.name for p in folder_of(tmp_path).iterdir())
    assert names == ["config.yaml", "curve.csv", "provenance.json", "seed_0.json", "summary.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    results.write_atomic(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        results.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "corrupt"),
        (b'{"format": 1, "se', "corrupt"),
        (b"\xff\xfe", "corrupt"),
        (b"[" * 100_000, "corrupt"),
        (b"[]", "not a rocompare record"),
        (b"{}", "not a rocompare record"),
        (b'{"format": 2}', "later rocompare"),
        (b'{"format": 1}', "'seed' is missing"),
    ],
)
def test_a_bad_record_is_named(content, expected, tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([0]), {})
    path = folder_of(tmp_path) / "seed_0.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=expected) as info:
        rocompare.load_results(tmp_path)
    assert str(path) in str(info.value)
    with pytest.raises(ResultsError):
        results.finished_seeds(tmp_path, CELLS[0])


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("seed", True), ("seed", 1.5), ("returns", ["x"]), ("returns", 3), ("basin", None),
        ("diverged", 0), ("seconds", "1"), ("actions", [1]), ("extra", 1),
    ],
)  # fmt: skip
def test_a_record_with_a_wrong_entry_is_refused(entry, value, tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([0]), {})
    path = folder_of(tmp_path) / "seed_0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}))
    with pytest.raises(ResultsError, match=entry):
        rocompare.load_results(tmp_path)


def test_a_renamed_record_is_refused(tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([0]), {})
    folder = folder_of(tmp_path)
    (folder / "seed_0.json").rename(folder / "seed_7.json")
    with pytest.raises(ResultsError, match="holds seed 0"):
        rocompare.load_results(tmp_path)


def test_empty_and_foreign_folders(tmp_path):
    with pytest.raises(ResultsError, match="no such folder"):
        rocompare.load_results(tmp_path / "none")
    with pytest.raises(ResultsError, match="no rocompare results here"):
        rocompare.load_results(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1")
    # A stranger's configuration, whose folder is no cell's.
    with pytest.raises(ResultsError, match="no rocompare results here"):
        rocompare.load_results(tmp_path)
    with pytest.raises(ResultsError, match="not a folder"):
        rocompare.load_results(tmp_path / "config.yaml")
    file = tmp_path / "0123456789ab/config.yaml"
    file.parent.mkdir()
    for text, message in (
        ("a: 1", "not the configuration"),
        ("a: [", "not readable"),
        ("!!python/object/apply:os.getcwd []", "not readable"),
    ):
        file.write_text(text)
        with pytest.raises(ResultsError, match=message):
            rocompare.load_results(tmp_path)


def test_links_to_other_disks_are_followed(tmp_path):
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "results"
    for cell in CELLS[:2]:
        results.save(elsewhere, cell, cell_result([0]), {})
    suite = CELLS[0].path.parts[0]
    root.mkdir()
    (root / suite).symlink_to(elsewhere / suite)
    (elsewhere / suite / "up").symlink_to(root)  # a circle is walked once
    frame = rocompare.load_results(root)
    assert len(frame) == 2 and set(frame["suite"]) == {suite}
    [one] = {folder_of(elsewhere).name}
    cells = tmp_path / "cells" / suite / "scenario" / "algorithm"
    cells.mkdir(parents=True)
    (cells / one).symlink_to(folder_of(elsewhere))
    frame = rocompare.load_results(tmp_path / "cells")
    assert frame[["suite", "scenario", "algorithm"]].values.tolist() == [
        [suite, "scenario", "algorithm"]
    ]


def test_failures_of_the_reference_step_back_too(tmp_path):
    results.save_failure(tmp_path / "reference", CELLS[0], "theirs", "trace")
    assert results.load_failures(tmp_path) == [(str(CELLS[0].path), "theirs")]
    results.save(tmp_path, CELLS[1], cell_result([0]), {})
    assert results.load_failures(tmp_path) == [] and results.load_failed_seeds(tmp_path) == {}


def test_a_cells_folder_is_ones_own_not_the_references(tmp_path):
    for root in (tmp_path, tmp_path / "reference"):
        results.save(root, CELLS[0], cell_result([0]), {})
    assert list(results.cell_folders(tmp_path).values()) == [folder_of(tmp_path)]


def test_a_foreign_curve_is_refused(tmp_path):
    results.save(tmp_path, CELLS[0], cell_result([0]), {})
    (folder_of(tmp_path) / "curve.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ResultsError, match="curve"):
        results.load_curves(tmp_path)


def test_failures_are_kept_until_the_cell_succeeds(tmp_path):
    results.save_failure(tmp_path, CELLS[0], "boom", "trace")
    assert results.load_failures(tmp_path) == [(str(CELLS[0].path), "boom")]
    results.save(tmp_path, CELLS[0], cell_result([0]), {})
    assert results.load_failures(tmp_path) == []


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_bytes_end_in_anything_but_a_result_or_a_message(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("fuzz")
    results.save(root, CELLS[0], cell_result([0]), {})
    for name in ("seed_0.json", "config.yaml", "curve.csv"):
        path = folder_of(root) / name
        good = path.read_bytes()
        path.write_bytes(data)
        for load in (rocompare.load_results, results.load_curves):
            try:
                assert isinstance(load(root), pd.DataFrame)
            except ResultsError as error:
                assert str(root) in str(error)
        path.write_bytes(good)


def test_records_are_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(record(0))))["seed"] == 0


def test_reference_results_step_back_for_ones_own(tmp_path):
    results.save(tmp_path / "reference", CELLS[0], cell_result([0, 1]), {})
    assert rocompare.load_results(tmp_path)["seed"].tolist() == [0, 1]
    results.save(tmp_path, CELLS[0], cell_result([5]), {})
    assert rocompare.load_results(tmp_path)["seed"].tolist() == [5]
    assert rocompare.load_results(tmp_path / "reference")["seed"].tolist() == [0, 1]
