"""What several test files need: specs and made-up batches."""

import json

from rocompare.doctor import CPU, make_batch, make_spec

__all__ = ["CPU", "make_batch", "make_spec"]


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
