"""`rocompare play`: fresh episodes of a kept policy, in figures and as a film."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rocompare.cli import app
from rocompare.execute.runner import ExecutorSettings, run_suite
from rocompare.suite.load import load_suite, parse_suite
from tests.envs.test_pettingzoo import Countdown

pytestmark = pytest.mark.slow
SUITE = """
name: kept
seeds: 2
budget: {env_steps: 30}
evaluation: {episodes: 6, points: 2}
algorithms:
  svnr: {hidden: 8, particles: 4}
scenarios:
  hills: {env: max_of_three}
  plane: {env: particle_gather, horizon: 4}
  spread: {env: pettingzoo, factory: "tests.execute.test_play:Pictured", horizon: 3}
"""


class Pictured(Countdown):
    """A foreign game that draws how old it is."""

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        if self.render_mode == "rgb_array":
            return np.full((4, 5, 3), 60 * self.age, np.uint8)
        return None


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("kept")
    run_suite(parse_suite(SUITE), root, ExecutorSettings(jobs=1))
    return root


def play(*arguments):
    return CliRunner().invoke(app, ["play", *map(str, arguments)])


def test_returns_in_every_way_of_execution(results):
    done = play(results, "--scenario", "hills", "--episodes", 40)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("svnr on hills, seed 0: 40 fresh episodes\n")
    line = r"^  {} +-?\d+\.\d\d, score -?\d\.\d\d, \d+% in the optimum$"
    for mode in ("decentralised", "deterministic", "shared"):
        assert re.search(line.format(mode), done.stdout, re.M), done.stdout


def test_the_same_command_gives_the_same_numbers(results):
    command = (results, "--scenario", "plane", "--seed", 1, "--format", "json")
    first, second = json.loads(play(*command).stdout), json.loads(play(*command).stdout)
    assert first == second
    assert (first["algorithm"], first["seed"], first["episodes"]) == ("svnr", 1, 6)
    assert [one["execution"] for one in first["executions"]] == [
        "decentralised", "deterministic", "shared",
    ]  # fmt: skip
    assert first != json.loads(play(*command[:3], "--seed", 0, "--format", "json").stdout)


def test_a_game_in_the_plane_becomes_a_film(results, tmp_path):
    done = play(results, "--scenario", "plane", "--gif", tmp_path / "film.gif")
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "film.gif") as film:
        assert 3 * 2 <= film.n_frames <= 3 * 5  # duplicates of a frame are merged
        assert film.size == (320, 350)
        film.seek(film.n_frames - 1)
        assert len(film.convert("RGB").getcolors(1 << 20)) > 3


def test_a_foreign_game_draws_itself(results, tmp_path):
    done = play(
        results, "--scenario", "spread", "--gif", tmp_path / "film.gif", "--allow-local-code"
    )
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "film.gif") as film:
        assert film.size == (5, 4)
        assert film.n_frames >= 3


def test_the_docs_example(tmp_path, monkeypatch, capsys):
    text = Path("docs/policies.md").read_text(encoding="utf-8")
    shown = re.search(r"^\$ rocompare play (.*)$", text, re.M)[1].split()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    suite = load_suite(Path("suites/smoke.yaml"))
    monkeypatch.chdir(tmp_path)
    run_suite(suite, Path("results"), ExecutorSettings(jobs=1))
    exec(code, {})
    assert re.search(
        r"^EnvSpec\(.*^tensor\(\[\[(-?\d.*){5}\]\]\)$", capsys.readouterr().out, re.M | re.S
    )
    done = play(*shown)
    assert done.stdout.splitlines()[0] in text
    assert re.sub(r"[-\d.]+", "#", done.stdout) in re.sub(r"[-\d.]+", "#", text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenario", "hills", "--gif", "film.gif"], "nothing to film on hills: its games are"),
        (["--gif", "film.gif"], "say which with --algorithm and --scenario"),
        (["--scenario", "plane", "--gif", "/dev/null"], "/dev/null: is no regular file"),
        (["--seed", "-1"], "Invalid value"),
    ],
)
def test_what_cannot_be_is_said(arguments, message, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = play(results, *arguments)
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"
    assert not list(tmp_path.iterdir())
