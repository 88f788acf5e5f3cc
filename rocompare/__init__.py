"""rocompare: a benchmark for relative over-generalization in cooperative multi-agent RL.

>>> suite = rocompare.load_suite("suites/max_of_three.yaml")
>>> frame = rocompare.run(suite, "results")
>>> rocompare.load_results("results")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["load_policy", "load_results", "load_suite", "run"]

if TYPE_CHECKING:
    from rocompare.execute.runner import run
    from rocompare.learn.policies import load_policy
    from rocompare.results.reader import load_results
    from rocompare.suite.load import load_suite

_HOME = {
    "load_policy": "learn.policies",
    "load_suite": "suite.load",
    "load_results": "results.reader",
    "run": "execute.runner",
}


def __getattr__(name: str) -> Any:
    # Imported at first use: the command line's help must not wait for pandas and torch.
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f"rocompare.{_HOME[name]}"), name)
    raise AttributeError(f"module 'rocompare' has no attribute '{name}'")
