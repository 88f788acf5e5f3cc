"""Text that did not come from this code, made safe in each format: names, tags, keys, errors.

One function a format. A name may be that of a folder, which anybody may have written, and a
table is pasted into papers, spreadsheets and pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rocompare.errors import printable

LIMIT = 5_000
"""Letters of a name or note; errors were cut when they were read."""
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "—": "--",
    "×": r"$\times$", "†": r"$^\dagger$",
    **{character: rf"\{character}" for character in "_%&#${}"},
})  # fmt: skip
_FORMULA = re.compile(r"\s*[=+\-@]")


def terminal(lines: Iterable[str]) -> str:
    """A text of these lines, none of which holds another or moves the cursor."""
    return "".join(f"{printable(line, LIMIT)}\n" for line in lines)


def latex(text: str) -> str:
    """As it reads, in a paper's text: no command, no group, no comment."""
    return printable(text, LIMIT).translate(_LATEX)


def markdown(text: str) -> str:
    """As it reads, in one cell of a table or one line of text: no HTML, no link, no emphasis."""
    text = printable(text, LIMIT).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w)|^#)", r"\\\1", text)


def csv(text: str) -> str:
    """As it reads, in a cell that no spreadsheet takes for a formula: an apostrophe goes first.

    Quotes and commas are left to whoever writes the file.
    """
    text = printable(text, LIMIT)
    return f"'{text}" if _FORMULA.match(text) else text
