"""What every algorithm and every environment must keep, as checks that say in words what is broken.

Seeds do not touch each other, the same seed gives the same result, a saved state continues bit for
bit, shapes are those of ``api``. Each check is a function that raises :class:`Broken`; the tests of
what rocompare ships call the same ones. Sizes are small primes that differ, so that a mixed-up axis
fails instead of broadcasting.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from rocompare import api
from rocompare.learn.nn import MLP
from rocompare.learn.rng import Streams

CPU = torch.device("cpu")
SEEDS = (3, 11, 4)
N_ENVS = 2
BATCH = 11
UPDATES = 4
ATOL, RTOL = 2e-5, 2e-4
"""How far a seed in a batch may be from the seed alone: sums in another order."""
EXECUTION: tuple[api.Mode, ...] = ("execute", "noiseless")
Outcome = list[tuple[str, Tensor]]
"""What came out of a run, in order, each ``[S, ...]`` and with its name."""


class Broken(AssertionError):
    """What a check found, for whoever wrote the class."""


@dataclass(frozen=True)
class Finding:
    """A check of one class and how it ended."""

    check: str
    problem: str | None
    """None: it holds."""


def examine(cls: Any, kind: str) -> list[Finding]:
    """Run every check of ``kind``, algorithm or environment, on a class."""
    checks: dict[str, Callable[..., None]] = (
        ALGORITHM_CHECKS if kind == "algorithm" else ENVIRONMENT_CHECKS
    )
    found = []
    for name, check in checks.items():
        problem = None
        try:
            for arguments in [(spec,) for spec in SPECS.values()] if kind == "algorithm" else [()]:
                check(cls, *arguments)
        except Broken as broken:
            problem = str(broken)
        except Exception as error:  # a user's class may fail in any way; say where and how
            problem = f"{_place(error)} raised {type(error).__name__}: {error}"
        found.append(Finding(name, problem))
        if problem and name == next(iter(checks)):
            break  # without a Config or an object nothing else can be said
    return found


def _place(error: BaseException) -> str:
    """The innermost function of the examined file that an exception came through."""
    trace, place = error.__traceback__, "it"
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename != __file__ and "torch/" not in code.co_filename:
            place = f"{code.co_qualname} (line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


# Algorithms


def make_spec(
    n_agents: int = 3,
    obs_dim: int = 2,
    action_dim: int = 2,
    horizon: int = 7,
    constant_obs: bool = False,
) -> api.EnvSpec:
    """Sizes that are all different, so that a mixed-up axis does not pass unseen."""
    return api.EnvSpec(
        n_agents=n_agents,
        obs_dim=obs_dim,
        action_dim=action_dim,
        horizon=horizon,
        optimal_return=1.0,
        safe_return=0.0,
        basins=("optimum", "safe"),
        constant_obs=constant_obs,
    )


SPECS = {
    "states": make_spec(n_agents=3, obs_dim=5, action_dim=2, horizon=7),
    "constant": make_spec(n_agents=3, obs_dim=1, action_dim=1, horizon=1, constant_obs=True),
    "two_agents": make_spec(n_agents=2, obs_dim=1, action_dim=1, horizon=3, constant_obs=True),
}


def make_batch(
    spec: api.EnvSpec,
    seeds: Sequence[int],
    size: int = BATCH,
    salt: int = 0,
    extras: dict[str, Tensor] | None = None,
) -> api.Batch:
    """A batch in which each seed's numbers depend on the seed alone."""

    def draw(seed: int, what: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * seed + 10 * salt + what)
        return torch.rand(*shape, generator=generator) * 2 - 1

    def stack(what: int, *shape: int) -> Tensor:
        return torch.stack([draw(seed, what, *shape) for seed in seeds])

    n, o, a = spec.n_agents, spec.obs_dim, spec.action_dim
    rows = 1 if spec.constant_obs else size
    obs = stack(0, rows, n, o)
    return api.Batch(
        obs=obs,
        action=stack(1, size, n, a),
        reward=stack(2, size),
        next_obs=obs if spec.constant_obs else stack(3, rows, n, o),
        terminated=(stack(4, size) > 0.5).float(),
        extras=extras or {},
    )


def build(cls: Any, spec: api.EnvSpec, seeds: Sequence[int]) -> Any:
    """The algorithm with its defaults, whatever the state of global random numbers."""
    _stir()
    return cls(spec, cls.Config(), seeds, CPU)


_stirred = 0


def _stir() -> None:
    """Leave global generators in a new state: who draws from them gives itself away."""
    global _stirred
    _stirred += 1
    torch.manual_seed(_stirred)
    random.seed(_stirred)
    np.random.seed(_stirred)


def observe(spec: api.EnvSpec, seeds: Sequence[int], salt: int) -> Tensor:
    """``[S, E, N, O]``, each seed's rows its own."""
    if spec.constant_obs:
        return torch.zeros(len(seeds), N_ENVS, spec.n_agents, spec.obs_dim)
    return make_batch(spec, seeds, size=N_ENVS, salt=salt).obs


def train(
    algorithm: Any,
    spec: api.EnvSpec,
    seeds: Sequence[int],
    evaluate: bool = False,
    nan_reward: int | None = None,
) -> Outcome:
    """Act, note and update a few times; everything that came out.

    Args:
        evaluate: act in the modes of execution, too, before each update.
        nan_reward: index of a seed whose rewards are NaN.
    """
    outcome: Outcome = []
    for step in range(UPDATES):
        obs = observe(spec, seeds, 100 + step)
        action = algorithm.act(obs, "explore")
        extras = algorithm.note(obs, action)
        if evaluate:
            for mode in EXECUTION:
                algorithm.act(obs, mode)
        # Replayed rows carry what was noted; here row after row of it.
        rows = {k: v[:, torch.arange(BATCH) % N_ENVS] for k, v in extras.items()}
        batch = make_batch(spec, seeds, salt=step, extras=rows)
        if nan_reward is not None:
            batch.reward[nan_reward] = math.nan
        metrics = algorithm.update(batch, step / UPDATES)
        outcome.append((f"the action of step {step}", action))
        outcome += [(f"metric '{k}' of update {step}", v) for k, v in metrics.items()]
    if not evaluate:
        for mode in EXECUTION:
            action = algorithm.act(observe(spec, seeds, 999), mode)
            outcome.append((f"the action of mode '{mode}' after {UPDATES} updates", action))
    return outcome


def networks(algorithm: Any) -> dict[str, MLP]:
    """The algorithm's networks by attribute; none where it uses others than rocompare's."""
    return {name: part for name, part in vars(algorithm).items() if isinstance(part, MLP)}


def check_config(cls: Any, spec: api.EnvSpec) -> None:
    """``Config`` and ``version`` are what suites need of them."""
    _check_config(cls)
    if not issubclass(cls.Config, api.Config):
        raise Broken("Config does not extend rocompare.api.Config, which holds batch_size, ...")
    build(cls, spec, SEEDS)


def _check_config(cls: Any) -> None:
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


def check_actions(cls: Any, spec: api.EnvSpec) -> None:
    """``act`` gives ``[S, E, N, A]`` in ``[-1, 1]`` in every mode."""
    algorithm = build(cls, spec, SEEDS)
    shape = len(SEEDS), N_ENVS, spec.n_agents, spec.action_dim
    for mode in ("explore", *EXECUTION):
        for salt in range(20):
            action = algorithm.act(observe(spec, SEEDS, salt), mode)
            _check_tensor(f"act(obs, '{mode}')", action, shape, "[S, E, N, A]")
            if not action.abs().max() <= 1:
                raise Broken(
                    f"act(obs, '{mode}') left [-1, 1]: an action of {_largest(action):.3g}"
                )
    obs = observe(spec, SEEDS, 0)
    first, second = (algorithm.act(obs, "noiseless") for _ in range(2))
    if not torch.equal(first, second):
        raise Broken("act(obs, 'noiseless') gives another action when asked again: noise is left")


def check_note_and_update(cls: Any, spec: api.EnvSpec) -> None:
    """``note`` gives ``[S, E, ...]`` each and ``update`` metrics ``[S]``."""
    algorithm = build(cls, spec, SEEDS)
    obs = observe(spec, SEEDS, 0)
    extras = algorithm.note(obs, algorithm.act(obs, "explore"))
    if not isinstance(extras, dict):
        raise Broken(f"note returned {type(extras).__name__}: a dict of tensors is needed")
    for name, value in extras.items():
        lead = tuple(getattr(value, "shape", ())[:2])
        if lead != (len(SEEDS), N_ENVS):
            raise Broken(
                f"note's '{name}' begins with {lead}: [S, E, ...] is needed, here "
                f"{(len(SEEDS), N_ENVS)}"
            )
    rows = {k: v[:, torch.arange(BATCH) % N_ENVS] for k, v in extras.items()}
    metrics = algorithm.update(make_batch(spec, SEEDS, extras=rows), 0.0)
    if not isinstance(metrics, dict) or not metrics:
        raise Broken("update returned no metrics: a NaN among them is how divergence is told")
    for name, value in metrics.items():
        _check_tensor(f"update's metric '{name}'", value, (len(SEEDS),), "[S]")


def check_same_seed(cls: Any, spec: api.EnvSpec) -> None:
    """The same seed gives the same result, another seed another."""
    first, second = (train(build(cls, spec, SEEDS), spec, SEEDS) for _ in range(2))
    for (name, a), (_, b) in zip(first, second, strict=True):
        if not _same(a, b):
            raise Broken(
                f"{name} differs between two runs of the same seeds: every random number must "
                "come from rng.Streams(seeds, ...)"
            )
    action = first[0][1]
    if torch.equal(action[0], action[1]):
        raise Broken(
            f"seeds {SEEDS[0]} and {SEEDS[1]} explore alike: every seed must have its own initial "
            "weights and noise, from rng.Streams(seeds, ...)"
        )


def check_alone(cls: Any, spec: api.EnvSpec) -> None:
    """A seed trained beside others equals the seed trained alone."""
    together = build(cls, spec, SEEDS)
    outcome = train(together, spec, SEEDS)
    for i, seed in enumerate(SEEDS):
        alone = build(cls, spec, (seed,))
        for (name, got), (_, want) in zip(outcome, train(alone, spec, (seed,)), strict=True):
            if not _close(got[i], want[0]):
                raise Broken(
                    f"{name} of seed {seed} differs when the seed trains alone "
                    f"({_apart(got[i], want[0])}): a mean over seeds, a norm or a draw that they "
                    "share? A loss is the mean within a seed and the sum over seeds: nn.seed_mean"
                )
        # Their norm: where a gradient is all but 0, Adam's step has the sign of rounding errors.
        for part, net in networks(alone).items():
            twin = networks(together)[part]
            for a, b in zip(twin.per_seed(twin.flat), net.per_seed(net.flat), strict=True):
                if (a[i] - b[0]).norm() > ATOL + RTOL * b[0].norm():
                    raise Broken(
                        f"the weights of '{part}' of seed {seed} differ when the seed trains "
                        f"alone ({_apart(a[i], b[0])})"
                    )


def check_nan(cls: Any, spec: api.EnvSpec) -> None:
    """A NaN in one seed leaves the others alone and is seen in that seed's metrics."""
    for where in ("weights", "rewards"):
        algorithm, healthy = build(cls, spec, SEEDS), build(cls, spec, SEEDS)
        if where == "weights":
            if not networks(algorithm):
                continue
            with torch.no_grad():
                for net in networks(algorithm).values():
                    for part in net.per_seed(net.flat):
                        part[1] = math.nan
        sick = 1 if where == "rewards" else None
        outcome = train(algorithm, spec, SEEDS, nan_reward=sick)
        for (name, got), (_, want) in zip(outcome, train(healthy, spec, SEEDS), strict=True):
            for i in (0, 2):
                if not _close(got[i], want[i]):
                    raise Broken(
                        f"NaN {where} in seed {SEEDS[1]} change {name} of seed {SEEDS[i]}: seeds "
                        "must not touch each other"
                    )
        last = [v for name, v in outcome if name.startswith("metric") and f" {UPDATES - 1}" in name]
        finite = torch.stack([value.isfinite() for value in last]).all(0)
        if finite[1]:
            raise Broken(
                f"NaN {where} in seed {SEEDS[1]} are in none of update's metrics: a seed that "
                "diverged would not be noticed"
            )


def check_state(cls: Any, spec: api.EnvSpec) -> None:
    """A saved state continues bit for bit."""
    algorithm = build(cls, spec, SEEDS)
    train(algorithm, spec, SEEDS)
    state = _written(algorithm.state_dict())
    again = build(cls, spec, SEEDS)
    again.load_state_dict(state)
    first, second = train(algorithm, spec, SEEDS), train(again, spec, SEEDS)
    for (name, a), (_, b) in zip(first, second, strict=True):
        if not _same(a, b):
            raise Broken(
                f"{name} after load_state_dict differs from that of a run that was not "
                "interrupted: weights, optimiser or random streams are missing in state_dict"
            )


def check_evaluation(cls: Any, spec: api.EnvSpec) -> None:
    """Executing the policy, as evaluations do, leaves training as it is."""
    with_, without = (
        train(build(cls, spec, SEEDS), spec, SEEDS, evaluate=evaluate) for evaluate in (True, False)
    )
    for (name, a), (_, b) in zip(with_, without, strict=False):
        if not _same(a, b):
            raise Broken(
                f"{name} depends on whether there were evaluations: modes 'execute' and "
                "'noiseless' must draw from a stream of their own and change nothing"
            )


ALGORITHM_CHECKS: dict[str, Callable[[Any, api.EnvSpec], None]] = {
    "its Config and version are those of an algorithm": check_config,
    "actions are [S, E, N, A] in [-1, 1] in every mode": check_actions,
    "note and update give tensors per seed": check_note_and_update,
    "the same seed gives the same result": check_same_seed,
    "a seed in a batch equals the seed alone": check_alone,
    "a NaN stays in its seed and is reported": check_nan,
    "a saved state continues bit for bit": check_state,
    "evaluations leave training alone": check_evaluation,
}


# Environments


def build_env(cls: Any, seeds: Sequence[int] = SEEDS, n_envs: int = N_ENVS) -> Any:
    """The environment with its defaults, whatever the state of global random numbers."""
    _stir()
    return cls(cls.Config(), seeds, n_envs, "doctor", CPU)


STYLES = (1.0, 0.0)
"""Scales of the actions that checks play: uniform ones, which may end episodes early, and none."""


def play(
    env: Any, seeds: Sequence[int], steps: int, first: int = 0, scale: float = 1.0
) -> list[tuple[Tensor, ...]]:
    """``(action, *Step)`` of each step of uniform actions, which depend on the seed alone."""
    spec, played = env.spec, []
    for i in range(first, first + steps):
        draws = Streams(seeds, f"play/{i}")
        action = scale * (draws.uniform(N_ENVS, spec.n_agents, spec.action_dim) * 2 - 1)
        played.append((action, *env.step(action)))
    return played


def _steps(spec: api.EnvSpec) -> int:
    return 2 * min(spec.horizon, 500) + 3


def check_env_config(cls: Any) -> None:
    """``Config``, ``version`` and ``spec`` are what suites and algorithms need of them."""
    _check_config(cls)
    spec = build_env(cls).spec
    for name in ("n_agents", "obs_dim", "action_dim", "horizon"):
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise Broken(f"spec.{name} is {value!r}: an int of at least 1 is needed")
    if not (math.isfinite(spec.safe_return) and math.isfinite(spec.optimal_return)):
        raise Broken("spec.safe_return and spec.optimal_return must be finite numbers")
    if not spec.safe_return < spec.optimal_return:
        raise Broken(
            f"spec.optimal_return is {spec.optimal_return:g} and spec.safe_return "
            f"{spec.safe_return:g}: the optimal one must be the larger"
        )
    if len(spec.basins) < 2 or len(set(spec.basins)) != len(spec.basins):
        raise Broken("spec.basins needs two different names at least: the optimum's, the safe one")
    if spec.basins[0] != "optimum":
        raise Broken(f"spec.basins begins with {spec.basins[0]!r}: 'optimum' must be the first")


def check_step(cls: Any) -> None:
    """``reset`` and ``step`` give the shapes and types of ``api.Step``."""
    env = build_env(cls)
    spec, lead = env.spec, (len(SEEDS), N_ENVS)
    obs_shape = (*lead, spec.n_agents, spec.obs_dim)
    obs = env.reset()
    _check_tensor("reset()", obs, obs_shape, "[S, E, N, O]")
    start = obs.clone()
    for played in play(env, SEEDS, _steps(spec)):
        step = api.Step(*played[1:])
        _check_tensor("step().obs", step.obs, obs_shape, "[S, E, N, O]")
        _check_tensor("step().next_obs", step.next_obs, obs_shape, "[S, E, N, O]")
        _check_tensor("step().reward", step.reward, lead, "[S, E]")
        for name in ("terminated", "truncated"):
            _check_tensor(f"step().{name}", getattr(step, name), lead, "[S, E]", torch.bool)
        _check_tensor("step().basin", step.basin, lead, "[S, E]", torch.long)
        for name in ("obs", "next_obs", "reward"):
            if not getattr(step, name).isfinite().all():
                raise Broken(f"step().{name} is not finite after actions in [-1, 1]")
        if (step.terminated & step.truncated).any():
            raise Broken("step(): an episode is both terminated and truncated")
        ended = step.terminated | step.truncated
        basin = step.basin[ended]
        if ((basin < 0) | (basin >= len(spec.basins))).any():
            raise Broken(f"step().basin is no index into the {len(spec.basins)} spec.basins")
        if not torch.equal(step.obs[~ended], step.next_obs[~ended]):
            raise Broken("step(): obs differs from next_obs although the episode goes on")
        if spec.constant_obs and not (_same(step.obs, start) and _same(step.next_obs, start)):
            raise Broken("spec.constant_obs is True, but observations vary")


def check_episodes(cls: Any) -> None:
    """Episodes end by the horizon and return no more than the optimum."""
    for scale in STYLES:
        env = build_env(cls)
        spec = env.spec
        env.reset()
        age = torch.zeros(len(SEEDS), N_ENVS)
        returns = torch.zeros(len(SEEDS), N_ENVS)
        for _, *rest in play(env, SEEDS, _steps(spec), scale=scale):
            step = api.Step(*rest)
            age, returns = age + 1, returns + step.reward
            ended = step.terminated | step.truncated
            if (age[~ended] >= spec.horizon).any():
                raise Broken(
                    f"an episode goes on after spec.horizon = {spec.horizon} steps: set truncated "
                    "there, and begin anew (auto-reset)"
                )
            best = returns[ended].max().item() if ended.any() else -math.inf
            if best > spec.optimal_return + 1e-4 * max(1, abs(spec.optimal_return)):
                raise Broken(
                    f"an episode returned {best:.6g}, more than spec.optimal_return = "
                    f"{spec.optimal_return:g}"
                )
            age, returns = torch.where(ended, 0, age), torch.where(ended, 0, returns)


def check_env_same_seed(cls: Any) -> None:
    """The same seed gives the same episodes."""
    runs = []
    for _ in range(2):
        env = build_env(cls)
        runs.append([(env.reset(),), *play(env, SEEDS, _steps(env.spec))])
    if not _all_same(*runs):
        raise Broken(
            "two runs of the same seeds and actions differ: every random number must come from "
            "rng.Streams(seeds, stream, device)"
        )


def check_env_alone(cls: Any) -> None:
    """A seed beside others plays the episodes that it plays alone."""
    env = build_env(cls)
    together = [(env.reset(),), *play(env, SEEDS, _steps(env.spec))]
    for i, seed in enumerate(SEEDS):
        env = build_env(cls, (seed,))
        alone = [(env.reset(),), *play(env, (seed,), _steps(env.spec))]
        for a, b in zip(together, alone, strict=True):
            for got, want in zip(a, b, strict=True):
                if not _close(got[i].float(), want[0].float()):
                    raise Broken(
                        f"seed {seed} plays other episodes beside other seeds than alone: draw "
                        "for all environments at every step, from rng.Streams(seeds, ...)"
                    )


def check_env_nan(cls: Any) -> None:
    """A NaN action makes its own seed's reward NaN and no other's."""
    sick, healthy = build_env(cls), build_env(cls)
    sick.reset()
    healthy.reset()
    spec = sick.spec
    action = Streams(SEEDS, "play/0").uniform(N_ENVS, spec.n_agents, spec.action_dim) * 2 - 1
    bad = action.clone()
    bad[1] = math.nan
    got, want = sick.step(bad), healthy.step(action)
    if got.reward[1].isfinite().any():
        raise Broken("a NaN action is rewarded with a number: a seed that diverged would pass")
    for name in ("reward", "obs"):
        for i in (0, 2):
            if not torch.equal(getattr(got, name)[i], getattr(want, name)[i]):
                raise Broken(f"a NaN action in one seed changes the {name} of another")


def check_env_state(cls: Any) -> None:
    """A saved state continues bit for bit."""
    for scale in STYLES:
        env = build_env(cls)
        env.reset()
        play(env, SEEDS, 3, scale=scale)
        state = _written(env.state_dict())
        again = build_env(cls)
        again.reset()
        again.load_state_dict(state)
        steps = _steps(env.spec)
        ours, others = (play(e, SEEDS, steps, first=3, scale=scale) for e in (env, again))
        if not _all_same(ours, others):
            raise Broken(
                "episodes after load_state_dict differ from those of a run that was not "
                "interrupted: positions, ages or random streams are missing in state_dict"
            )


def check_env_fork(cls: Any) -> None:
    """``fork``, which is optional, gives copies that play as the environment does, and alone."""
    env, alone = build_env(cls), build_env(cls)
    if not hasattr(env, "fork"):
        return
    for each in (env, alone):
        each.reset()
        play(each, SEEDS, 1)
    fork = env.fork(2)
    spec = env.spec
    action = Streams(SEEDS, "play/1").uniform(N_ENVS, spec.n_agents, spec.action_dim) * 2 - 1
    got, want = fork.step(action.repeat_interleave(2, 1)), alone.step(action)
    for name in ("next_obs", "reward", "terminated", "truncated", "basin"):
        if not _same(getattr(got, name), getattr(want, name).repeat_interleave(2, 1)):
            raise Broken(
                f"after fork(2), {name} of both copies must be what the environment would give "
                "for the same action, copies side by side: [S, 2 * E, ...]"
            )
    own = env.step(action)
    for name in ("next_obs", "reward"):
        if not _same(getattr(own, name), getattr(want, name)):
            raise Broken(f"a step of what fork returned changes the environment's own {name}")


ENVIRONMENT_CHECKS: dict[str, Callable[[Any], None]] = {
    "its Config, version and spec are those of an environment": check_env_config,
    "reset and step have their shapes and types": check_step,
    "episodes end by the horizon, below the optimal return": check_episodes,
    "the same seed gives the same episodes": check_env_same_seed,
    "a seed beside others plays as it does alone": check_env_alone,
    "a NaN action stays in its seed and is reported": check_env_nan,
    "a saved state continues bit for bit": check_env_state,
    "fork, if it has one, plays as the environment does": check_env_fork,
}


# What checks share


def _check_tensor(
    what: str, value: Any, shape: tuple[int, ...], letters: str, dtype: Any = None
) -> None:
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


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, where NaN is NaN."""
    return a.shape == b.shape and torch.equal(a.nan_to_num(7e30), b.nan_to_num(7e30))


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=ATOL, rtol=RTOL, equal_nan=True)


def _all_same(first: Sequence[tuple[Tensor, ...]], second: Sequence[tuple[Tensor, ...]]) -> bool:
    return all(
        _same(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def _written(state: dict[str, Any]) -> Any:
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


def _largest(value: Tensor) -> float:
    return float(value.flatten()[value.abs().nan_to_num(math.inf).argmax()])


def _apart(a: Tensor, b: Tensor) -> str:
    return f"by up to {(a - b).abs().max().item():.2g}"
