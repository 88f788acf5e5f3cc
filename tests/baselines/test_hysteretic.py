"""Independent learners: what a disappointment is worth, by hand."""

import pytest
import torch
from pydantic import ValidationError

from baselines.hysteretic import IQL, DistributedQ, HystereticQ
from rocompare.learn.rng import Streams
from tests.baselines.support import batch_of, constant, trained
from tests.support.helpers import CPU, fill, make_spec

SEEDS = (0, 1)
SPEC = make_spec(n_agents=2, obs_dim=1, action_dim=3, horizon=4, discrete=True)
ONE_STEP = make_spec(
    n_agents=2, obs_dim=1, action_dim=3, horizon=1, constant_obs=True, discrete=True
)
ROWS = [((0, 0), 0.0, False), ((1, 1), 6.0, True), ((2, 2), -6.0, True), ((2, 2), 0.0, False)]


def make(cls=HystereticQ, spec=SPEC, **config):
    return cls(spec, cls.Config(gamma=0.5, **config), SEEDS, CPU)


@pytest.mark.parametrize(
    ("cls", "config", "expected"),
    [
        (IQL, {}, 24.75),
        (HystereticQ, {"beta": 0.25}, 9.375),
        (DistributedQ, {}, 4.25),
    ],
)
def test_disappointments_are_weighted(cls, config, expected):
    """Values 1, 2, 3, and 4 at the most where the episode goes on, so that targets are 2, 6, -6, 2.
    Errors: 2 - 1, 6 - 2, -6 - 3, 2 - 3; squares 1, 16, 81, 1, of which the last two are weighted.
    """
    algorithm = make(cls, **config)
    constant(algorithm.q, 1.0, 2.0, 3.0)
    constant(algorithm.target_q, 4.0, 1.0, 2.0)
    loss = algorithm._td_loss(batch_of(SPEC, ROWS))
    torch.testing.assert_close(loss, torch.full((2, 2), expected))


def test_values_come_to_rest_at_an_expectile():
    """Of 10 and -10, equally often, at m with 10 - m = 0.25 (m + 10): 6. The mean is 0."""
    algorithm = make(spec=ONE_STEP, beta=0.25, q_lr=0.01, tau=1.0)
    batch = batch_of(ONE_STEP, [((0, 0), 10.0, True), ((0, 0), -10.0, True)])
    for _ in range(300):
        algorithm.q_adam.step(algorithm._td_loss(batch))
    torch.testing.assert_close(
        algorithm._chosen(batch)[..., 0], torch.full((2, 2), 6.0), atol=0.5, rtol=0
    )


def test_what_makes_an_algorithm_is_no_parameter():
    for cls in (IQL, DistributedQ):
        with pytest.raises(ValidationError):
            cls.Config(beta=0.5)


def test_beliefs_leave_out_disappointments():
    algorithm = make(DistributedQ, ONE_STEP)
    constant(algorithm.q, 0.0, 0.0, 0.0)
    rows = [((0, 1), -1.0, True)] * 9 + [((2, 1), 1.0, True)]
    fill(algorithm, batch_of(ONE_STEP, rows))
    own = torch.eye(3).expand(2, 2, -1, -1)
    with torch.no_grad():
        draws = algorithm.beliefs(own, 200, Streams(SEEDS, "beliefs"))
    assert draws.shape == (2, 2, 1, 200, 2, 3)
    assert draws[..., 0, 2].all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"), [("iql", 5.0), ("hysteretic", 11.0), ("distributed_q", 11.0)]
)
def test_climbing_is_solved_by_optimists(name, expected):
    assert trained(f"use: {name}", "game: climbing") == [expected] * 4
