"""What every registered algorithm and environment must keep: the checks of `rocompare doctor`."""

import pytest

from rocompare.dev import doctor
from rocompare.suite import registry

SLOW = {"masql", "pr2", "svnr"}
CASES = [
    pytest.param(
        name, kind, marks=[pytest.mark.slow] if name in SLOW and "constant" not in kind else []
    )
    for name in registry.ALGORITHMS
    for kind in doctor.specs(registry.load("algorithm", name))
]


def broken(check, *arguments):
    """What the check finds, in words; tests/dev/test_doctor.py shows that each can find it."""
    try:
        check(*arguments)
    except doctor.Broken as error:
        return str(error)
    return ""


@pytest.mark.parametrize("check", doctor.ALGORITHM_CHECKS)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_algorithm(name, kind, check):
    cls = registry.load("algorithm", name)
    assert broken(doctor.ALGORITHM_CHECKS[check], cls, doctor.specs(cls)[kind]) == ""


@pytest.mark.parametrize("check", doctor.ENVIRONMENT_CHECKS)
@pytest.mark.parametrize("name", sorted({*registry.ENVIRONMENTS} - {"pettingzoo", "mamujoco"}))
def test_environment(name, check):
    # One of PettingZoo is what its factory makes of it: tests/envs/test_pettingzoo.py. MaMuJoCo is
    # an extra: tests/envs/test_mamujoco.py.
    cls = registry.load("environment", name)
    assert broken(doctor.ENVIRONMENT_CHECKS[check], cls) == ""
