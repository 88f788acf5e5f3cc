"""What every registered algorithm and environment must keep: the checks of `rocompare doctor`."""

import pytest
from pydantic import create_model

from rocompare.dev import doctor
from rocompare.suite import registry

SMALL = {
    "particles": 8, "states": 8, "others_samples": 4, "batch_size": 32, "hidden": 16,
    "rollout_steps": 8,
}  # fmt: skip
"""Sizes of hyperparameters, for time; what is checked does not depend on them."""
ALGORITHMS = {name: registry.load("algorithm", name) for name in registry.ALGORITHMS}
CASES = [(name, kind) for name, cls in ALGORITHMS.items() for kind in doctor.specs(cls)]


def small(cls):
    """The algorithm with other defaults."""
    sizes = {name: (cls.Config.model_fields[name].annotation, value)
             for name, value in SMALL.items() if name in cls.Config.model_fields}  # fmt: skip
    config = create_model("Config", __base__=cls.Config, **sizes)
    return type(cls.__name__, (cls,), {"Config": config})


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
    cls = small(ALGORITHMS[name])
    assert broken(doctor.ALGORITHM_CHECKS[check], cls, doctor.specs(cls)[kind]) == ""


@pytest.mark.parametrize("check", doctor.ENVIRONMENT_CHECKS)
@pytest.mark.parametrize("name", sorted({*registry.ENVIRONMENTS} - {"pettingzoo", "mamujoco"}))
def test_environment(name, check):
    # One of PettingZoo is what its factory makes of it: tests/envs/test_pettingzoo.py. MaMuJoCo is
    # an extra: tests/envs/test_mamujoco.py.
    cls = registry.load("environment", name)
    assert broken(doctor.ENVIRONMENT_CHECKS[check], cls) == ""
