"""Suite files: what is accepted, what every error says, and that no input ends in a traceback."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocompare import api
from rocompare.envs.max_of_three import MaxOfThree
from rocompare.errors import SuiteError
from rocompare.suite import registry
from rocompare.suite.load import load_suite, parse_suite
from tests.support.suites import GOOD, problems


def test_a_good_suite():
    suite = parse_suite(GOOD)
    assert suite.seeds == (0, 1, 2)
    assert [a.name for a in suite.algorithms] == ["svnr", "svnr_k3", "maddpg"]
    assert [a.use for a in suite.algorithms][:2] == ["rocompare.svnr:SVNR"] * 2
    assert suite.algorithms[1].params["rounds"] == 3
    assert suite.algorithms[2].params["actor_lr"] == 0.001
    assert suite.scenarios[1].params["q"] == [5.0, 5.0]
    assert len(suite.cells()) == 6


@pytest.mark.parametrize("path", sorted(Path("suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_suite_that_ships_is_valid(path):
    suite = load_suite(path)
    assert suite.cells()
    assert suite.name == path.stem


def test_table1_has_the_settings_of_its_games_own_suites():
    def keys(name):
        cells = load_suite(f"suites/{name}.yaml").cells()
        return {(cell.scenario.name, cell.algorithm.name): cell.key for cell in cells}

    own = keys("max_of_three") | keys("particle_gather")
    table1 = keys("table1")
    assert len(table1) == 28
    assert table1.items() <= own.items()


def test_defaults():
    text = "name: a\nseeds: [5, 2]\nbudget: {env_steps: 30}\nalgorithms: {maddpg: }\n"
    suite = parse_suite(text + "scenarios: {s: {env: max_of_three}}")
    assert suite.seeds == (5, 2)
    assert suite.evaluation.model_dump() == {"episodes": 100, "points": 20}
    assert suite.budget.envs == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seeds: 3", "sedes: 3", r"demo.yaml:2: sedes: unknown key; did you mean 'seeds'\?"),
        ("seeds: 3", "", r"demo.yaml:1: seeds: missing"),
        ("seeds: 3", "seeds: 0", r"demo.yaml:2: seeds: .*between 1 and 10000, got 0"),
        ("seeds: 3", "seeds: -3", r"demo.yaml:2: seeds: "),
        ("seeds: 3", "seeds: [1, 1]", r"demo.yaml:2: seeds: seed 1 is listed twice"),
        ("seeds: 3", "seeds: [1, -1]", r"demo.yaml:2: seeds: .*got -1"),
        ("seeds: 3", "seeds: []", r"demo.yaml:2: seeds: "),
        ("seeds: 3", "seeds: true", r"demo.yaml:2: seeds: .*got True"),
        ("seeds: 3", "seeds: three", r"demo.yaml:2: seeds: .*got 'three'"),
        ("seeds: 3", "seeds: 3\nseeds: 4", r"demo.yaml:3: 'seeds' stands here twice .*line 2"),
        ("env_steps: 100", "env_steps: -1", r"demo.yaml:3: budget.env_steps: .*greater than 0, got -1"),
        ("env_steps: 100", "env_steps: .nan", r"demo.yaml:3: budget.env_steps: .*got nan"),
        ("env_steps: 100", "env_steps: 1.5", r"demo.yaml:3: budget.env_steps: .*integer, got 1.5"),
        ("env_steps: 100", 'env_steps: "100"', r"demo.yaml:3: budget.env_steps: .*integer, got '100'"),
        ("env_steps: 100", "steps: 100", r"demo.yaml:3: budget.steps: unknown key; .*env_steps"),
        ("points: 5", "points: 500", r"points must not exceed"),
        ("actor_lr: 1e-3", "actor_lr: -1", r"demo.yaml:8: algorithms.maddpg.actor_lr: "),
        ("actor_lr: 1e-3", "actor_lr: .inf", r"demo.yaml:8: algorithms.maddpg.actor_lr: .*finite"),
        ("actor_lr: 1e-3", "actr_lr: 1", r"demo.yaml:8: .*actr_lr: unknown key; .*'actor_lr'"),
        ("actor_lr: 1e-3", "actor_lr: fast", r"demo.yaml:8: .*number, got 'fast'"),
        ("rounds: 3", "rounds: 2.5", r"demo.yaml:7: algorithms.svnr_k3.rounds: "),
        ("use: svnr", "use: svrn", r"demo.yaml:7: .*unknown algorithm 'svrn'; did you mean 'svnr'"),
        ("use: svnr", "use: [svnr]", r"demo.yaml:7: algorithms.svnr_k3.use: expected the algorithm's"),
        ("use: svnr", "use: no_such:Thing", r"demo.yaml:7: .*cannot import 'no_such'"),
        ("use: svnr", "use: 'os:system'", r"'os:system' is not an algorithm: it has no Config"),
        ("use: svnr", "use: rocompare.svnr:SVN", r"has no 'SVN'; did you mean 'SVNR'"),
        ("use: svnr", "use: ../x:Y", r"not of the form 'package.module:Class'"),
        ("  maddpg", "  maddgp", r"demo.yaml:8: .*unknown algorithm 'maddgp'; did you mean 'maddpg'"),
        ("  easy", "  ../easy", r"demo.yaml:10: scenarios.../easy: a name has"),
        ("name: demo", "name: ../demo", r"demo.yaml:1: name: a name has"),
        ("name: demo", "name: /tmp", r"demo.yaml:1: name: a name has"),
        ("name: demo", "name: .", r"demo.yaml:1: name: a name has"),
        ("name: demo", "name: 7", r"demo.yaml:1: name: .*string, got 7"),
        ("name: demo", f"name: {'x' * 65}", r"demo.yaml:1: name: a name has"),
        ("env: max_of_three, s2: 3.0", "s2: 3.0", r"demo.yaml:10: scenarios.easy: 'env' is missing"),
        ("env: max_of_three, s2: 3.0", "env: max_of_tree", r"demo.yaml:10: .*'max_of_three'"),
        ("s2: 3.0", "s2: 0", r"demo.yaml:10: scenarios.easy.s2: .*greater than 0, got 0"),
        ("s2: 3.0", "s2: yes", r"demo.yaml:10: scenarios.easy.s2: .*got 'yes'"),
        ("q: [5, 5]", "q: [5, 5, 5]", r"demo.yaml:11: scenarios.two: p and q need one entry"),
        ("q: [5, 5]", "q: [5, x]", r"demo.yaml:11: scenarios.two.q.1: .*got 'x'"),
        ("paper_table1", "papertable1", r"demo.yaml:12: reference: .*did you mean 'paper_table1'"),
        ("name: demo", "name: [", r"demo.yaml:\d+: not valid YAML"),
        ("name: demo", "name: !!python/object/apply:os.system [x]", r"demo.yaml:1: name: "),
        ("name: demo", "? [a]\n: b\nname: demo", r"demo.yaml:1: a key must be text"),
        ("  svnr: {}", "  no: {}", r"unknown algorithm 'no'"),
        ("  svnr: {}", "  1: {}", r"demo.yaml:6: algorithms: a key must be text; quote it: '1'"),
        ("  svnr: {}", "  svnr: 5", r"demo.yaml:6: algorithms.svnr: .*dictionary, got 5"),
    ],
)  # fmt: skip
def test_errors_say_where_and_what(old, new, expected):
    assert old in GOOD
    found = problems(GOOD.replace(old, new, 1))
    assert any(re.search(expected, line) for line in found), found
    assert all(line.startswith("demo.yaml:") for line in found)


def test_every_problem_is_reported_at_once():
    text = GOOD.replace("rounds: 3", "rounds: x").replace("s2: 3.0", "s3: 3.0")
    found = problems(text)
    assert [re.match(r"demo.yaml:(\d+)", line)[1] for line in found] == ["7", "10"]


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "null", "~", "---\n"])
def test_an_empty_file_says_so(text):
    assert "empty" in problems(text)[0]


@pytest.mark.parametrize("text", ["[]", "- a\n- b", "text", "3", "true"])
def test_something_else_than_a_mapping(text):
    assert "expected a mapping" in problems(text)[0]


SCALARS = [
    "-1", "0", "1e400", "-0", ".nan", ".inf", "~", "true", "no", '""', "'..'", "../x", "[]", "{}",
    "[[]]", "9" * 30, "!!python/name:os.system", "!!binary x", "&a", "*a", "<<", "\x07", "\u2028",
    "2024-01-01", "0x1F", "1:30", "os:system", "a:b", "rocompare.cli:app", "'\0'", "- -", "? ",
    "maddpg", "svnr", "max_of_three", "x" * 300,
]  # fmt: skip


@st.composite
def mutated(draw):
    """The good suite with a few words replaced, lines dropped, doubled or torn."""
    lines = GOOD.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            words = re.split(r"(\w+)", lines[at])
            place = draw(st.integers(0, len(words) - 1))
            words[place] = draw(st.sampled_from(SCALARS) | st.text(max_size=8))
            lines[at] = "".join(words)
        elif kind == 1:
            lines.pop(at)
        elif kind == 2:
            lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
        elif kind == 3:
            lines[at] = " " * draw(st.integers(0, 6)) + lines[at].lstrip()
        elif kind == 4:
            cut = draw(st.integers(0, len(lines[at])))
            lines[at] = (
                lines[at][:cut]
                + draw(st.sampled_from("{}[]:,#&*!|>'\"%@`\t-? "))
                + (lines[at][cut:])
            )
        else:
            lines[at] = re.sub(r"[\w.]+(?=[,}]|$)", draw(st.sampled_from(SCALARS)), lines[at])
        lines = lines or [""]
    return "\n".join(lines)


THOROUGH = os.environ.get("ROCOMPARE_FUZZ") == "thorough"


@pytest.mark.fuzz
@settings(
    max_examples=5000 if THOROUGH else 400,
    deadline=None,
    derandomize=not THOROUGH,
    suppress_health_check=list(HealthCheck),
)
@given(mutated() | st.text(max_size=200))
@pytest.mark.slow
def test_no_input_ends_in_anything_but_a_suite_or_a_message(text):
    try:
        suite = parse_suite(text, "fuzz.yaml")
    except SuiteError as error:
        assert error.problems
        for line in error.problems:
            assert line.startswith("fuzz.yaml") and line.isprintable() and len(line) <= 500
        return
    for cell in suite.cells():
        assert not cell.path.is_absolute()
        assert ".." not in cell.path.parts
        assert len(cell.path.parts) == 4


OWN = GOOD.replace(
    "scenarios:",
    """scenarios:
  longer:
    env: max_of_three
    budget: {env_steps: 77, envs: 7}
    algorithms: {svnr: {hidden: 32}}""",
    1,
)


def test_a_scenario_can_have_its_own_budget_and_hyperparameters():
    cells = {(c.scenario.name, c.algorithm.name): c for c in parse_suite(OWN).cells()}
    plain = {(c.scenario.name, c.algorithm.name): c for c in parse_suite(GOOD).cells()}
    assert all(cells[name].key == cell.key for name, cell in plain.items())
    longer = cells["longer", "svnr"]
    assert longer.budget.model_dump() == {"env_steps": 77, "envs": 7}
    base = next(c for name, c in plain.items() if name[1] == "svnr")
    assert longer.algorithm.params == {**base.algorithm.params, "hidden": 32}
    assert cells["longer", "maddpg"].algorithm == plain[base.scenario.name, "maddpg"].algorithm
    assert cells["longer", "maddpg"].budget.env_steps == 77


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("budget: {env_steps: 77, envs: 7}", None),
        ("budget: {env_step: 77}", "scenarios.longer.budget.env_step: unknown key.*'env_steps'"),
        ("budget: {env_steps: 2}", "scenarios.longer.budget.env_steps: evaluation.points must not"),
        ("budget: 3", "scenarios.longer.budget"),
        ("algorithms: {svnrr: {}}", "the suite has no algorithm 'svnrr'; did you mean 'svnr'"),
        ("algorithms: {svnr: 3}", "expected hyperparameters, got 3"),
        ("algorithms: [svnr]", "expected the algorithms' names"),
        ("algorithms: {svnr: {hiden: 3}}", "algorithms.svnr.hiden: unknown key.*'hidden'"),
        ("algorithms: {svnr: {hidden: 0}}", "algorithms.svnr.hidden: .*greater than 0"),
        ("algorithms: {svnr: {use: maddpg}}", "algorithms.svnr.use: unknown key"),
    ],
)
def test_what_is_wrong_with_a_scenarios_own_settings_is_named(text, expected):
    suite = OWN.replace("    budget: {env_steps: 77, envs: 7}\n", "").replace(
        "    algorithms: {svnr: {hidden: 32}}", f"    {text}"
    )
    if expected is None:
        assert parse_suite(suite)
        return
    with pytest.raises(SuiteError, match=expected):
        parse_suite(suite, "demo.yaml")


def test_everything_wrong_is_said_at_once():
    text = """name: ../bad
seeds: 0
budget: {env_steps: -5}
algoritms: {}
algorithms:
  svnr: {alpha_frist: 3}
  madpg: {}
  pr2: 7
scenarios:
  a: {env: max_of_thre}
  b: {env: max_of_three, s2: -1}
  c: {env: max_of_three, budget: {env_steps: 0}, algorithms: {svnr: {}, rommeo: {}}}
  d:
  e: {s2: 1}
"""
    lines = [int(problem.split(":")[1]) for problem in problems(text)]
    # Line 12 has two; what is wrong with svnr is said in line 6 alone.
    assert sorted(lines) == [1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 12, 13, 14]


def test_too_many_points_are_said_beside_other_mistakes():
    text = GOOD.replace("env_steps: 100", "env_steps: 4").replace("max_of_three", "max_of_thre")
    points, easy, two = problems(text)
    assert points == (
        "demo.yaml:3: budget.env_steps: evaluation.points must not exceed env_steps: 5 evaluations "
        "in 4 steps"
    )
    assert "did you mean 'max_of_three'" in easy and "did you mean 'max_of_three'" in two


class Discrete(MaxOfThree):
    """Says that its actions are discrete, and counts how often it is made."""

    made = 0

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        Discrete.made += 1
        self.spec = replace(self.spec, discrete=True)


def test_algorithms_must_take_the_games_actions(monkeypatch):
    monkeypatch.setitem(registry.ENVIRONMENTS, "choose", f"{__name__}:Discrete")
    text = GOOD.replace("env: max_of_three, s2: 3.0", "env: choose, s2: 3.0")
    [problem] = problems(text)
    assert problem.startswith(
        "demo.yaml:10: scenarios.easy: its actions are discrete, which svnr, svnr_k3, maddpg cannot "
        "take; algorithms that can: "
    )
    assert "maddpg" not in problem.partition("can: ")[2]
    monkeypatch.setattr(registry.load("algorithm", "maddpg"), "actions", ("continuous", "discrete"))
    [problem] = problems(text)
    assert "which svnr, svnr_k3 cannot take; algorithms that can: " in problem
    assert "maddpg" in problem.partition("can: ")[2]
    only = text.replace("  svnr: {}\n  svnr_k3: {use: svnr, rounds: 3}\n", "")
    assert len(parse_suite(only).cells()) == 2
    monkeypatch.setattr(registry.load("algorithm", "maddpg"), "actions", ("discrete",))
    [problem] = problems(only)
    assert "demo.yaml:9: scenarios.two: its actions are continuous, which maddpg cannot" in problem


def test_algorithms_must_be_able_to_play_in_the_game():
    text = """\
name: demo
seeds: 1
budget: {env_steps: 100}
algorithms:
  svnr: {hears: [[], [1], [2]]}
scenarios:
  three: {env: max_of_three}
  two: {env: max_of_three, p: [-5, -5], q: [7, 7]}
"""
    message = "svnr cannot play here: 'hears' has 3 lists for 2 agents"
    assert problems(text) == [f"demo.yaml:8: scenarios.two: {message}"]
    text = text.replace("q: [7, 7]", "q: [7, 7], algorithms: {svnr: {hears: [[], [1]]}}")
    assert len(parse_suite(text).cells()) == 2


def test_no_environment_of_the_users_is_made_for_that():
    before = Discrete.made
    assert parse_suite(
        GOOD.replace("env: max_of_three, s2: 3", f'env: "{__name__}:Discrete", s2: 3')
    )
    assert Discrete.made == before


def _nothing(self):
    """A method that is there."""


class Plain:
    """Has what an algorithm needs, without the base class."""

    version = 1
    Config = api.Config
    act = observe = update = state_dict = load_state_dict = _nothing


class Broken(Plain):
    @staticmethod
    def unfit(spec, config):
        raise KeyError(spec.n_agents)


def test_a_class_of_the_users_may_not_say_where_it_fits_or_fail_to():
    text = GOOD.replace("svnr: {}", f'svnr: {{use: "{__name__}:Plain"}}')
    assert len(parse_suite(text).cells()) == 6
    found = problems(text.replace(":Plain", ":Broken"))
    assert found == [
        "demo.yaml:10: scenarios.easy: svnr cannot play here: KeyError: 3",
        "demo.yaml:11: scenarios.two: svnr cannot play here: KeyError: 2",
    ]


def test_policies_are_kept_unless_the_suite_says_otherwise():
    assert parse_suite(GOOD).keep_policies is True
    other = parse_suite(f"{GOOD}keep_policies: false\n")
    assert other.keep_policies is False
    assert [c.key for c in other.cells()] == [c.key for c in parse_suite(GOOD).cells()]
    assert "keep_policies: " in problems(f"{GOOD}keep_policies: 3\n")[0]


def test_what_a_search_took_stands_beside_the_algorithm_and_not_in_the_key():
    cost = "{trials: 36, dimensions: 12, hours: 0.5}"
    suite = parse_suite(f"{GOOD}search: {{svnr: {cost}}}\n")
    found = {algorithm.name: algorithm.search for algorithm in suite.algorithms}
    assert (found["svnr"].trials, found["svnr"].dimensions, found["svnr"].hours) == (36, 12, 0.5)
    assert all(cost is None for name, cost in found.items() if name != "svnr")
    assert [c.key for c in suite.cells()] == [c.key for c in parse_suite(GOOD).cells()]
    assert "search.svr: the suite has no algorithm 'svr'; did you mean 'svnr'?" in " ".join(
        problems(f"{GOOD}search: {{svr: {cost}}}\n")
    )
    assert "search.svnr.trials" in problems(f"{GOOD}search: {{svnr: {{trials: 0}}}}\n")[0]
