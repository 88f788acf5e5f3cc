"""A PettingZoo environment that imports nothing heavy: worker processes start fast with it."""

import os
import sys
import time

import numpy as np


class Box:
    def __init__(self, low, high, shape):
        self.low, self.high = np.full(shape, low, np.float32), np.full(shape, high, np.float32)
        self.shape, self.dtype = shape, np.dtype(np.float32)


class Line:
    """Two agents push a point along a line from a random start; it is over beyond 3, or at 9 steps.

    The reward is where the point is, and the observation that and the agent's own last push.
    """

    possible_agents = ("left", "right")

    def observation_space(self, agent):
        return Box(-9, 9, (2,))

    def action_space(self, agent):
        return Box(-0.5, 1.0, (1,))

    def reset(self, seed=None, options=None):
        self.at, self.age = np.random.default_rng(seed).normal(), 0
        self.agents = list(self.possible_agents)
        return self._obs({agent: [0.0] for agent in self.agents}), {
            agent: {} for agent in self.agents
        }

    def step(self, actions):
        assert all(-0.5 <= x[0] <= 1.0 for x in actions.values())
        self.at += sum(float(x[0]) for x in actions.values())
        self.age += 1
        terminated, truncated = self.at > 3, self.age == 9
        agents = self.agents
        if terminated or truncated:
            self.agents = []
        return (
            self._obs(actions),
            *(dict.fromkeys(agents, x) for x in (self.at, terminated, truncated)),
            {agent: {} for agent in agents},
        )

    def _obs(self, pushes):
        return {agent: np.array([self.at, push[0]]) for agent, push in pushes.items()}

    def close(self):
        pass


class Loud(Line):
    """Prints to standard output, as many do."""

    def step(self, actions):
        print("hello")
        os.write(1, b"hello from C\n")
        return super().step(actions)


class Failing(Line):
    def step(self, actions):
        raise KeyError("no luck")


class Dying(Line):
    def step(self, actions):
        os._exit(3)


class Sleeping(Line):
    def step(self, actions):
        print("asleep", file=sys.stderr, flush=True)
        time.sleep(600)


class Flat(Line):
    def observation_space(self, agent):
        return Box(0, 255, (84, 84, 3))
