"""Marks, text that came from files, and where things stand."""

import warnings

import pytest

from rocompare.analysis.plots import style

PAPER = ["svnr", "maddpg", "masql", "pr2", "rommeo", "lenient_madrl"]


def test_colours_are_fixed_and_distinct():
    alone = {name: style.marks([name])[name] for name in PAPER}
    together = style.marks([*PAPER, "zebra", "ant"])
    assert {name: together[name] for name in PAPER} == alone
    assert len({look.color for look in together.values()}) == 8
    assert len({look.marker for look in together.values()}) == 8
    forth, back = style.marks(["ant", "zebra"]), style.marks(["zebra", "ant"])
    assert forth == back


def test_fifteen_algorithms_are_told_apart():
    looks = style.marks([*PAPER, *(f"other_{i}" for i in range(9))])
    assert len({look.color for look in looks.values()}) == 15
    assert len({(look.color, look.marker) for look in looks.values()}) == 15


def test_tuned_algorithms_are_dashed_and_hollow_in_the_same_colour():
    looks = style.marks(["maddpg", "maddpg_tuned", "ant_tuned", "ant"])
    for name in ("maddpg", "ant"):
        plain, tuned = looks[name], looks[f"{name}_tuned"]
        assert (plain.color, plain.marker) == (tuned.color, tuned.marker)
        assert (plain.dash, tuned.dash) == ("-", "--")
        assert (plain.fill, tuned.fill) == (plain.color, "white")


def test_text_from_files_is_one_line_that_the_font_has():
    assert style.shown("a\nb\x1b[31m") == r"a\nb\x1b[31m"
    assert style.shown("x\u202ey") == r"x\u202ey"
    assert style.shown("日本") == "??"
    assert style.shown(r"$\frac$ α ×") == r"$\frac$ α ×"


def test_a_name_that_is_too_wide_loses_its_middle():
    assert style.fitted("maddpg", 1.0) == "maddpg"
    short = style.fitted("max_of_three_sweep_s2_0.75", 0.8)
    assert short.startswith("max_") and short.endswith("0.75") and "…" in short
    assert style.text_width(short) <= 0.8
    assert style.fitted("anything", 0.01) == "…"
    # An em of 7 points is 7/72 inches, and DejaVu's "m" 0.974 em wide.
    assert style.text_width("m" * 10) == pytest.approx(10 * 0.974 * 7 / 72, rel=0.02)


def test_names_of_files_are_harmless():
    assert style.file_name("curves", "max_of_3@mine") == "curves-max_of_3@mine"
    assert style.file_name("curves", "../../etc/passwd") == "curves-.._.._etc_passwd"
    assert style.file_name("curves", "a b\n$") == "curves-a_b_n_"
    assert len(style.file_name("curves", "x" * 5000)) < 120


def test_chunks_are_even_and_in_order():
    assert style.chunks([1, 2, 3, 4, 5], 4) == [[1, 2, 3], [4, 5]]
    assert style.chunks([1, 2], 4) == [[1, 2]]
    assert style.chunks([1, 2, 3], 0) == [[1], [2], [3]]


def test_panels_stand_where_the_inches_say():
    sheet = style.Sheet(
        4.0, [1.0, 2.0], 2, left=0.5, right=0.1, top=0.3, bottom=0.4, across=0.4, down=0.2
    )
    assert sheet.size == pytest.approx((4.0, 3.9))  # 0.3 + 1 + 0.2 + 2 + 0.4
    assert sheet.panel_width == 1.5
    box = sheet.panel(1, 1).get_position()
    assert [4 * box.x0, 4 * box.width] == pytest.approx([2.4, 1.5])
    assert [3.9 * box.y0, 3.9 * box.height] == pytest.approx([0.4, 2.0])


def test_a_ragged_last_row_keeps_its_axes_named():
    sheet = style.Sheet(4.0, [1.0, 1.0], 2)
    panels = sheet.panels(3)
    sheet.name_axes(panels, "steps", "return")
    assert [axes.get_xlabel() for axes in panels] == ["", "steps", "steps"]
    assert [axes.get_ylabel() for axes in panels] == ["return", "", "return"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sheet.figure.draw_without_rendering()
    below = [any(t.label1.get_visible() for t in axes.xaxis.get_major_ticks()) for axes in panels]
    assert below == [False, True, True]
