"""The HTML report: the result first, self-contained, escaped, reproducible, alive in a browser."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from rocompare.analysis import page as html
from rocompare.analysis import plots
from rocompare.errors import ResultsError
from rocompare.results import store
from tests.support.drawn import cell_of, save
from tests.support.made_up import run, seed_result

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
PAPER = "max_of_three_s2_3.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    save(root, "svnr", "three", [9.9, 9.8, 9.7, 9.9, 9.9, 9.9, 9.9, 9.9, 9.9, 8.9])
    save(root, "maddpg", "three", [-0.4, 9.0])
    save(root, "rommeo", "three", [None, None])
    store.save_failure(root, cell_of("pr2", "two"), "RuntimeError: <b>boom</b>", "Traceback")
    # A scenario that the paper has values for.
    (root / "drawn/three").rename(root / "drawn" / PAPER)
    return root


@pytest.fixture(scope="module")
def page(folder):
    return html.report_page(folder)[0]


class Outline(HTMLParser):
    """Checks that tags nest; collects what loads something, and the texts of the first table."""

    void = frozenset({"meta", "img"})

    def __init__(self, page):
        super().__init__()
        self.open, self.loads, self.cells, self.tables = [], [], [], 0
        self.feed(page.replace("<wbr>", ""))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tables += tag == "table"
        if tag in ("td", "th") and self.tables == 1:
            self.cells.append("")
        if tag not in self.void:
            self.open.append(tag)
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.tables == 1 and {"td", "th"} & set(self.open):
            self.cells[-1] += data.strip() + " "


@pytest.mark.slow
def test_the_result_comes_first_with_published_values_beside_it(page):
    _, _, after = page.partition("<main>")
    assert after.lstrip().startswith('<section id="result">')
    cells = [" ".join(cell.split()) for cell in Outline(page).cells]
    assert cells == [
        "scenario", "svnr", "maddpg", "rommeo", PAPER,
        # Of ten seeds one has a score of 0.89; 9.77 is the mean, and the paper's is 9.60.
        "9/10 9.77 ± 0.31 9.60 ± 0.30",
        "1/2 4.30 ± 6.65 2.08 ± 4.63",
        "0/2 diverged 6.14 ± 4.82",
    ]  # fmt: skip
    assert "paper_table1, as published" in page


def test_an_arrow_where_ours_lies_wholly_above_the_published_value(tmp_path):
    save(tmp_path, "masql", "three", [9.9, 9.8, 9.7])
    (tmp_path / "drawn/three").rename(tmp_path / "drawn" / "max_of_three_s2_1.5")
    [cell] = [
        c for c in Outline(html.report_page(tmp_path)[0]).cells if "published" in c or "±" in c
    ]
    assert " ".join(cell.split()) == "3/3 9.80 ± 0.10 -0.34 ± 0.12 ↑"


def test_well_formed_and_self_contained(page):
    loads = Outline(page).loads
    assert len(loads) == 7
    assert all(value.startswith("data:image/png;base64,") for value in loads)


def test_only_its_own_style_and_script_run(page):
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, key in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{key} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and " style=" not in page


def test_text_from_files_is_escaped(page):
    assert "&lt;b&gt;boom&lt;/b&gt;" in page and "<b>boom" not in page
    assert "rocompare run &lt;here&gt;" in page


def test_everything_is_in_it(page):
    for text in (
        "2 of 2 seeds diverged",
        "failed: drawn/two/pr2",
        "s2: 1.5",
        "torch: &#39;2.9&#39;",
    ):
        assert text in page
    assert "<summary>3 cells</summary>" in page and "<summary>14 seeds</summary>" in page


def test_each_picture_is_drawn_once(folder, monkeypatch):
    drawn = []
    render = plots.Plot.render
    monkeypatch.setattr(
        plots.Plot, "render", lambda self, *a: drawn.append(self.name) or render(self, *a)
    )
    page, _ = html.report_page(folder)
    assert len(drawn) == len(set(drawn)) == page.count("<img ")


def test_only_some_pictures(folder):
    page, _ = html.report_page(folder, only=["success", "curves"])
    assert re.findall(r"<summary>([^<]*)</summary>", page)[:4] == [
        "Success rates", PAPER, f"Learning curves on {PAPER}", "3 cells",
    ]  # fmt: skip


def test_seeds_of_one_provenance_are_told_together(tmp_path):
    cell = cell_of("svnr", "two")
    for seeds, torch in (((0, 1, 2, 5), "2.6"), ((3,), "2.9")):
        store.save(tmp_path, cell, [seed_result(s, 9.0) for s in seeds], {"torch": torch})
    page, _ = html.report_page(tmp_path)
    assert "<p>seeds 0 to 2, 5</p><pre>torch: &#39;2.6&#39;</pre>" in page
    assert "<p>seed 3</p><pre>torch: &#39;2.9&#39;</pre>" in page


def test_two_folders_side_by_side(tmp_path):
    save(tmp_path / "old", "svnr", "two", [9.9, 9.8])
    save(tmp_path / "old", "maddpg", "two", [1.0, 2.0])
    save(tmp_path / "new", "svnr", "two", [9.0, 8.0], particles=8)
    page, _ = html.report_page(tmp_path / "new", only=["success"], against=tmp_path / "old")
    section = page.partition('id="change"')[2].partition("</section>")[0]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in section.split("<tr>")[2:]]
    # Two against two seeds: mean 8.5 minus 9.85; Welch's interval with 1.02 degrees of freedom.
    assert rows[0][:7] == ["two", "svnr", "2/2", "1/2", "9.85 ± 0.07", "8.50 ± 0.71", "-1.35"]
    assert rows[1] == ["two", "maddpg", "0/2", "—", "1.50 ± 0.71", "—", "—", "—"]
    assert "configuration differs: two · svnr: algorithm.params.particles" in section


def test_the_same_files_give_the_same_bytes(folder, page):
    assert html.report_page(folder)[0] == page


def test_the_command(folder, tmp_path):
    out = tmp_path / "new" / "page.html"
    answer = run("report", folder, "--out", out, "--only", "success,seeds", "--against", folder)
    assert answer.exit_code == 0 and "boom" in answer.output
    text = out.read_text(encoding="utf-8")
    assert text.lstrip().startswith("<!doctype html>") and 'id="change"' in text


def test_nothing_but_failures_is_a_report_too(tmp_path):
    store.save_failure(tmp_path, cell_of("svnr", "two"), "RuntimeError: out of luck", "")
    page, notes = html.report_page(tmp_path)
    assert "out of luck" in page and "out of luck" in notes[0]
    Outline(page)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_refused_before_anything_is_drawn(
    kind, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(html, "report_page", None)
    out = tmp_path / "out"
    out.mkdir() if kind == "folder" else os.mkfifo(out)
    with pytest.raises(ResultsError, match="give (another|the) name"):
        html.write_report(folder, out)


def test_hostile_names_are_text(tmp_path):
    name = "<img src=x onerror=alert(1)>"
    folder = save(tmp_path, "svnr", "two", [9.9, None]).parent
    folder.rename(folder.with_name(name))
    page, _ = html.report_page(tmp_path)
    assert "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page
    Outline(page)


def browse(tmp_path, page, script, *options, width=1280):
    """Open the page, run ``script`` at its end; returns the DOM after it and the console."""
    file = tmp_path / "page.html"
    if script:  # which the page's own policy would not let run
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        page = page.replace("</body>", f"<script>{script}</script></body>")
    file.write_text(page, "utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--window-size={width},900", "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}", *(options or ("--dump-dom",)), file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(console)


@needs_chromium
@pytest.mark.slow
def test_tables_sort_in_a_browser(tmp_path, page):
    # After each click on a heading, the algorithms in the table's order and the heading's state.
    script = """
        document.querySelectorAll("details").forEach(details => details.open = true);
        const table = document.querySelector("#numbers table");
        const click = name => {
          const button = [...table.querySelectorAll("button")].find(b => b.innerText === name);
          button.focus();
          button.click();
          const rows = [...table.tBodies[0].rows].map(row => row.cells[1].innerText);
          return [document.activeElement === button, button.parentNode.ariaSort, ...rows].join(" ");
        };
        const seen = ["mean", "mean", "success", "algorithm"].map(click);
        document.body.dataset.seen = seen.join("; ");
    """
    dom, console = browse(tmp_path, page, script)
    assert console == ""
    [seen] = re.findall(r'data-seen="([^"]*)"', dom)
    assert seen.split("; ") == [
        "true ascending maddpg svnr rommeo",  # no seed of rommeo has a return: last
        "true descending svnr maddpg rommeo",
        "true ascending rommeo maddpg svnr",  # 0/2, 1/2 and 9/10: as numbers, not as text
        "true ascending maddpg rommeo svnr",
    ]


@needs_chromium
@pytest.mark.slow
def test_the_page_as_it_is_has_no_console_errors_and_runs_no_other_script(tmp_path, page):
    assert browse(tmp_path, page, "")[1] == ""
    bad = page.replace("</main>", "<script>document.title = 'taken'</script></main>")
    dom, console = browse(tmp_path, bad, "")
    assert "taken</title>" not in dom and "Content Security Policy" in console


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_nothing_sticks_out_at_any_width(width, tmp_path, page):
    # In a frame, for a window is never as narrow as a phone.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (tmp_path / "inner.html").write_text(page, "utf-8")
    frame = f'<body><iframe src="inner.html" width="{width}" height="800"></iframe></body>'
    script = """
        addEventListener("load", () => {
          const inner = document.querySelector("iframe").contentDocument;
          inner.querySelectorAll("details").forEach(details => details.open = true);
          const root = inner.documentElement;
          const matrix = inner.querySelector(".matrix td").getBoundingClientRect();
          document.body.dataset.seen = [root.scrollWidth - root.clientWidth,
            matrix.top < 400 && matrix.width > 40].join(" ");
        });
    """
    dom, _ = browse(tmp_path, frame, script, width=1500)
    assert re.findall(r'data-seen="([^"]*)"', dom) == ["0 true"]


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "dark"), [(0, True), (1, False)])
def test_it_is_dark_where_that_is_preferred(scheme, dark, tmp_path, page):
    script = """
        const ink = getComputedStyle(document.body);
        const light = color => color.match(/\\d+/g).map(Number).reduce((a, b) => a + b);
        document.body.dataset.seen = light(ink.color) > light(ink.backgroundColor);
    """
    dom, _ = browse(
        tmp_path, page, script, "--dump-dom", f"--blink-settings=preferredColorScheme={scheme}"
    )
    assert re.findall(r'data-seen="([^"]*)"', dom) == [str(dark).lower()]


@needs_chromium
@pytest.mark.slow
def test_it_prints_on_a_few_pages(tmp_path, page):
    paper = tmp_path / "page.pdf"
    browse(tmp_path, page, "", f"--print-to-pdf={paper}")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type /Page\b", data)) <= 3
