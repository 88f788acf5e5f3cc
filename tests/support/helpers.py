"""What several test files need: specs, made-up transitions and batches, comparisons."""

import json

import torch

from rocompare import api
from rocompare.dev.checks import CPU, make_spec, make_transition
from rocompare.suite import registry

__all__ = [
    "CPU",
    "assert_same_weights",
    "contents",
    "fill",
    "game_for",
    "line",
    "make_batch",
    "make_spec",
    "make_transition",
    "without_clock",
]


def make_batch(spec, seeds, size=11, salt=0):
    """A batch in which each seed's numbers depend on the seed alone."""

    def draw(seed, what, *shape):
        generator = torch.Generator().manual_seed(1000 * seed + 10 * salt + what)
        return torch.rand(*shape, generator=generator) * 2 - 1

    def stack(what, *shape):
        return torch.stack([draw(seed, what, *shape) for seed in seeds])

    n, o, a = spec.n_agents, spec.obs_dim, spec.action_dim
    rows = 1 if spec.constant_obs else size
    obs = stack(0, rows, n, o)
    action = stack(1, size, n, a)
    if spec.discrete:
        action = torch.nn.functional.one_hot(action.argmax(-1), a).float()
    return api.Batch(
        obs=obs,
        action=action,
        reward=stack(2, size),
        next_obs=obs if spec.constant_obs else stack(3, rows, n, o),
        terminated=(stack(4, size) > 0.5).float(),
    )


def game_for(algorithm):
    """The name of a game of one step whose actions a registered algorithm takes."""
    actions = registry.load("algorithm", algorithm.partition(",")[0]).actions
    return "max_of_three" if "continuous" in actions else "discrete_matrix_game"


def line(points):
    """Scalar actions, evenly spaced: ``[points, 1]``."""
    return torch.linspace(-1, 1, points).unsqueeze(-1)


def fill(algorithm, batch):
    """Let the algorithm observe every row of ``batch``, which it then samples from."""
    shape = -1, batch.reward.shape[1], -1, -1  # constant observations come once
    terminated = batch.terminated.bool()
    algorithm.observe(
        api.Transition(
            obs=batch.obs.expand(shape),
            action=batch.action,
            reward=batch.reward,
            next_obs=batch.next_obs.expand(shape),
            terminated=terminated,
            truncated=torch.zeros_like(terminated),
        )
    )


def without_clock(result):
    """A cell's records but for how long they took."""
    return [record.model_copy(update={"seconds": 0.0}) for record in result]


def contents(root):
    """Every result file's text by name, but for what the clock and the machine say."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.name == "config.yaml":
            found[name] = path.read_text()
        elif path.name.startswith("seed_"):
            record = json.loads(path.read_text())
            found[name] = {k: v for k, v in record.items() if k not in ("seconds", "provenance")}
    return found


def assert_same_weights(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for rounding, judged by the norm of a layer's difference.

    Not element by element: where a gradient is all but 0, Adam's step has the sign of rounding.
    """
    distance = (got - expected).norm().item()
    assert distance <= 2e-5 + 2e-4 * expected.norm().item()
