"""Pictures: what they show, that they are the same bytes each time, and what they refuse."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from rocompare import cli
from rocompare.analysis import plots
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.errors import ResultsError
from rocompare.results import store as results
from rocompare.results.store import CellResult, SeedResult
from rocompare.suite.load import parse_suite
from rocompare.suite.models import AlgorithmConfig, Cell
from tests.support.made_up import seed_result

SUITE = parse_suite("""
name: drawn
seeds: 3
budget: {env_steps: 100}
algorithms: {svnr: {}}
scenarios:
  three: {env: max_of_three, s2: 1.5}
  two: {env: max_of_three, p: [-5, -5], q: [5, 5]}
""")


def cell(algorithm: str, scenario: int) -> Cell:
    base = SUITE.cells()[scenario]
    settings = AlgorithmConfig(name=algorithm, use=base.algorithm.use, params=base.algorithm.params)
    return dataclasses.replace(base, algorithm=settings)


def save(root: Path, algorithm: str, scenario: int, returns: list[float | None]) -> None:
    """A seed per return: above 5 it reached the optimum, None diverged."""
    target = cell(algorithm, scenario)
    p, q = target.scenario.params["p"], target.scenario.params["q"]
    seeds, curve = [], []
    for seed, value in enumerate(returns):
        good = value is not None and value > 5
        basin = "optimum" if good else "safe"
        action = [a / 10 for a in (q if good else p)]
        seeds.append(
            SeedResult(
                seed, [value, value], [value, value], basin, basin, value is None, 100, 90, 1000,
                0.5, [action, action],
            )
        )  # fmt: skip
        for step in (50, 100):
            height = math.nan if value is None and step == 100 else (value or 0) - 100 / step
            curve.append((seed, step, height, height, float(good), float(good)))
    results.save(root, target, CellResult(seeds, curve), {"command": "rocompare run <here>"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenarios; 'mine' has no seeds on the second, where maddpg diverged once and pr2
    failed."""
    root = tmp_path_factory.mktemp("results")
    save(root, "svnr", 0, [9.9, 9.8, 9.7])
    save(root, "maddpg", 0, [-0.4, 9.0, -50.0])
    save(root, "mine", 0, [-0.4, -0.2])
    save(root, "svnr", 1, [9.9, 9.8, 9.7])
    save(root, "maddpg", 1, [9.5, None, -0.3])
    results.save_failure(root, cell("pr2", 1), "RuntimeError: <b>boom</b>", "Traceback")
    return root


@pytest.fixture(scope="module")
def drawn(folder: Path) -> dict[str, plots.Plot]:
    return {plot.name: plot for plot in plots.all_plots(plots.load(folder))}


def words(plot: plots.Plot) -> list[str]:
    """Every text in a picture, axis by axis."""
    found = []
    for axes in plot.figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()]
        found += [label.get_text() for label in axes.get_yticklabels()]
    return found


def test_every_picture_that_the_data_allow(drawn: dict[str, plots.Plot]) -> None:
    kinds = ("learning_curves", "seed_returns", "landscape")
    names = [f"{kind}-{scenario}" for scenario in ("three", "two") for kind in kinds]
    assert list(drawn) == ["success_rates", "performance_profiles", *names]


def test_pictures_fit_a_column(drawn: dict[str, plots.Plot]) -> None:
    for plot in drawn.values():
        width, height = plot.figure.get_size_inches()
        assert width == 3.3 and height < 9


def test_diverged_seeds_count_as_failures(drawn: dict[str, plots.Plot]) -> None:
    # Rows are svnr, maddpg and mine on 'three', then svnr and maddpg on 'two'.
    counts = [word for word in words(drawn["success_rates"]) if "/" in word]
    assert counts == ["3/3", "1/3", "0/2", "3/3", "1/3"]
    assert [w for w in words(drawn["seed_returns-two"]) if "/" in w] == ["3/3", "1/3"]
    assert "diverged" in drawn["seed_returns-two"].caption
    assert "diverged" not in drawn["seed_returns-three"].caption


def test_declared_returns_are_lines(drawn: dict[str, plots.Plot]) -> None:
    axes = drawn["seed_returns-three"].figure.axes[0]
    vertical = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert sorted(line.get_xdata()[0] for line in vertical) == [0.0, 10.0]
    assert {"safe", "optimal"} <= set(words(drawn["seed_returns-three"]))


def test_a_return_far_below_does_not_flatten_the_rest(drawn: dict[str, plots.Plot]) -> None:
    plot = drawn["seed_returns-three"]
    low, high = plot.figure.axes[0].get_xlim()
    assert -13 < low < -10 and 10 < high < 12
    assert "further down" in plot.caption


def test_profiles_leave_out_what_not_all_have(drawn: dict[str, plots.Plot]) -> None:
    caption = drawn["performance_profiles"].caption
    assert "1 scenario (three)" in caption and "seeds there: two." in caption


def test_colours_are_fixed_and_distinct() -> None:
    paper = ["svnr", "maddpg", "masql", "pr2", "rommeo", "lenient_madrl"]
    alone = {name: plots.styles([name])[name] for name in paper}
    together = plots.styles([*paper, "zebra", "ant"])
    assert {name: together[name] for name in paper} == alone
    assert len({color for color, _ in together.values()}) == 8
    assert len({marker for _, marker in together.values()}) == 8
    assert plots.styles(["ant", "zebra"]) == plots.styles(["zebra", "ant"])
    tuned = [f"{name}_tuned" for name in paper]
    both = plots.styles([*paper, *tuned])
    assert [both[name][0] for name in tuned] == [both[name][0] for name in paper]
    assert len(set(both.values())) == 12
    assert plots.styles(["ant", *tuned])["ant"] == plots.styles(["ant"])["ant"]


def test_the_slice_goes_through_both_hills() -> None:
    env = MaxOfThree(MaxOfThree.Config(), [0], 1)
    at = np.array([-5.0, 7.0, 1.0])
    expected = [[-5, -5, 3], [7, 7, -3], [1, 1, 0]]  # p, q and halfway
    np.testing.assert_allclose(plots.slice_actions(env, at, at), expected)


def test_the_slice_takes_the_agents_that_move_most() -> None:
    config = MaxOfThree.Config(p=(1.0, -5.0, 3.0), q=(1.0, 7.0, -3.0))
    env = MaxOfThree(config, [0], 1)
    actions = plots.slice_actions(env, np.array(7.0), np.array(-3.0))
    np.testing.assert_allclose(actions, [1, 7, -3])


def test_the_explanation_is_true() -> None:
    env = MaxOfThree(MaxOfThree.Config(s2=1.5), [0], 1)
    own, exploring, at_optimum = plots.rewards_seen(env)
    assert own[exploring.argmax()] == pytest.approx(-5)
    assert own[at_optimum.argmax()] == pytest.approx(7)
    assert at_optimum.max() == pytest.approx(10)


def test_the_explaining_picture(tmp_path: Path) -> None:
    plots.ro_picture(tmp_path / "a.png")
    plots.ro_picture(tmp_path / "b.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) < 150_000


@pytest.mark.parametrize("form", plots.FORMATS)
def test_the_same_files_give_the_same_bytes(folder: Path, form: str) -> None:
    def render() -> list[bytes]:
        data = plots.load(folder)
        return [plots.success_rates(data).render(form), plots.landscape(data, "two").render(form)]

    assert render() == render()


def test_the_command_writes_files_and_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "pictures"
    answer = CliRunner().invoke(cli.app, ["plot", str(folder / "drawn/two"), "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    assert "boom" in answer.output and "diverged" in answer.output
    magic = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for name in ("success_rates", "performance_profiles", "landscape-two", "seed_returns-two"):
        for form, start in magic.items():
            assert (out / f"{name}.{form}").read_bytes().startswith(start)
        assert f"**{name}**" in (out / "captions.md").read_text(encoding="utf-8")


def test_what_is_missing(folder: Path) -> None:
    notes = "\n".join(plots.load(folder).notes)
    assert "pr2" in notes and "boom" in notes
    assert "drawn · two: no seeds of mine" in notes
    assert "drawn · three: 2 of 3 seeds of mine" in notes
    assert "two · maddpg: 1 of 3 seeds diverged" in notes


def test_what_another_suite_has_is_not_missing(tmp_path: Path) -> None:
    short = parse_suite(
        "{name: short, seeds: 1, budget: {env_steps: 100}, algorithms: {masql: {}}, "
        "scenarios: {other: {env: max_of_three}}}"
    )
    [one] = short.cells()
    results.save(tmp_path, one, CellResult([seed_result(0, 9.0)], []), {})
    save(tmp_path, "svnr", 0, [9.0, -0.5])
    assert plots.load(tmp_path).notes == []


def test_an_environment_that_is_gone_costs_only_its_lines(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0, -0.5])
    [file] = tmp_path.rglob("config.yaml")
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    config["scenario"]["env"] = "no_such_package:Env"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    data = plots.load(tmp_path)
    assert "no_such_package" in data.notes[0]
    names = [plot.name for plot in plots.all_plots(data)]
    assert names == ["success_rates", "learning_curves-three", "seed_returns-three"]


def test_a_single_seed_is_drawn(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0])
    for plot in plots.all_plots(plots.load(tmp_path)):
        assert plot.render("png").startswith(b"\x89PNG")


def test_every_seed_diverged(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [None, None])
    for plot in plots.all_plots(plots.load(tmp_path)):
        assert plot.render("png").startswith(b"\x89PNG")


def test_nothing_but_failures_is_an_error(tmp_path: Path) -> None:
    results.save_failure(tmp_path, cell("svnr", 0), "RuntimeError: out of luck", "")
    with pytest.raises(ResultsError, match="no finished seeds.*out of luck"):
        plots.save_all(tmp_path, tmp_path / "out")


def test_two_configurations_of_one_name_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0])
    [folder] = {file.parent for file in tmp_path.rglob("config.yaml")}
    folder.rename(folder.with_name("0123456789ab"))
    save(tmp_path, "svnr", 0, [9.0])
    with pytest.raises(ResultsError, match="two configurations"):
        plots.load(tmp_path)


def test_one_scenario_name_for_two_games_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0])
    save(tmp_path, "maddpg", 0, [9.0])
    [file] = tmp_path.rglob("maddpg/*/config.yaml")
    file.write_text(file.read_text(encoding="utf-8").replace("s2: 1.5", "s2: 2.5"), "utf-8")
    with pytest.raises(ResultsError, match="'three' differs between"):
        plots.load(tmp_path)


def test_two_suites_with_one_name_for_two_games_are_drawn_apart(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0])
    save(tmp_path, "svnr", 1, [9.0])
    text = yaml.safe_dump(
        {
            "name": "mine", "seeds": 1, "budget": {"env_steps": 100}, "algorithms": {"svnr": {}},
            "scenarios": {"three": {"env": "max_of_three", "s2": 2.5}},
        }
    )  # fmt: skip
    [other] = parse_suite(text).cells()
    seed = SeedResult(
        0, [1.0], [1.0], "safe", "safe", False, 100, 90, 1000, 0.5, [[-0.5, -0.5, 0.3]]
    )
    results.save(tmp_path, other, CellResult([seed], [(0, 100, 1.0, 1.0, 0.0, 0.0)]), {})
    data = plots.load(tmp_path)
    assert data.scenarios == ["three@drawn", "two", "three@mine"]
    assert set(data.curves["scenario"]) == set(data.scenarios)
    assert [data.games[s].config.s2 for s in ("three@drawn", "three@mine")] == [1.5, 2.5]
    assert data.of("svnr", "three@mine")["return"].tolist() == [1.0]
    assert len(data.actions["svnr", "three@mine"]) == 1
    written, _ = plots.save_all(tmp_path, tmp_path / "out")
    assert tmp_path / "out" / "landscape-three@mine.png" in written


@pytest.mark.parametrize(
    ("actions", "expected"),
    [('[["a", ', "'actions' is missing or of a wrong type"), ("[[0.7], [", "one number per agent")],
)
def test_a_record_whose_actions_are_no_numbers(actions: str, expected: str, tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0])
    [file] = tmp_path.rglob("seed_0.json")
    file.write_text(file.read_text().replace('"actions": [[0.7, ', f'"actions": {actions}'))
    with pytest.raises(ResultsError, match=expected):
        plots.load(tmp_path)


def test_a_curve_that_holds_words(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0])
    [file] = tmp_path.rglob("curve.csv")
    file.write_text(file.read_text().replace("8.0", "eight"))
    with pytest.raises(ResultsError, match="not a learning curve"):
        plots.load(tmp_path)


def test_a_folder_without_curves(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0])
    [file] = tmp_path.rglob("curve.csv")
    file.unlink()
    data = plots.load(tmp_path)
    assert "no learning curves" in data.notes[0]
    assert "learning_curves-three" not in [plot.name for plot in plots.all_plots(data)]


def test_a_file_where_the_folder_should_be(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ResultsError, match="give a folder"):
        plots.save_all(folder, tmp_path / "taken")


GATHER = parse_suite("""
name: gather
seeds: 3
budget: {env_steps: 100}
algorithms: {svnr: {}, maddpg: {}}
scenarios: {gather: {env: particle_gather, radius: 0.3}}
""")
# Two particles: both enter after one step; and one goes along a wall for 25 steps.
ENTERS = [[[0.5, 0.5], [-0.7, 0.0]], [[0.0, 0.1], [0.0, 0.0]]]
STAYS = [[[-1 + 0.08 * t, 1.0], [0.6, 0.0]] for t in range(26)]


def gather(root: Path, episodes: list[dict[int, list]]) -> Path:  # type: ignore[type-arg]
    for target, found in zip(GATHER.cells(), episodes, strict=True):
        seeds = [
            SeedResult(
                seed, [value], [value], "optimum" if value > 4 else "safe", "safe", False, 100, 90,
                1000, 0.5,
            )
            for seed, value in enumerate([5.0, 4.8, -0.004])
        ]  # fmt: skip
        results.save(root, target, CellResult(seeds, [], [], found), {})
    return root


def test_an_episode_becomes_a_strip(tmp_path: Path) -> None:
    median_is_seed_1 = {0: STAYS, 1: ENTERS, 2: STAYS}
    data = plots.load(gather(tmp_path, [median_is_seed_1, {2: STAYS}]))
    plot = {p.name: p for p in plots.all_plots(data)}["episodes-gather"]
    first, second = plot.figure.axes[:4], plot.figure.axes[4:]
    assert first[0].get_title("left") == "svnr: optimum, 4.80"
    assert second[0].get_title("left") == "maddpg: safe, 0.00"
    assert [axes.get_xlabel() for axes in first if axes.axison] == ["t = 0", "t = 1"]
    assert [axes.get_xlabel() for axes in second] == ["t = 0", "t = 8", "t = 17", "t = 25"]
    assert [patch.radius for patch in first[1].patches] == [0.3]
    way, place = first[1].lines[:2]
    assert way.get_xydata().tolist() == [[0.5, 0.5], [0.0, 0.1]]
    assert place.get_xydata().tolist() == [[0.0, 0.1]]
    assert "landmark" in plot.caption
    assert plot.render("png") == plot.render("png")


def test_without_episodes_there_is_no_strip(tmp_path: Path) -> None:
    """As with results of earlier versions, and where every seed diverged."""
    data = plots.load(gather(tmp_path, [{}, {1: []}]))
    assert not [p.name for p in plots.all_plots(data) if p.name.startswith("episodes")]


@pytest.mark.parametrize("episode", ["up", [[0.1, 0.2]], [[["a", 1]]], [[[1, 2, 3]]], {"x": 1}])
def test_an_episode_that_is_none_is_named(tmp_path: Path, episode: object) -> None:
    gather(tmp_path, [{1: episode}, {}])  # type: ignore[dict-item]
    with pytest.raises(ResultsError, match=r"episodes\.json: seed 1's episode"):
        plots.load(tmp_path)
