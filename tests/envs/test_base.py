"""What environments share: curricula, and what every shipped environment says of its parameters."""

import pytest
import torch
from pydantic import Field

from rocompare.api import EnvSpec
from rocompare.envs.base import EnvConfig, OneStepGame
from rocompare.errors import UserError
from rocompare.suite import registry

OURS = [
    name for name, place in registry.ENVIRONMENTS.items() if name not in ("pettingzoo", "mamujoco")
]


class Product(OneStepGame):
    """Two agents; the reward is ``slope`` times the product of their actions."""

    version = 1
    settable = ("slope", "turns")

    class Config(EnvConfig):
        slope: float = Field(2.0, gt=0)
        """The reward where both play 1."""
        turns: int = Field(1, ge=1, le=3)
        """Of no consequence."""
        fixed: float = 1.0
        """The same."""

    def prepare(self):
        self.prepared = self.config.slope

    def describe(self):
        return EnvSpec(2, 1, 1, 1, self.config.slope, 0.0, ("optimum", "safe"), constant_obs=True)

    def reward(self, action):
        return self.prepared * action.prod(-2).squeeze(-1)

    def basin(self, action):
        return (~(self.reward(action) > 0)).long()

    def modes(self):
        return torch.tensor([[[1.0], [1.0]], [[-1.0], [-1.0]]])

    def safe(self):
        return torch.zeros(2, 1)


def make():
    return Product(Product.Config(), [3, 4], 5)


def test_steps_end_and_observe_nothing():
    env = make()
    assert torch.equal(env.reset(), torch.zeros(2, 5, 2, 1))
    step = env.step(torch.full((2, 5, 2, 1), 0.5))
    assert (step.reward == 0.5).all()
    assert step.terminated.all() and not step.truncated.any()
    assert torch.equal(step.basin, torch.zeros(2, 5, dtype=torch.long))


def test_set_changes_running_copies_and_is_part_of_the_state():
    env, other = make(), make()
    env.set(slope=8.0, turns=3)
    joint = torch.ones(2, 1)
    assert env.reward(joint).item() == 8
    assert (other.reward(joint).item(), Product.Config().slope) == (2, 2)
    assert env.spec.optimal_return == 2
    other.load_state_dict(env.state_dict())
    assert other.reward(joint).item() == 8
    assert other.config == env.config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slop": 1.0}, "'slop' cannot be changed while training; can be: slope, turns"),
        ({"fixed": 1.0}, "'fixed' cannot be changed while training"),
        ({"slope": 0.0}, "'slope' cannot be set to 0.0: Input should be greater than 0"),
        ({"slope": float("nan")}, "'slope' cannot be set to nan: Input should be a finite number"),
        ({"slope": float("inf")}, "'slope' cannot be set to inf"),
        ({"slope": True}, "'slope' cannot be set to True: Input should be a valid number"),
        ({"slope": "1"}, "'slope' cannot be set to '1'"),
        ({"turns": 1.5}, "'turns' cannot be set to 1.5: Input should be a valid integer"),
        ({"slope": 5.0, "turns": 4}, "'turns' cannot be set to 4: Input should be less than"),
    ],
)
def test_wrong_values_are_refused_and_change_nothing(values, message):
    env = make()
    for refuse in (lambda: env.set(**values), lambda: Product.check_set(env.config, values)):
        with pytest.raises(UserError) as error:
            refuse()
        assert str(error.value).startswith(message)
    assert env.config == Product.Config()


def test_modes_are_told_apart():
    joint = torch.tensor([[0.9, 0.2], [-0.1, -0.1], [0.5, -0.5], [float("nan"), 1.0]])
    assert make().mode(joint.unsqueeze(-1)).tolist() == [0, 1, -1, -1]


@pytest.mark.parametrize("name", OURS)
def test_every_parameter_is_described(name):
    env_class = registry.load("environment", name)
    assert issubclass(env_class.Config, EnvConfig)
    for field, info in env_class.Config.model_fields.items():
        assert info.description and info.description.endswith("."), field
    assert set(env_class.settable) <= env_class.Config.model_fields.keys()


@pytest.mark.parametrize("name", OURS)
def test_settable_parameters_can_be_set_to_what_they_are(name):
    env_class = registry.load("environment", name)
    env = env_class(env_class.Config(), [0], 1)
    env.reset()
    env.set(**{name: getattr(env.config, name) for name in env.settable})
    assert env.config == env_class.Config()
