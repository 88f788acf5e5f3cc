"""Cells: when a key changes, and what part of a suite is chosen."""

import pytest

from rocompare.errors import SuiteError
from rocompare.suite.load import parse_suite
from tests.support.suites import GOOD


def test_keys_change_with_what_a_result_depends_on_and_nothing_else():
    def keys(text):
        return [cell.key for cell in parse_suite(text).cells()]

    base = keys(GOOD)
    assert len(set(base)) == 6
    assert keys(GOOD.replace("seeds: 3", "seeds: 9")) == base
    assert keys(GOOD.replace("name: demo", "name: other")) == base
    assert keys(GOOD.replace("reference: paper_table1\n", "")) == base
    assert keys(GOOD.replace("s2: 1}", "s2: 1.0}")) == base
    edited = keys(GOOD.replace("rounds: 3", "rounds: 4"))
    assert [a == b for a, b in zip(base, edited, strict=True)] == [True, False, True] * 2
    assert not set(base) & set(keys(GOOD.replace("env_steps: 100", "env_steps: 101")))


def test_select():
    suite = parse_suite(GOOD)
    chosen = suite.select(2, ["maddpg"], ["two"])
    assert [cell.label for cell in chosen.cells()] == ["two · maddpg"]
    assert chosen.seeds == (0, 1)
    with pytest.raises(SuiteError, match="--algorithm: .*no 'madpg'; did you mean 'maddpg'"):
        suite.select(algorithms=["madpg"])
    with pytest.raises(SuiteError, match="--seeds"):
        suite.select(seeds=0)
