"""An algorithm and an environment with known answers, and ones that misbehave on purpose."""

from __future__ import annotations

import os
import signal
import time
from typing import ClassVar

import torch
from pydantic import BaseModel

from rocompare import api
from rocompare.api import EnvSpec, Step
from rocompare.learn.replay import Replay
from rocompare.learn.rng import Streams


class Walk:
    """A random walk of two agents that ends at a seed's own random step or at the horizon.

    The observation is ``[position, time]``; the reward is 1 each step; the optimum's basin are
    episodes cut off at the horizon. With ``stop=0`` every episode lasts ``horizon`` steps. With
    ``choices`` actions are discrete: action k of K moves by k.
    """

    version = 1
    open: ClassVar[set[str]] = set()
    """Streams of the environments that were made and not closed."""

    class Config(BaseModel):
        model_config = api.FROZEN

        horizon: int = 5
        stop: float = 0.3
        choices: int = 0
        known: bool = True
        """Whether the optimal and the safe return are."""

    def __init__(self, config, seeds, n_envs, stream="env", device="cpu"):
        self.config = config
        returns = (float(config.horizon), 0.0) if config.known else (None, None)
        self.spec = EnvSpec(
            2, 2, config.choices or 1, config.horizon, *returns, ("long", "short"),
            discrete=config.choices > 0,
        )  # fmt: skip
        self.streams = Streams(seeds, stream, device)
        self.stream = stream
        self.shape = len(seeds), n_envs
        self.state = torch.zeros(*self.shape, 2)
        Walk.open.add(stream)

    def _obs(self, state):
        return state.unsqueeze(2).expand(-1, -1, 2, -1).clone()

    def reset(self):
        self.state = torch.zeros(*self.shape, 2)
        return self._obs(self.state)

    def step(self, action):
        if self.config.choices:
            action = action * torch.arange(self.config.choices)
        after = self.state + torch.stack([action.sum((2, 3)), torch.ones(self.shape)], -1)
        terminated = self.streams.uniform(self.shape[1]) < self.config.stop
        truncated = ~terminated & (after[..., 1] >= self.config.horizon)
        next_obs = self._obs(after)
        self.state = torch.where((terminated | truncated).unsqueeze(-1), 0.0, after)
        basin = terminated.long()
        return Step(
            self._obs(self.state), next_obs, torch.ones(self.shape), terminated, truncated, basin
        )

    def state_dict(self):
        return {"state": self.state, "streams": self.streams.state_dict()}

    def load_state_dict(self, state):
        self.state = state["state"]
        self.streams.load_state_dict(state["streams"])

    def close(self):
        Walk.open.discard(self.stream)


class Choices(Walk):
    """One with discrete actions."""

    class Config(Walk.Config):
        choices: int = 3


class OddError(Exception):
    """What its text says does not make another."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Recorder(api.Algorithm):
    """Learns nothing; remembers what the engine gave it. ``mean`` moves with each update.

    It executes its mean, and 0.5 less when deterministic, 0.2 less when shared.
    """

    actions = ("continuous", "discrete")
    last: Recorder | None = None

    class Config(api.Config):
        updates_per_step: int = 3
        metrics_every: int = 1
        """Updates until there are metrics, as of an algorithm that waits for a rollout."""
        diverge_seed: int = -1
        fail_at: float = 2.0
        kill_at: float = 2.0
        pause: float = 0.0
        odd_error: bool = False

    def __init__(self, spec, config, seeds, device):
        super().__init__(spec, config, seeds, device)
        self.explore = Streams(seeds, "explore", device)
        self.replay = Replay(spec, 1000, seeds, device)
        self.mean = torch.zeros(len(seeds))
        self.updates = torch.zeros(())
        self.acted: list[tuple[str, float]] = []
        self.seen: list[api.Transition] = []
        self.batches: list[api.Batch] = []
        self.progress: list[float] = []
        Recorder.last = self

    def act(self, obs, mode, progress):
        self.acted.append((mode, progress))
        shape = obs.shape[1], self.spec.n_agents, self.spec.action_dim
        if mode == "explore":
            return self.explore.uniform(*shape) * 2 - 1
        less = {"decentralised": 0.0, "deterministic": 0.5, "shared": 0.2}[mode]
        return (self.mean - less).view(-1, 1, 1, 1).expand(-1, *shape).clamp(-1, 1)

    def observe(self, transition):
        self.seen.append(transition)
        self.replay.add(transition)

    def update(self, progress):
        if progress >= self.config.fail_at:
            if self.config.odd_error:
                raise OddError(1, 2)
            raise ValueError("it went wrong on purpose")
        if progress >= self.config.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.config.pause)
        batch = self.replay.sample(4)
        self.batches.append(batch)
        self.progress.append(progress)
        self.updates = self.updates + 1
        self.mean = self.mean + 0.001 * batch.reward.mean(1)
        if self.updates % self.config.metrics_every:
            return {}
        bad = torch.tensor([seed == self.config.diverge_seed for seed in self.seeds])
        return {"loss": torch.where(bad, torch.nan, self.mean)}


class Sharer(Recorder):
    """One that can execute on common random numbers."""

    shares_noise = True
