"""Fresh episodes of a trained policy: what they return, and a film of some."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocompare.api import Env
from rocompare.errors import ResultsError
from rocompare.learn import evaluate
from rocompare.learn.policies import Policy
from rocompare.results import files, records
from rocompare.results.records import Execution

STREAM = "play"
"""Of the episodes: neither training nor its evaluations saw them, and they are always the same."""
MAX_FRAMES = 200
"""Of an episode in a film; longer ones leave out frames."""
FILMED = 3
MILLISECONDS = 150
Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Played:
    """Fresh episodes in one way of execution."""

    execution: Execution
    returns: list[float]
    """Per episode."""
    score: float
    """Of their mean; NaN where the game's optimal or safe return is unknown."""
    in_optimum: float
    """Share of the episodes that ended in the optimum's basin."""

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))


def play(policy: Policy, episodes: int) -> list[Played]:
    """As many episodes in each way of execution, from the same starts."""
    spec, found = policy.spec, []
    for mode in policy.modes:
        env = policy.make_env(episodes, STREAM)
        try:
            one = policy.play(env, mode, episodes)
        finally:
            evaluate.close(env)
        returns = one.returns[0].tolist()
        score = records.score(math.fsum(returns) / episodes, spec.safe_return, spec.optimal_return)
        found.append(Played(mode, returns, score, float(one.in_optimum()[0])))
    return found


def film(policy: Policy, out: Path) -> str:
    """Write an animated GIF of some decentralised episodes to ``out``; what it shows, in a line.

    Raises:
        ResultsError: there is nothing to see in this environment, or ``out`` cannot be written.
    """
    files.check_out(out)
    scenes = [scene for i in range(FILMED) for scene in _scenes(policy, f"{STREAM}/film/{i}")]
    from PIL import Image

    first, *rest = [Image.fromarray(frame).quantize(64) for frame in scenes]
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=rest, duration=MILLISECONDS, loop=0)
    files.write_out(out, content.getvalue())
    return f"{out}: {FILMED} episodes, {len(scenes)} frames"


def _scenes(policy: Policy, stream: str) -> list[Frame]:
    """One episode, frame by frame."""
    filmed = hasattr(policy.cell.scenario.load(), "render")
    env = policy.make_env(1, stream, **({"render": True} if filmed else {}))
    try:
        if filmed:
            return _rendered(policy, env)
        if policy.spec.horizon == 1 or not hasattr(env, "positions"):
            why = (
                "its games are over after one step"
                if policy.spec.horizon == 1
                else "its environment has neither `positions` nor `render`"
            )
            raise ResultsError(f"nothing to film on {policy.cell.scenario.name}: {why}")
        path = policy.play(env, policy.modes[0], 1).path
        assert path is not None  # the environment has positions
        return _drawn(policy, getattr(env, "draw", lambda ax: None), path[0].cpu().numpy())
    finally:
        evaluate.close(env)


def _rendered(policy: Policy, env: Env) -> list[Frame]:
    """What a foreign environment draws of itself."""
    frames: list[Any] = []

    def look(env: Any) -> None:
        frames.append(env.render())

    policy.play(env, policy.modes[0], 1, look)
    if not frames or any(getattr(frame, "ndim", 0) != 3 for frame in frames):
        raise ResultsError(
            f"nothing to film on {policy.cell.scenario.name}: the environment's render() returns "
            'no picture; its factory needs an argument render_mode, to be "rgb_array"'
        )
    return [np.ascontiguousarray(frame[..., :3], np.uint8) for frame in _thinned(frames)]


def _drawn(policy: Policy, background: Callable[[Any], None], path: NDArray[Any]) -> list[Frame]:
    """``path [T+1, P, 2]`` of what moves, drawn over what does not."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = path[np.isfinite(path).all((1, 2))]
    cell, frames = policy.cell, []
    for t in _thinned(range(len(path))):
        figure = Figure((3.2, 3.5), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        background(axes)
        for i, trail in enumerate(path[: t + 1].transpose(1, 0, 2)):
            axes.plot(*trail.T, "-", color=f"C{i}", linewidth=1, alpha=0.5)
            fill = f"C{i}" if i < policy.spec.n_agents else "white"  # what no agent moves
            axes.plot(*trail[-1], "o", color=f"C{i}", mfc=fill, ms=9, zorder=3, clip_on=False)
        axes.set_title(f"{cell.algorithm.name} on {cell.scenario.name}, t = {t}"[:60], fontsize=8)
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return frames


def _thinned(frames: Any) -> list[Any]:
    step = -(-len(frames) // MAX_FRAMES)
    return [frames[i] for i in range(0, len(frames), max(1, step))]
