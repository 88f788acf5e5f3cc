"""An algorithm and an environment with known answers, and ones that misbehave on purpose."""

from __future__ import annotations

import os
import signal
import time

import torch
from pydantic import BaseModel, ConfigDict

from rocompare import api
from rocompare.api import EnvSpec, Step
from rocompare.learn.rng import Streams


class Walk:
    """A random walk of two agents that ends at a seed's own random step or at the horizon.

    The observation is ``[position, time]``; the reward is 1 each step; the optimum's basin are
    episodes cut off at the horizon. With ``stop=0`` every episode lasts ``horizon`` steps.
    """

    version = 1

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        horizon: int = 5
        stop: float = 0.3

    def __init__(self, config, seeds, n_envs, stream="env", device="cpu"):
        self.config = config
        self.spec = EnvSpec(2, 2, 1, config.horizon, float(config.horizon), 0.0, ("long", "short"))
        self.streams = Streams(seeds, stream, device)
        self.shape = len(seeds), n_envs
        self.state = torch.zeros(*self.shape, 2)

    def _obs(self, state):
        return state.unsqueeze(2).expand(-1, -1, 2, -1).clone()

    def reset(self):
        self.state = torch.zeros(*self.shape, 2)
        return self._obs(self.state)

    def step(self, action):
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


class OddError(Exception):
    """What its text says does not make another."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Recorder:
    """Learns nothing; remembers what the engine gave it. ``mean`` moves with each update."""

    version = 1
    last: Recorder | None = None

    class Config(api.Config):
        batch_size: int = 4
        updates_per_step: int = 3
        diverge_seed: int = -1
        fail_at: float = 2.0
        kill_at: float = 2.0
        pause: float = 0.0
        odd_error: bool = False

    def __init__(self, spec, config, seeds, device):
        self.spec, self.config, self.seeds = spec, config, seeds
        self.noise = Streams(seeds, "explore", device)
        self.mean = torch.zeros(len(seeds))
        self.noted: list[torch.Tensor] = []
        self.acted: list[str] = []
        self.batches: list[api.Batch] = []
        self.progress: list[float] = []
        Recorder.last = self

    def act(self, obs, mode):
        self.acted.append(mode)
        shape = obs.shape[1], self.spec.n_agents, self.spec.action_dim
        if mode == "explore":
            return self.noise.uniform(*shape) * 2 - 1
        mean = self.mean if mode == "execute" else self.mean - 0.5
        return mean.view(-1, 1, 1, 1).expand(-1, *shape).clamp(-1, 1)

    def note(self, obs, action):
        self.noted.append(action)
        return {"sum": action.sum((2, 3))}

    def update(self, batch, progress):
        if progress >= self.config.fail_at:
            if self.config.odd_error:
                raise OddError(1, 2)
            raise ValueError("it went wrong on purpose")
        if progress >= self.config.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.config.pause)
        self.batches.append(batch)
        self.progress.append(progress)
        self.mean = self.mean + 0.001 * batch.reward.mean(1)
        bad = torch.tensor([seed == self.config.diverge_seed for seed in self.seeds])
        return {"loss": torch.where(bad, torch.nan, self.mean)}

    def state_dict(self):
        return {"mean": self.mean, "noise": self.noise.state_dict()}

    def load_state_dict(self, state):
        self.mean = state["mean"]
        self.noise.load_state_dict(state["noise"])
