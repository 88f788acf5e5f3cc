"""What the checks of algorithms and of environments share: made-up numbers, and comparisons.

Sizes are small primes that differ, so that a mixed-up axis fails instead of broadcasting. Every
made-up number depends on its seed alone: a seed must then learn and play alone as it does beside
others.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from rocompare.api import EnvSpec, Transition
from rocompare.learn.rng import derive

CPU = torch.device("cpu")
SEEDS = (3, 11, 4)
N_ENVS = 2
ATOL, RTOL = 2e-5, 2e-4
"""How far a seed in a batch may be from the seed alone: sums in another order."""


class Broken(AssertionError):
    """What a check found, for whoever wrote the class."""


def make_spec(
    n_agents: int = 3,
    obs_dim: int = 2,
    action_dim: int = 2,
    horizon: int = 7,
    *,
    constant_obs: bool = False,
    shared_obs: bool = False,
    discrete: bool = False,
) -> EnvSpec:
    """A game's sizes, with returns and basins that mean nothing."""
    return EnvSpec(
        n_agents=n_agents,
        obs_dim=obs_dim,
        action_dim=action_dim,
        horizon=horizon,
        optimal_return=1.0,
        safe_return=0.0,
        basins=("optimum", "safe"),
        constant_obs=constant_obs,
        shared_obs=shared_obs,
        discrete=discrete,
    )


def numbers(seeds: Sequence[int], name: str, *shape: int) -> Tensor:
    """``[S, *shape]`` uniform in ``[0, 1)``, other ones for each ``name``."""
    # What a stream of this name would begin with, without the block that it draws ahead.
    generators = [torch.Generator().manual_seed(derive(seed, name)) for seed in seeds]
    return torch.stack([torch.rand(shape, generator=generator) for generator in generators])


def make_obs(spec: EnvSpec, seeds: Sequence[int], name: str, n_envs: int = N_ENVS) -> Tensor:
    """``[S, E, N, O]`` in ``[-1, 1)``, other ones for each ``name``."""
    shape = len(seeds), n_envs, spec.n_agents, spec.obs_dim
    if spec.constant_obs:
        return torch.zeros(shape)
    observers = 1 if spec.shared_obs else spec.n_agents
    obs = numbers(seeds, f"obs/{name}", n_envs, observers, spec.obs_dim) * 2 - 1
    return obs.expand(shape)


def make_action(spec: EnvSpec, seeds: Sequence[int], name: str, n_envs: int = N_ENVS) -> Tensor:
    """``[S, E, N, A]`` uniform over the action space."""
    if spec.discrete:
        choice = numbers(seeds, f"action/{name}", n_envs, spec.n_agents) * spec.action_dim
        return torch.nn.functional.one_hot(choice.long(), spec.action_dim).float()
    return numbers(seeds, f"action/{name}", n_envs, spec.n_agents, spec.action_dim) * 2 - 1


def make_transition(
    spec: EnvSpec, seeds: Sequence[int], step: int = 0, n_envs: int = N_ENVS
) -> Transition:
    """One step of a made-up game, whose actions are uniform.

    Episodes go on from one step to the next: ``obs`` of ``step + 1`` is the ``next_obs`` reached
    here, where the episode did not end. A fifth of the steps terminates, a fifth is cut off.
    """
    reward, chance = numbers(seeds, f"transition/{step}", 2, n_envs).unbind(1)
    terminated = chance < (0.2 if spec.horizon > 1 else 1.0)
    truncated = ~terminated & (chance < 0.4)
    last = make_obs(spec, seeds, f"last/{step}", n_envs)
    following = make_obs(spec, seeds, str(step + 1), n_envs)
    return Transition(
        obs=make_obs(spec, seeds, str(step), n_envs),
        action=make_action(spec, seeds, str(step), n_envs),
        reward=reward * 2 - 1,
        next_obs=torch.where((terminated | truncated)[..., None, None], last, following),
        terminated=terminated,
        truncated=truncated,
    )


def stir() -> None:
    """Leave global random numbers in a new state: whoever draws from them gives itself away."""
    global _stirred
    _stirred += 1
    torch.manual_seed(_stirred)
    random.seed(_stirred)
    np.random.seed(_stirred)


_stirred = 0


def check_config_model(cls: Any) -> None:
    """``Config`` and ``version`` are what suites need of them."""
    if isinstance(cls.version, bool) or not isinstance(cls.version, int):
        raise Broken(f"version is {cls.version!r}: an int is needed, to be raised with changes")
    model = cls.Config
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise Broken("Config is no pydantic model")
    if model.model_config.get("extra") != "forbid":
        raise Broken("Config takes unknown keys, so that typos pass: extra='forbid' is missing")
    if not model.model_config.get("frozen"):
        raise Broken("Config can be changed after it was checked: frozen=True is missing")
    try:
        config = model()
    except ValidationError as error:
        fields = ", ".join(str(detail["loc"][-1]) for detail in error.errors() if detail["loc"])
        raise Broken(
            f"Config() cannot be made (fields: {fields}): every field needs a default, with which "
            "it is examined"
        ) from None
    dumped = config.model_dump(mode="json")
    if model.model_validate(dumped).model_dump(mode="json") != dumped:
        raise Broken("Config does not survive being written as plain data and read again")


def check_tensor(
    what: str, value: Any, shape: tuple[int, ...], letters: str, dtype: Any = None
) -> None:
    """``value`` is a tensor of this shape, without gradients; of floats if no ``dtype`` is said."""
    if not isinstance(value, Tensor):
        raise Broken(f"{what} is a {type(value).__name__}: a tensor {letters} is needed")
    if value.shape != shape:
        raise Broken(f"{what} has shape {tuple(value.shape)}: {letters} is needed, here {shape}")
    if value.requires_grad:
        raise Broken(f"{what} carries gradients: use torch.no_grad() or detach()")
    if dtype is None and not value.dtype.is_floating_point:
        raise Broken(f"{what} is of {value.dtype}: a float is needed")
    if dtype is not None and value.dtype != dtype:
        raise Broken(f"{what} is of {value.dtype}: {dtype} is needed")


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, where NaN is NaN."""
    return a.shape == b.shape and torch.equal(a.nan_to_num(7e30), b.nan_to_num(7e30))


def close_to(a: Tensor, b: Tensor) -> bool:
    """But for sums in another order."""
    return torch.allclose(a, b, atol=ATOL, rtol=RTOL, equal_nan=True)


def apart(a: Tensor, b: Tensor) -> str:
    return f"by up to {(a - b).abs().max().item():.2g}"


def largest(value: Tensor) -> float:
    return float(value.flatten()[value.abs().nan_to_num(math.inf).argmax()])


def written(state: dict[str, Any]) -> Any:
    """A state as a checkpoint would give it back: nothing but tensors and plain data."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        return torch.load(buffer, weights_only=True)
    except Exception as error:
        raise Broken(
            "state_dict holds more than tensors, numbers, text, lists and dicts, which a "
            f"checkpoint cannot give back: {' '.join(str(error).split())[:200]}"
        ) from None
