"""What every registered algorithm and environment must keep: the checks of `rocompare doctor`."""

import pytest

from rocompare.dev import doctor
from rocompare.suite import registry


def broken(check, *arguments):
    """What the check finds, in words; tests/test_doctor.py shows that each check can find it."""
    try:
        check(*arguments)
    except doctor.Broken as error:
        return str(error)
    return ""


@pytest.mark.parametrize("check", doctor.ALGORITHM_CHECKS)
@pytest.mark.parametrize("kind", doctor.SPECS)
@pytest.mark.parametrize("name", registry.ALGORITHMS)
def test_algorithm(name, kind, check):
    cls = registry.load("algorithm", name)
    assert broken(doctor.ALGORITHM_CHECKS[check], cls, doctor.SPECS[kind]) == ""


@pytest.mark.parametrize("check", doctor.ENVIRONMENT_CHECKS)
@pytest.mark.parametrize("name", [name for name in registry.ENVIRONMENTS if name != "pettingzoo"])
def test_environment(name, check):
    # One of PettingZoo is what its factory makes of it: tests/test_pettingzoo.py.
    cls = registry.load("environment", name)
    assert broken(doctor.ENVIRONMENT_CHECKS[check], cls) == ""
