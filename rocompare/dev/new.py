"""What `rocompare new` writes: an algorithm or an environment that works, and its test.

Both are small but whole: the algorithm learns, the environment has relative over-generalization,
and both pass `rocompare doctor`. They are there to be changed.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from rocompare.errors import SuiteError

ALGORITHM = '''\
"""@Class: say here what it does, and where it comes from.

As written, every agent imitates, with a network of its own, the actions that were rewarded.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from rocompare import api
from rocompare.learn.nn import MLP, Adam, load_state_of, seed_mean, state_of
from rocompare.learn.rng import Streams
from rocompare.learn.schedule import cosine


class @Class:
    version = 1  # raise it when results are no longer comparable

    class Config(api.Config):
        lr: Annotated[float, api.Search(1e-3, 0.1)] = Field(0.01, gt=0)
        """Learning rate; `rocompare tune` searches the range."""
        noise: float = Field(0.3, ge=0)
        """Standard deviation of the exploration noise."""
        hidden: int = Field(64, gt=0)
        """Units in each of two hidden layers."""

    def __init__(self, spec, config, seeds, device):
        self.config = config
        # Every seed has its own random numbers, one named stream for each purpose.
        init = Streams(seeds, "init", device)
        self.explore = Streams(seeds, "explore", device)
        groups = len(seeds), spec.n_agents  # a network per seed and agent
        sizes = spec.obs_dim, config.hidden, config.hidden, spec.action_dim
        self.actor = MLP(groups, sizes, "tanh", init)
        self.adam = Adam(self.actor, config.lr)

    def act(self, obs, mode):
        """``obs [S, E, N, O]`` -> ``action [S, E, N, A]`` in ``[-1, 1]``."""
        with torch.no_grad():
            action = self._policy(obs)
            if mode == "explore":
                noise = self.explore.normal(*action.shape[1:])
                action = (action + self.config.noise * noise).clamp(-1, 1)
        return action

    def note(self, obs, action):
        """What to store beside a transition, ``[S, E, ...]`` each."""
        return {}

    def update(self, batch, progress):
        """One step of learning; returns metrics ``[S]``."""
        weight = torch.softmax(batch.reward, 1)[..., None, None]  # [S, B, 1, 1]
        loss = seed_mean(weight * (self._policy(batch.obs) - batch.action).square())  # [S]
        self.adam.step(loss, cosine(progress, self.config.lr_last))
        return {"loss": loss.detach()}

    def _policy(self, obs):
        # Networks are indexed by seed and agent: [S, N, B, ...] inside, [S, B, N, ...] outside.
        return torch.tanh(self.actor(obs.transpose(1, 2))).transpose(1, 2)

    def state_dict(self):
        return state_of(self)

    def load_state_dict(self, state):
        load_state_of(self, state)
'''

TEST_ALGORITHM = '''\
"""@Class keeps its contract, and learns."""

import pytest
import torch
from rocompare.dev import doctor
from rocompare.suite.load import parse_suite
from rocompare.learn.engine import train_cell

from @name import @Class

SUITE = """
name: test
seeds: 3
budget: {env_steps: 200}
evaluation: {episodes: 5, points: 1}
algorithms: {mine: {use: "@name:@Class"}}
scenarios: {game: {env: max_of_three}}
"""


@pytest.mark.parametrize("kind", doctor.SPECS)
@pytest.mark.parametrize("check", doctor.ALGORITHM_CHECKS)
def test_contract(check, kind):
    doctor.ALGORITHM_CHECKS[check](@Class, doctor.SPECS[kind])


def test_it_learns():
    """Uniform actions return -50 on average."""
    torch.set_num_threads(1)
    (cell,) = parse_suite(SUITE).cells()
    for seed in train_cell(cell).seeds:
        assert not seed.diverged
        assert sum(seed.returns) / len(seed.returns) > -30
'''

ENVIRONMENT = '''\
"""@Class: say here what is played, and where it comes from.

As written, a one-step game of two agents with actions ``a`` in ``[-1, 1]``::

    safe     -(a_1 + 0.5)^2 - (a_2 + 0.5)^2             wide, height 0
    optimum  1 - 20 ((a_1 - 0.5)^2 + (a_2 - 0.5)^2)     narrow, height 1
    reward   the larger of the two

An agent that moves to the optimum alone is punished: relative over-generalization.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from rocompare.api import EnvSpec, Step


class @Class:
    version = 1  # raise it when results are no longer comparable

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

        steepness: float = Field(20.0, gt=0)
        """Of the optimum's hill: the higher, the harder."""

    def __init__(self, config, seeds, n_envs, stream="env", device="cpu"):
        # Random numbers, if the game draws any, come from rng.Streams(seeds, stream, device).
        self.config = config
        self.spec = EnvSpec(
            n_agents=2,
            obs_dim=1,
            action_dim=1,
            horizon=1,
            optimal_return=1.0,
            safe_return=0.0,
            basins=("optimum", "safe"),
            constant_obs=True,
        )
        self.obs = torch.zeros(len(seeds), n_envs, 2, 1, device=device)
        self.ended = torch.ones(len(seeds), n_envs, dtype=torch.bool, device=device)

    def reset(self):
        """Start every environment anew; ``obs [S, E, N, O]``."""
        return self.obs

    def step(self, action):
        """Advance by ``action [S, E, N, A]``; environments that end are reset at once."""
        a = action.squeeze(-1)  # [S, E, N]
        safe = -(a + 0.5).square().sum(-1)
        optimum = 1 - self.config.steepness * (a - 0.5).square().sum(-1)
        return Step(
            obs=self.obs,  # to act on next: of a new episode where this one ended
            next_obs=self.obs,  # where this action led
            reward=torch.maximum(safe, optimum),
            terminated=self.ended,
            truncated=~self.ended,  # cut off at the horizon; never both
            basin=(~(optimum > safe)).long(),  # index into spec.basins
        )

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
'''

TEST_ENVIRONMENT = '''\
"""@Class keeps its contract, and its rewards are those worked out by hand."""

import pytest
import torch
from rocompare.dev import doctor

from @name import @Class


@pytest.mark.parametrize("check", doctor.ENVIRONMENT_CHECKS)
def test_contract(check):
    doctor.ENVIRONMENT_CHECKS[check](@Class)


@pytest.mark.parametrize(
    ("a", "reward", "basin"),
    [
        ((0.5, 0.5), 1.0, "optimum"),
        ((-0.5, -0.5), 0.0, "safe"),
        ((0.5, -0.5), -1.0, "safe"),  # alone: the safe hill, one away from its top
        ((0.6, 0.5), 0.8, "optimum"),
    ],
)
def test_rewards(a, reward, basin):
    env = @Class(@Class.Config(), [0], 1)
    env.reset()
    step = env.step(torch.tensor(a).view(1, 1, 2, 1))
    assert step.reward.item() == pytest.approx(reward, abs=1e-6)
    assert env.spec.basins[int(step.basin)] == basin
'''

_TEMPLATES = {
    "algorithm": (ALGORITHM, TEST_ALGORITHM),
    "environment": (ENVIRONMENT, TEST_ENVIRONMENT),
}


def write(kind: str, name: str, folder: Path) -> list[str]:
    """Write ``NAME.py`` and ``test_NAME.py`` into ``folder`` and say what to do next.

    Raises:
        SuiteError: the name is none for a module, or one of the files exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise SuiteError(
            [
                f"'{name[:80]}' is no name for a Python file to import: a letter, then letters, "
                "digits and '_', all lower case, and no word of Python, as in my_algo"
            ]
        )
    files = folder / f"{name}.py", folder / f"test_{name}.py"
    for file in files:
        if file.exists() or file.is_symlink():
            raise SuiteError([f"{file} exists; nothing was written: choose another name"])
    class_name = "".join(part.capitalize() for part in name.split("_"))
    used = any(re.search(rf"\b{class_name}\b", template) for template in _TEMPLATES[kind])
    if used or keyword.iskeyword(class_name):
        raise SuiteError([f"'{name}': its class would be {class_name}, which means something else"])
    for file, template in zip(files, _TEMPLATES[kind], strict=True):
        text = template.replace("@Class", class_name).replace("@name", name)
        with file.open("x", encoding="utf-8", newline="\n") as out:
            out.write(text)
    key = "use" if kind == "algorithm" else "env"
    return [
        f"{name}.py and test_{name}.py written; test: python -m pytest test_{name}.py",
        f"examine: rocompare doctor {name}:{class_name}",
        f'in a suite: {{{key}: "{name}:{class_name}"}}',
    ]
