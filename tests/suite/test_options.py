"""``--set``: checked as the file is, part of the key, and named in errors."""

import pytest

from rocompare.errors import SuiteError
from rocompare.suite.load import load_suite, parse_suite
from tests.support.made_up import run

SUITE = """\
name: demo
seeds: 3
budget: {env_steps: 100}
evaluation: {episodes: 7, points: 5}
algorithms:
  maddpg:
  slow: {use: maddpg, actor_lr: 1e-3}
  slow.2: {use: maddpg, hidden: 8}
scenarios:
  max_of_three_s2_1.5: {env: max_of_three, s2: 1.5}
  two: {env: max_of_three, p: [-5, -5], q: [5, 5]}
  both: {env: max_of_three, budget: {env_steps: 50}, algorithms: {maddpg: {hidden: 16}}}
"""


def cells(text, *settings):
    suite = parse_suite(text, "demo.yaml", settings)
    return {(c.scenario.name, c.algorithm.name): c for c in suite.cells()}


@pytest.mark.parametrize(
    ("setting", "old", "new"),
    [
        ("slow.actor_lr=0.01", "1e-3", "0.01"),
        ("slow.actor_lr=1e-2", "1e-3", "1e-2"),
        ("maddpg.hidden=32", "maddpg:\n", "maddpg: {hidden: 32}\n"),
        ("slow.2.hidden=9", "hidden: 8", "hidden: 9"),
        ("slow.use=maddpg", "use: maddpg, actor", "use: maddpg, actor"),
        ("max_of_three_s2_1.5.s2=1.2", "s2: 1.5", "s2: 1.2"),
        ("two.p=[-4, -4]", "[-5, -5]", "[-4, -4]"),
        ("budget.env_steps=500", "{env_steps: 100}", "{env_steps: 500}"),
        ("budget.envs=2", "env_steps: 100", "env_steps: 100, envs: 2"),
        ("evaluation.points=4", "points: 5", "points: 4"),
        ("seeds=[7, 9]", "seeds: 3", "seeds: [7, 9]"),
        ("name=other", "name: demo", "name: other"),
        ("both.budget.env_steps=60", "env_steps: 50", "env_steps: 60"),
        ("two.budget.env_steps=60", "q: [5, 5]", "q: [5, 5], budget: {env_steps: 60}"),
        ("both.algorithms.maddpg.hidden=17", "hidden: 16", "hidden: 17"),
        (
            "two.algorithms.slow.2.hidden=17",
            "q: [5, 5]",
            "q: [5, 5], algorithms: {slow.2: {hidden: 17}}",
        ),
        ("algorithms.slow.actor_lr=0.01", "1e-3", "0.01"),
        ("scenarios.max_of_three_s2_1.5.s2=1.2", "s2: 1.5", "s2: 1.2"),
    ],
)
def test_a_setting_is_the_same_as_an_edited_file(setting, old, new):
    assert old in SUITE
    assert cells(SUITE, setting) == cells(SUITE.replace(old, new, 1))


def test_a_setting_is_in_the_key_of_what_it_changes():
    before, after = cells(SUITE), cells(SUITE, "slow.actor_lr=0.01", "two.s1=2.0")
    changed = {name for name in before if before[name].key != after[name].key}
    assert changed == {name for name in before if name[0] == "two" or name[1] == "slow"}


def test_tuning_leaves_what_is_set_as_it_is():
    suite = parse_suite(SUITE, settings=["maddpg.actor_lr=0.01"])
    assert suite.algorithms[0].given == ("actor_lr",)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("slow.actr_lr=1", "--set slow.actr_lr=1: algorithms.slow.actr_lr: unknown key; did you"),
        ("slow.actor_lr=-1", "--set slow.actor_lr=-1: algorithms.slow.actor_lr: input should be g"),
        ("slow.actor_lr=fast", "algorithms.slow.actor_lr: input should be a valid number, got 'f"),
        ("slow.actor_lr=", "--set slow.actor_lr=: algorithms.slow.actor_lr: .* got None"),
        ("two.q=[5, 5, 5]", r"demo.yaml:11: .* got 2 and 3 \(with --set two.q=\[5, 5, 5\]\)"),
        ("two.q=[5, x]", r"--set two.q=\[5, x\]: scenarios.two.q.1: .* got 'x'"),
        (
            "budget.env_steps=4",
            "--set budget.env_steps=4: budget.env_steps: evaluation.points must",
        ),
        (
            "evaluation.points=101",
            "--set evaluation.points=101: evaluation.points: must not exceed",
        ),
        ("two.budget.envs=2", "--set two.budget.envs=2: scenarios.two.budget.env_steps: missing"),
        ("sloww.actor_lr=1", "--set sloww.actor_lr: the suite has no 'sloww'; did you mean 'slow'"),
        ("algorithms.tow.s2=1", "the suite has no 'tow'"),
        ("scenarios.tow.s2=1", "the suite has no 'tow'; did you mean 'two'"),
        ("two.algorithms.sloww.hidden=1", "the suite has no 'sloww'; did you mean 'slow'"),
        ("seeds.0=1", "--set seeds.0: 'seeds' is no mapping"),
        ("slow.actor_lr", "--set slow.actor_lr: expected NAME.KEY=VALUE"),
        ("=3", "--set =3: expected NAME.KEY=VALUE"),
        ("slow={hidden: 3}", "--set slow: a value is a number, text or a list, got a mapping"),
        ("slow=3", "--set slow=3: algorithms.slow: input should be a valid dictionary, got 3"),
        ("slow.actor_lr=[", "--set slow.actor_lr:1: not valid YAML"),
        ("slow.use=svrn", "--set slow.use=svrn: algorithms.slow.use: unknown algorithm 'svrn'"),
        ("reference=paper", "--set reference=paper: reference: unknown reference 'paper'"),
        ("a\x1b.b=1", r"--set a\\x1b.b: the suite has no 'a\\x1b'"),
    ],
)
def test_errors_name_the_option(setting, message):
    with pytest.raises(SuiteError, match=message):
        parse_suite(SUITE, "demo.yaml", [setting])


def test_a_name_of_both_kinds_must_say_which():
    text = SUITE.replace("two:", "maddpg:")
    with pytest.raises(SuiteError, match=r"'maddpg' is .* say algorithms.maddpg or scenarios"):
        parse_suite(text, "demo.yaml", ["maddpg.hidden=3"])
    assert cells(text, "algorithms.maddpg.hidden=3")["maddpg", "maddpg"].algorithm.params["hidden"]


def test_all_that_is_wrong_with_settings_is_said_at_once():
    with pytest.raises(SuiteError) as info:
        parse_suite(SUITE, "demo.yaml", ["x.y=1", "seeds.0=1", "two.s2=1"])
    assert len(info.value.problems) == 2


def test_commands_take_it(tmp_path):
    file = tmp_path / "demo.yaml"
    file.write_text(SUITE)
    assert load_suite(file, settings=["seeds=2"]).seeds == (0, 1)
    plan = run("run", file, "--results", tmp_path, "--plan", "--set", "slow.hidden=7")
    assert plan.exit_code == 0
    base = run("run", file, "--results", tmp_path, "--plan")
    lines = zip(plan.output.splitlines(), base.output.splitlines(), strict=True)
    assert {a.partition(":")[0] for a, b in lines if a != b} == {
        "max_of_three_s2_1.5 · slow", "two · slow", "both · slow",
    }  # fmt: skip
    for command in (["validate"], ["run"], ["tune", "--trials", "1"]):
        answer = run(*command, file, "--set", "slow.hiden=7", "--set", "seeds=2")
        assert isinstance(answer.exception, SuiteError)
        assert "--set slow.hiden=7: algorithms.slow.hiden: unknown key" in str(answer.exception)
    assert "2 seeds each" in run("validate", file, "--set", "seeds=2").output
