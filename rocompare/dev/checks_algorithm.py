"""What every algorithm must keep: each check is a function that raises :class:`Broken`.

Algorithms are fed a made-up game, by the same calls in the same order as the training loop makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rocompare import api
from rocompare.dev.checks import (
    ATOL,
    CPU,
    N_ENVS,
    RTOL,
    SEEDS,
    Broken,
    apart,
    check_config_model,
    check_tensor,
    close_to,
    largest,
    make_obs,
    make_spec,
    make_transition,
    same,
    stir,
    written,
)
from rocompare.learn import policies
from rocompare.learn.evaluate import executions
from rocompare.learn.nn import MLP
from rocompare.learn.rng import Streams

RANDOM_STEPS = 5
"""Steps of uniform actions before the first update."""
UPDATES = 4
PATIENCE = 16
"""Steps after which one update that gave metrics is enough."""
MOST_STEPS = 1024
"""Steps after which no metrics are waited for any longer."""
BELIEFS = 7
"""Draws of each belief."""

SPECS = {
    "states": make_spec(n_agents=3, obs_dim=5, action_dim=2, horizon=7),
    "constant": make_spec(n_agents=3, obs_dim=1, action_dim=1, horizon=1, constant_obs=True),
    "two_agents": make_spec(n_agents=2, obs_dim=1, action_dim=1, horizon=3, constant_obs=True),
    "shared": make_spec(n_agents=2, obs_dim=5, action_dim=1, horizon=3, shared_obs=True),
    "discrete": make_spec(n_agents=3, obs_dim=5, action_dim=4, horizon=7, discrete=True),
    "discrete_constant": make_spec(
        n_agents=2, obs_dim=1, action_dim=3, horizon=1, constant_obs=True, discrete=True
    ),
}


def specs(cls: Any) -> dict[str, api.EnvSpec]:
    """The made-up games by name whose kind of actions the algorithm takes."""
    kinds = getattr(cls, "actions", ("continuous",))
    return {
        name: spec
        for name, spec in SPECS.items()
        if ("discrete" if spec.discrete else "continuous") in kinds
    }


Outcome = list[tuple[str, Tensor]]
"""What came out of training, in order, each ``[S, ...]`` and with its name."""


@dataclass
class Driver:
    """Feeds an algorithm a made-up game."""

    algorithm: Any
    spec: api.EnvSpec
    seeds: Sequence[int]
    sick: int | None = None
    """Index of a seed whose rewards are NaN."""
    step: int = 0
    learned: int = 0
    """Updates that gave metrics."""
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """The newest."""

    def transition(self) -> api.Transition:
        transition = make_transition(self.spec, self.seeds, self.step)
        self.step += 1
        if self.sick is not None:
            transition.reward[self.sick] = math.nan
        return transition

    def advance(self, evaluate: bool = False) -> Outcome:
        """Act, observe and update; before it, act in every mode of execution if ``evaluate``."""
        name, progress = f"step {self.step}", min(self.learned / UPDATES, 1.0)
        transition = self.transition()
        action = self.algorithm.act(transition.obs, "explore", progress)
        if evaluate:
            self.execute()
        self.algorithm.observe(transition._replace(action=action))
        metrics = self.algorithm.update(progress)
        if not isinstance(metrics, dict):
            raise Broken(f"update returned {type(metrics).__name__}: a dict is needed")
        if metrics:
            self.learned += 1
            self.metrics = metrics
        return [
            (f"the action of {name}", action),
            *((f"metric '{k}' of {name}", v) for k, v in metrics.items()),
        ]

    def explore(self) -> None:
        """The steps at the start of training, whose actions are uniform."""
        for _ in range(RANDOM_STEPS):
            self.algorithm.observe(self.transition())

    def train(self, evaluate: bool = False) -> Outcome:
        """Advance until a few updates gave metrics; only one where most give none, as those do
        that wait for a rollout."""
        if not self.step:
            self.explore()
        outcome: Outcome = []
        first, learned = self.step, self.learned
        while True:
            outcome += self.advance(evaluate)
            updates, steps = self.learned - learned, self.step - first
            enough = updates >= UPDATES or (updates > 0 and steps >= PATIENCE)
            if enough or steps >= MOST_STEPS:
                return outcome

    def execute(self) -> Outcome:
        """Act in every mode of execution."""
        obs = make_obs(self.spec, self.seeds, "execution")
        return [
            (f"the action of mode '{mode}' after training", self.algorithm.act(obs, mode, 1.0))
            for mode in executions(self.algorithm)
        ]


def build(cls: Any, spec: api.EnvSpec, seeds: Sequence[int] = SEEDS) -> Any:
    """The algorithm with its defaults, whatever the state of global random numbers."""
    stir()
    return cls(spec, cls.Config(), seeds, CPU)


def driver(cls: Any, spec: api.EnvSpec, seeds: Sequence[int] = SEEDS, **options: Any) -> Driver:
    return Driver(build(cls, spec, seeds), spec, seeds, **options)


def networks(algorithm: Any) -> dict[str, MLP]:
    """The algorithm's networks by attribute; none where it uses others than rocompare's."""
    return {name: part for name, part in vars(algorithm).items() if isinstance(part, MLP)}


def check_config(cls: Any, spec: api.EnvSpec) -> None:
    """``Config``, ``version`` and what the class declares are what suites need of them."""
    check_config_model(cls)
    if not issubclass(cls.Config, api.Config):
        raise Broken("Config does not extend rocompare.api.Config, which holds gamma, ...")
    if not issubclass(cls, api.Algorithm):
        raise Broken(
            "the class does not extend rocompare.api.Algorithm, from which it has state_dict, "
            "load_state_dict and what it declares"
        )
    kinds = cls.actions
    if not (isinstance(kinds, tuple) and kinds and set(kinds) <= {"continuous", "discrete"}):
        raise Broken(
            f"actions is {kinds!r}: a tuple of the kinds that it takes is needed, of "
            "'continuous' and 'discrete'"
        )
    if not isinstance(cls.shares_noise, bool):
        raise Broken(f"shares_noise is {cls.shares_noise!r}: True or False is needed")
    build(cls, spec)


def check_actions(cls: Any, spec: api.EnvSpec) -> None:
    """``act`` gives ``[S, E, N, A]`` in the action space in every mode."""
    algorithm = build(cls, spec)
    shape = len(SEEDS), N_ENVS, spec.n_agents, spec.action_dim
    for mode in ("explore", *executions(algorithm)):
        for i in range(20):
            action = algorithm.act(make_obs(spec, SEEDS, str(i)), mode, i / 19)
            check_tensor(f"act(obs, '{mode}')", action, shape, "[S, E, N, A]")
            if not action.abs().max() <= 1:
                raise Broken(f"act(obs, '{mode}') left [-1, 1]: an action of {largest(action):.3g}")
            if spec.discrete and not _is_one_hot(action):
                raise Broken(
                    f"act(obs, '{mode}') is not one-hot, as actions of discrete games are: "
                    f"{[round(x, 3) for x in action[0, 0, 0].tolist()]}"
                )
    obs = make_obs(spec, SEEDS, "0")
    first, second = (algorithm.act(obs, "deterministic", 1.0) for _ in range(2))
    if not torch.equal(first, second):
        raise Broken(
            "act(obs, 'deterministic') gives another action when asked again: noise is left"
        )


def _is_one_hot(action: Tensor) -> bool:
    return bool(((action == 0) | (action == 1)).all() and (action.sum(-1) == 1).all())


def check_update(cls: Any, spec: api.EnvSpec) -> None:
    """``observe`` takes transitions, and ``update`` gives metrics ``[S]``."""
    fed = driver(cls, spec)
    fed.explore()
    while not fed.learned and fed.step < MOST_STEPS:
        fed.advance()
    if not fed.learned:
        raise Broken(
            f"update returned no metrics in {MOST_STEPS} steps: a NaN among them is how "
            "divergence is told"
        )
    for name, value in fed.metrics.items():
        check_tensor(f"update's metric '{name}'", value, (len(SEEDS),), "[S]")


def check_same_seed(cls: Any, spec: api.EnvSpec) -> None:
    """The same seed gives the same result, another seed another."""
    first, second = (fed.train() + fed.execute() for fed in (driver(cls, spec), driver(cls, spec)))
    for (name, a), (_, b) in zip(first, second, strict=True):
        if not same(a, b):
            raise Broken(
                f"{name} differs between two runs of the same seeds: every random number must "
                "come from rng.Streams(seeds, ...)"
            )
    action = first[0][1]  # from initial weights and noise
    if torch.equal(action[0], action[1]):
        raise Broken(
            f"seeds {SEEDS[0]} and {SEEDS[1]} explore alike: every seed must have its own initial "
            "weights and noise, from rng.Streams(seeds, ...)"
        )


def check_alone(cls: Any, spec: api.EnvSpec) -> None:
    """A seed trained beside others equals the seed trained alone."""
    together = driver(cls, spec)
    outcome = together.train() + together.execute()
    for i, seed in enumerate(SEEDS):
        alone = driver(cls, spec, (seed,))
        for (name, got), (_, want) in zip(outcome, alone.train() + alone.execute(), strict=True):
            if not close_to(got[i], want[0]):
                raise Broken(
                    f"{name} of seed {seed} differs when the seed trains alone "
                    f"({apart(got[i], want[0])}): a mean over seeds, a norm or a draw that they "
                    "share? A loss is the mean within a seed and the sum over seeds: nn.seed_mean"
                )
        # Their norm: where a gradient is all but 0, Adam's step has the sign of rounding errors.
        for part, net in networks(alone.algorithm).items():
            twin = networks(together.algorithm)[part]
            for a, b in zip(twin.per_seed(twin.flat), net.per_seed(net.flat), strict=True):
                if (a[i] - b[0]).norm() > ATOL + RTOL * b[0].norm():
                    raise Broken(
                        f"the weights of '{part}' of seed {seed} differ when the seed trains "
                        f"alone ({apart(a[i], b[0])})"
                    )


def check_nan(cls: Any, spec: api.EnvSpec) -> None:
    """A NaN in one seed leaves the others alone and is seen in that seed's metrics."""
    for where in ("weights", "rewards"):
        sick = driver(cls, spec, sick=1 if where == "rewards" else None)
        healthy = driver(cls, spec)
        if where == "weights":
            if not networks(sick.algorithm):
                continue
            with torch.no_grad():
                for net in networks(sick.algorithm).values():
                    for part in net.per_seed(net.flat):
                        part[1] = math.nan
        outcome = sick.train() + sick.execute()
        for (name, got), (_, want) in zip(
            outcome, healthy.train() + healthy.execute(), strict=True
        ):
            for i in (0, 2):
                if not close_to(got[i], want[i]):
                    raise Broken(
                        f"NaN {where} in seed {SEEDS[1]} change {name} of seed {SEEDS[i]}: seeds "
                        "must not touch each other"
                    )
        if all(bool(value[1].isfinite()) for value in sick.metrics.values()):
            raise Broken(
                f"NaN {where} in seed {SEEDS[1]} are in none of update's metrics: a seed that "
                "diverged would not be noticed"
            )


def check_state(cls: Any, spec: api.EnvSpec) -> None:
    """A saved state continues bit for bit."""
    whole = driver(cls, spec)
    whole.train()
    for _ in range(3):
        learned = whole.learned
        whole.advance()
        if whole.learned == learned:  # in the middle of a rollout, which is state too
            break
    state = written(whole.algorithm.state_dict())
    again = replace(whole, algorithm=build(cls, spec))
    again.algorithm.load_state_dict(state)
    first, second = (fed.train() + fed.execute() for fed in (whole, again))
    for (name, a), (_, b) in zip(first, second, strict=True):
        if not same(a, b):
            raise Broken(
                f"{name} after load_state_dict differs from that of a run that was not "
                "interrupted: weights, optimiser, memory or random streams are missing in "
                "state_dict"
            )


def check_execution(cls: Any, spec: api.EnvSpec) -> None:
    """Executing the policy, as evaluations do, changes nothing but random streams."""
    fed = driver(cls, spec)
    fed.train()
    before = written(fed.algorithm.state_dict())
    fed.execute()
    after = written(fed.algorithm.state_dict())
    streams = [name for name, part in vars(fed.algorithm).items() if isinstance(part, Streams)]
    _refuse_changes(
        before,
        after,
        streams,
        "executing changed '{}' of state_dict: it may change nothing but random streams, which "
        "are attributes of their own",
    )
    with_, without = (driver(cls, spec).train(evaluate) for evaluate in (True, False))
    for (name, a), (_, b) in zip(with_, without, strict=True):
        if not same(a, b):
            raise Broken(
                f"{name} depends on whether there were evaluations: execution must draw from a "
                "random stream of its own and change nothing else"
            )


def check_policy(cls: Any, spec: api.EnvSpec) -> None:
    """A policy that is kept acts as the trained algorithm does."""
    fed = driver(cls, spec)
    fed.train()
    obs = make_obs(spec, SEEDS, "kept")
    acted = fed.algorithm.act(obs, "deterministic", 1.0)
    for i, (seed, data) in enumerate(zip(SEEDS, policies.pack(fed.algorithm, 1.0), strict=True)):
        if not data:
            return  # its networks are not rocompare's, and none are named: nothing is kept
        alone = build(cls, spec, (seed,))
        policies.unpack(data, alone)
        again = alone.act(obs[i : i + 1], "deterministic", 1.0)[0]
        if not close_to(acted[i], again):
            raise Broken(
                f"the policy that is kept of seed {seed} acts otherwise ({apart(acted[i], again)}):"
                " executes_with must name every network and tensor that act needs"
            )


def check_beliefs(cls: Any, spec: api.EnvSpec) -> None:
    """``beliefs``, which is optional, gives each agent's draws and leaves training alone."""
    if not hasattr(cls, "beliefs") or spec.horizon > 1 or spec.discrete:
        return  # only games of one step with actions on a line ask for them

    def ask(fed: Driver) -> Tensor:
        n_seeds = len(fed.seeds)
        own = torch.linspace(-1, 1, 5).view(1, 1, 5, 1).expand(n_seeds, spec.n_agents, -1, -1)
        with torch.no_grad():
            draws: Tensor = fed.algorithm.beliefs(own, BELIEFS, Streams(fed.seeds, "beliefs"))
        m = 1 if isinstance(draws, Tensor) and draws.dim() > 2 and draws.shape[2] == 1 else 5
        shape = n_seeds, spec.n_agents, m, BELIEFS, spec.n_agents, spec.action_dim
        check_tensor("beliefs()", draws, shape, "[S, N, M or 1, K, N, A]")
        if not draws.abs().max() <= 1:
            raise Broken(f"beliefs() left [-1, 1]: an action of {largest(draws):.3g}")
        return draws

    fed = driver(cls, spec)
    fed.train()
    before = written(fed.algorithm.state_dict())
    together = ask(fed)
    after = written(fed.algorithm.state_dict())
    _refuse_changes(
        before,
        after,
        [],
        "beliefs() changed '{}' of state_dict: its random numbers must come from the streams that "
        "it is given, and nothing else may change",
    )
    for i, seed in enumerate(SEEDS):
        alone = driver(cls, spec, (seed,))
        alone.train()
        draws = ask(alone)
        if not close_to(together[i], draws[0]):
            raise Broken(
                f"beliefs() of seed {seed} differ when the seed trains alone "
                f"({apart(together[i], draws[0])})"
            )


def _refuse_changes(before: Any, after: Any, but: Sequence[str], message: str) -> None:
    for name, value in before.items():
        if name not in but and not _equal(value, after[name]):
            raise Broken(message.format(name))


def _equal(a: Any, b: Any) -> bool:
    """Whether two parts of a state are the same, bit for bit."""
    if isinstance(a, Tensor):
        return same(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


ALGORITHM_CHECKS: dict[str, Callable[[Any, api.EnvSpec], None]] = {
    "its Config and version are those of an algorithm": check_config,
    "actions are [S, E, N, A] in the action space in every mode": check_actions,
    "observe and update give metrics per seed": check_update,
    "the same seed gives the same result": check_same_seed,
    "a seed in a batch equals the seed alone": check_alone,
    "a NaN stays in its seed and is reported": check_nan,
    "a saved state continues bit for bit": check_state,
    "executing leaves training alone": check_execution,
    "a policy that is kept acts like the algorithm": check_policy,
    "beliefs, if it has them, are per seed and leave training alone": check_beliefs,
}
