"""The live display: lines in a pipe, a grid that fits the terminal."""

import io
import math

import pytest
from rich.console import Console

from rocompare.execute.display import Display, clock, sparkline
from rocompare.execute.runner import CellStatus
from rocompare.learn.engine import Progress
from rocompare.suite.load import parse_suite

SUITE = """
name: demo
seeds: 4
budget: {env_steps: 100}
evaluation: {episodes: 2, points: 2}
algorithms: {svnr: {}, maddpg: {}}
scenarios: {easy: {env: max_of_three}, hard: {env: max_of_three, s2: 1.5}}
"""
HALF = Progress(0.5, 8.25, 3, 4, 1234.0, 65.4)


def statuses():
    found = [CellStatus(cell, cell.seeds, "waiting") for cell in parse_suite(SUITE).cells()]
    found[0].state, found[0].progress = "running", HALF
    found[1].state, found[1].error = "failed", "RuntimeError: boom"
    return found


def console(width, height=24, terminal=True):
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=terminal, no_color=True
    )


def grid(width, height=24, found=None):
    screen = console(width, height, terminal=False)
    display = Display(screen)
    with screen.capture() as capture:
        screen.print(display._grid(found or statuses()))
    return capture.get()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3723, "1:02:03"), (math.inf, "?")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_sparkline_runs_from_the_lowest_to_the_highest():
    assert sparkline([-30, -30 + 40 * 3 / 7, 10]) == "▁▄█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([0.0, *[7.0] * 12]) == "█" * 12  # the lowest counts though it is out of sight


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_grid_fits_and_keeps_the_numbers(width):
    text = grid(width)
    assert max(map(len, text.splitlines())) <= width
    for number in ("8.25", "3/4", "1:05"):
        assert number in text
    assert ("1,234" in text) == (width >= 90)
    assert "failed" in text


def test_what_does_not_fit_the_screen_is_summed_up():
    text = grid(100, height=7, found=statuses())
    assert "… 4 cells, 0 done" in text
    assert "running" in text
    assert "failed" in text


def test_a_terminal_shows_the_curve_so_far():
    screen = console(120)
    display = Display(screen)
    found = statuses()
    with display:
        for fraction, value in (
            (0.1, -20.0),
            (0.1, -20.0),
            (0.2, 0.0),
            (0.3, math.nan),
            (0.5, 8.0),
        ):
            found[0].progress = Progress(fraction, value, 0, 4, 1.0, 1.0)
            display.show(found)
    assert display.returns == {found[0].cell.label: {0.1: -20.0, 0.2: 0.0, 0.5: 8.0}}
    assert "▁▆█" in screen.file.getvalue()


def test_a_pipe_gets_a_line_where_a_state_changes():
    screen = console(80, terminal=False)
    display = Display(screen)
    found = statuses()
    with display:
        display.show(found)
        display.show(found)
        found[0].state = "done"
        display.show(found)
    label = found[0].cell.label
    assert screen.file.getvalue().splitlines() == [
        f"{label}: running 50%, 1:05 left, return 8.25, 3/4 at 0.9, 1,234 updates/s",
        f"{found[1].cell.label}: failed: RuntimeError: boom",
        f"{label}: done, return 8.25, 3/4 at 0.9, 1,234 updates/s",
    ]
