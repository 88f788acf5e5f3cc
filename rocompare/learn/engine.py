"""The only training loop: one cell, all its seeds as one program.

The engine knows nothing of an algorithm's inside, nor of an environment's: it moves tensors with
leading ``[S, E]`` between the two, and through the replay buffer.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rocompare.api import Algorithm, Believer, Env, EnvSpec, Mode
from rocompare.learn import ro
from rocompare.learn.nn import MLP
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams
from rocompare.results.store import CellResult, SeedResult
from rocompare.suite.models import Cell

KEPT_ACTIONS = 20
"""Joint actions of the final evaluation that a one-step game's record keeps, per seed."""
CHECKPOINT_SECONDS = 30.0


class Interrupted(Exception):
    """Training was asked to stop; a checkpoint was written if there is a place for it."""


@dataclass(frozen=True)
class Progress:
    """How far a cell has come."""

    fraction: float
    mean_return: float
    """Over seeds that have not diverged, at the newest evaluation; NaN before the first."""
    in_optimum: int
    """Seeds in the optimum's basin."""
    n_seeds: int
    updates_per_second: float
    """Of one seed, times the seeds."""
    seconds_left: float
    """Infinite before the first update: there is nothing to tell it from."""


@dataclass(frozen=True)
class Evaluation:
    """Episodes of all seeds under one mode of execution; tensors ``[S, episodes]``."""

    returns: Tensor
    basin: Tensor
    actions: Tensor | None
    """``[S, episodes, N*A]`` in one-step games"""
    path: Tensor | None = None
    """``[S, T+1, P, 2]`` positions in the first episode, NaN after its end, where an environment
    has positions"""

    def in_optimum(self) -> Tensor:
        """``[S]`` share of the episodes that ended in the optimum's basin."""
        return (self.basin == 0).float().mean(1)


class _Training:
    """The state of a cell in training."""

    def __init__(self, cell: Cell, device: torch.device) -> None:
        self.cell = cell
        self.device = device
        algorithm_class = cell.algorithm.load()
        self.env_class = cell.scenario.load()
        self.config = algorithm_class.Config.model_validate(cell.algorithm.params)
        self.env_config = self.env_class.Config.model_validate(cell.scenario.params)
        self.env: Env = self.make_env(cell.budget.envs, "env")
        self.spec: EnvSpec = self.env.spec
        self.algorithm: Algorithm = algorithm_class(self.spec, self.config, cell.seeds, device)
        self.n_steps = math.ceil(cell.budget.env_steps / cell.budget.envs)
        self.replay = Replay(
            self.spec,
            min(self.config.replay_capacity, self.n_steps * cell.budget.envs),
            len(cell.seeds),
            Streams(cell.seeds, "replay", device),
            device,
        )
        self.random = Streams(cell.seeds, "random", device)
        self.random_steps = round(self.config.random_until * self.n_steps)
        # At least one transition must be there to learn from.
        self.first_update = min(round(self.config.learn_from * self.n_steps), self.n_steps - 1)
        points = min(cell.evaluation.points, self.n_steps)
        self.evaluate_at = {round(self.n_steps * (i + 1) / points) for i in range(points)}
        self.step = 0
        self.updates = 0
        self.seconds = 0.0
        self.diverged = torch.zeros(len(cell.seeds), dtype=torch.bool, device=device)
        self.curve: list[tuple[int, int, float, float, float, float]] = []
        self.diagnosis: list[tuple[int, int, float, float]] = []
        self.measurable = not ro.executed_unavailable(self.spec, self.env)
        self.grid: ro.Grid | None = None
        if not ro.perceived_unavailable(self.spec, self.env, self.algorithm):
            self.grid = ro.grid_of(self.spec, self.env, device)
        self.obs = self.env.reset()

    def make_env(self, n_envs: int, stream: str) -> Env:
        env: Env = self.env_class(self.env_config, self.cell.seeds, n_envs, stream, self.device)
        return env

    def advance(self) -> dict[str, Tensor]:
        """One environment step and the updates that follow it."""
        if self.step < self.random_steps:
            shape = (self.cell.budget.envs, self.spec.n_agents, self.spec.action_dim)
            action = self.random.uniform(*shape) * 2 - 1
        else:
            action = self.algorithm.act(self.obs, "explore")
        extras = self.algorithm.note(self.obs, action)
        step = self.env.step(action)
        # Nothing follows a game of one step, whether its environment says terminated or truncated.
        ended = step.terminated if self.spec.horizon > 1 else step.terminated | step.truncated
        self.replay.add(self.obs, action, step.reward, step.next_obs, ended, extras)
        self.obs = step.obs
        metrics: dict[str, Tensor] = {}
        if self.step >= self.first_update:
            progress = self.step / self.n_steps
            for _ in range(self.config.updates_per_step):
                metrics = self.algorithm.update(
                    self.replay.sample(self.config.batch_size), progress
                )
                self.updates += 1
        self.step += 1
        return metrics

    @torch.no_grad()
    def evaluate(self, mode: Mode) -> Evaluation:
        """Play fresh episodes, the same starts for both modes, without touching training."""
        episodes = self.cell.evaluation.episodes
        env = self.make_env(episodes, f"evaluation/{self.step}")
        obs = env.reset()
        shape = (len(self.cell.seeds), episodes)
        returns = torch.zeros(shape, device=self.device)
        basin = torch.zeros(shape, dtype=torch.long, device=self.device)
        running = torch.ones(shape, dtype=torch.bool, device=self.device)
        positions = getattr(env, "positions", None)
        path = [] if positions is None else [positions(obs)[:, 0]]
        action = self.algorithm.act(obs, mode)
        first = action.flatten(2)
        # However long episodes last, an evaluation takes the numbers of one action: a seed's must
        # not depend on when others' episodes end.
        with self.aside() if self.spec.horizon > 1 else contextlib.nullcontext():
            for left in range(self.spec.horizon - 1, -1, -1):
                step = env.step(action)
                returns += torch.where(running, step.reward, 0.0)
                if positions is not None:
                    moved = positions(step.next_obs)[:, 0]  # [S, P, 2]
                    path.append(torch.where(running[:, :1, None], moved, math.nan))
                ended = running & (step.terminated | step.truncated)
                basin = torch.where(ended, step.basin, basin)
                running = running & ~ended
                if not left or not running.any():
                    break
                action = self.algorithm.act(step.obs, mode)
        return Evaluation(
            returns,
            basin,
            first if self.spec.horizon == 1 else None,
            torch.stack(path, 1) if path else None,
        )

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Afterwards the algorithm, and so its random streams, are as they were."""
        before = copy.deepcopy(self.algorithm.state_dict())
        yield
        self.algorithm.load_state_dict(before)

    def record(self, metrics: dict[str, Tensor]) -> tuple[Evaluation, Evaluation]:
        """Evaluate both ways and extend the learning curves."""
        execute, noiseless = self.evaluate("execute"), self.evaluate("noiseless")
        for value in (*metrics.values(), execute.returns, noiseless.returns):
            self.diverged |= ~value.reshape(len(self.cell.seeds), -1).isfinite().all(1)
        columns = (
            execute.returns.mean(1).tolist(),
            noiseless.returns.mean(1).tolist(),
            execute.in_optimum().tolist(),
            noiseless.in_optimum().tolist(),
        )
        env_steps = self.step * self.cell.budget.envs
        for seed, *values in zip(self.cell.seeds, *columns, strict=True):
            self.curve.append((seed, env_steps, *values))
        if self.measures_ro():
            measured = (x.tolist() for x in self.measure_ro(execute))
            for seed, executed, perceived in zip(self.cell.seeds, *measured, strict=True):
                self.diagnosis.append((seed, env_steps, executed, perceived))
        return execute, noiseless

    def measures_ro(self) -> bool:
        """Whether this evaluation measures RO: where a game lasts, it is not done every time."""
        later = sum(step > self.step for step in self.evaluate_at)
        return self.measurable and (self.spec.horizon == 1 or later % ro.ROLLOUT_EVERY == 0)

    @torch.no_grad()
    def measure_ro(self, execute: Evaluation) -> tuple[Tensor, Tensor]:
        """Executed and perceived RO, ``[S]`` each.

        The numbers are drawn from streams of this evaluation alone, and the algorithm's own are put
        back: training does not notice.
        """
        env: Any = self.env
        if execute.actions is None:
            env = self.make_env(ro.ROLLOUT_EPISODES, f"answers/{self.step}")
            with self.aside():
                executed = ro.rollout_ro(
                    env, lambda obs: self.algorithm.act(obs, "execute"), self.aside
                )
        else:
            joint = execute.actions[:, : ro.EXECUTED].unsqueeze(-1)
            executed = ro.executed_ro(env.reward, joint)
        if self.grid is None or not isinstance(self.algorithm, Believer):
            return executed, torch.full_like(executed, math.nan)
        streams = Streams(self.cell.seeds, f"beliefs/{self.step}", self.device)
        batch = self.replay.sample(ro.DRAWS, streams)
        own = self.grid.actions.unsqueeze(-1)  # [G, 1]
        own = own.expand(len(self.cell.seeds), self.spec.n_agents, -1, -1)
        return executed, self.grid.perceived_ro(self.algorithm.beliefs(batch, own, streams))

    def result(self, execute: Evaluation, noiseless: Evaluation) -> CellResult:
        n_seeds = len(self.cell.seeds)
        records = []
        for i, seed in enumerate(self.cell.seeds):
            actions = execute.actions
            records.append(
                SeedResult(
                    seed=seed,
                    returns=_numbers(execute.returns[i]),
                    returns_noiseless=_numbers(noiseless.returns[i]),
                    basin=self.majority(execute.basin[i]),
                    basin_noiseless=self.majority(noiseless.basin[i]),
                    diverged=bool(self.diverged[i]),
                    env_steps=self.step * self.cell.budget.envs,
                    updates=self.updates,
                    parameters=count_parameters(self.algorithm),
                    seconds=round(self.seconds / n_seeds, 4),
                    actions=[]
                    if actions is None
                    else [
                        row
                        for row in actions[i, :KEPT_ACTIONS].tolist()
                        if all(math.isfinite(x) for x in row)
                    ],
                )
            )
        return CellResult(records, self.curve, self.diagnosis, self.episodes(execute))

    def episodes(self, evaluation: Evaluation) -> dict[int, list[Any]]:
        """By seed, the positions of its first episode, ``[T+1][P][2]``."""
        if evaluation.path is None:
            return {}
        paths = (path[path.flatten(1).isfinite().all(1)].tolist() for path in evaluation.path)
        return {
            seed: [[[round(x, 4) for x in point] for point in frame] for frame in path]
            for seed, path in zip(self.cell.seeds, paths, strict=True)
        }

    def majority(self, basin: Tensor) -> str:
        """The optimum's, if more than half of the episodes ``basin [E]`` ended there; else the
        commonest of the others."""
        counts = torch.bincount(basin, minlength=len(self.spec.basins))
        if 2 * counts[0] > counts.sum():
            return self.spec.basins[0]
        return self.spec.basins[1 + int(counts[1:].argmax())]

    def state_dict(self) -> dict[str, Any]:
        return {
            "seeds": list(self.cell.seeds),
            "algorithm": self.algorithm.state_dict(),
            "env": self.env.state_dict(),
            "replay": self.replay.state_dict(),
            "random": self.random.state_dict(),
            "step": self.step,
            "updates": self.updates,
            "seconds": self.seconds,
            "diverged": self.diverged,
            "curve": self.curve,
            "diagnosis": self.diagnosis,
            "obs": self.obs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("algorithm", "env", "replay", "random"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("step", "updates", "seconds", "diverged", "obs"):
            setattr(self, name, state[name])
        self.curve = [tuple(row) for row in state["curve"]]
        self.diagnosis = [tuple(row) for row in state["diagnosis"]]

    def save_checkpoint(self, path: Path) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        # By way of memory: what torch says of a full disk does not tell that it is full.
        content = io.BytesIO()
        torch.save(self.state_dict(), content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            message = f"cannot write the checkpoint: {error.strerror}"
            raise OSError(error.errno, message, str(path)) from None
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def resume(cls, cell: Cell, device: torch.device, path: Path | None) -> _Training:
        """Continue from ``path`` if it is a whole checkpoint of these seeds, else start."""
        training = cls(cell, device)
        if path is not None and path.exists():
            try:
                state = torch.load(path, map_location=device, weights_only=True)
                if state["seeds"] == list(cell.seeds):
                    training.load_state_dict(state)
            except Exception:  # whatever is wrong with the file, the start is right
                return cls(cell, device)
        return training


def train_cell(
    cell: Cell,
    *,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint: Path | None = None,
) -> CellResult:
    """Train every seed of ``cell`` and evaluate as the suite says.

    Args:
        report: called at every evaluation.
        should_stop: asked after every step.
        checkpoint: file to continue from and to write to, at intervals and when stopped.

    Raises:
        Interrupted: ``should_stop`` said so.
    """
    training = _Training.resume(cell, torch.device(device), checkpoint)
    start = saved = time.monotonic()
    before = training.seconds
    # Rates are those of steps with updates: the few before them are far faster.
    learning_since, first_step, first_updates = start, training.step, training.updates
    while training.step < training.n_steps:
        metrics = training.advance()
        now = time.monotonic()
        training.seconds = before + now - start
        if training.updates == first_updates:
            learning_since, first_step = now, training.step
        if training.step in training.evaluate_at:
            execute, noiseless = training.record(metrics)
            elapsed = time.monotonic() - learning_since
            done = training.step - first_step
            updates = training.updates - first_updates
            ok = ~training.diverged
            report(
                Progress(
                    fraction=training.step / training.n_steps,
                    mean_return=float(execute.returns.mean(1)[ok].mean()) if ok.any() else math.nan,
                    in_optimum=int((execute.in_optimum() > 0.5).sum()),
                    n_seeds=len(cell.seeds),
                    updates_per_second=updates * len(cell.seeds) / elapsed if done else 0.0,
                    seconds_left=elapsed / done * (training.n_steps - training.step)
                    if done
                    else math.inf,
                )
            )
        stop = should_stop()
        due = stop or now - saved > CHECKPOINT_SECONDS
        if due and checkpoint is not None and training.step < training.n_steps:
            training.save_checkpoint(checkpoint)
            saved = now
        if stop and training.step < training.n_steps:
            raise Interrupted(cell.label)
    training.seconds = before + time.monotonic() - start
    return training.result(execute, noiseless)


def count_parameters(algorithm: Algorithm) -> int:
    """Trainable numbers per seed, of the networks that are attributes of ``algorithm``."""
    networks = [value for value in vars(algorithm).values() if isinstance(value, MLP)]
    return sum(net.parameters_per_seed() for net in networks if net.flat.requires_grad)


def _numbers(values: Tensor) -> list[float | None]:
    return [round(x, 6) if math.isfinite(x) else None for x in values.tolist()]
