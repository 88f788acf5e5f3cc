"""Curricula on the reward: an easier game first, and the target in the end.

Shi and Peng (2022), "Curriculum Learning for Relative Overgeneralization" (CURO, arXiv 2212.02733):
source tasks are made from the target by altering its reward, and what was learnt is carried over,
the value functions and the replay buffer. Deviations: how the authors choose their source tasks was
not established; here a parameter of the reward goes from its start to its target in ``STAGES``
equal steps, by schedule and not when a task is solved. In games of one step the buffer's rewards
are computed anew for each task, so that nothing of an earlier one is left.

It is privileged knowledge, of how the target's reward can be eased, that other rows of a table do
not have.
"""

from __future__ import annotations

from typing import Any

from rocompare.api import Algorithm, EnvSpec
from rocompare.learn.replay import Replay
from rocompare.suite.models import Curriculum

STAGES = 20


def value_at(share: float, start: float, end: float) -> float:
    """The parameter after ``share`` of the way: geometric between numbers of one sign, else
    linear."""
    if share >= 1:
        return end
    if start * end > 0:
        return float(start * (end / start) ** share)
    return start + (end - start) * share


class Schedule:
    """Sets the parameters of a training's environment, and sees to its replay buffers.

    Args:
        target: the environment's parameters as the suite gives them.
    """

    def __init__(self, curriculum: Curriculum, target: dict[str, Any], env: Any) -> None:
        self.curriculum, self.env = curriculum, env
        self.ranges = {
            name: (start, float(target[name]))
            for name, start in curriculum.starts.items()
            if name in env.settable
        }
        self.stage = -1

    def move(self, progress: float, algorithm: Algorithm, spec: EnvSpec) -> None:
        """Set the task of this share of the budget, if it is another than before."""
        stage = int(STAGES * min(1.0, progress / self.curriculum.until) + 1e-9)
        if stage == self.stage:
            return
        first, self.stage = self.stage < 0, stage
        self.env.set(**{name: value_at(stage / STAGES, *r) for name, r in self.ranges.items()})
        if first:
            return
        for part in vars(algorithm).values():
            if isinstance(part, Replay):
                if self.curriculum.buffer == "fresh":
                    part.forget(0)
                elif self.curriculum.buffer != "keep":
                    part.forget(self.curriculum.buffer)
                if spec.horizon == 1:
                    part.relabel(self.env.sample)
