"""The command `rocompare plot`: files, choices, and what it refuses."""

import os

import pytest

from rocompare.results import store
from tests.support.drawn import cell_of, save
from tests.support.made_up import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    save(root, "svnr", "two", [9.9, 9.8])
    save(root, "maddpg", "two", [9.5, None])
    store.save_failure(root, cell_of("pr2", "two"), "RuntimeError: \x1b[31mboom", "Traceback")
    return root


@pytest.mark.slow
def test_the_command_writes_files_and_says_what_is_missing(folder, tmp_path):
    out = tmp_path / "new" / "pictures"
    answer = run("plot", folder / "drawn/two", "--out", out, "--format", "pdf", "--format", "svg")
    assert answer.exit_code == 0, answer.output
    assert r"\x1b[31mboom" in answer.output and "diverged" in answer.output
    assert "\x1b" not in answer.output
    magic = {"svg": b"<?xml", "pdf": b"%PDF"}
    of_one = ("landscape-two", "seeds-two", "curves-two", "diagnosis-two")
    names = ("success", "profiles", "ranks", *of_one)
    for name in names:
        for form, start in magic.items():
            assert (out / f"{name}.{form}").read_bytes().startswith(start)
        assert f"{name}: " in (out / "captions.txt").read_text(encoding="utf-8")
    assert len(list(out.iterdir())) == 2 * len(names) + 1


def test_choices(folder, tmp_path):
    answer = run(
        "plot", folder, "--out", tmp_path / "p", "--only", "curves,seeds", "--algorithm", "svnr",
        "--scenario", "two", "--width", "page",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names == ["captions.txt", "curves-two.png", "seeds-two.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "curve"], "did you mean 'curves'"),
        (["--algorithm", "svrn"], "did you mean 'svnr'"),
        (["--only", "episodes"], "nothing of what was asked for can be drawn"),
    ],
)
def test_wrong_choices_are_messages(options, message, folder, tmp_path):
    answer = run("plot", folder, "--out", tmp_path / "p", *options)
    assert message in str(answer.exception)
    assert not (tmp_path / "p").exists()


def test_a_file_where_the_folder_should_be(folder, tmp_path):
    (tmp_path / "taken").write_text("mine")
    answer = run("plot", folder, "--out", tmp_path / "taken")
    assert "give a folder" in str(answer.exception)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_pipe_where_a_picture_should_be_is_not_replaced(folder, tmp_path):
    os.mkfifo(tmp_path / "success.png")
    answer = run("plot", folder, "--out", tmp_path, "--only", "success")
    assert "is no regular file" in str(answer.exception)
    assert (tmp_path / "success.png").is_fifo()


def test_nothing_but_failures_is_an_error(tmp_path):
    store.save_failure(tmp_path, cell_of("svnr", "two"), "RuntimeError: out of luck", "")
    answer = run("plot", tmp_path, "--out", tmp_path / "out")
    assert "no finished seeds" in str(answer.exception)
    assert "out of luck" in str(answer.exception)


@pytest.mark.parametrize(
    "name", [r"$\frac$", "_x", "a b", "日本", "x\n[red]", "e" * 200, "caf\udce9"]
)
@pytest.mark.slow
def test_hostile_names_are_drawn_as_they_are(name, tmp_path):
    folder = save(tmp_path / "results", "svnr", "two", [9.9, None])
    scenario = folder.parent.parent
    try:
        folder.parent.rename(folder.parent.with_name(name))
        scenario.rename(scenario.with_name(name))
    except (OSError, UnicodeError):
        pytest.skip("this file system does not have such names")
    answer = run("plot", tmp_path / "results", "--out", tmp_path / "out")
    assert answer.exit_code == 0, answer.exception
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    assert "\x1b" not in answer.output
