"""What `rocompare list` prints, on terminals of any width and in pipes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rocompare.suite import catalog
from rocompare.suite.catalog import Entry, Parameter

WIDE_LIST, WIDE_TABLE = 60, 110
"""Columns of a terminal from which names stand beside what they mean, not above it."""


def print_entries(entries: Sequence[Entry], console: Console) -> None:
    """Names and what they are about, under a heading for each kind."""
    width = max(len(entry.name) for entry in entries)
    for kind in dict.fromkeys(entry.kind for entry in entries):
        console.print(Text(f"{kind}s", style="bold"))
        rows = [(entry.name, entry.about) for entry in entries if entry.kind == kind]
        if console.width < WIDE_LIST:
            for name, about in rows:
                _print_stacked(Text(f"  {name}"), about, console)
            continue
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, min_width=width)
        table.add_column()
        for name, about in rows:
            table.add_row(Text(name), Text(about, style="dim"))
        console.print(Padding(table, (0, 0, 0, 2), expand=False))


def print_each(entries: Sequence[Entry], console: Console) -> None:
    """What has the name that was asked for; classes with all their parameters."""
    for entry in entries:
        console.print(Text.assemble((entry.name, "bold"), f" ({entry.kind}, {entry.place})"))
        console.print(Text(entry.about))
        if entry.kind in catalog.TABLES:
            console.print()
            _print_parameters(catalog.parameters(entry), console)
            console.print()


def _print_parameters(rows: Sequence[Parameter], console: Console) -> None:
    if console.width < WIDE_TABLE:
        for row in rows:
            default = row.start if row.required else f"default {row.start}"
            comma = "," if row.range.startswith("each") else ""
            kind = f"{row.type}{comma} {row.range}".rstrip()
            head = Text.assemble((row.name, "bold"), f"  {kind}; {default}")
            _print_stacked(head, row.meaning, console)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("parameter", no_wrap=True)
    for title in ("type", "range", "default"):
        table.add_column(title, max_width=24, overflow="fold")
    table.add_column("meaning")
    for row in rows:
        table.add_row(*map(Text, (row.name, row.type, row.range, row.start, row.meaning)))
    console.print(table)


def _print_stacked(title: Text, meaning: str, console: Console) -> None:
    console.print(title)
    if meaning:
        console.print(Padding(Text(meaning, style="dim"), (0, 0, 0, 4), expand=False))
