"""What goes wrong outside: killed processes, full disks, files that somebody else has changed."""

import contextlib
import copy
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

import rocompare
from rocompare import cli
from rocompare.analysis import diagnose, render, samples, table
from rocompare.errors import ResultsError
from rocompare.execute.runner import ExecutorSettings, run_suite
from rocompare.learn import engine
from rocompare.results import store
from rocompare.results.reader import Results
from rocompare.suite.load import parse_suite
from tests.support import made_up
from tests.support.helpers import contents

pytestmark = pytest.mark.slow

PROBE = """
name: probe
seeds: 2
budget: {{env_steps: 40}}
evaluation: {{episodes: 2, points: 4}}
algorithms: {{one: {{use: "tests.support.probe:Recorder", {one}}}, two: {{use: "tests.support.probe:Recorder"}}}}
scenarios: {{game: {{env: max_of_three}}}}
"""


def probe(one="random_fraction: 0.3"):
    return parse_suite(PROBE.format(one=one))


def states(outcome):
    return [status.state for status in outcome.cells]


def test_kills_at_random_moments_change_nothing():
    """Every algorithm; ``python -m tests.kills`` does twenty."""
    command = [sys.executable, "-m", "tests.kills", "4", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match("[4-9] kills", done.stdout)
    assert "all equal" in done.stdout


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_second_ctrl_c_ends_at_once(jobs, tmp_path):
    """The first has to wait for an update that takes ten minutes."""
    path = tmp_path / "slow.yaml"
    slow = "pause: 600, learning_starts_fraction: 0.0"
    path.write_text(PROBE.format(one=slow).replace('Recorder"}', f'Recorder", {slow}}}'))
    command = [
        sys.executable,
        "-m",
        "rocompare",
        "run",
        str(path),
        "--jobs",
        jobs,
        "--allow-local-code",
    ]
    process = subprocess.Popen(
        [*command, "--results", str(tmp_path / "results")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: list(tmp_path.rglob(".lock")))
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert f"continue with: {Path(sys.executable).name} -m rocompare run" in errors
    assert "game · one: 0/2 seeds done, stopped" in output


def test_a_second_ctrl_c_may_come_while_workers_end(tmp_path, monkeypatch):
    from rocompare.execute import local as executor

    class Slow(executor.ThreadExecutor):
        def close(self):
            super().close()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(executor, "ThreadExecutor", Slow)

    def press(found):
        if found[0].state == "running" and not pressed:
            pressed.append(signal.raise_signal(signal.SIGINT))

    pressed = []
    outcome = run_suite(probe("pause: 0.01"), tmp_path, ExecutorSettings(jobs=1), watch=press)
    assert outcome.at_once
    assert states(outcome) == ["stopped", "stopped"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_fail_fast_stops(tmp_path):
    outcome = run_suite(probe("fail_at: 0.5"), tmp_path, ExecutorSettings(jobs=1), fail_fast=True)
    assert states(outcome) == ["failed", "stopped"]
    assert not outcome.interrupted
    outcome = run_suite(probe("fail_at: 0.5"), tmp_path, ExecutorSettings(jobs=1))
    assert states(outcome) == ["failed", "done"]


def test_fail_fast_from_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "suite.yaml").write_text(PROBE.format(one="fail_at: 0.5"))
    monkeypatch.chdir(tmp_path)
    code, output = command("run", "suite.yaml", "--jobs", "1", "--fail-fast", capsys=capsys)
    assert code == 1
    assert "failed: game · one: ValueError: it went wrong on purpose" in output
    assert "stopped at the first failure; continue with: " in output


def command(*arguments, capsys):
    """Exit code and output of the command line, in this process."""
    before = sys.argv
    sys.argv = ["rocompare", *map(str, arguments)]
    try:
        cli.main()
        code = 0
    except SystemExit as ending:
        code = ending.code or 0
    finally:
        sys.argv = before
    return code, "".join(capsys.readouterr())


def test_an_exception_that_cannot_be_sent_is_data(tmp_path):
    """It has no way back from its text; a pool would break on reading it."""
    suite = probe("fail_at: 0.5, odd_error: true")
    outcome = run_suite(suite, tmp_path, ExecutorSettings(jobs=2))
    assert states(outcome) == ["failed", "done"]
    assert outcome.cells[0].error == "OddError: 1 and 2"


def test_the_table_says_how_many_seeds_failed(tmp_path):
    made_up.write(tmp_path, {("wide", "maddpg"): [9.0] * 8, ("narrow", "maddpg"): [9.0] * 10})
    cells = made_up.cells_of()
    failed = cells["wide", "maddpg"].with_seeds((8, 9))
    store.save_failure(tmp_path, failed, "boom", "")
    other = cells["wide", "other"].with_seeds(tuple(range(10)))
    store.save_failure(tmp_path, other, "bang", "")
    found = table.return_table(Results(tmp_path))
    text = render.render(found, "markdown")
    assert "9.00 ± 0.00 (n=8/10)" in text
    assert "| other | — | failed (n=0/10) |" in text
    assert "Failed: made_up/wide/maddpg" in text
    success = table.return_table(Results(tmp_path), "success")
    assert "8/8 [0.68, 1.00] (n=8/10)" in render.render(success, "markdown")
    assert {row["seeds"] for row in json.loads(render.render(found, "json"))["cells"]} == {10}


@contextlib.contextmanager
def full_disk(size):
    """No file can grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_full_disk_is_a_message_and_leaves_nothing_half_written(
    checkpoints, tmp_path, monkeypatch
):
    if checkpoints:
        monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    with full_disk(400):
        outcome = run_suite(probe(), tmp_path / "a", ExecutorSettings(jobs=1))
    # A checkpoint that cannot be written is a warning; results that cannot be are a failure.
    assert states(outcome) == ["failed", "failed"]
    for status in outcome.cells:
        assert status.progress.fraction == 1
        assert re.search("cannot write results: .*File too large", status.error)
        assert str(tmp_path) in status.error
    warned = [m for m in outcome.messages if "cannot write the checkpoint: File too large" in m]
    assert bool(warned) == checkpoints
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names <= {".lock", "failure.json"}
    with pytest.raises(ResultsError, match="no rocompare results here"):
        rocompare.load_results(tmp_path)
    # Once there is room again, the same command ends as if nothing had been.
    assert states(run_suite(probe(), tmp_path / "a", ExecutorSettings(jobs=1))) == ["done", "done"]
    run_suite(probe(), tmp_path / "b", ExecutorSettings(jobs=1))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not list(tmp_path.rglob("failure.json"))


@contextlib.contextmanager
def nobody():
    """Without the rights of root, for whom nothing is read-only."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_read_only_folder_is_refused_before_anything_trains():
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o555)
        with nobody(), pytest.raises(OSError, match="cannot write results here .*denied"):
            run_suite(probe("fail_at: 0.0"), folder / "results", ExecutorSettings(jobs=1))
        suite = folder / "probe"
        folder.chmod(0o755)
        suite.mkdir()
        suite.chmod(0o555)
        with nobody(), pytest.raises(OSError, match=f"{suite}: cannot write.* --results"):
            run_suite(probe("fail_at: 0.0"), folder, ExecutorSettings(jobs=1))
        assert not list(suite.iterdir())
    finally:
        shutil.rmtree(folder)


def test_a_cell_that_cannot_be_written_does_not_stop_the_others(tmp_path):
    cell = probe().cells()[0]
    (tmp_path / cell.path).parent.mkdir(parents=True)
    (tmp_path / cell.path).write_text("in the way")
    outcome = run_suite(probe(), tmp_path, ExecutorSettings(jobs=1))
    assert states(outcome) == ["failed", "done"]
    assert "cannot write results" in outcome.cells[0].error


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    folder = tmp_path / probe().cells()[0].path
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork beside threads: the child starts none
        child = os.fork()
    if not child:
        lock = FileLock(folder / ".lock")
        lock.acquire()
        (folder / "held").touch()
        time.sleep(600)
    seen = []

    def watch(found):
        seen.append(found[0].state)
        if seen.count("elsewhere") == 2:
            os.kill(child, signal.SIGKILL)

    try:
        wait_for((folder / "held").exists)
        outcome = run_suite(probe(), tmp_path, ExecutorSettings(jobs=1), watch=watch)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert "elsewhere" in seen
    assert states(outcome) == ["done", "done"]


def test_two_runs_on_one_folder_share_the_work(tmp_path):
    suite = probe("pause: 0.01")
    outcomes = []
    runs = [
        threading.Thread(
            target=lambda: outcomes.append(
                run_suite(suite, tmp_path / "a", ExecutorSettings(jobs=1))
            )
        )
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [states(outcome) for outcome in outcomes] == [["done", "done"]] * 2
    trained = [s.cell.label for o in outcomes for s in o.cells if s.progress]
    assert sorted(trained) == ["game · one", "game · two"]
    run_suite(suite, tmp_path / "b", ExecutorSettings(jobs=1))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("n_files", range(3))
def test_a_save_that_was_killed_is_finished_by_the_next_run(n_files, tmp_path, monkeypatch):
    """Killed after any of its files: the records of a cell are never parted."""
    run_suite(probe(), tmp_path / "whole", ExecutorSettings(jobs=1))
    moved = []
    replace = Path.replace

    class Killed(BaseException):
        pass

    def move_some(path, target):
        if path.parent.name == store.STAGED:
            if len(moved) == n_files:
                raise Killed
            moved.append(path)
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", move_some)
        with pytest.raises(Killed):
            run_suite(probe(), tmp_path / "a", ExecutorSettings(jobs=1))
    left = next((tmp_path / "a").rglob(store.STAGED)).parent
    (left / ".half.tmp").write_text("half")
    outcome = run_suite(probe(), tmp_path / "a", ExecutorSettings(jobs=1))
    assert states(outcome) == ["done", "done"]
    assert outcome.cells[0].progress is None  # it was not trained again
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")
    assert not list(left.glob("*.tmp"))
    assert not (left / store.STAGED).exists()


def test_a_corrupt_failure_is_named(tmp_path):
    made_up.write(tmp_path, {("wide", "maddpg"): [9.0] * 2, ("wide", "other"): ValueError("x")})
    path = next(tmp_path.rglob("failure.json"))
    path.write_text("{")
    with pytest.raises(ResultsError, match=re.escape(str(path))):
        Results(tmp_path)


VALUES = [
    None, True, -1, 0, 2**70, 1e308, float("nan"), "", "x", "../../x", "\x00\ud800", [], {}, [[]],
    [None], {"a": {}}, "[bold]", "9" * 400,
]  # fmt: skip


def mutate(value, chance):
    """The same plain data with a few things in it replaced, dropped or doubled."""
    if chance.random() < 0.05:
        return copy.deepcopy(chance.choice(VALUES))
    if isinstance(value, dict):
        found = {k: mutate(v, chance) for k, v in value.items() if chance.random() > 0.02}
        return {**found, "extra": 1} if chance.random() < 0.02 else found
    if isinstance(value, list):
        found = [mutate(v, chance) for v in value if chance.random() > 0.02]
        return found * 2 if chance.random() < 0.02 else found
    return value


def damage(name, text, chance):
    """What a file ``name`` may have become: torn, or of another shape."""
    if chance.random() < 0.3:
        data = bytearray(text.encode())
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 9)] = chance.randbytes(chance.randint(0, 3))
        return bytes(data[: chance.randint(0, 2 * len(data))])
    if name.endswith(".yaml"):
        return yaml.safe_dump(mutate(yaml.safe_load(text), chance)).encode()
    return json.dumps(mutate(json.loads(text), chance)).encode()


@pytest.mark.fuzz
def test_no_change_to_a_result_file_ends_in_a_traceback(tmp_path):
    """Each damaged file is read as a result, or refused with its name."""
    made_up.write(tmp_path, {("wide", "maddpg"): [9.0, None], ("wide", "other"): ValueError("x")})
    cell = made_up.cells_of()["wide", "maddpg"]
    folder = tmp_path / cell.path
    files = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    summary = files.pop(folder / "summary.json")
    readers = (
        lambda: render.render(table.return_table(Results(tmp_path)), "rich"),
        lambda: samples.load(tmp_path),
        lambda: Results(tmp_path, details=True).curves(),
        lambda: diagnose.render(tmp_path),
        lambda: store.finished_seeds(tmp_path, cell),
    )
    chance = random.Random(0)
    refused = 0
    rounds = 6000 if os.environ.get("ROCOMPARE_FUZZ") == "thorough" else 600
    for i in range(rounds):
        path = chance.choice(list(files))
        for other, text in files.items():
            other.write_text(text)
        (folder / "summary.json").write_text(summary)
        path.write_bytes(damage(path.name, files[path], chance))
        for read in readers:
            try:
                read()
            except ResultsError as error:
                refused += 1
                assert str(tmp_path) in str(error)
                assert len(str(error)) < 2000
            except Exception as error:
                raise AssertionError(f"{i} {path.name}: {path.read_bytes()!r}") from error
    assert refused > rounds / 4
    outside = {p for p in tmp_path.rglob("*") if p.is_file()} - set(files)
    assert outside <= {folder / "summary.json"}


WORDS = [
    "", "-", "--", "-1", "0", "1", "3", "1e400", "nan", "inf", "9" * 40, "0x10", "../..", "/", ".",
    "/dev/null", "/nowhere/at/all", "x" * 5000, "a/b", "\udcff", "ü", "[bold]x[/bold]", "%s", "{}",
    "suite.yaml", "results", "svnr", "maddpg", "cpu", "ray", "local", "json", "csv", "rich", "gap",
    "success", "paper_table1", "wide", "other", "-h", "--help", "os:system", "a\nb", "$(x)", "~",
]  # fmt: skip
OPTIONS = [
    "--results", "--seeds", "--algorithm", "--scenario", "--jobs", "--device", "--executor",
    "--address", "--gpus-per-cell", "--format", "--statistic", "--reference", "--execution",
    "--against", "--tolerance", "--alpha", "--fail-fast", "--version", "--nonsense",
]  # fmt: skip


def test_no_command_line_ends_in_a_traceback(tmp_path, monkeypatch, capsys):
    """Random words and options; what exists stays as it is, and nothing else appears."""
    made_up.write(tmp_path / "results", {("wide", "maddpg"): [9.0, 8.0], ("wide", "other"): [1.0]})
    (tmp_path / "suite.yaml").write_text(made_up.SUITE.format(hidden=16))
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    chance = random.Random(0)
    codes = set()
    for _ in range(1500):
        name = chance.choice(
            ["run", "table", "validate", "compare", "check", "list", "x", "--help"]
        )
        words = [chance.choice(WORDS) for _ in range(chance.randint(0, 3))]
        if chance.random() < 0.5:
            words.insert(0, "suite.yaml" if name in ("run", "validate") else "results")
        for _ in range(chance.randint(0, 3)):
            words += [chance.choice(OPTIONS), chance.choice(WORDS)]
        words += ["--plan"] if name == "run" else []
        code, output = command(name, *words, capsys=capsys)
        assert code in (0, 1, 2, 3), (name, words, output)
        assert "Traceback" not in output
        assert code == 0 or output, (name, words)
        codes.add(code)
    assert {0, 2} <= codes
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
