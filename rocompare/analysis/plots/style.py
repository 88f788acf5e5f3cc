"""How pictures look: widths, colours, marks, where panels stand, and text that came from files.

Pictures are drawn without pyplot, so there is no global state, and the same results give the same
bytes. Panels are placed by hand, in inches: a layout engine takes longer than the drawing.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from rocompare.errors import printable
from rocompare.suite.models import TUNED

FORMATS = ("png", "pdf", "svg")
WIDTHS = {"column": 3.3, "page": 6.9}
"""Inches: a column of a two-column paper, and both of them."""
PAGE_HEIGHT = 9.0
"""Inches: no picture is taller than a page's text."""
GREY = "0.35"
SMALL = 7.0
"""Points of all text but titles and axes' names."""

Array = NDArray[np.float64]
Item = TypeVar("Item")


class Mark(NamedTuple):
    """How an algorithm is drawn, in every picture alike."""

    color: str
    marker: str
    dash: str
    """Solid lines are untuned algorithms', dashed ones those that `rocompare tune` made."""
    fill: str
    """Of markers on lines: white for a tuned algorithm."""


# Okabe and Ito's colours, told apart with every common colour blindness; the markers are for
# print without colour.
FIXED = {
    "svnr": ("#0072B2", "o"),
    "maddpg": ("#D55E00", "s"),
    "masql": ("#009E73", "^"),
    "pr2": ("#CC79A7", "D"),
    "rommeo": ("#E69F00", "v"),
    "lenient_madrl": ("#56B4E9", "P"),
}
_OTHER_COLORS = (
    "#000000", "#8C8C8C", "#882255", "#332288", "#999933", "#661100", "#117733", "#AA7744",
    "#6644AA",
)  # fmt: skip
_OTHER_MARKERS = ("X", "*", "<", ">", "h", "p", "d")
_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 3,
    "axes.titley": 1.0,  # else every drawing looks for its place anew
    "axes.labelpad": 2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "lines.markeredgewidth": 0.8,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.borderpad": 0.2,
    "legend.labelspacing": 0.25,
    "legend.handlelength": 2.2,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.0,
    "savefig.dpi": 300,
    "svg.hashsalt": "rocompare",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: many conferences refuse matplotlib's default Type 3
    # Names of files and folders may hold a dollar sign; nothing here writes formulas.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Plot:
    """A picture and the words that belong under it."""

    name: str
    """Of its file, without suffix."""
    title: str
    caption: str
    """What is to be seen, in sentences."""
    figure: Figure
    scenario: str = ""
    """As tables call it; empty for a picture of all scenarios."""

    @property
    def inches(self) -> tuple[float, float]:
        """Width and height."""
        width, height = self.figure.get_size_inches()
        return float(width), float(height)

    def render(self, form: str, dpi: int = 300, colors: int | None = None) -> bytes:
        """The picture as ``png``, ``svg`` or ``pdf``.

        Args:
            dpi: of a PNG.
            colors: of a PNG's palette, which makes it several times smaller.
        """
        buffer = io.BytesIO()
        with drawing():
            if form == "png":
                self._pixels(dpi, colors).save(buffer, "png", dpi=(dpi, dpi))
            else:
                # Without dates and versions, so that equal pictures are equal bytes.
                metadata = {"Date" if form == "svg" else "CreationDate": None}
                self.figure.savefig(buffer, format=form, metadata=metadata)
        return buffer.getvalue()

    def _pixels(self, dpi: int, colors: int | None) -> Image.Image:
        self.figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        if colors is None:
            return image
        image = image.quantize(colors, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette = image.getpalette() or []
        # What is nearly white is the background.
        image.putpalette([255 if value > 250 else value for value in palette])
        return image


def file_name(kind: str, label: str = "") -> str:
    """``kind-label`` as the name of a file, whatever letters the label has."""
    safe = "".join(c if c.isalnum() or c in "._-+@" else "_" for c in shown(label))
    return f"{kind}-{safe[:100]}" if label else kind


def in_parts(
    name: str, title: str, caption: str, figures: Sequence[Figure], scenario: str = ""
) -> list[Plot]:
    """A plot per figure, numbered where there are several."""
    if len(figures) == 1:
        return [Plot(name, title, caption, figures[0], scenario)]
    of = len(figures)
    return [
        Plot(f"{name}-{i}", f"{title}, part {i} of {of}", caption, figure, scenario)
        for i, figure in enumerate(figures, 1)
    ]


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """``items`` in order, at most ``size`` together and as evenly as that allows."""
    parts = max(1, math.ceil(len(items) / max(1, size)))
    size = math.ceil(len(items) / parts)
    return [items[i : i + size] for i in range(0, len(items), max(1, size))]


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's own defaults and ours: a user's matplotlibrc must not change the pictures."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)  # type: ignore[arg-type]
        yield


def marks(algorithms: Sequence[str]) -> dict[str, Mark]:
    """By name, how an algorithm is drawn: fixed for the algorithms of the paper, in the names'
    order for all others. A tuned algorithm has the colour and the marker of the untuned one."""
    others = sorted({untuned(name) for name in algorithms} - FIXED.keys())
    looks = FIXED | {
        name: (_OTHER_COLORS[i % len(_OTHER_COLORS)], _OTHER_MARKERS[i % len(_OTHER_MARKERS)])
        for i, name in enumerate(others)
    }
    found = {}
    for name in algorithms:
        color, marker = looks[untuned(name)]
        tuned = name != untuned(name)
        found[name] = Mark(color, marker, "--" if tuned else "-", "white" if tuned else color)
    return found


def untuned(algorithm: str) -> str:
    """The name that `rocompare tune` gave its suffix to."""
    return algorithm.removesuffix(TUNED)


@functools.cache
def _glyphs() -> frozenset[int]:
    path = font_manager.findfont("DejaVu Sans")
    return frozenset(font_manager.get_font(path).get_charmap())


def shown(text: str) -> str:
    """Text that came from a file, as pictures show it: one line of letters that the font has."""
    return "".join(c if ord(c) in _glyphs() else "?" for c in printable(text))


@functools.cache
def text_width(text: str, points: float = SMALL) -> float:
    """Inches."""
    # At ten times a screen's resolution: letters' widths are rounded to pixels.
    renderer = RendererAgg(8, 8, 720)
    font = font_manager.FontProperties(family="DejaVu Sans", size=points)
    return float(renderer.get_text_width_height_descent(text, font, False)[0]) / 720


@functools.cache
def fitted(text: str, inches: float, points: float = SMALL) -> str:
    """``text`` as pictures show it, without its middle where it is too wide for its place: names
    of variants differ at their ends."""
    text = shown(text)
    if text_width(text, points) <= inches:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        if text_width(short, points) <= inches:
            return short
    return "…"


class Sheet:
    """A figure with panels in a grid. All lengths are in inches.

    Args:
        heights: of the panels' rows, from the top.
        top: room above the first row, for a legend and titles.
        across: between columns.
        down: between rows.
    """

    def __init__(
        self,
        width: float,
        heights: Sequence[float],
        columns: int = 1,
        *,
        left: float = 0.5,
        right: float = 0.12,
        top: float = 0.2,
        bottom: float = 0.38,
        across: float = 0.15,
        down: float = 0.28,
    ) -> None:
        self.size = width, top + sum(heights) + down * (len(heights) - 1) + bottom
        self.figure = Figure(self.size)
        self._heights, self._columns = heights, columns
        self._left, self._top, self._across, self._down = left, top, across, down
        self.panel_width = (width - left - right - across * (columns - 1)) / columns

    def panel(self, row: int = 0, column: int = 0, left: float | None = None) -> Axes:
        """A new panel, which starts ``left`` inches from the edge instead of where its column
        does."""
        width, height = self.size
        above = self._top + sum(self._heights[:row]) + self._down * row
        x = self._left + column * (self.panel_width + self._across)
        end = x + self.panel_width
        x = x if left is None else left
        y = height - above - self._heights[row]
        box = x / width, y / height, (end - x) / width, self._heights[row] / height
        return self.figure.add_axes(box)

    def panels(self, count: int) -> list[Axes]:
        """The first ``count`` panels, row by row. Those with none below or left of them keep the
        numbers at their axes, the others have ticks alone."""
        found = []
        for i in range(count):
            axes = self.panel(i // self._columns, i % self._columns)
            axes.tick_params(
                labelleft=i % self._columns == 0, labelbottom=i + self._columns >= count
            )
            found.append(axes)
        return found

    def name_axes(self, panels: Sequence[Axes], x: str, y: str) -> None:
        """Names at the left panels, and at those with none below them."""
        for i, axes in enumerate(panels):
            if i % self._columns == 0:
                axes.set_ylabel(y)
            if i + self._columns >= len(panels):
                axes.set_xlabel(x)


class Legend:
    """Names with their marks, in as many columns as fit a width.

    Attributes:
        height: inches.
    """

    def __init__(self, names: Sequence[str], looks: dict[str, Mark], width: float) -> None:
        handle = 2.7 * SMALL / 72  # the line, and the space behind it
        between = 1.0 * SMALL / 72
        # One long name must not put all names into one column.
        self.names = [fitted(name, 1.3) for name in names]
        self.looks = [looks[name] for name in names]
        widest = handle + max(text_width(name) for name in self.names)
        self.columns = max(1, min(len(names), int((width - 0.05 + between) / (widest + between))))
        rows = math.ceil(len(names) / self.columns)
        self.height = rows * 1.4 * SMALL / 72 + 0.06
        self.width = width

    def draw(self, figure: Figure, left: float = 0.0) -> None:
        """At the figure's top, ``left`` inches from its edge."""
        handles = [
            Line2D([], [], color=look.color, marker=look.marker, ls=look.dash, mfc=look.fill)
            for look in self.looks
        ]
        width, height = figure.get_size_inches()
        figure.legend(
            handles, self.names, ncols=self.columns, loc="upper center",
            bbox_to_anchor=((left + self.width / 2) / width, 1 - 0.02 / height),
        )  # fmt: skip


def limit(
    set_limits: Any, values: Array, declared: tuple[float, float] | None, *, depth: float
) -> bool:
    """Show the safe and the optimal return and all values; True if some lie too far below.

    Args:
        declared: safe and optimal return, if they are known.
        depth: how far below the safe return to go, in units of its gap to the optimal one.
    """
    numbers = values[np.isfinite(values)]
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 1.0)
    cut = False
    if declared is not None:
        safe, optimal = declared
        # Early returns can be hundreds below the safe one, which would flatten all the rest.
        floor = safe - depth * (optimal - safe)
        cut = bool(low < floor)
        low, high = min(max(low, floor), safe), max(high, optimal)
    pad = 0.06 * (high - low) or 1.0
    set_limits(low - pad, high + pad)
    return cut


def declared_lines(
    axes: Axes, declared: tuple[float, float] | None, along: str, *, named: bool = True
) -> None:
    """Dotted lines at the declared returns; if ``named``, with their names outside the axes."""
    for value, text in zip(declared or (), ("safe", "optimal"), strict=False):
        line: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 0.8, "zorder": 0}
        words: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "color": GREY}
        (axes.axhline if along == "y" else axes.axvline)(value, **line)
        if named and along == "y":
            axes.annotate(
                text, (1, value), (2, 0), xycoords=("axes fraction", "data"), va="center", **words
            )
        elif named:
            axes.annotate(
                text, (value, 1), (0, 2), xycoords=("data", "axes fraction"), ha="center", **words
            )


def row_names(axes: Axes, names: Sequence[str], inches: float) -> None:
    """Names at the rows, the first on top, in ``inches`` left of the axes."""
    axes.set_yticks(range(len(names)), [fitted(name, inches) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def names_width(names: Iterable[str], most: float) -> float:
    """Inches that :func:`row_names` needs for ``names``, at most ``most``."""
    return min(most, max((text_width(shown(name)) for name in names), default=0.0) + 0.02)


def beside(axes: Axes, row: float, text: str) -> None:
    """``text`` right of the axes at a row."""
    axes.annotate(
        text, (1, row), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="center", fontsize=SMALL, annotation_clip=False,
    )  # fmt: skip


def steps_axis(axes: Axes, steps: Array, most: int = 4) -> None:
    """About ``most`` round numbers of environment steps, in thousands where they are many."""
    axes.locator_params(axis="x", nbins=most)
    if len(steps) and steps[-1] >= 10_000:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.4g}k" if value else "0")
    else:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.5g}")
