"""MyEnvironment keeps its contract, and its rewards are those worked out by hand."""

from __future__ import annotations

import pytest
import torch

from rocompare.dev import doctor

from .environment import MyEnvironment


@pytest.mark.parametrize("check", doctor.ENVIRONMENT_CHECKS)
def test_contract(check: str) -> None:
    doctor.ENVIRONMENT_CHECKS[check](MyEnvironment)


@pytest.mark.parametrize(
    ("action", "reward", "basin"),
    [
        ((0.5, 0.5), 1.0, "optimum"),
        ((-0.5, -0.5), 0.0, "safe"),
        ((0.5, -0.5), -1.0, "safe"),  # alone: on the safe hill, 1 away from its top
        ((0.6, 0.5), 0.8, "optimum"),
    ],
)
def test_rewards(action: tuple[float, float], reward: float, basin: str) -> None:
    env = MyEnvironment(MyEnvironment.Config(), [0], 1)
    env.reset()
    step = env.step(torch.tensor(action).view(1, 1, 2, 1))
    assert step.reward.item() == pytest.approx(reward, abs=1e-6)
    assert env.spec.basins[int(step.basin)] == basin
