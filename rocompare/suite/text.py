"""Text that did not come from this code, made fit to be shown."""

from __future__ import annotations

LIMIT = 500


def printable(text: str, limit: int = LIMIT) -> str:
    """One line of ``text`` without control characters, cut at ``limit`` characters."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text[: 4 * limit].split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
