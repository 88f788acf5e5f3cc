"""Writing results: what is saved is whole, adds up, and survives a kill at any point."""

import json
import shutil
import stat

import pytest
import yaml

import rocompare
from rocompare.errors import ResultsError
from rocompare.results import files, store
from rocompare.results.reader import Results
from rocompare.suite.load import parse_suite
from tests.support.records import make_record

SUITE = """
name: demo
seeds: 3
budget: {env_steps: 100}
evaluation: {episodes: 2, points: 2}
algorithms: {small: {use: maddpg, hidden: 16}, maddpg: {}}
scenarios: {easy: {env: max_of_three}, hard: {env: max_of_three, s2: 1.5}}
"""
CELLS = parse_suite(SUITE).cells()


def save(root, cell, seeds, provenance=None, **changes):
    records = [make_record(seed, **changes) for seed in seeds]
    store.save(root, cell, records, provenance or {"torch": "2", "time": "2026-01-01"})
    return root / cell.path


def test_a_cells_folder_holds_a_file_a_seed(tmp_path):
    folder = save(tmp_path, CELLS[0], [0, 10])
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.yaml", "seed_0.json", "seed_10.json", "summary.json"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    declared = {"safe_return": 0.0, "optimal_return": 10.0, "basins": ["optimum", "safe"]}
    assert config["scenario"].pop("declared") == declared
    assert config == CELLS[0].resolved()
    record = json.loads((folder / "seed_10.json").read_text())
    assert record["returns"] == {"decentralised": [1.0, 2.0], "deterministic": [1.0, 2.0]}
    assert record["provenance"] == {"torch": "2", "time": "2026-01-01"}


def test_seeds_are_added_and_keep_their_own_provenance(tmp_path):
    folder = save(tmp_path, CELLS[0], [1], {"torch": "1"})
    save(tmp_path, CELLS[0], [0, 2], {"torch": "2"})
    assert store.finished_seeds(tmp_path, CELLS[0]) == {0, 1, 2}
    made = [json.loads((folder / f"seed_{n}.json").read_text())["provenance"] for n in (0, 1, 2)]
    assert made == [{"torch": "2"}, {"torch": "1"}, {"torch": "2"}]


def test_two_machines_folders_copied_into_each_other_are_one(tmp_path):
    save(tmp_path / "a", CELLS[0], [0, 1])
    save(tmp_path / "b", CELLS[0], [2])
    save(tmp_path / "b", CELLS[1], [0])
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    found = Results(tmp_path / "a", details=True)
    assert found.seeds["seed"].tolist() == [0, 0, 1, 2]
    assert found.curves().groupby(["algorithm", "seed"]).size().tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_save_that_was_killed_is_finished_by_whoever_cleans(moved, tmp_path, monkeypatch):
    done = []
    replace = type(tmp_path).replace

    def killed(path, target):
        if path.parent.name == store.STAGED:
            if len(done) == moved:
                raise KeyboardInterrupt
            done.append(path.name)
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, CELLS[0], [0, 1])
    folder = tmp_path / CELLS[0].path
    assert store.unfinished(folder)
    store.clean(folder)
    assert store.finished_seeds(tmp_path, CELLS[0]) == {0, 1}
    assert not store.unfinished(folder)


def test_a_save_killed_while_staging_leaves_nothing_that_counts(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, CELLS[0], [0, 1])
    folder = tmp_path / CELLS[0].path
    assert store.finished_seeds(tmp_path, CELLS[0]) == set()
    store.clean(folder)
    assert list(folder.iterdir()) == []
    save(tmp_path, CELLS[0], [0, 1])
    assert store.finished_seeds(tmp_path, CELLS[0]) == {0, 1}


def test_failures_are_kept_until_the_cell_succeeds(tmp_path):
    store.save_failure(tmp_path, CELLS[0], "boom\x1b[31m", "trace")
    (failure,) = Results(tmp_path).failures
    assert (failure.place, failure.error) == (str(CELLS[0].path), "boom\\x1b[31m")
    assert failure.seeds == (0, 1, 2)
    save(tmp_path, CELLS[0], [0])
    assert Results(tmp_path).failures == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_files_have_the_rights_that_the_umask_leaves(tmp_path):
    import os

    before = os.umask(0o027)
    try:
        files.write(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_only_regular_files_are_written_over(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for place, why in (("pipe", "no regular file"), (".", "is a folder")):
        with pytest.raises(ResultsError, match=why):
            files.write_out(tmp_path / place, "x")
    files.write_out(tmp_path / "new" / "page.html", "x")
    assert (tmp_path / "new" / "page.html").read_text() == "x"


def test_a_result_without_known_returns_is_saved(tmp_path, monkeypatch):
    unknown = {"safe_return": None, "optimal_return": None, "basins": ["all"]}
    monkeypatch.setattr(type(CELLS[0].scenario), "declared", lambda self: unknown)
    save(tmp_path, CELLS[0], [0])
    frame = rocompare.load_results(tmp_path)
    assert frame["return"].tolist() == [1.5]
    assert frame["score"].isna().all()
    assert frame["success"].isna().all()
