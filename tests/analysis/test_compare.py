"""`rocompare compare`: what is said of two algorithms, and of all. The tests themselves are tested
in test_pairwise.py."""

import json
import re

import pytest

from rocompare.analysis import compare
from rocompare.errors import ResultsError
from tests.support.made_up import run, write

HIGH = [9.5 + i / 100 for i in range(20)]
LOW = [0.0 + i / 100 for i in range(20)]


@pytest.fixture
def folder(tmp_path):
    return write(
        tmp_path,
        {("narrow", "maddpg"): HIGH, ("narrow", "other"): LOW, ("wide", "maddpg"): HIGH,
         ("wide", "other"): HIGH},
    )  # fmt: skip


def test_a_difference_is_in_units_of_the_game_and_said_in_words(folder):
    answer = run("compare", folder, "maddpg", "other")
    assert answer.exit_code == 0, answer.output
    narrow, wide = answer.output.split("\n\n")[:2]
    assert "mean 9.59 ± 0.06" in narrow
    assert "success 20/20 [0.84, 1.00]" in narrow
    assert "maddpg − other: +0.950 of optimal − safe, interval [+0.9" in narrow
    assert "a seed of maddpg returns more than one of other with probability 1.00" in narrow
    assert narrow.endswith("maddpg has the higher mean return.\n  maddpg succeeds more often.")
    assert "Every seed of both has the same return." in wide
    assert "Success is a score of 0.9." in answer.output


def test_a_significant_but_tiny_difference_is_called_neither(tmp_path):
    close = [value + 0.05 for value in [9.5] * 20]
    write(tmp_path, {("narrow", "maddpg"): close, ("narrow", "other"): [9.5] * 20})
    (one,) = compare.compare(tmp_path, "maddpg", "other").comparisons
    assert one.contrast.finding == "negligible"
    assert one.contrast.p < 0.001


def test_few_seeds_and_diverged_ones_are_said(tmp_path):
    write(tmp_path, {("narrow", "maddpg"): [9.0, 9.1], ("narrow", "other"): [0.0, None]})
    report = compare.compare(tmp_path, "maddpg", "other")
    text = compare.render(report)
    assert "Returns are not compared: half of the seeds of one diverged, or more." in text
    assert "1 of 2 seeds of other diverged" in text
    write(tmp_path / "b", {("narrow", "maddpg"): [9.0, 9.1], ("narrow", "other"): [0.0, 0.1]})
    text = compare.render(compare.compare(tmp_path / "b", "maddpg", "other"))
    assert "So few seeds could not show a difference in returns, however large." in text


def test_json(folder):
    data = json.loads(run("compare", folder, "maddpg", "other", "--format", "json").output)
    narrow = data["scenarios"][0]
    assert (narrow["scenario"], narrow["finding"], narrow["success"]) == (
        "narrow",
        "higher",
        "higher",
    )
    assert narrow["difference"] == pytest.approx(0.95)
    assert narrow["interval"][0] > 0.9


def test_every_two_algorithms_as_a_matrix_with_ranks(folder):
    answer = run("compare", folder, "--all")
    assert answer.exit_code == 0, answer.output
    assert re.search(r"maddpg +> > +1\n +other +< < +2", answer.output)
    assert "mean rank over 2 scenarios" in answer.output
    data = json.loads(run("compare", folder, "--all", "--format", "json").output)
    assert data["ranks"]["maddpg"] < data["ranks"]["other"]
    assert len(data["pairs"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("maddpg", "othr"), "no finished seeds of 'othr'; did you mean 'other'?"),
        (("maddpg", "maddpg"), "cannot be compared with itself"),
    ],
)
def test_wrong_names_are_messages(arguments, message, folder):
    with pytest.raises(ResultsError, match=re.escape(message)):
        compare.compare(folder, *arguments)


def test_what_is_missing_or_failed_is_said(tmp_path):
    write(
        tmp_path,
        {("narrow", "maddpg"): HIGH, ("narrow", "other"): LOW, ("wide", "maddpg"): HIGH,
         ("wide", "other"): ValueError("boom")},
    )  # fmt: skip
    notes = compare.compare(tmp_path, "maddpg", "other").notes
    assert "not compared: other has no finished seeds on wide" in notes
    assert "failed: other on wide: boom" in notes


def test_names_come_in_pairs_or_not_at_all(folder):
    for arguments in (("maddpg",), (), ("maddpg", "other", "--all")):
        answer = run("compare", folder, *arguments)
        assert answer.exit_code == 2
        assert "name two algorithms, or say --all" in answer.output
