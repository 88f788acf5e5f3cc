"""What every environment must keep: each check is a function that raises :class:`Broken`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from rocompare import api
from rocompare.dev.checks import (
    CPU,
    N_ENVS,
    SEEDS,
    Broken,
    check_config_model,
    check_tensor,
    close_to,
    make_action,
    same,
    stir,
    written,
)
from rocompare.learn.evaluate import close

LONGEST = 500
"""Steps of an episode that are played, where its horizon is longer."""
STYLES = ("uniform", "still")
"""Actions that checks play: uniform ones, which may end episodes early, and 0 (or the first)."""


def build(cls: Any, seeds: Sequence[int] = SEEDS, stream: str = "doctor") -> Any:
    """The environment with its defaults, whatever the state of global random numbers."""
    stir()
    return cls(cls.Config(), seeds, N_ENVS, stream, CPU)


@contextlib.contextmanager
def made(cls: Any, seeds: Sequence[int] = SEEDS, stream: str = "doctor") -> Iterator[Any]:
    """The same, closed afterwards."""
    env = build(cls, seeds, stream)
    try:
        yield env
    finally:
        close(env)


def chosen(spec: api.EnvSpec, seeds: Sequence[int], step: int, style: str = "uniform") -> Tensor:
    """The action ``[S, E, N, A]`` of a step; a seed's depends on the seed alone."""
    action = make_action(spec, seeds, f"play/{step}")
    if style == "still":
        action = torch.zeros_like(action)
        if spec.discrete:
            action[..., 0] = 1.0
    return action


def play(
    env: Any, seeds: Sequence[int], steps: int, first: int = 0, style: str = "uniform"
) -> list[api.Step]:
    return [
        api.Step(*env.step(chosen(env.spec, seeds, step, style)))
        for step in range(first, first + steps)
    ]


def _steps(spec: api.EnvSpec) -> int:
    return 2 * min(spec.horizon, LONGEST) + 3


def _all_same(first: Sequence[Sequence[Tensor]], second: Sequence[Sequence[Tensor]]) -> bool:
    return all(
        same(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def check_config(cls: Any) -> None:
    """``Config``, ``version`` and ``spec`` are what suites and algorithms need of them."""
    check_config_model(cls)
    with made(cls) as env:
        spec = env.spec
    for name in ("n_agents", "obs_dim", "action_dim", "horizon"):
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise Broken(f"spec.{name} is {value!r}: an int of at least 1 is needed")
    if spec.discrete and spec.action_dim < 2:
        raise Broken("spec.action_dim is 1: discrete actions are one-hot, of their number")
    if len(set(spec.basins)) != len(spec.basins) or not spec.basins:
        raise Broken("spec.basins needs names that differ")
    returns = spec.safe_return, spec.optimal_return
    if not all(value is None or math.isfinite(value) for value in returns):
        raise Broken(
            "spec.safe_return and spec.optimal_return must be finite, or None where unknown"
        )
    if None in returns:
        return
    if not spec.safe_return < spec.optimal_return:
        raise Broken(
            f"spec.optimal_return is {spec.optimal_return:g} and spec.safe_return "
            f"{spec.safe_return:g}: the optimal one must be the larger"
        )
    if len(spec.basins) < 2:
        raise Broken("spec.basins needs two names at least: the optimum's, the safe one's")
    if spec.basins[0] != "optimum":
        raise Broken(f"spec.basins begins with {spec.basins[0]!r}: 'optimum' must be the first")


def check_step(cls: Any) -> None:
    """``reset`` and ``step`` give the shapes and types of ``api.Step``."""
    with made(cls) as env:
        spec, lead = env.spec, (len(SEEDS), N_ENVS)
        obs_shape = (*lead, spec.n_agents, spec.obs_dim)
        obs = env.reset()
        check_tensor("reset()", obs, obs_shape, "[S, E, N, O]")
        start = obs.clone()
        steps = play(env, SEEDS, _steps(spec))
    for step in steps:
        check_tensor("step().obs", step.obs, obs_shape, "[S, E, N, O]")
        check_tensor("step().next_obs", step.next_obs, obs_shape, "[S, E, N, O]")
        check_tensor("step().reward", step.reward, lead, "[S, E]")
        for name in ("terminated", "truncated"):
            check_tensor(f"step().{name}", getattr(step, name), lead, "[S, E]", torch.bool)
        check_tensor("step().basin", step.basin, lead, "[S, E]", torch.long)
        for name in ("obs", "next_obs", "reward"):
            if not getattr(step, name).isfinite().all():
                raise Broken(f"step().{name} is not finite although actions are valid")
        if (step.terminated & step.truncated).any():
            raise Broken("step(): an episode is both terminated and truncated")
        ended = step.terminated | step.truncated
        basin = step.basin[ended]
        if ((basin < 0) | (basin >= len(spec.basins))).any():
            raise Broken(f"step().basin is no index into the {len(spec.basins)} spec.basins")
        if not torch.equal(step.obs[~ended], step.next_obs[~ended]):
            raise Broken("step(): obs differs from next_obs although the episode goes on")
        if spec.constant_obs and not (same(step.obs, start) and same(step.next_obs, start)):
            raise Broken("spec.constant_obs is True, but observations vary")
        both = torch.cat([step.obs, step.next_obs])
        if spec.shared_obs and not torch.equal(both, both[:, :, :1].expand_as(both)):
            raise Broken("spec.shared_obs is True, but agents observe different things")


def check_episodes(cls: Any) -> None:
    """Episodes end by the horizon and return no more than the optimum."""
    for style in STYLES:
        with made(cls) as env:
            spec = env.spec
            env.reset()
            steps = play(env, SEEDS, _steps(spec), style=style)
            if hasattr(env, "reward"):  # the mean, where chance has a say
                steps = [
                    step._replace(reward=env.reward(chosen(spec, SEEDS, i, style)))
                    for i, step in enumerate(steps)
                ]
        age = torch.zeros(len(SEEDS), N_ENVS)
        returns = torch.zeros(len(SEEDS), N_ENVS)
        for step in steps:
            age, returns = age + 1, returns + step.reward
            ended = step.terminated | step.truncated
            if (age[~ended] >= spec.horizon).any():
                raise Broken(
                    f"an episode goes on after spec.horizon = {spec.horizon} steps: set truncated "
                    "there, and begin anew (auto-reset)"
                )
            best = returns[ended].max().item() if ended.any() else -math.inf
            optimal = math.inf if spec.optimal_return is None else spec.optimal_return
            if best > optimal + 1e-4 * max(1, abs(optimal)):
                raise Broken(
                    f"an episode returned {best:.6g}, more than spec.optimal_return = {optimal:g}"
                )
            age, returns = torch.where(ended, 0, age), torch.where(ended, 0, returns)


def check_same_seed(cls: Any) -> None:
    """The same seed gives the same episodes."""
    runs = []
    for _ in range(2):
        with made(cls) as env:
            runs.append([(env.reset(),), *play(env, SEEDS, _steps(env.spec))])
    if not _all_same(*runs):
        raise Broken(
            "two runs of the same seeds and actions differ: every random number must come from "
            "rng.Streams(seeds, stream, device)"
        )


def check_alone(cls: Any) -> None:
    """A seed beside others plays the episodes that it plays alone."""
    with made(cls) as env:
        together = [(env.reset(),), *play(env, SEEDS, _steps(env.spec))]
    for i, seed in enumerate(SEEDS):
        with made(cls, (seed,)) as env:
            alone = [(env.reset(),), *play(env, (seed,), _steps(env.spec))]
        for a, b in zip(together, alone, strict=True):
            for got, want in zip(a, b, strict=True):
                if not close_to(got[i].float(), want[0].float()):
                    raise Broken(
                        f"seed {seed} plays other episodes beside other seeds than alone: draw "
                        "for all environments at every step, from rng.Streams(seeds, ...)"
                    )


def check_nan(cls: Any) -> None:
    """A NaN action makes its own seed's reward NaN and no other's."""
    with made(cls) as sick, made(cls) as healthy:
        if sick.spec.discrete:
            return  # one-hot actions are never NaN
        sick.reset()
        healthy.reset()
        action = chosen(sick.spec, SEEDS, 0)
        bad = action.clone()
        bad[1] = math.nan
        got, want = sick.step(bad), healthy.step(action)
    if got.reward[1].isfinite().any():
        raise Broken("a NaN action is rewarded with a number: a seed that diverged would pass")
    for name in ("reward", "obs"):
        for i in (0, 2):
            if not torch.equal(getattr(got, name)[i], getattr(want, name)[i]):
                raise Broken(f"a NaN action in one seed changes the {name} of another")


def check_state(cls: Any) -> None:
    """A saved state continues bit for bit."""
    for style in STYLES:
        with made(cls) as env, made(cls) as again:
            env.reset()
            play(env, SEEDS, 3, style=style)
            state = written(env.state_dict())
            again.reset()
            again.load_state_dict(state)
            steps = _steps(env.spec)
            ours, others = (play(e, SEEDS, steps, first=3, style=style) for e in (env, again))
        if not _all_same(ours, others):
            raise Broken(
                "episodes after load_state_dict differ from those of a run that was not "
                "interrupted: positions, ages or random streams are missing in state_dict"
            )


def check_reward(cls: Any) -> None:
    """``reward`` and ``positions``, which are optional, are those of the steps."""
    with made(cls) as env, made(cls, stream="doctor's other") as other:
        obs, spec = env.reset(), env.spec
        other.reset()
        if hasattr(env, "positions"):
            places = env.positions(obs)
            shape = tuple(getattr(places, "shape", ()))[2:3]
            check_tensor("positions(obs)", places, (len(SEEDS), N_ENVS, *shape, 2), "[S, E, P, 2]")
        if not hasattr(env, "reward"):
            return
        action = chosen(spec, SEEDS, 0)
        reward = env.reward(action)
        check_tensor("reward(action)", reward, (len(SEEDS), N_ENVS), "[S, E]")
        given, by_chance = env.step(action).reward, other.step(action).reward
        # Where chance has a say, and so another stream gives other rewards, reward() is the mean.
        if same(given, by_chance) and not close_to(reward, given):
            raise Broken("reward(action) differs from the reward of step(action)")


def check_fork(cls: Any) -> None:
    """``fork``, which is optional, gives copies that play as the environment does, and alone."""
    with made(cls) as env, made(cls) as alone:
        if not hasattr(env, "fork"):
            return
        for each in (env, alone):
            each.reset()
            play(each, SEEDS, 1)
        fork = env.fork(2)
        action = chosen(env.spec, SEEDS, 1)
        got, want = fork.step(action.repeat_interleave(2, 1)), alone.step(action)
        for name in ("next_obs", "reward", "terminated", "truncated", "basin"):
            if not same(getattr(got, name), getattr(want, name).repeat_interleave(2, 1)):
                raise Broken(
                    f"after fork(2), {name} of both copies must be what the environment would "
                    "give for the same action, copies side by side: [S, 2 * E, ...]"
                )
        own = env.step(action)
        for name in ("next_obs", "reward"):
            if not same(getattr(own, name), getattr(want, name)):
                raise Broken(f"a step of what fork returned changes the environment's own {name}")


def check_rest(cls: Any) -> None:
    """``rest``, which is optional, leaves copies out of the steps, and the others as they are."""
    with made(cls) as env, made(cls) as whole:
        if not hasattr(env, "rest"):
            return
        done = torch.zeros(len(SEEDS), N_ENVS, dtype=torch.bool)
        done[:, 1] = True
        env.reset()
        whole.reset()
        env.rest(done)
        steps = (play(each, SEEDS, _steps(env.spec)) for each in (env, whole))
        for got, want in zip(*steps, strict=True):
            if any(not same(a[~done], b[~done]) for a, b in zip(got, want, strict=True)):
                raise Broken("rest(done) changes the episodes of copies that are not done")
            if got.reward[done].any():
                raise Broken("a copy that rests is rewarded: its reward must be 0")


def check_set(cls: Any) -> None:
    """``set``, which is optional, changes the running copies alone, and is part of the state."""
    with made(cls) as env:
        if not hasattr(env, "set"):
            return
        if _takes(env, "no_such_parameter", 1):
            raise Broken("set(no_such_parameter=1) passes: a name that is none must be refused")
        config, spec = cls.Config(), env.spec
        values = {name: getattr(config, name) for name in cls.Config.model_fields}
        settable = [name for name, value in values.items() if _takes(env, name, value)]
    runs = []
    for changes in ({}, {name: _another(config, name) for name in settable}):
        with made(cls) as changed, made(cls) as again, made(cls) as other:
            changed.reset()
            again.reset()
            changed.set(**changes)
            again.load_state_dict(written(changed.state_dict()))
            if not _all_same(*(play(env, SEEDS, _steps(spec)) for env in (changed, again))):
                raise Broken("what set() changed is missing in state_dict")
            if changed.spec != spec:
                raise Broken("set() changed spec, which is that of the game to be learnt")
            runs.append([(other.reset(),), *play(other, SEEDS, _steps(spec))])
    if cls.Config() != config or not _all_same(*runs):
        raise Broken("set() of one environment changes the episodes of another")


def _takes(env: Any, name: str, value: Any) -> bool:
    try:
        env.set(**{name: value})
    except Exception:  # of which kind is the environment's business
        return False
    return True


def _another(config: Any, name: str) -> Any:
    """Another valid value of a parameter that is a number; of others the one that it has."""
    value = getattr(config, name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        for other in (value + 1, value - 1, value * 0.9):
            with contextlib.suppress(ValidationError):
                data = {**config.model_dump(), name: type(value)(other)}
                return getattr(type(config).model_validate(data), name)
    return value


def check_close(cls: Any) -> None:
    """``close``, which is optional, may be called twice."""
    env = build(cls)
    if not hasattr(env, "close"):
        return
    env.reset()
    env.close()
    try:
        env.close()
    except Exception as error:
        raise Broken(
            f"a second close() raised {type(error).__name__}: {error}; it may be called again, and "
            "then does nothing"
        ) from None


ENVIRONMENT_CHECKS: dict[str, Callable[[Any], None]] = {
    "its Config, version and spec are those of an environment": check_config,
    "reset and step have their shapes and types": check_step,
    "episodes end by the horizon, below the optimal return": check_episodes,
    "the same seed gives the same episodes": check_same_seed,
    "a seed beside others plays as it does alone": check_alone,
    "a NaN action stays in its seed and is reported": check_nan,
    "a saved state continues bit for bit": check_state,
    "reward and positions, if it has them, are those of its steps": check_reward,
    "fork, if it has one, plays as the environment does": check_fork,
    "rest, if it has one, leaves the other copies as they are": check_rest,
    "set, if it has one, changes the running copies alone": check_set,
    "close, if it has one, may be called twice": check_close,
}
