"""Reading results: everything once, what is mixed or left out is said, and nothing is trusted."""

import builtins
import json
import os
import shutil

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rocompare
from rocompare.errors import ResultsError
from rocompare.results import store
from rocompare.results.reader import COLUMNS, REFERENCE_MARK, Results
from rocompare.results.records import score, succeeds
from rocompare.suite.load import parse_suite
from tests.results.test_store import CELLS, SUITE, save


def test_what_is_saved_is_loaded(tmp_path):
    save(tmp_path, CELLS[0], [0, 1])
    save(tmp_path, CELLS[3], [2], returns=(None, 1.0))
    frame = rocompare.load_results(tmp_path)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["seed"].tolist() == [0, 1, 2]
    assert frame["return"].tolist()[:2] == [1.5, 1.5]
    assert frame["return"].isna().tolist() == [False, False, True]
    assert frame["return_shared"].isna().all()
    assert frame["diverged"].tolist() == [False, False, True]
    assert frame["usable"].tolist() == [True, True, False]
    assert frame["scenario"].tolist() == ["easy", "easy", "hard"]
    assert frame["algorithm"].tolist() == ["small", "small", "maddpg"]
    assert frame["executed_ro"].tolist() == [1.0, 1.0, 1.0]
    assert set(frame["key"]) == {CELLS[0].key, CELLS[3].key}


@pytest.mark.parametrize(
    ("returns", "expected", "success"),
    [((10.0, 10.0), 1.0, True), ((9.0, 9.0), 0.9, True), ((9.0, 8.9), 0.895, False)],
)
def test_success_is_a_score_of_nine_tenths(returns, expected, success, tmp_path):
    save(tmp_path, CELLS[0], [0], returns=returns)
    (row,) = rocompare.load_results(tmp_path).to_dict("records")
    assert row["score"] == pytest.approx(expected)
    assert row["success"] is success


def test_a_score_needs_both_declared_returns():
    assert score(1.0, -1.0, 3.0) == 0.5
    assert score(1.0, None, 3.0) != score(1.0, None, 3.0)
    assert not succeeds(float("nan"))


def test_a_seed_that_diverged_has_no_score_and_no_success(tmp_path):
    save(tmp_path, CELLS[0], [0], returns=(10.0, 10.0), diverged=True)
    (row,) = rocompare.load_results(tmp_path).to_dict("records")
    assert row["score"] != row["score"]
    assert row["success"] is False
    assert not row["usable"]


def test_part_of_a_folder_can_be_loaded(tmp_path):
    for cell in CELLS:
        save(tmp_path, cell, [0])
    assert len(rocompare.load_results(tmp_path)) == 4
    assert len(rocompare.load_results(tmp_path / "demo" / "easy")) == 2
    one = rocompare.load_results(tmp_path / CELLS[0].path)
    assert one[["suite", "scenario", "algorithm"]].values.tolist() == [["demo", "easy", "small"]]


def test_curves_have_a_row_per_evaluation(tmp_path):
    save(tmp_path, CELLS[0], [1, 0], returns=(8.0, 10.0))
    curves = Results(tmp_path, details=True).curves()
    assert curves["seed"].tolist() == [0, 0, 1, 1]
    assert curves["env_steps"].tolist() == [50, 100] * 2
    assert curves["return"].tolist() == [0.5, 9.0] * 2
    assert curves["return_shared"].isna().all()
    assert curves["executed_ro"].tolist() == [3.0, 1.0] * 2
    assert curves["perceived_ro"].isna().tolist() == [True, False] * 2


@pytest.mark.parametrize("details", [False, True])
def test_each_file_is_opened_at_most_once(details, tmp_path, monkeypatch):
    for cell in CELLS:
        save(tmp_path, cell, [0, 1, 2])
    opened = []
    real = builtins.open

    def counted(file, *arguments, **options):
        opened.append(os.fspath(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr("io.open", counted)
    found = Results(tmp_path, details=details)
    found.curves() if details else found.seeds.describe()
    assert opened
    assert len(opened) == len(set(opened))
    # Without details a cell is one file; with them its configuration and a file a seed.
    assert len(opened) == len(CELLS) * (4 if details else 1)


@pytest.mark.parametrize(
    "content", [None, b"", b"nonsense", b"x" * 64 + b"\n{}\n", b"\xff\xfe", b"[" * 100_000]
)
def test_a_summary_is_a_cache_and_nothing_more(content, tmp_path):
    folder = save(tmp_path, CELLS[0], [0, 1])
    expected = rocompare.load_results(tmp_path)
    path = folder / "summary.json"
    path.unlink() if content is None else path.write_bytes(content)
    pd.testing.assert_frame_equal(rocompare.load_results(tmp_path), expected)
    assert path.stat().st_size > 500  # made anew
    record = folder / "seed_0.json"
    record.write_text(record.read_text().replace("[1.0,2.0]", "[5.0,6.0]"))
    assert rocompare.load_results(tmp_path)["return"].tolist() == [5.5, 1.5]


def test_a_summary_with_a_right_digest_and_wrong_content_is_not_used(tmp_path):
    import hashlib

    folder = save(tmp_path, CELLS[0], [0])
    path = folder / "summary.json"
    data = json.loads(path.read_text().partition("\n")[2])
    for rows in ([["x"]], [[None] * 15], "rows", [{}]):
        text = json.dumps(data | {"rows": rows})
        path.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")
        assert rocompare.load_results(tmp_path)["seed"].tolist() == [0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "corrupt"),
        (b'{"format": 2, "se', "corrupt"),
        (b"\xff\xfe", "corrupt"),
        (b"[" * 100_000, "corrupt"),
        (b"{}", "not a rocompare record: 'seed'"),
        (b'{"format": 3}', "a later rocompare"),
        (b'{"format": 1}', "an earlier rocompare .format 1, this one reads 2.; read it with"),
        (b'{"format": 2}', "'seed': Field required"),
    ],
)
def test_a_bad_record_is_named(content, expected, tmp_path):
    path = save(tmp_path, CELLS[0], [0]) / "seed_0.json"
    path.write_bytes(content)
    for details in (False, True):
        with pytest.raises(ResultsError, match=expected) as info:
            Results(tmp_path, details=details)
        assert str(path) in str(info.value)
    with pytest.raises(ResultsError):
        store.finished_seeds(tmp_path, CELLS[0])


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("seed", True), ("seed", 1.5), ("returns", {"decentralised": ["x"]}), ("returns", 3),
        ("returns", {"other": [1.0]}), ("basin", None), ("diverged", 0), ("seconds", "1"),
        ("seconds", 1e39), ("actions", [1]), ("extra", 1), ("env_steps", -1),
        ("curve", {"env_steps": []}),
    ],
)  # fmt: skip
def test_a_record_with_a_wrong_entry_is_refused(entry, value, tmp_path):
    path = save(tmp_path, CELLS[0], [0]) / "seed_0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}))
    with pytest.raises(ResultsError, match=entry):
        rocompare.load_results(tmp_path)


def test_a_renamed_record_is_refused(tmp_path):
    folder = save(tmp_path, CELLS[0], [0])
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


CONFIGURATIONS = [
    ("a: 1", "not the configuration"),
    ("a: [", "not readable"),
    ("!!python/object/apply:os.getcwd []", "not readable"),
    ("a: !!bool maybe", "not readable"),
    ("a: !!int ''", "not readable"),
    ("a: !!timestamp x", "not readable"),
    ("a: &a [*a]", "not the configuration"),
    ("- " * 2000 + "a", "not "),
    (
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 31)),
        "not the configuration",
    ),
]


@pytest.mark.parametrize(("text", "message"), CONFIGURATIONS)
def test_a_hostile_configuration_is_a_message(text, message, tmp_path):
    folder = save(tmp_path, CELLS[0], [0])
    (folder / "config.yaml").write_text(text)
    for details in (False, True):
        with pytest.raises(ResultsError, match=message):
            Results(tmp_path, details=details)


@pytest.mark.parametrize("name", ["seed_0.json", "config.yaml", "failure.json"])
def test_links_and_pipes_are_not_read(name, tmp_path):
    folder = save(tmp_path, CELLS[0], [0, 1])
    secret = tmp_path / "secret.json"
    secret.write_text('{"error": "secret"}')
    path = folder / name
    path.unlink(missing_ok=True)
    path.symlink_to(secret)
    try:
        found = Results(tmp_path, details=True)
    except ResultsError as error:
        assert "not a regular file" in str(error) or "no rocompare results" in str(error)
    else:
        assert found.seeds["seed"].tolist() == [1]
    path.unlink()
    os.mkfifo(path)
    try:
        assert Results(tmp_path, details=True).seeds["seed"].tolist() == [1]
    except ResultsError as error:
        assert "not a regular file" in str(error) or "no rocompare results" in str(error)


def test_links_to_other_disks_are_followed(tmp_path):
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "results"
    for cell in CELLS[:2]:
        save(elsewhere, cell, [0])
    root.mkdir()
    (root / "demo").symlink_to(elsewhere / "demo")
    (elsewhere / "demo" / "up").symlink_to(root)  # a circle is walked once
    frame = rocompare.load_results(root)
    assert len(frame) == 2
    assert set(frame["suite"]) == {"demo"}


def test_a_real_folder_wins_over_a_link_to_it(tmp_path):
    save(tmp_path / "results", CELLS[0], [0])
    (tmp_path / "results" / "a_link").symlink_to(tmp_path / "results" / "demo")
    assert set(rocompare.load_results(tmp_path / "results")["suite"]) == {"demo"}


def test_reference_results_step_back_for_ones_own_and_that_is_said(tmp_path):
    save(tmp_path / "reference", CELLS[0], [0, 1])
    (tmp_path / "reference" / REFERENCE_MARK).touch()
    store.save_failure(tmp_path / "reference", CELLS[2], "theirs", "trace")
    both = Results(tmp_path)
    assert both.seeds["seed"].tolist() == [0, 1]
    assert len(both.failures) == 1
    save(tmp_path, CELLS[0], [5])
    own = Results(tmp_path)
    assert own.seeds["seed"].tolist() == [5]
    assert own.failures == []
    assert own.notes == [
        "left out: 2 cells of the reference results that come with rocompare; give their folder "
        "to read them"
    ]
    assert rocompare.load_results(tmp_path / "reference")["seed"].tolist() == [0, 1]
    assert Results(tmp_path / "reference" / "demo").seeds["seed"].tolist() == [0, 1]


def test_a_users_folder_called_reference_is_read_like_any_other(tmp_path):
    save(tmp_path / "reference", CELLS[0], [0])
    save(tmp_path, CELLS[1], [0])
    found = Results(tmp_path)
    assert len(found.cells) == 2
    assert found.notes == []


def test_an_edited_suite_leaves_its_older_keys_behind(tmp_path):
    edited = parse_suite(SUITE.replace("hidden: 16", "hidden: 32")).cells()
    save(tmp_path, CELLS[0], [0, 1], {"time": "2026-01-01"})
    save(tmp_path, edited[0], [0], {"time": "2026-02-01"})
    found = Results(tmp_path)
    assert found.seeds["key"].tolist() == [edited[0].key]
    assert found.notes == [
        f"left out: {CELLS[0].path}: the algorithm was trained later with another configuration; "
        "`rocompare clean` removes it"
    ]
    longer = parse_suite(SUITE.replace("env_steps: 100", "env_steps: 200")).cells()
    save(tmp_path, longer[0], [0], {"time": "2026-03-01"})
    save(tmp_path, CELLS[1], [0], {"time": "2026-02-01"})
    found = Results(tmp_path)
    assert found.seeds["key"].tolist() == [longer[0].key]
    assert sum("another budget" in note for note in found.notes) == 1


def test_seeds_of_several_versions_are_said_to_be_mixed(tmp_path):
    made = {"rocompare": "0.2", "torch": "2.13", "device": "cpu", "time": "1"}
    save(tmp_path, CELLS[0], [0, 1], made)
    save(tmp_path, CELLS[0], [2], made | {"device": "cuda"})
    save(tmp_path, CELLS[1], [2], made)
    assert Results(tmp_path).notes == [
        "mixed: easy · small: 2 seeds of rocompare 0.2, torch 2.13, cpu; 1 seeds of rocompare 0.2, "
        "torch 2.13, cuda"
    ]


def test_one_name_for_different_games_is_told_apart_by_suite(tmp_path):
    other = SUITE.replace("name: demo", "name: other").replace("s2: 1.5", "s2: 2.5")
    for cell in (*CELLS[:3], *parse_suite(other).cells()[2:]):
        save(tmp_path, cell, [0])
    assert Results(tmp_path).labels == ["easy", "hard@demo", "hard@other"]


def test_folders_with_odd_names_are_read(tmp_path):
    shutil.copytree(save(tmp_path, CELLS[0], [0]).parents[2], tmp_path / "x" / "$\\frac$")
    (tmp_path / "x" / os.fsdecode(b"\xff")).mkdir()
    assert Results(tmp_path / "x").seeds["suite"].tolist() == ["$\\frac$"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@pytest.mark.slow
def test_no_bytes_end_in_anything_but_results_or_a_message(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("fuzz")
    folder = save(root, CELLS[0], [0])
    for name in ("seed_0.json", "config.yaml", "summary.json", "failure.json"):
        path = folder / name
        good = path.read_bytes() if path.exists() else None
        path.write_bytes(data)
        for details in (False, True):
            try:
                assert Results(root, details=details).seeds["seed"].tolist() == [0]
            except ResultsError as error:
                assert str(root) in str(error)
        path.unlink() if good is None else path.write_bytes(good)
