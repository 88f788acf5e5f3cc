"""What several test files need: specs, made-up batches, and a small environment."""

import json

import torch

from rocompare.api import Batch, EnvSpec

CPU = torch.device("cpu")


def make_spec(n_agents=3, obs_dim=2, action_dim=2, horizon=7, constant_obs=False):
    """Sizes that are all different, so that a mixed-up axis does not pass unseen."""
    return EnvSpec(
        n_agents=n_agents,
        obs_dim=obs_dim,
        action_dim=action_dim,
        horizon=horizon,
        optimal_return=1.0,
        safe_return=0.0,
        basins=("optimum", "safe"),
        constant_obs=constant_obs,
    )


def make_batch(spec, seeds, size=11, salt=0, extras=None):
    """A batch in which each seed's numbers depend on the seed alone."""

    def draw(seed, what, *shape):
        generator = torch.Generator().manual_seed(1000 * seed + 10 * salt + what)
        return torch.rand(*shape, generator=generator) * 2 - 1

    def stack(what, *shape):
        return torch.stack([draw(seed, what, *shape) for seed in seeds])

    n, o, a = spec.n_agents, spec.obs_dim, spec.action_dim
    rows = 1 if spec.constant_obs else size
    obs = stack(0, rows, n, o)
    return Batch(
        obs=obs,
        action=stack(1, size, n, a),
        reward=stack(2, size),
        next_obs=obs if spec.constant_obs else stack(3, rows, n, o),
        terminated=(stack(4, size) > 0.5).float(),
        extras=extras or {},
    )


def contents(root):
    """Every result file's text by name, but for what the clock and the machine say."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.name in ("config.yaml", "curve.csv"):
            found[name] = path.read_text()
        elif path.name.startswith("seed_"):
            found[name] = json.loads(path.read_text())
            del found[name]["seconds"]
    return found
