"""The HTML report: self-contained, escaped, reproducible, and alive in a browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rocompare import cli
from rocompare.analysis import page as html
from rocompare.errors import ResultsError
from rocompare.results import store as results
from tests.analysis.test_plots import cell, save

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    save(root, "svnr", 0, [9.9, 9.8, 9.7, 9.9, 9.9, 9.9, 9.9, 9.9, 9.9, 9.9])
    save(root, "maddpg", 0, [-0.4, 9.0])
    save(root, "rommeo", 0, [None, None])
    results.save_failure(root, cell("pr2", 1), "RuntimeError: <b>boom</b>", "Traceback")
    return root


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return html.report_page(folder)[0]


class Outline(HTMLParser):
    """Checks that tags nest, and collects attributes that load something."""

    void = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_well_formed_and_self_contained(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert len(outline.loads) == 5
    assert all(value.startswith("data:image/") for value in outline.loads)
    assert "default-src 'none'" in page


def test_text_from_files_is_escaped(page: str) -> None:
    assert "&lt;b&gt;boom&lt;/b&gt;" in page and "<b>boom" not in page
    assert "rocompare run &lt;here&gt;" in page


def test_everything_is_in_it(page: str) -> None:
    for text in ("2 of 2 seeds diverged", "failed: drawn/two/pr2", "0/2", "10/10", "s2: 1.5"):
        assert text in page


def test_the_same_files_give_the_same_bytes(folder: Path, page: str) -> None:
    assert html.report_page(folder)[0] == page


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    answer = CliRunner().invoke(cli.app, ["report", str(folder), "--out", str(out)])
    assert answer.exit_code == 0 and "boom" in answer.output
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_nothing_but_failures_is_a_report_too(tmp_path: Path) -> None:
    results.save_failure(tmp_path, cell("svnr", 0), "RuntimeError: out of luck", "")
    assert "out of luck" in html.report_page(tmp_path)[0]


def test_a_folder_where_the_file_should_be(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="give a file"):
        html.write_report(folder, tmp_path)


def test_provenance_that_is_no_json(tmp_path: Path) -> None:
    save(tmp_path, "svnr", 0, [9.0])
    [file] = tmp_path.rglob("provenance.json")
    file.write_text("{")
    assert "not readable" in html.report_page(tmp_path)[0]


def browse(tmp_path: Path, page: str, script: str, *options: str) -> tuple[str, str]:
    """Open the page, run ``script`` at its end; returns the DOM after it and the console."""
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", *(options or ("--dump-dom",)), file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(console)


@needs_chromium
def test_tables_sort_in_a_browser_without_console_errors(tmp_path: Path, page: str) -> None:
    # After each click on a heading, the algorithms in the table's order and the heading's state.
    script = """
        const table = document.querySelector("table");
        const click = name => {
          const button = [...table.querySelectorAll("button")].find(b => b.innerText === name);
          button.focus();
          button.click();
          const rows = [...table.tBodies[0].rows].map(row => row.cells[1].innerText);
          return [document.activeElement === button, button.parentNode.ariaSort, ...rows].join(" ");
        };
        const seen = ["mean", "mean", "seeds", "algorithm"].map(click);
        document.body.dataset.seen = seen.join("; ");
    """
    dom, console = browse(tmp_path, page, script)
    assert console == ""
    [seen] = re.findall(r'data-seen="([^"]*)"', dom)
    assert seen.split("; ") == [
        "true ascending maddpg svnr rommeo",  # no seed of rommeo has a return: last
        "true descending svnr maddpg rommeo",
        "true ascending rommeo maddpg svnr",  # 0, 2 and 10: as numbers, not as text
        "true ascending maddpg rommeo svnr",
    ]


@needs_chromium
def test_the_browser_would_report_a_console_error(tmp_path: Path) -> None:
    _, console = browse(tmp_path, "<body></body>", "console.error('seen')")
    assert "seen" in console


@needs_chromium
def test_it_prints_all_of_it(tmp_path: Path, page: str) -> None:
    # Closed details are opened for the print.
    paper = tmp_path / "page.pdf"
    script = "dispatchEvent(new Event('beforeprint'))"
    dom, _ = browse(tmp_path, page, script)
    assert "<details>" not in dom and '<details open="">' in dom
    browse(tmp_path, page, "", f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")
