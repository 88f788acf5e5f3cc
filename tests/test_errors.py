"""What is shown of text that somebody else wrote."""

import pytest

from rocompare.errors import MAX_TEXT, UserError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with é, ± and 中", "plain, with é, ± and 中"),
        ("\x1b]0;pwned\x07", r"\x1b]0;pwned\x07"),
        ("a\nerror: forged", r"a\nerror: forged"),
        ("tab\there", r"tab\there"),
        ("\x9b31m", r"\x9b31m"),  # a terminal's escape in one character
        ("\u202edet\u2028rever", r"\u202edet\u2028rever"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\udcff", r"\udcff"),  # of a file name that is not UTF-8
        ("[red]:smile:[/red]", "[red]:smile:[/red]"),
        (ValueError("one\ntwo"), r"one\ntwo"),
    ],
)
def test_one_line_that_a_terminal_only_shows(text, shown):
    assert printable(text) == shown


def test_a_long_text_keeps_where_and_what_to_do():
    shown = printable("where" + "x" * 10_000 + "what to do")
    assert len(shown) == MAX_TEXT == 500
    assert shown.startswith("wherexxx") and shown.endswith("xxxwhat to do")
    assert " ... " in shown
    assert printable("x" * 20, limit=20) == "x" * 20
    assert len(printable("x" * 21, limit=20)) == 20
    assert len(printable("x" * 19 + "\x1b", limit=20)) == 20  # shown with four letters


def test_every_message_of_an_error_is_one_line():
    error = UserError(["first\x1b", "second\nforged"])
    assert error.problems == [r"first\x1b", r"second\nforged"]
    assert str(error) == "first\\x1b\nsecond\\nforged"
    assert UserError("alone\n").problems == [r"alone\n"]
