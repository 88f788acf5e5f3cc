"""Multi-agent MuJoCo: a robot whose joints are shared out over agents.

Source: Peng et al. (2021), "FACMAC: Factored Multi-Agent Centralised Policy Gradients", as
Gymnasium-Robotics provides it (``mamujoco_v1``, on Gymnasium's ``-v5`` robots; papers before 2023
used ``-v2``, so their returns are near but not the same). ``partition: 2x3`` reads "two agents with
three joints each"; ``1p1`` of CoupledHalfCheetah gives each of two cheetahs, which a tendon joins,
to one agent. An agent observes its own joints, those at most ``agent_obsk`` joints away, and the
robot's root.

- Nobody knows the optimal or the safe return, so there is no score and no success unless a suite
  declares both.
- Where agents differ in how many joints they have (Humanoid) or see (6x1, Hopper), observations are
  padded with zeros to the longest, and an agent with fewer joints ignores the last numbers of its
  action.
- The libraries end an episode after 1,000 steps (Reacher 50), and most robots' when they fall.
- Left out of what the library has: ManySegmentAnt and ManySegmentSwimmer, which write into the
  installed package; Pusher, whose first observation depends on the episode before; pendulums, which
  have one agent.
"""

from __future__ import annotations

import importlib.util

from pydantic import Field, ValidationInfo, field_validator, model_validator

from rocompare.envs.copies import Recipe
from rocompare.envs.parallel import Parallel, Settings
from rocompare.suite.registry import nearest

PARTITIONS = {
    "Ant": ("2x4", "2x4d", "4x2"),
    "CoupledHalfCheetah": ("1p1",),
    "HalfCheetah": ("2x3", "6x1"),
    "Hopper": ("3x1",),
    "Humanoid": ("9|8",),
    "HumanoidStandup": ("9|8",),
    "Reacher": ("2x1",),
    "Swimmer": ("2x1",),
    "Walker2d": ("2x3",),
}
"""By task, how its joints can be shared out."""
FACTORY = "gymnasium_robotics.envs.multiagent_mujoco.mamujoco_v1:parallel_env"


class MaMuJoCo(Parallel):
    """``S x E`` copies of a robot."""

    version = 1

    class Config(Settings):
        task: str = "HalfCheetah"
        """The robot."""
        partition: str = Field("2x3", validate_default=True)
        """How its joints are shared out over agents."""
        agent_obsk: int = Field(1, ge=0, le=10)
        """How many joints away an agent sees; 0: its own."""
        horizon: int = Field(1000, gt=0, le=1000)
        """Steps after which an episode is cut off."""

        @field_validator("task")
        @classmethod
        def _check_task(cls, task: str) -> str:
            if task not in PARTITIONS:
                raise ValueError(f"no task '{task[:80]}'{nearest(task, PARTITIONS)}")
            return task

        @field_validator("partition")
        @classmethod
        def _check_partition(cls, partition: str, info: ValidationInfo) -> str:
            known = PARTITIONS.get(info.data.get("task", ""), (partition,))
            if partition in known:
                return partition
            owners = [task for task, theirs in PARTITIONS.items() if partition in theirs]
            raise ValueError(
                f"{info.data['task']} has no partition '{partition[:80]}'"
                f"{nearest(partition, known)}"
                + (f"; '{partition}' is of {', '.join(owners)}" if owners else "")
            )

        @model_validator(mode="after")
        def _check_extra(self) -> MaMuJoCo.Config:
            missing = [
                name
                for name in ("gymnasium_robotics", "mujoco")
                if importlib.util.find_spec(name) is None
            ]
            if missing:
                raise ValueError(
                    f"{' and '.join(missing)} not installed: pip install 'rocompare[mamujoco]'"
                )
            return self

        def recipe(self) -> Recipe:
            _mute()
            arguments = {
                "scenario": self.task,
                "agent_conf": self.partition,
                "agent_obsk": self.agent_obsk,
                **self.filming(),
            }
            return Recipe(FACTORY, arguments, pad=True)


def _mute() -> None:
    """Gymnasium-Robotics prints a notice about other environments when it is imported, in the
    middle of the progress display."""
    from farama_notifications import notifications

    notifications.pop("gymnasium_robotics", None)
