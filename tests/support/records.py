"""Records of seeds that nobody trained."""

from rocompare.results.records import Curve, SeedRecord


def make_record(seed, returns=(1.0, 2.0), *, env_steps=100, **changes):
    """A seed with these returns per episode, in every way of execution alike; its curve has two
    points, the last with their mean."""
    returns = list(returns)
    finite = [value for value in returns if value is not None]
    mean = sum(finite) / len(finite) if len(finite) == len(returns) and finite else None
    in_optimum = float(mean is not None and mean > 5)
    modes = "decentralised", "deterministic"
    values = {
        "seed": seed,
        "returns": dict.fromkeys(modes, returns),
        "in_optimum": dict.fromkeys(modes, in_optimum),
        "basin": dict.fromkeys(modes, "optimum" if in_optimum else "safe"),
        "diverged": mean is None,
        "env_steps": env_steps,
        "updates": 180,
        "parameters": 17,
        "seconds": 0.5,
        "curve": Curve(
            env_steps=[env_steps // 2, env_steps],
            returns={mode: [0.5, mean] for mode in modes},
            in_optimum={mode: [0.0, in_optimum] for mode in modes},
            executed_ro=[3.0, 1.0],
            perceived_ro=[None, 2.0],
        ),
        "actions": [[0.7, 0.7, -0.3]],
    }
    return SeedRecord(**(values | changes))
