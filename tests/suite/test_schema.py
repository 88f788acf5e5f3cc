"""The JSON schema takes what reading a suite takes, and refuses what an editor can see is wrong."""

import json

import pytest

from rocompare.suite import library, registry
from rocompare.suite.schema import schema
from rocompare.suite.yaml import Document
from tests.support.made_up import run
from tests.support.suites import GOOD

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def validator():
    whole = schema()
    jsonschema.Draft202012Validator.check_schema(whole)
    return jsonschema.Draft202012Validator(whole)


def wrong(validator, text):
    """Where the schema sees something wrong."""
    found = []
    queue = list(validator.iter_errors(Document(text, "x").data))
    while queue:
        error = queue.pop()
        found.append((*error.absolute_path, error.validator))
        queue += error.context or []
    return found


@pytest.mark.parametrize("name", library.shipped())
@pytest.mark.slow
def test_the_suites_that_ship_are_valid(validator, name):
    text = library.shipped()[name].read_text()
    assert not list(validator.iter_errors(Document(text, name).data))


OTHERS = """
  mine: {use: "./mine.py:Mine", whatever: 3}
  theirs: {use: "package.module:Class"}
scenarios:
  own: {env: "package.module:Game", size: 3}
  both: {env: max_of_three, budget: {env_steps: 7}, algorithms: {mine: {whatever: 4}}}
"""


def test_classes_of_the_users_can_have_any_parameters(validator):
    assert not wrong(validator, GOOD)
    assert not wrong(validator, GOOD.replace("scenarios:", OTHERS.strip("\n")))
    assert not wrong(validator, GOOD.replace("seeds: 3", "seeds: [4, 7]\nkeep_policies: false"))
    assert not wrong(validator, GOOD.replace("  svnr: {}", "  svnr:"))


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("seeds: 3", "sedes: 3", ("additionalProperties",)),
        ("seeds: 3", "seeds: 0", ("seeds", "anyOf")),
        ("seeds: 3", "seeds: []", ("seeds", "anyOf")),
        ("name: demo", "", ("required",)),
        ("env_steps: 100", "env_steps: 0", ("budget", "env_steps", "exclusiveMinimum")),
        ("env_steps: 100", "steps: 1", ("budget", "additionalProperties")),
        ("actor_lr: 1e-3", "actr_lr: 1", ("algorithms", "maddpg", "additionalProperties")),
        ("actor_lr: 1e-3", "actor_lr: -1", ("algorithms", "maddpg", "actor_lr", "exclusiveMinimum")),
        ("actor_lr: 1e-3", "hidden: 1.5", ("algorithms", "maddpg", "hidden", "type")),
        ("use: svnr", "use: svrn", ("algorithms", "svnr_k3", "use", "anyOf")),
        ("use: svnr", "use: maddpg", ("algorithms", "svnr_k3", "additionalProperties")),
        ("use: svnr, rounds: 3", "rounds: 3", ("algorithms", "svnr_k3", "required")),
        ("  easy", "  ../easy", ("scenarios", "pattern")),
        ("env: max_of_three, s2: 3.0", "s2: 3.0", ("scenarios", "easy", "required")),
        ("s2: 3.0", "s3: 3.0", ("scenarios", "easy", "additionalProperties")),
        ("s2: 3.0", "s2: wide", ("scenarios", "easy", "s2", "type")),
        ("env: max_of_three, s2: 3.0", "env: pettingzoo", ("scenarios", "easy", "required")),
        ("paper_table1", "papertable1", ("reference", "enum")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_seen(validator, old, new, path):
    assert old in GOOD
    assert path in wrong(validator, GOOD.replace(old, new, 1))


def test_every_parameter_can_be_completed_and_is_described():
    whole = json.loads(run("list", "--schema").output)
    for kind, table in (
        ("algorithm", registry.ALGORITHMS),
        ("environment", registry.ENVIRONMENTS),
    ):
        for name in table:
            part = whole["$defs"][f"{kind}_{name}"]
            fields = registry.load(kind, name).Config.model_fields
            own = {"use", "curriculum"} if kind == "algorithm" else {"env", "budget", "algorithms"}
            assert set(part["properties"]) == set(fields) | own
            assert part["description"].endswith(".")
            for field, model in fields.items():
                meaning = " ".join((model.description or "").replace("``", "`").split())
                assert part["properties"][field].get("description", "") == meaning
    assert all("description" in part for part in whole["properties"].values())
