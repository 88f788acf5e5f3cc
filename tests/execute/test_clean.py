"""`rocompare clean`: what a suite no longer makes goes, and nothing else."""

import pytest
from filelock import FileLock

from rocompare.errors import ResultsError
from rocompare.execute.clean import leftovers, remove
from rocompare.suite.load import parse_suite
from tests.results.test_store import CELLS, SUITE, save


def test_only_keys_that_the_suite_no_longer_makes_are_removed(tmp_path):
    save(tmp_path, CELLS[0], [0, 1])
    save(tmp_path, CELLS[1], [0])
    edited = parse_suite(SUITE.replace("hidden: 16", "hidden: 32"))
    save(tmp_path, edited.cells()[0], [0])
    (one,) = leftovers(tmp_path, edited)
    assert (one.folder, one.seeds) == (tmp_path / CELLS[0].path, 2)
    assert remove([one]) == []
    assert not one.folder.exists()
    assert leftovers(tmp_path, edited) == []
    assert (tmp_path / CELLS[1].path / "seed_0.json").exists()


def test_an_emptied_scenario_goes_and_what_a_run_holds_stays(tmp_path):
    save(tmp_path, CELLS[0], [0])
    save(tmp_path, CELLS[2], [0])
    edited = parse_suite(SUITE.replace("hard", "harder"))
    (one,) = leftovers(tmp_path, edited)
    lock = FileLock(one.folder / ".lock")
    with lock:
        assert remove([one]) == [one]
    assert remove([one]) == []
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["easy"]


def test_a_suite_without_results_is_named(tmp_path):
    with pytest.raises(ResultsError, match="suite 'demo' has no results there"):
        leftovers(tmp_path, parse_suite(SUITE))
