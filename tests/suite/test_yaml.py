"""Reading YAML: merge keys, and where each key was written."""

import pytest

from rocompare.errors import SuiteError
from rocompare.suite.yaml import Document
from tests.support.suites import GOOD, problems


def test_merge_keys_are_understood():
    text = """
    base: &base {lr: 1, size: 2}
    more: &more {size: 3, depth: 4}
    own: {<<: *base, lr: 5}
    after: {lr: 5, <<: *base}
    both: {<<: [*base, *more], size: 9}
    of: &of {<<: *more, size: 7}
    chain: {<<: *of}
    text: {"<<": 1}
    """
    data = Document(text, "x.yaml").data
    assert data["own"] == data["after"] == {"lr": 5, "size": 2}
    assert list(data["own"]) == ["lr", "size"]
    assert data["both"] == {"size": 9, "lr": 1, "depth": 4}
    assert data["chain"] == {"size": 7, "depth": 4}
    assert data["text"] == {"<<": 1}


def test_what_is_merged_is_named_by_the_line_where_it_stands():
    text = GOOD.replace("svnr: {}", "svnr: &base {hiden: 8}").replace(
        "maddpg: {", "maddpg: {<<: *base, "
    )
    assert [line.partition(": unknown")[0] for line in problems(text)] == [
        "demo.yaml:6: algorithms.svnr.hiden",
        "demo.yaml:6: algorithms.maddpg.hiden",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {<<: 3}", "x.yaml:1: a: '<<' takes a mapping, or a list of mappings"),
        ("a:\n  <<: [{b: 1}, 2]", "x.yaml:2: a: '<<' takes a mapping"),
        ("a: {b: 1, b: 2}", r"x.yaml:1: a: 'b' stands here twice \(first in line 1\)"),
        ("a: &a {b: 1, b: 2}\nc: {<<: *a}", "x.yaml:1: a: 'b' stands here twice"),
    ],
)
def test_what_cannot_be_merged(text, message):
    with pytest.raises(SuiteError, match=message):
        Document(text, "x.yaml")
