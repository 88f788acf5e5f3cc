"""The only training loop: one cell, all its seeds as one program.

Act, step, observe, update; at some steps evaluate and record. The engine knows nothing of an
algorithm's inside, nor of an environment's: it moves tensors with leading ``[S, E]`` between them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rocompare.api import Algorithm, Env, EnvSpec, Transition
from rocompare.learn import checkpoint as checkpoints
from rocompare.learn import policies
from rocompare.learn.curriculum import Schedule
from rocompare.learn.evaluate import RO, Evaluation, close, executions, play
from rocompare.learn.nn import MLP
from rocompare.learn.rng import Streams
from rocompare.results import records
from rocompare.results.records import Execution, SeedRecord
from rocompare.suite.models import Cell

KEPT_ACTIONS = 20
"""Joint actions of the final evaluation that a one-step game's record keeps, per seed."""
CHECKPOINT_SECONDS = 30.0
DIGITS = 6
"""Decimals of the returns and curves that records keep."""

Evaluations = dict[Execution, Evaluation]


class Interrupted(Exception):
    """Training was asked to stop; a checkpoint was written if there is a place for it."""


@dataclass(frozen=True)
class Progress:
    """How far a cell has come."""

    fraction: float
    mean_return: float
    """Of decentralised execution, over seeds that have not diverged, at the newest evaluation; NaN
    before the first."""
    successes: int | None
    """Seeds whose score is a success; None where the game's optimal or safe return is unknown."""
    n_seeds: int
    updates_per_second: float
    """Of one seed, times the seeds."""
    seconds_left: float
    """Infinite before the first update: there is nothing to tell it from."""
    message: str = ""
    """What the user should know: a checkpoint that could not be written or read."""


class _Training:
    """The state of a cell in training."""

    def __init__(self, cell: Cell, device: torch.device) -> None:
        self.cell = cell
        self.device = device
        self.n_seeds = len(cell.seeds)
        algorithm_class = cell.algorithm.load()
        self.env_class = cell.scenario.load()
        self.config = algorithm_class.Config.model_validate(cell.algorithm.params)
        self.env_config = self.env_class.Config.model_validate(cell.scenario.params)
        self.env: Env = self.make_env(cell.budget.envs, "env")
        self.spec: EnvSpec = self.env.spec
        self.algorithm: Algorithm = algorithm_class(self.spec, self.config, cell.seeds, device)
        self.n_steps = math.ceil(cell.budget.env_steps / cell.budget.envs)
        self.random = Streams(cell.seeds, "random", device)
        self.random_steps = round(self.config.random_fraction * self.n_steps)
        # At least one transition must be there to learn from.
        first = round(self.config.learning_starts_fraction * self.n_steps)
        self.first_update = min(first, self.n_steps - 1)
        points = min(cell.evaluation.points, self.n_steps)
        self.evaluate_at = {round(self.n_steps * (i + 1) / points) for i in range(points)}
        # On the target, whatever a curriculum makes of the environment that is trained in.
        self.schedule: Schedule | None = None
        target = self.env
        if cell.algorithm.curriculum is not None:
            self.schedule = Schedule(cell.algorithm.curriculum, cell.scenario.params, self.env)
            target = self.make_env(1, "target")
        self.ro = RO(self.spec, target, self.algorithm, device)
        self.step = 0
        self.updates = 0
        self.progress = 0.0
        self.seconds = 0.0
        self.metrics: dict[str, Tensor] = {}
        self.diverged = torch.zeros(self.n_seeds, dtype=torch.bool, device=device)
        modes = executions(self.algorithm)
        self.curves = [
            records.Curve(
                env_steps=[],
                returns={mode: [] for mode in modes},
                in_optimum={mode: [] for mode in modes},
                executed_ro=[],
                perceived_ro=[],
            )
            for _ in cell.seeds
        ]
        self.obs = self.env.reset()

    def make_env(self, n_envs: int, stream: str) -> Env:
        env: Env = self.env_class(self.env_config, self.cell.seeds, n_envs, stream, self.device)
        return env

    def advance(self) -> None:
        """One environment step and the updates that follow it."""
        if self.schedule is not None:
            self.schedule.move(self.step / self.n_steps, self.algorithm, self.spec)
        if self.step < self.random_steps:
            action = self.random_action()
        else:
            action = self.algorithm.act(self.obs, "explore", self.progress)
        step = self.env.step(action)
        # Nothing follows a game of one step, whether its environment says terminated or truncated.
        ended = step.terminated if self.spec.horizon > 1 else step.terminated | step.truncated
        self.algorithm.observe(
            Transition(self.obs, action, step.reward, step.next_obs, ended, step.truncated)
        )
        self.obs = step.obs
        if self.step >= self.first_update:
            self.progress = self.step / self.n_steps
            for _ in range(self.config.updates_per_step):
                metrics = self.algorithm.update(self.progress)
                self.metrics.update(metrics)
                self.updates += bool(metrics)  # nothing is learnt until a rollout is full
        self.step += 1

    def random_action(self) -> Tensor:
        """``[S, E, N, A]`` uniform over the action space."""
        shape = self.cell.budget.envs, self.spec.n_agents
        if self.spec.discrete:
            choice = self.random.index(self.spec.action_dim, *shape)
            return torch.nn.functional.one_hot(choice, self.spec.action_dim).float()
        return self.random.uniform(*shape, self.spec.action_dim) * 2 - 1

    def evaluate(self) -> Evaluations:
        """Play fresh episodes in every way of execution, from the same starts, and extend the
        learning curves. Training does not notice."""
        found: Evaluations = {}
        for mode in executions(self.algorithm):
            env = self.make_env(self.cell.evaluation.episodes, f"evaluation/{self.step}")
            try:
                found[mode] = play(
                    env, self.algorithm, mode, self.progress, self.cell.evaluation.episodes
                )
            finally:
                close(env)
        for value in (*self.metrics.values(), *(one.returns for one in found.values())):
            self.diverged |= ~value.reshape(self.n_seeds, -1).isfinite().all(1)
        executed = perceived = torch.full((self.n_seeds,), math.nan)
        if self.ro.due(sum(step > self.step for step in self.evaluate_at)):
            executed = self.ro.executed(found["decentralised"], self.answers, self.progress)
            streams = Streams(self.cell.seeds, f"beliefs/{self.step}", self.device)
            perceived = self.ro.perceived(streams, self.n_seeds)
        for mode, one in found.items():
            means, shares = _numbers(one.returns.mean(1)), _numbers(one.in_optimum())
            for curve, mean, share in zip(self.curves, means, shares, strict=True):
                curve.returns[mode].append(mean)
                curve.in_optimum[mode].append(share)
        ros = zip(self.curves, _numbers(executed), _numbers(perceived), strict=True)
        for curve, executed_ro, perceived_ro in ros:
            curve.env_steps.append(self.step * self.cell.budget.envs)
            curve.executed_ro.append(executed_ro)
            curve.perceived_ro.append(perceived_ro)
        return found

    def answers(self) -> Env:
        from rocompare.learn.ro import ROLLOUT_EPISODES

        return self.make_env(ROLLOUT_EPISODES, f"answers/{self.step}")

    def result(self, evaluations: Evaluations) -> list[SeedRecord]:
        """A record per seed."""
        headline = evaluations["decentralised"]
        parameters = count_parameters(self.algorithm)
        packed = policies.pack(self.algorithm, self.progress)
        return [
            SeedRecord(
                seed=seed,
                returns={mode: _numbers(one.returns[i]) for mode, one in evaluations.items()},
                in_optimum={
                    mode: round(float(one.in_optimum()[i]), DIGITS)
                    for mode, one in evaluations.items()
                },
                basin={mode: self.majority(one.basin[i]) for mode, one in evaluations.items()},
                diverged=bool(self.diverged[i]),
                env_steps=self.step * self.cell.budget.envs,
                updates=self.updates,
                parameters=parameters,
                seconds=round(self.seconds / self.n_seeds, 4),
                curve=self.curves[i],
                actions=[] if headline.actions is None else _kept(headline.actions[i]),
                positions=[] if headline.path is None else _positions(headline.path[i]),
                policy=packed[i],
            )
            for i, seed in enumerate(self.cell.seeds)
        ]

    def majority(self, basin: Tensor) -> str:
        """The optimum's, if more than half of the episodes ``basin [E]`` ended there; else the
        commonest of the others."""
        counts = torch.bincount(basin, minlength=len(self.spec.basins))
        if 2 * counts[0] > counts.sum() or len(counts) == 1:
            return self.spec.basins[0]
        return self.spec.basins[1 + int(counts[1:].argmax())]

    def successes(self, evaluations: Evaluations) -> int | None:
        """Seeds whose score in decentralised execution is a success."""
        safe, optimal = self.spec.safe_return, self.spec.optimal_return
        if safe is None or optimal is None:
            return None
        means = evaluations["decentralised"].returns.mean(1).tolist()
        return sum(records.succeeds(records.score(value, safe, optimal)) for value in means)

    def state_dict(self) -> dict[str, Any]:
        return {
            "seeds": list(self.cell.seeds),
            "algorithm": self.algorithm.state_dict(),
            "env": self.env.state_dict(),
            "random": self.random.state_dict(),
            "step": self.step,
            "updates": self.updates,
            "progress": self.progress,
            "seconds": self.seconds,
            "metrics": self.metrics,
            "diverged": self.diverged,
            "curves": [curve.model_dump() for curve in self.curves],
            "obs": self.obs,
            "stage": -1 if self.schedule is None else self.schedule.stage,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("algorithm", "env", "random"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("step", "updates", "progress", "seconds", "metrics", "diverged", "obs"):
            setattr(self, name, state[name])
        self.curves = [records.Curve.model_validate(curve) for curve in state["curves"]]
        if self.schedule is not None:
            self.schedule.stage = state["stage"]

    @classmethod
    def resume(cls, cell: Cell, device: torch.device, path: Path | None) -> tuple[_Training, str]:
        """Continue from ``path`` if it is a whole checkpoint of these seeds, else start; and what
        is to be said about the file, if it is neither used nor expected to be."""
        if path is None or not path.exists():
            return cls(cell, device), ""
        training = cls(cell, device)
        try:
            state = checkpoints.load(path, device)
            if state["seeds"] != list(cell.seeds):
                return training, ""  # of other seeds of the cell: they were finished since
            training.load_state_dict(state)
            return training, ""
        except checkpoints.Unusable as error:
            reason = str(error)
        except Exception as error:  # whole, but not of this program; which way cannot be known
            reason = f"does not fit: {type(error).__name__}: {error}"
        close(training.env)
        aside = path.with_name(f"{path.name}.unusable")
        path.replace(aside)
        return cls(cell, device), f"{aside}: checkpoint set aside, training starts anew: {reason}"


def train_cell(
    cell: Cell,
    *,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint: Path | None = None,
) -> list[SeedRecord]:
    """Train every seed of ``cell`` and evaluate as the suite says.

    Args:
        report: called at every evaluation, and when there is a message for the user.
        should_stop: asked after every step.
        checkpoint: file to continue from and to write to, at intervals and when stopped.

    Raises:
        Interrupted: ``should_stop`` said so.
    """
    training, message = _Training.resume(cell, torch.device(device), checkpoint)
    try:
        return _train(training, message, report, should_stop, checkpoint)
    finally:
        close(training.env)


def _train(
    training: _Training,
    message: str,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    checkpoint: Path | None,
) -> list[SeedRecord]:
    start = saved = time.monotonic()
    before, mean, successes = training.seconds, math.nan, None
    # Rates are those of steps with updates: the few before them are far faster.
    learning_since, first_step, first_updates = start, training.step, training.updates

    def say(message: str = "") -> None:
        elapsed = time.monotonic() - learning_since
        done = training.step - first_step
        updates = training.updates - first_updates
        report(
            Progress(
                fraction=training.step / training.n_steps,
                mean_return=mean,
                successes=successes,
                n_seeds=training.n_seeds,
                updates_per_second=updates * training.n_seeds / elapsed if done else 0.0,
                seconds_left=elapsed / done * (training.n_steps - training.step)
                if done
                else math.inf,
                message=message,
            )
        )

    if message:
        say(message)
    evaluations: Evaluations = {}
    while training.step < training.n_steps:
        training.advance()
        now = time.monotonic()
        training.seconds = before + now - start
        if training.updates == first_updates:
            learning_since, first_step = now, training.step
        if training.step in training.evaluate_at:
            evaluations = training.evaluate()
            ok = ~training.diverged
            returns = evaluations["decentralised"].returns.mean(1)[ok]
            mean = float(returns.mean()) if len(returns) else math.nan
            successes = training.successes(evaluations)
            say()
        stop = should_stop()
        due = stop or now - saved > CHECKPOINT_SECONDS
        if due and checkpoint is not None and training.step < training.n_steps:
            try:
                checkpoints.save(checkpoint, training.state_dict())
            except OSError as error:  # a full disk, say: what is trained is not lost by going on
                say(str(error))
            saved = now
        if stop and training.step < training.n_steps:
            raise Interrupted(training.cell.label)
    training.seconds = before + time.monotonic() - start
    return training.result(evaluations)


def count_parameters(algorithm: Algorithm) -> int:
    """Trainable numbers per seed, of the networks that are attributes of ``algorithm``."""
    networks = [value for value in vars(algorithm).values() if isinstance(value, MLP)]
    return sum(net.parameters_per_seed() for net in networks if net.flat.requires_grad)


def _numbers(values: Tensor) -> list[float | None]:
    return [round(x, DIGITS) if math.isfinite(x) else None for x in values.tolist()]


def _kept(actions: Tensor) -> list[list[float]]:
    """The first joint actions of ``actions [episodes, N*A]``, those that are finite."""
    rows = actions[:KEPT_ACTIONS].tolist()
    return [row for row in rows if all(math.isfinite(x) for x in row)]


def _positions(path: Tensor) -> list[list[list[float]]]:
    """``path [T+1, P, 2]`` until the episode's end, after which it is NaN."""
    frames = path[path.flatten(1).isfinite().all(1)].tolist()
    return [[[round(x, 4) for x in point] for point in frame] for frame in frames]
