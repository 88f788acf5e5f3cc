"""Suites by name, in a checkout and from an installed wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rocompare
from rocompare.errors import SuiteError
from rocompare.suite import library
from tests.support.made_up import run

ROOT = Path(__file__).parents[2]


def test_the_top_folder_ships():
    assert library.shipped() == {path.stem: path for path in (ROOT / "suites").glob("*.yaml")}
    assert "max_of_three" in library.shipped()


def test_a_name_or_a_file(tmp_path, monkeypatch):
    shipped = library.shipped()["smoke"]
    assert library.find("smoke") == library.find(Path("smoke")) == shipped
    monkeypatch.chdir(tmp_path)
    for file in ("smoke.yaml", "./smoke", "folder/smoke", "../smoke"):  # no names
        assert library.find(file) == Path(file)
    Path("smoke").mkdir()  # a folder of results, say
    assert library.find("smoke") == shipped
    Path("smoke").rmdir()
    Path("smoke").write_text("name: mine")
    assert library.find("smoke") == Path("smoke")


def test_a_wrong_name_has_a_hint():
    with pytest.raises(SuiteError, match="smok: no such file, and no suite .*mean 'smoke'"):
        rocompare.load_suite("smok")
    with pytest.raises(SuiteError, match="smok.yaml: no such file$"):
        rocompare.load_suite("smok.yaml")


def test_commands_take_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "smoke: valid: 2 algorithms" in run("validate", "smoke").output
    assert "max_of_three_s2_3.0 · svnr: 0/3" in run("run", "smoke", "--plan").output


@pytest.mark.slow
def test_the_tuned_suite_of_one_that_ships_goes_to_the_working_folder(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    small = "--set", "budget.env_steps=10", "--set", "evaluation.points=1"
    answer = run("tune", "smoke", "--trials", 1, "--seeds", 1, "--jobs", 1, *small)
    assert answer.exit_code == 0, answer.output
    assert "tuned suite in smoke_tuned.yaml" in answer.output
    assert rocompare.load_suite("smoke_tuned.yaml").budget.env_steps == 10


def test_what_a_suite_is_about_is_its_first_sentence(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("# One sentence,\n# over two lines: s2 = 1.0. Another.\n#\n# More.\nname: a\n")
    assert library.about(file) == "One sentence, over two lines: s2 = 1.0."
    file.write_text("name: a\n# Late.\n")
    assert library.about(file) == ""
    assert all(library.about(path) for path in library.shipped().values())


def test_a_wheel_has_them(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    code = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
    source = tmp_path / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "rocompare", "baselines", "suites", "*.toml", "setup.py", "*.md", "LICENSE"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    if tracked.returncode:
        pytest.skip("no git checkout")
    for name in tracked.stdout.split():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, check=True, cwd=source
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    shipped = {name for name in names if name.startswith("rocompare/suites/")}
    assert shipped == {f"rocompare/suites/{path.name}" for path in library.shipped().values()}
    assert "rocompare/py.typed" in names
    code = "from rocompare.suite import library; print(library.find('smoke'))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert Path(found.stdout.strip()) == tmp_path / "site" / "rocompare" / "suites" / "smoke.yaml"
