"""A kept policy acts as the algorithm that was trained, and its file can do nothing else."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import rocompare
from rocompare.errors import ResultsError
from rocompare.execute.runner import ExecutorSettings, run_suite
from rocompare.learn import policies
from rocompare.results.files import read_json
from rocompare.suite import registry
from rocompare.suite.load import parse_suite

SUITE = """
name: kept
seeds: [3, 5]
budget: {env_steps: 30}
evaluation: {episodes: 6, points: 2}
algorithms:
  svnr: {hidden: 8, particles: 4}
  maddpg: {hidden: 8}
scenarios:
  hills: {env: max_of_three}
  plane: {env: particle_gather, horizon: 4}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("kept")
    run_suite(parse_suite(SUITE), root, ExecutorSettings(jobs=1))
    return root


def a_policy(results, **which):
    return rocompare.load_policy(results, "svnr", "hills", **which)


@pytest.mark.parametrize("algorithm", ["svnr", "maddpg"])
@pytest.mark.parametrize("scenario", ["hills", "plane"])
@pytest.mark.parametrize("seed", [3, 5])
def test_without_noise_it_returns_what_was_recorded(algorithm, scenario, seed, results):
    """One seed's file, loaded alone, plays the last evaluation's episodes as the batch did."""
    policy = rocompare.load_policy(results, algorithm, scenario, seed)
    record = read_json(policy.path.with_name(f"seed_{seed}.json"))
    env = policy.make_env(6, "evaluation/30")
    returns = policy.play(env, "deterministic", 6).returns[0].tolist()
    assert returns == pytest.approx(record["returns"]["deterministic"], abs=1e-4)


def test_act_takes_one_observation_or_many(results):
    policy = rocompare.load_policy(results, "maddpg", "plane", 5)
    assert (policy.spec.n_agents, policy.spec.obs_dim) == (4, 4)
    many = torch.rand(7, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    acted = policy.act(many)
    assert acted.shape == (7, 4, 1)
    assert acted.abs().max() <= 1
    assert not acted.requires_grad
    torch.testing.assert_close(policy.act(many[2]), acted[2])
    torch.testing.assert_close(policy.act(many[2].double().numpy()), acted[2])
    with pytest.raises(ValueError, match=r"obs has shape \[7, 4, 3\], expected \[E, \*\[4, 4\]\]"):
        policy.act(np.zeros((7, 4, 3)))
    with pytest.raises(ValueError, match="this policy executes decentralised, deterministic"):
        policy.act(many, "shared")


def test_the_networks_stand_in_the_file_by_name(results):
    """Layer by layer: whoever reads the file without this package can rebuild the network."""
    policy = rocompare.load_policy(results, "maddpg", "plane", 3)
    tensors = safetensors.torch.load_file(policy.path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == {
        "actor.0.weight": (4, 4, 8),
        "actor.0.bias": (4, 8),
        "actor.1.weight": (4, 8, 8),
        "actor.1.bias": (4, 8),
        "actor.2.weight": (4, 8, 1),
        "actor.2.bias": (4, 1),
    }
    h = obs = torch.linspace(-1, 1, 16).view(4, 4)
    for i in range(3):
        h = torch.einsum("ni,nio->no", h, tensors[f"actor.{i}.weight"]) + tensors[f"actor.{i}.bias"]
        h = h.tanh() if i == 2 else h.relu()
    torch.testing.assert_close(policy.act(obs, "deterministic"), h)


def test_every_algorithm_says_what_its_policy_needs():
    for name in registry.ALGORITHMS:
        found = registry.load("algorithm", registry.target("algorithm", name))
        assert found.executes_with, name


@pytest.mark.parametrize("keep", ["suite", "run"])
def test_policies_are_kept_only_if_wanted(keep, tmp_path):
    suite = parse_suite(SUITE + ("keep_policies: false\n" if keep == "suite" else ""))
    suite = suite.select(seeds=1, algorithms=["maddpg"], scenarios=["hills"])
    if keep == "run":
        suite = suite.model_copy(update={"keep_policies": False})
    run_suite(suite, tmp_path, ExecutorSettings(jobs=1))
    assert len(list(tmp_path.rglob("seed_*.json"))) == 1
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(ResultsError, match=r"no policies were kept here .*--no-policies"):
        rocompare.load_policy(tmp_path)


def test_whoever_asks_for_none_or_several_is_told_which_there_are(results, tmp_path):
    with pytest.raises(ResultsError, match=r"maddpg on hills, .*; say which with --algorithm"):
        rocompare.load_policy(results)
    with pytest.raises(ResultsError, match=r"no results of 'pr2 on hills'; there are maddpg on"):
        rocompare.load_policy(results, "pr2", "hills")
    with pytest.raises(ResultsError, match="no policy of seed 4; there are 3, 5"):
        a_policy(results, seed=4)
    assert a_policy(results).seed == 3
    with pytest.raises(ResultsError, match="neither a results folder nor a policy"):
        rocompare.load_policy(tmp_path / "policy.pt")
    with pytest.raises(ResultsError, match=r"policy_1.safetensors: no such file"):
        rocompare.load_policy(tmp_path / "policy_1.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-40], "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: b"\xff" * 8 + data[8:], "damaged"),
        (lambda data: data.replace(b"policy.0.weight", b"policy.9.weight"), "its networks are not"),
        (lambda data: data.replace(b"policy 1", b"policy 2"), "damaged"),
        (lambda data: data.replace(b'seed\\": 3', b'seed\\": 5'), "not the policy of seed 3; was"),
    ],
)
def test_a_changed_file_is_refused_in_words(change, message, results, tmp_path):
    source = a_policy(results).path
    for name in ("config.yaml", source.name):
        (tmp_path / name).write_bytes(source.with_name(name).read_bytes())
    rocompare.load_policy(tmp_path / source.name)
    changed = change(source.read_bytes())
    assert changed != source.read_bytes()
    (tmp_path / source.name).write_bytes(changed)
    with pytest.raises(ResultsError, match=message):
        rocompare.load_policy(tmp_path / source.name)


def test_a_policy_of_another_version_is_not_played(results, tmp_path):
    source = a_policy(results).path
    (tmp_path / source.name).write_bytes(source.read_bytes())
    text = source.with_name("config.yaml").read_text()
    version = registry.load("algorithm", registry.target("algorithm", "svnr")).version
    assert text.count(f"version: {version}\n") >= 1
    (tmp_path / "config.yaml").write_text(text.replace(f"version: {version}\n", "version: 99\n"))
    with pytest.raises(ResultsError, match="of another version, or its code or parameters have"):
        rocompare.load_policy(tmp_path / source.name)


def test_code_that_lies_here_is_not_run_unasked(results, tmp_path, monkeypatch):
    source = a_policy(results).path
    (tmp_path / source.name).write_bytes(source.read_bytes())
    text = source.with_name("config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("rocompare.svnr:SVNR", "evil:SVNR"))
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="allow-local-code"):
        rocompare.load_policy(tmp_path / source.name)


def test_an_algorithm_that_names_nothing_keeps_what_it_trains():
    cell = parse_suite(SUITE).cells()[0]
    algorithm_class = cell.algorithm.load()

    class Unnamed(algorithm_class):
        executes_with = ()

    config = Unnamed.Config.model_validate(cell.algorithm.params)
    algorithm = Unnamed(cell.scenario.spec(), config, (3, 5), torch.device("cpu"))
    first = safetensors.torch.load(policies.pack(algorithm, 0.5)[0])
    assert {name.split(".")[0] for name in first} == {"policy", "critic"}
    second = policies.pack(algorithm, 0.5)[1]
    head = json.loads(second[8 : 8 + int.from_bytes(second[:8], "little")])
    assert json.loads(head["__metadata__"]["rocompare policy 1"]) == {"seed": 5, "progress": 0.5}
