"""Pictures: what they show, that nothing is cut, and that they are the same bytes each time."""

import math

import numpy as np
import pytest

from rocompare.analysis import plots
from rocompare.analysis.plots import curves, landscape, success
from rocompare.analysis.plots.data import Data
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.errors import ResultsError
from rocompare.results.reader import Results
from tests.support.drawn import ENTERS, STAYS, save


def load(root, *arguments):
    return Data(Results(root, details=True), *arguments)


def drawn(root, *arguments, **options):
    return {plot.name: plot for plot in plots.all_plots(load(root, *arguments), **options)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    save(root, "svnr", "three", [9.9, 9.8, 9.7])
    save(root, "maddpg", "three", [-0.4, 9.0, -50.0])
    save(root, "mine", "three", [-0.4, -0.2])
    save(root, "svnr", "two", [9.9, 9.8, 9.7])
    save(root, "maddpg", "two", [9.5, None, -0.3])
    return root


@pytest.fixture(scope="module")
def pictures(folder):
    return drawn(folder)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Fifteen algorithms with names of 22 letters and the longest one, on four games."""
    root = tmp_path_factory.mktemp("crowd")
    names = [f"an_algorithm_called_{i:02}" for i in range(13)]
    for name in [*names, names[0] + "_tuned", "w" * 64]:
        for scenario in ("three", "matrix", "gather"):
            save(root, name, scenario, [9.9, -123.0, 4.7])
    return root


def words(plot):
    """Every text in a picture, axis by axis."""
    found = []
    for axes in plot.figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()]
        found += [label.get_text() for label in axes.get_yticklabels()]
    return found


def test_every_picture_that_the_data_allow(pictures):
    kinds = ("curves", "seeds", "diagnosis", "landscape")
    names = [f"{kind}-{scenario}" for scenario in ("three", "two") for kind in kinds]
    assert list(pictures) == ["success", "profiles", "ranks", *names]


def test_bars_join_those_that_seeds_cannot_tell_apart(tmp_path):
    """Ten seeds of each: the first two differ by less than their spread, the third by far more."""
    spread = np.linspace(-1, 1, 10)
    for name, mean in (("svnr", 8.0), ("maddpg", 7.9), ("masql", 1.0)):
        save(tmp_path, name, "three", (mean + spread).tolist())
        save(tmp_path, name, "two", (mean + 0.5 * spread).tolist())
    plot = drawn(tmp_path, only=["ranks"])["ranks"]
    (axes,) = plot.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["svnr", "maddpg", "masql"]
    assert [text.get_text() for text in axes.texts] == ["1.0", "2.0", "3.0"]
    bars = [list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert bars == [[0, 1], [0, 1]]  # the bar and its dots
    assert "over 2 scenarios" in plot.caption


def test_only_some_kinds(folder):
    assert list(drawn(folder, only=["seeds", "success"])) == ["success", "seeds-three", "seeds-two"]
    with pytest.raises(ResultsError, match="--only: no picture is called 'sedes'.*'seeds'"):
        drawn(folder, only=["sedes"])


def test_progress_is_told(folder):
    seen = []
    drawn(folder, only=["seeds"], watch=lambda done, of: seen.append((done, of)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "inches"), [("column", 3.3), ("page", 6.9)])
def test_nothing_is_cut_and_no_picture_is_taller_than_a_page(crowd, width, inches):
    for name, plot in drawn(crowd, width=width).items():
        assert plot.inches[0] == inches and plot.inches[1] <= 9.0, name
        # In inches, of every text, mark and line that is drawn, the legend's too.
        box = plot.figure.get_tightbbox()
        within = box.x0 > -0.01 and box.x1 < inches + 0.01 and box.y0 > -0.01
        assert within and box.y1 < plot.inches[1] + 0.01, (name, box)


def test_a_legend_does_not_reach_into_the_panel(crowd):
    plot = drawn(crowd, only=["profiles"])["profiles"]
    plot.render("png", 100)
    [legend] = plot.figure.legends
    [axes] = plot.figure.axes
    assert len(legend.get_texts()) == 15
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1


@pytest.mark.slow
def test_pictures_that_do_not_fit_a_page_have_parts(crowd):
    names = list(drawn(crowd, only=["landscape"]))
    assert names == [
        "landscape-matrix-1", "landscape-matrix-2", "landscape-three-1", "landscape-three-2",
    ]  # fmt: skip


def test_success_rates_are_counts_of_scores(pictures):
    # Rows are svnr, maddpg and mine on 'three', then svnr and maddpg on 'two'.
    counts = [word for word in words(pictures["success"]) if "/" in word]
    assert counts == ["3/3", "1/3", "0/2", "3/3", "1/3"]
    assert [w for w in words(pictures["seeds-two"]) if "/" in w] == ["3/3", "1/3"]
    assert "diverged" in pictures["seeds-two"].caption
    assert "diverged" not in pictures["seeds-three"].caption


def test_filled_marks_are_successes(tmp_path):
    # In the optimum's basin twice, but one of the scores is 0.8.
    save(tmp_path, "svnr", "two", [9.5, 8.0, 0.1])
    [plot] = drawn(tmp_path, only=["seeds"]).values()
    [hollow] = [line for line in plot.figure.axes[0].lines if line.get_markerfacecolor() == "white"
                and line.get_marker() == "o"]  # fmt: skip
    [filled] = [line for line in plot.figure.axes[0].lines if line.get_markerfacecolor() != "white"
                and line.get_marker() == "o"]  # fmt: skip
    assert hollow.get_xdata().tolist() == [8.0, 0.1]
    assert filled.get_xdata().tolist() == [9.5]


def test_declared_returns_and_the_limit_of_success_are_lines(pictures):
    axes = pictures["seeds-three"].figure.axes[0]
    dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    dashed = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert (sorted(dotted), dashed) == ([0.0, 10.0], [9.0])
    assert {"safe", "optimal"} <= set(words(pictures["seeds-three"]))


def test_a_return_far_below_does_not_flatten_the_rest(pictures):
    low, high = pictures["seeds-three"].figure.axes[0].get_xlim()
    assert -13 < low < -10 and 10 < high < 12
    assert "further down" in pictures["seeds-three"].caption


def test_profiles_are_of_the_largest_block_of_cells(pictures):
    # Two algorithms on two scenarios are more cells than three on one.
    caption = pictures["profiles"].caption
    assert "2 scenarios (three, two)" in caption and "have seeds: mine." in caption


def test_the_band_of_a_mean_stays_in_the_range_of_what_can_be():
    # Half of ten seeds at either end: Wilson's interval of 5 of 10 with Student's quantile, and
    # the sample's variance, 10/9 of the rate's.
    values = np.array([[0.0, 10.0] * 5])
    mean, low, high = curves.mean_and_band(values, (0.0, 10.0))
    k = 2.262157**2 * (10 / 9) / 10
    half = math.sqrt(k / 4 + k * k / 4) / (1 + k)
    assert (mean[0], low[0], high[0]) == pytest.approx((5, 5 - 10 * half, 5 + 10 * half), abs=1e-4)
    values = np.random.default_rng(0).normal(size=(3, 5)) ** 3
    mean, low, high = curves.mean_and_band(values, curves.NOTHING)
    assert (low >= values.min()).all() and (high <= values.max()).all()
    assert (low < mean).all() and (mean < high).all()


def test_a_seed_that_diverged_leaves_the_mean():
    mean, low, high = curves.mean_and_band(
        np.array([[1.0, 2.0, 3.0], [1.0, 1.0, np.nan], [np.nan, 2.0, np.nan], [np.nan] * 3]),
        (0.0, 4.0),
    )
    assert mean[:3].tolist() == [2.0, 1.0, 2.0] and np.isnan(mean[3])
    assert (low[1], high[1]) == pytest.approx((1.0, 1.0))
    assert 0 <= low[0] < 2 < high[0] <= 4
    assert np.isnan([low[2:], high[2:]]).all()  # one seed, and none


def test_perceived_ro_is_shown_at_the_end_alone(pictures):
    plot = pictures["diagnosis-three"]
    executed, perceived = plot.figure.axes
    assert executed.get_ylabel() == "executed RO"
    assert executed.lines[0].get_ydata().tolist() == [4.0, 1.0]
    drawn_values = {x for line in perceived.lines for x in np.atleast_1d(line.get_xdata()).tolist()}
    assert 12.0 not in drawn_values and 0.5 in drawn_values  # 12 was its first value
    assert "at the end of training" in perceived.get_xlabel()
    assert "0.01 of optimal minus safe return" in plot.caption


def test_a_landscape_shows_the_actions_of_all_seeds(pictures):
    axes = pictures["landscape-three"].figure.axes
    assert [one.get_title("left") for one in axes[:3]] == ["svnr", "maddpg", "mine"]
    places = axes[1].lines[-1].get_xydata()
    np.testing.assert_allclose(places, [[-5, -5]] * 2 + [[7, 7]] * 2 + [[-5, -5]] * 2, rtol=1e-6)


def test_panels_of_a_landscape_are_alike(pictures):
    first, second = pictures["landscape-three"].figure.axes[:2]
    assert first.get_xlim() == second.get_xlim() == (-10, 10)
    assert len(first.collections) == len(second.collections)
    for a, b in zip(first.collections, second.collections, strict=True):
        np.testing.assert_array_equal(a.get_facecolor(), b.get_facecolor())
        assert [len(p.vertices) for p in a.get_paths()] == [len(p.vertices) for p in b.get_paths()]


def test_actions_of_discrete_games_do_not_hide_each_other(tmp_path):
    save(tmp_path, "svnr", "matrix", [11.0, 5.0])
    data = load(tmp_path)
    env = data.environment("matrix")
    places = landscape.places_of(env, data.cells["svnr", "matrix"])
    # Agent 1 plays 0, agent 2 plays 0; then 1 and 2: columns of the one-hot rows.
    np.testing.assert_array_equal(places.round(), [[0, 0], [0, 0], [1, 2], [1, 2]])
    assert len(np.unique(places, axis=0)) == 4


def test_a_record_with_too_few_actions_is_named(tmp_path):
    file = save(tmp_path, "svnr", "three", [9.0]) / "seed_0.json"
    file.write_text(file.read_text().replace("[0.7,0.7,-0.3]", "[0.7]"))
    with pytest.raises(ResultsError, match=r"seed_0\.json: an entry of 'actions'"):
        drawn(tmp_path)


def test_parameters_that_a_game_no_longer_takes_cost_only_its_landscape(tmp_path):
    file = save(tmp_path, "svnr", "three", [9.0]) / "config.yaml"
    file.write_text(file.read_text().replace("s2: 1.5", "s2: -1.5"))
    data = load(tmp_path)
    assert "landscape-three" not in [plot.name for plot in plots.all_plots(data)]
    assert "three: its game is not drawn" in data.notes[-1]


def test_an_episode_becomes_a_strip(tmp_path):
    save(tmp_path, "svnr", "gather", [5.0, 4.8, -0.004])
    save(tmp_path, "maddpg", "gather", [-0.004])
    plot = drawn(tmp_path)["episodes-gather"]
    first, second = plot.figure.axes[:2], plot.figure.axes[2:]
    assert first[0].get_title("left") == "svnr: safe, 4.80"  # basins are those of made-up seeds
    assert second[0].get_title("left") == "maddpg: safe, 0.00"
    assert [axes.get_xlabel() for axes in first] == ["t = 0", "t = 1"]
    assert [axes.get_xlabel() for axes in second] == ["t = 0", "t = 8", "t = 17", "t = 25"]
    assert [patch.radius for patch in first[1].patches] == [0.3]
    way, place = first[1].lines[:2]
    assert way.get_xydata().tolist() == [step[0] for step in ENTERS]
    assert place.get_xydata().tolist() == [[0.0, 0.1]]
    assert second[3].lines[0].get_xydata()[-1].tolist() == pytest.approx(STAYS[25][0])


@pytest.mark.parametrize("positions", ["[[[0.1,0.2],[0.3]]]", "[[]]"])
def test_an_episode_that_is_none_is_named(positions, tmp_path):
    file = save(tmp_path, "svnr", "gather", [-1.0]) / "seed_0.json"
    start, _, rest = file.read_text().partition('"positions":')
    file.write_text(
        f'{start}"positions":{positions},"provenance"' + rest.partition('"provenance"')[2]
    )
    with pytest.raises(ResultsError, match=r"seed_0\.json: 'positions'"):
        drawn(tmp_path)


def test_a_sweep_and_a_sensitivity_are_drawn(tmp_path):
    for particles in (8, 16, 32):
        save(tmp_path, f"svnr_{particles}", "two", [9.9, 9.8], particles=particles)
    save(tmp_path, "svnr_own", "two", [9.9, 0.0], particles=32, critic_activation="relu")
    found = drawn(tmp_path, only=["sweeps"])
    assert list(found) == ["sensitivity-svnr"]
    panels = found["sensitivity-svnr"].figure.axes
    assert [axes.get_xlabel() for axes in panels] == ["particles", "critic_activation"]
    assert [t.get_text() for t in panels[0].get_xticklabels()] == ["8", "16", "32"]
    rates = panels[0].lines[0].get_ydata().tolist(), panels[1].lines[0].get_ydata().tolist()
    assert rates == ([1.0, 1.0, 1.0], [1.0, 0.5])
    # Both panels have the variant of 32 particles, which is marked: the last of one, the first of the other.
    middles = [box.get_x() + box.get_width() / 2 for axes in panels for box in axes.patches]
    assert middles == pytest.approx([2, 0])
    assert "svnr_32, which all panels share" in found["sensitivity-svnr"].caption


def test_a_hyperparameters_long_name_stands_in_two_lines():
    assert success._in_lines("particles", 1.0) == "particles"
    two = success._in_lines("noise_anneal_start_fraction", 1.2)
    assert two == "noise_anneal_\nstart_fraction"


@pytest.mark.parametrize("returns", [[9.0], [None, None], [3e38, -3e38]])
@pytest.mark.slow
def test_one_seed_none_and_huge_returns_are_drawn(returns, tmp_path):
    for scenario in ("three", "two", "gather"):
        save(tmp_path, "svnr", scenario, returns)
    for plot in drawn(tmp_path).values():
        assert plot.render("png", 50).startswith(b"\x89PNG")


@pytest.mark.parametrize("form", plots.FORMATS)
@pytest.mark.slow
def test_the_same_files_give_the_same_bytes(folder, form):
    def render():
        found = drawn(folder, only=["success", "landscape"])
        return [plot.render(form) for plot in found.values()]

    assert render() == render()


def test_a_palette_keeps_the_background_white_and_the_colours(pictures):
    import io

    from PIL import Image

    plot = pictures["seeds-two"]
    small, full = plot.render("png", 100, 64), plot.render("png", 100)
    assert len(small) < 0.7 * len(full)
    image = Image.open(io.BytesIO(small))
    assert image.mode == "P"
    pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels[0] == 255).all()
    blue = np.array([0x00, 0x72, 0xB2])
    assert np.abs(pixels.astype(int) - blue).sum(1).min() < 20


def test_the_explanation_is_true():
    from rocompare.analysis.plots import explain

    env = MaxOfThree(MaxOfThree.Config(s2=1.5), [0], 1)
    own, exploring, at_optimum = explain.rewards_seen(env)
    assert own[exploring.argmax()] == pytest.approx(-5)
    assert own[at_optimum.argmax()] == pytest.approx(7)
    assert at_optimum.max() == pytest.approx(10)
    data = explain.picture().render("png", 50)
    assert data == explain.picture().render("png", 50)
    assert data.startswith(b"\x89PNG")
