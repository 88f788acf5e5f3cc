"""The command line as a user meets it: output, exit codes, no tracebacks."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocompare.dev import bench
from rocompare.suite import registry
from rocompare.suite.load import parse_suite
from tests.support.helpers import assert_same_weights

pytestmark = pytest.mark.slow

DOCS = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path("docs").glob("*.md")))
SUITE = """
name: tiny
seeds: 2
budget: {env_steps: 30}
evaluation: {episodes: 4, points: 3}
algorithms:
  svnr: {hidden: 8, particles: 4}
  maddpg: {hidden: 8}
scenarios:
  easy: {env: max_of_three}
  hard: {env: max_of_three, s2: 1.5}
reference: paper_table1
"""


def rocompare(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "rocompare", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd, timeout=120,
        env={**os.environ, "COLUMNS": "100", **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A suite, run once."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(SUITE)
    first = rocompare("run", folder / "tiny.yaml", "--results", folder / "results", "--jobs", "1")
    assert first.returncode == 0, first.stderr
    return folder, first


def test_help_of_every_command():
    top = rocompare("--help")
    commands = re.findall(r"^│ (\w+) ", top.stdout, re.MULTILINE)
    assert {"run", "table", "list", "validate", "bench"} <= set(commands)
    assert "Exit codes" in top.stdout
    for command in commands:
        answer = rocompare(command, "--help")
        assert answer.returncode == 0
        assert "Usage: " in answer.stdout


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", rocompare("--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["list"], 0),
        (["table", "results"], 0),
        (["check", "results/tiny/easy", "--against", "results"], 2),
        (["run", "tiny.yaml", "--results", "unread", "--jobs", "1"], 0),
        (["run", "tiny.yaml", "--seeds", "0"], 2),
    ],
    ids=["list", "table", "check", "run", "error"],
)
def test_a_reader_who_leaves_changes_nothing(done, arguments, code):
    """As in `rocompare list | head -1`."""
    folder, _ = done
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "rocompare", *arguments],
        stdout=writer, stderr=writer, check=False, cwd=folder, timeout=120,
    )  # fmt: skip
    os.close(writer)
    assert process.returncode == code
    if arguments[0] == "run" and not code:
        assert len(list((folder / "unread").rglob("seed_*.json"))) == 8


def test_the_docs_python_trains_in_processes(done, tmp_path):
    """As a script, and with the guard that processes need; without it, the error says so."""
    folder, _ = done
    readme = (Path(__file__).parents[1] / "docs" / "suites.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(import rocompare\n\nsuite = .*?)```", readme, re.DOTALL)
    assert "if __name__" in code
    code = code.replace("suites/max_of_three.yaml", str(folder / "tiny.yaml"))
    code = code.replace("results/reference", str(folder / "results"))
    script = tmp_path / "script.py"
    script.write_text(f"{code}    assert len(frame) == 8\n")
    guarded = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path,
        timeout=120,
    )  # fmt: skip
    assert guarded.returncode == 0, guarded.stderr
    script.write_text(re.sub(r"if __name__.*\n +", "", code).replace('"results"', '"other"'))
    bare = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path,
        timeout=120,
    )  # fmt: skip
    assert bare.returncode == 1
    assert "call rocompare.run below `if __name__ == '__main__':`" in bare.stderr


def test_run_in_a_pipe_speaks_in_lines(done):
    _, first = done
    assert "\x1b" not in first.stdout
    lines = first.stdout.splitlines()
    assert sum("done, return" in line for line in lines) == 4
    assert re.match(r"8 seeds trained in [\d.]+ s; results in ", lines[-1])


def test_running_again_trains_nothing(done):
    folder, _ = done
    again = rocompare("run", folder / "tiny.yaml", "--results", folder / "results")
    assert again.returncode == 0
    assert "0 seeds trained" in again.stdout


def test_plan(done):
    folder, _ = done
    plan = rocompare(
        "run", folder / "tiny.yaml", "--results", folder / "results", "--seeds", "5", "--plan"
    )
    assert plan.returncode == 0
    assert "easy · svnr: 2/5 seeds done" in plan.stdout
    assert "4 cells, 12 seeds to train, about 0:" in plan.stdout
    fresh = rocompare("run", folder / "tiny.yaml", "--results", folder / "none", "--plan")
    assert "time unknown until a first cell is finished" in fresh.stdout
    assert not (folder / "none").exists()


def test_filters(done):
    folder, _ = done
    plan = rocompare(
        "run", folder / "tiny.yaml", "--plan", "--algorithm", "maddpg", "--scenario", "easy"
    )
    assert "1 cells" in plan.stdout
    wrong = rocompare("run", folder / "tiny.yaml", "--plan", "--algorithm", "madpg")
    assert wrong.returncode == 2
    assert "did you mean 'maddpg'" in wrong.stderr


def test_table(done):
    folder, _ = done
    table = rocompare("table", folder / "results")
    assert table.returncode == 0
    assert re.search(r"^svnr +-?\d+\.\d\d ± \d+\.\d\d", table.stdout, re.MULTILINE)
    assert table.stdout.count("*") >= 3  # the best of each column, and what the mark means
    for word in ("Return: undiscounted", "Budget: 30", "n = 2 seeds"):
        assert word in table.stdout


def test_table_formats(done):
    folder, _ = done
    cells = json.loads(rocompare("table", folder / "results", "--format", "json").stdout)["cells"]
    assert {(c["algorithm"], c["scenario"]) for c in cells} == {
        (a, s) for a in ("svnr", "maddpg") for s in ("easy", "hard")
    }
    markdown = rocompare("table", folder / "results", "--format", "markdown").stdout
    assert markdown.startswith("| algorithm | easy | hard |\n| --- | --- | --- |\n| svnr |")
    assert "**" in markdown
    csv = rocompare("table", folder / "results", "--format", "csv").stdout.splitlines()
    assert len(csv) == 5
    latex = rocompare("table", folder / "results", "--format", "latex").stdout
    assert r"\toprule" in latex
    assert latex.count(r"\pm") == 4


def test_a_width_of_0_is_80(done):
    folder, _ = done
    zero, eighty = (rocompare("table", folder / "results", COLUMNS=w).stdout for w in ("0", "80"))
    assert zero == eighty != ""


def test_work_goes_on_without_a_standard_output(done, tmp_path):
    """As `rocompare ... >&-`: the exit codes are those of the work."""
    folder, _ = done
    for arguments, code in (
        (["run", folder / "tiny.yaml", "--results", tmp_path, "--algorithm", "maddpg"], 0),
        (["table", folder / "results"], 0),
        (["table", "none"], 2),
    ):
        command = shlex.join([sys.executable, "-m", "rocompare", *map(str, arguments)])
        answer = subprocess.run(
            ["sh", "-c", f"{command} >&-"], stderr=subprocess.PIPE, text=True, check=False
        )
        assert answer.returncode == code, answer.stderr
        assert "Traceback" not in answer.stderr
    assert list(tmp_path.rglob("seed_0.json"))


def test_the_version_is_printed_whatever_follows():
    assert rocompare("--version", "list").stdout == rocompare("--version").stdout


@pytest.mark.parametrize("width", ["40", "60", "100", "300"])
def test_table_on_any_terminal_keeps_every_number_whole(done, width):
    folder, _ = done
    table = rocompare("table", folder / "results", COLUMNS=width).stdout
    assert len(re.findall(r"-?\d+\.\d\d ± \d+\.\d\d", table)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["validate", "none.yaml"], "none.yaml: no such file"),
        (["table", "none"], "none: no such folder"),
        (["table", "."], "no rocompare results here"),
        (["run"], "Missing argument"),
        (["run", "tiny.yaml", "--jobs", "0"], "--jobs"),
        (["run", "tiny.yaml", "--seeds", "0"], "--seeds"),
        (["run", "tiny.yaml", "--device", "tpu"], "--device"),
        (["table", ".", "--format", "pdf"], "--format"),
        (["nonsense"], "No such command"),
        (["run", "tiny.yaml", "--results", "tiny.yaml"], "tiny.yaml"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_message(arguments, message, tmp_path):
    (tmp_path / "tiny.yaml").write_text(SUITE)
    answer = rocompare(*arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_cuda_where_there_is_none(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    (tmp_path / "tiny.yaml").write_text(SUITE)
    answer = rocompare("run", "tiny.yaml", "--device", "cuda", cwd=tmp_path)
    assert answer.returncode == 2
    assert "use --device cpu" in answer.stderr


def test_a_wrong_suite_names_file_line_and_key(tmp_path):
    (tmp_path / "bad.yaml").write_text(SUITE.replace("hidden: 8, p", "hiden: 8, p"))
    for command in ("run", "validate"):
        answer = rocompare(command, "bad.yaml", cwd=tmp_path)
        assert answer.returncode == 2
        expected = "error: bad.yaml:7: algorithms.svnr.hiden: unknown key; did you mean 'hidden'?"
        assert answer.stderr.strip() == expected


def test_validate():
    answer = rocompare("validate", "suites/smoke.yaml")
    assert answer.returncode == 0
    assert "valid" in answer.stdout


def test_list_names_everything_and_everything_exists():
    answer = rocompare("list").stdout
    for name in (*registry.ALGORITHMS, *registry.ENVIRONMENTS, *registry.REFERENCES):
        assert name in answer
    for name in registry.ALGORITHMS:
        assert registry.load("algorithm", name).Config()
    for name in registry.ENVIRONMENTS:
        config = registry.load("environment", name).Config
        # The one is nothing without a factory, the other an extra.
        assert name in ("pettingzoo", "mamujoco") or config()
    root = Path(registry.__file__).parents[1] / "analysis" / "reference"
    assert all((root / file).is_file() for file in registry.REFERENCES.values())


def test_a_failed_cell_exits_with_1(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from rocompare.svnr import SVNR\n"
        "class Mine(SVNR):\n"
        "    def update(self, progress):\n"
        "        raise ValueError('no luck')\n"
    )
    text = SUITE.replace("  maddpg: {hidden: 8}", '  mine: {use: "mine:Mine"}')
    (tmp_path / "tiny.yaml").write_text(text)
    answer = rocompare("run", "tiny.yaml", "--allow-local-code", cwd=tmp_path)
    assert answer.returncode == 1
    assert "failed: easy · mine: ValueError: no luck" in answer.stderr
    assert "Traceback" not in answer.stderr
    table = rocompare("table", "results", cwd=tmp_path)
    assert "Failed: tiny/easy/mine" in table.stdout


def test_help_is_quick():
    """Against the same interpreter doing nothing, so that a slow machine does not matter."""

    def best(*command):
        times = []
        for _ in range(3):
            start = time.monotonic()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            times.append(time.monotonic() - start)
        return min(times)

    assert best("-m", "rocompare", "--help") < 0.5 + 10 * best("-c", "pass")


ROLLOUTS = ("mappo", "optimappo", "pareto_ac")
"""Algorithms without batches."""


def test_bench_prints_its_four_ratios(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(bench, "HIDDEN", 8)
    monkeypatch.setattr(bench, "SEEDS", 2)
    monkeypatch.setattr(bench, "ROUNDS", 1)
    bench.main(0.01, Console())
    out = capsys.readouterr().out
    assert len(re.findall(r"\d\.\d\dx +\d+% of the GEMM peak", out)) == 4
    assert len(re.findall(r"GEMM peak +[\d,]+ GFLOP/s", out)) == 2
    assert all(name in out for name in registry.ALGORITHMS if name not in ROLLOUTS)


def test_the_benchs_plain_code_is_maddpg(monkeypatch):
    """Same updates from the same weights: the ratio compares like with like."""

    of = bench.spec(2, False)
    cls = registry.load("algorithm", "maddpg")
    # Clipped by network or by seed is the same where nothing is clipped.
    config = cls.Config(
        batch_size=16, hidden=bench.HIDDEN, critic_activation="relu", max_grad_norm=1e6
    )
    plain = bench.PlainMADDPG(of, config)
    ours = cls(of, config, (0,), bench.CPU)
    pairs = (
        (ours.actor, plain.actors), (ours.critic, plain.critics),
        (ours.target_actor, plain.target_actors), (ours.target_critic, plain.target_critics),
    )  # fmt: skip
    for mlp, nets in pairs:
        for layer, (weight, bias) in enumerate(mlp.layers(mlp.flat.detach())):
            for g, net in enumerate(nets):
                weight[g] = net[2 * layer].weight.data.mT
                bias[g, 0] = net[2 * layer].bias.data
    before = ours.actor.flat.detach().clone()
    data = bench.Batch(
        plain.obs[None],
        plain.action[None],
        plain.reward.T,
        plain.next_obs[None],
        plain.terminated.T,
    )
    monkeypatch.setattr(ours.replay, "sample", lambda size: data)
    for _ in range(3):
        ours.update(0.5)
        plain.update()
    assert (ours.actor.flat - before).norm() > 0.1
    for mlp, nets in pairs:
        for layer, (weight, bias) in enumerate(mlp.layers(mlp.flat.detach())):
            for g, net in enumerate(nets):
                assert_same_weights(weight[g], net[2 * layer].weight.data.mT)
                assert_same_weights(bias[g, 0], net[2 * layer].bias.data)


def test_the_declared_bounds_are_complete_and_hold():
    """Every dependency has a lower bound, torch an upper one, and what is installed fits."""
    import tomllib
    from importlib.metadata import version

    from packaging.requirements import Requirement

    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    for text in [*project["dependencies"], *extras]:
        requirement = Requirement(text)
        operators = {spec.operator for spec in requirement.specifier}
        assert ">=" in operators, f"{requirement.name} has no lower bound"
        assert requirement.name != "torch" or "<=" in operators
        if requirement.name in {Requirement(r).name for r in project["dependencies"]}:
            assert requirement.specifier.contains(version(requirement.name).split("+")[0])


def test_suites_of_the_docs_parse():
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    suites = [block for block in blocks if block.lstrip("# ").startswith("name:")]
    assert suites
    for block in suites:
        assert parse_suite(block).cells()


def test_the_docs_algorithm_trains(tmp_path):
    """The example is complete, and does learn: far better than the uniform policy's -24 and -31."""
    code = next(b for b in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "Mine" in b)
    (tmp_path / "mine.py").write_text(code)
    suite = SUITE.replace("env_steps: 30", "env_steps: 200")
    suite = suite.replace("  maddpg: {hidden: 8}", '  mine: {use: "mine:Mine"}')
    (tmp_path / "tiny.yaml").write_text(suite)
    answer = rocompare(
        "run", "tiny.yaml", "--algorithm", "mine", "--allow-local-code", cwd=tmp_path
    )
    assert answer.returncode == 0, answer.stderr
    table = rocompare("table", "results", "--format", "json", cwd=tmp_path)
    cells = json.loads(table.stdout)["cells"]
    assert {cell["n"] for cell in cells} == {2}
    assert all(cell["mean"] > 5 for cell in cells)
