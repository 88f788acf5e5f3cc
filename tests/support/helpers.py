"""What several test files need: specs and made-up batches."""

import json

import torch

from rocompare.dev.doctor import CPU, make_batch, make_spec

__all__ = ["CPU", "assert_same_weights", "contents", "make_batch", "make_spec"]


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


def assert_same_weights(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for rounding, judged by the norm of a layer's difference.

    Not element by element: where a gradient is all but 0, Adam's step has the sign of rounding.
    """
    distance = (got - expected).norm().item()
    assert distance <= 2e-5 + 2e-4 * expected.norm().item()
