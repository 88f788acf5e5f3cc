"""Relative over-generalization as numbers: Definitions 2.1 and 2.2.

Sheng et al. (AAMAS 2025), in units of reward, so that both can be read beside the return:

- **Executed RO**: the largest gain, over agents, of agent i answering what the others do::

      max_i E_u[max_{u_i} r(u_i, u_-i) - r(u)]         u: the executed joint actions

  It says whether a joint policy miscoordinates. It is 0 in every equilibrium, the safe one too.
  In a game of several steps r is the return, and the answer a policy. There it is estimated from
  below, by answers that one step of policy improvement finds (:func:`rollout_ro`).

- **Perceived RO**: the largest regret, over agents, of agent i's best policy for what it believes
  of the others, rho_i, against its best policy for what the optimal joint policy does::

      alpha max_i (min_pi KL(pi rho_i || pi*) - min_pi KL(pi pi*(u_-i) || pi*))
      pi*(u) = exp(r(u)/alpha) / Z

  Here pi chooses without knowing u_-i, so an agent averages over partners, as it does when it
  over-generalizes: with alpha -> 0 and one optimum, the regret is the optimal reward minus
  max_{u_i} E_rho[r]. A negative regret is none, by the definition. So it says little in games of
  several optima that must not be mixed, as the penalty game: pi* mixes them, its marginals are
  regretful themselves, and no belief is much worse.

  It is given at one temperature, ``ALPHA`` of the game's optimal minus safe return, which is the
  temperature of play that is all but optimal. A belief that is perfect at a higher temperature, as
  an annealing algorithm has it early in training, is not perfect at this one and reads more than
  0. So early values say that training is not over, and only late ones how an algorithm perceives.

In games of one step both are exact on a grid of actions, which for discrete actions are all there
are, and perceived RO is measured there alone.
Executed RO is that of decentralised execution, the product of the agents' policies.
Where rho_i may depend on the own action (PR2), the minimum is over pi(u_i) rho_i(u_-i | u_i). rho_i
is what ``Algorithm.beliefs`` draws, its entropy that of the draws' frequencies on the grid: too
small by at most log(cells/draws), times alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from rocompare.api import EnvSpec

COLUMNS = ("executed_ro", "perceived_ro")
ANSWERS = 201
"""Actions that an agent may answer with, evenly spaced; discrete ones are all tried."""
EXECUTED = 20
"""Executed joint actions that are answered, per seed and evaluation."""
DRAWS = 64
"""Draws of each belief."""
ROLLOUT_EPISODES = 10
"""Episodes in which each agent answers, per seed and measurement, in games of several steps."""
ROLLOUT_ANSWERS = 9
"""Actions that it may answer with there, evenly spaced, besides its own; or all discrete ones."""
ROLLOUT_HORIZON = 50
"""Longest episodes in which it is measured there: what it costs grows with their square."""
ROLLOUT_EVERY = 5
"""Measured there at every so many evaluations, counted from the last: it costs more than they."""
GRID = {2: 41, 3: 41, 4: 21}
"""Actions of each agent on the grid of perceived RO, by the number of agents."""
GRID_CELLS = 200_000
"""Most joint actions on that grid where actions are discrete, and each is a point."""
ALPHA = 0.01
"""Temperature of the optimal joint policy, as a share of optimal minus safe return."""


def executed_unavailable(spec: EnvSpec, env: Any) -> str:
    """Why executed RO cannot be measured, or nothing."""
    few_answers = spec.discrete or spec.action_dim == 1
    if spec.horizon > 1 and not (few_answers and hasattr(env, "fork")):
        return (
            f"episodes last up to {spec.horizon} steps: answers are then tried in copies of the "
            "game, which needs scalar or discrete actions and a method fork(copies)"
        )
    if spec.horizon > ROLLOUT_HORIZON:
        return (
            f"episodes last up to {spec.horizon} steps, after each of which answers are tried to "
            f"the end: that takes too long beyond {ROLLOUT_HORIZON}"
        )
    one_step = spec.constant_obs and few_answers and hasattr(env, "reward")
    if spec.horizon == 1 and not one_step:
        return (
            "the game needs a constant observation, scalar or discrete actions and a method "
            "reward(action)"
        )
    return "" if spec.n_agents > 1 else "there is one agent only"


def perceived_unavailable(spec: EnvSpec, env: Any, algorithm: Any) -> str:
    """Why perceived RO cannot be measured, or nothing."""
    if executed_unavailable(spec, env):
        return executed_unavailable(spec, env)
    if spec.horizon > 1:
        return (
            f"episodes last up to {spec.horizon} steps, so no grid holds the optimal joint policy"
        )
    if spec.discrete:
        large = spec.action_dim**spec.n_agents > GRID_CELLS
        most = f"{GRID_CELLS:,} joint actions"
    else:
        large, most = spec.n_agents not in GRID, f"{max(GRID)}"
    if large:
        return (
            f"the optimal joint policy is known on a grid of all joint actions, which for "
            f"{spec.n_agents} agents is too large (up to {most} are possible)"
        )
    if spec.optimal_return is None or spec.safe_return is None:
        return "the game's optimal or safe return is unknown, which set the temperature"
    if not hasattr(algorithm, "beliefs"):
        return "the algorithm does not say what its agents believe: it has no method beliefs"
    return ""


def answers_of(spec: EnvSpec, points: int, like: Tensor) -> Tensor:
    """Actions that an agent may answer with, ``[C, A]``: all discrete ones, or ``points`` evenly
    spaced ones."""
    if spec.discrete:
        return torch.eye(spec.action_dim, device=like.device, dtype=like.dtype)
    return torch.linspace(-1, 1, points, device=like.device, dtype=like.dtype).unsqueeze(-1)


def executed_ro(reward: Callable[[Tensor], Tensor], action: Tensor, answers: Tensor) -> Tensor:
    """``[S]``, of the executed joint actions ``action [S, M, N, A]``.

    Args:
        reward: ``[..., N, A]`` -> ``[...]``.
        answers: ``[C, A]``, see :func:`answers_of`.
    """
    now = reward(action)  # [S, M]
    gains = []
    for i in range(action.shape[2]):
        joint = action.unsqueeze(2).repeat(1, 1, len(answers), 1, 1)
        joint[:, :, :, i] = answers
        gain = reward(joint).amax(2) - now  # less than 0 if the action itself is off the grid
        gains.append(torch.where(gain.isnan(), gain, gain.clamp(min=0)).mean(1))
    return torch.stack(gains).amax(0)


def rollout_ro(
    env: Any, act: Callable[[Tensor], Tensor], aside: Callable[[], AbstractContextManager[None]]
) -> Tensor:
    """``[S]``, of a game of several steps, from below.

    At every step agent i hears what the others are about to do and tries its own action and those
    of :func:`answers_of`, each in a copy of the game that all play to its end as they execute; the
    best is taken. That is one step of policy improvement by rollouts (Tesauro and Galperin,
    1996), so the best answering policy gains no less. What counts is what these episodes then
    return more than others from the same starts in which nobody answers. With a noisy policy the
    two differ by chance too, by a standard error of their returns over ``ROLLOUT_EPISODES``.

    Args:
        env: as many copies as episodes; it is reset.
        act: ``obs [S, E, N, O] -> action [S, E, N, A]``, as the algorithm executes.
        aside: a context after which the algorithm's random numbers are those from before. Without
            it a seed's would depend on how long others' rollouts last.
    """
    n = env.spec.n_agents
    start = env.reset().repeat_interleave(n + 1, 1)
    game = env.fork(n + 1)  # of the copies of an episode, number i answers as agent i, the last not
    answers = answers_of(env.spec, ROLLOUT_ANSWERS, start)
    tries = 1 + len(answers)

    def answer(obs: Tensor, steps_left: int) -> Tensor:
        tried = act(obs).unsqueeze(2).repeat(1, 1, tries, 1, 1)  # [S, E, C, N, A], the own first
        for i in range(n):
            tried[:, i :: n + 1, 1:, i] = answers
        with aside():
            values = _play(
                game.fork(tries), tried.flatten(1, 2), lambda obs, _: act(obs), steps_left
            )
        best = values.unflatten(1, (-1, tries)).argmax(2)  # the first of equals
        return tried.take_along_dim(best[..., None, None, None], 2).squeeze(2)

    horizon = env.spec.horizon
    returns = _play(game, answer(start, horizon), answer, horizon).unflatten(1, (-1, n + 1))
    gain = (returns[..., :n] - returns[..., n:]).mean(1)  # [S, N]
    return gain.clamp(min=0).amax(1)


def _play(env: Any, action: Tensor, act: Callable[[Tensor, int], Tensor], steps: int) -> Tensor:
    """Returns ``[S, E]`` of playing on with ``action`` and then ``act(obs, steps left)``."""
    returns = torch.zeros(action.shape[:2], device=action.device)
    running = torch.ones_like(returns, dtype=torch.bool)
    for left in range(steps - 1, -1, -1):
        step = env.step(action)
        returns += torch.where(running, step.reward, 0.0)
        running &= ~(step.terminated | step.truncated)
        if not left or not running.any():
            break
        action = act(step.obs, left)
    return returns


class Grid:
    """A one-step game on a grid of joint actions, with its optimal joint policy.

    Args:
        reward: ``[..., N, A]`` -> ``[...]``.
        alpha: temperature of the optimal joint policy, in units of reward.
        actions: ``[G, A]`` of each agent: see :func:`answers_of`.
    """

    def __init__(
        self,
        reward: Callable[[Tensor], Tensor],
        n_agents: int,
        alpha: float,
        actions: Tensor,
    ) -> None:
        self.alpha, self.actions, self.points = alpha, actions, len(actions)
        points, device = self.points, actions.device
        place = torch.arange(points, device=device)
        joint = actions[torch.cartesian_prod(*[place] * n_agents)]  # [G^N, N, A]
        log_optimal = (reward(joint).double() / alpha).log_softmax(0)
        table = log_optimal.view([points] * n_agents)
        # Agent i's action first, then a code of the others', in their order.
        self.log_optimal = torch.stack(
            [table.movedim(i, 0).reshape(points, -1) for i in range(n_agents)]
        )  # [N, G, G^(N-1)]
        self.places = torch.zeros(n_agents, n_agents, dtype=torch.long, device=device)
        for i in range(n_agents):
            others = [j for j in range(n_agents) if j != i]
            for power, j in enumerate(reversed(others)):
                self.places[i, j] = points**power
        log_others = self.log_optimal.logsumexp(1)  # [N, G^(N-1)], the optimal pi*(u_-i)
        rho = log_others.exp()
        expected = (self.log_optimal * rho.unsqueeze(1)).sum(-1)  # [N, G]
        entropy = -(rho * log_others).sum(-1)
        self.least = _least_divergence(expected, entropy.unsqueeze(-1))  # [N]

    def perceived_ro(self, draws: Tensor) -> Tensor:
        """``[S]``, of what each agent believes.

        Args:
            draws: ``[S, N, M, K, N, A]``: K joint actions as agent i believes them, of which its
                own entry is ignored; for each of the M = ``points`` own actions, or M = 1 where
                its belief does not depend on its own action.
        """
        known = draws.isfinite().all(-1).all(-1).all(-1).all(-1)  # [S, N]
        if self.actions.shape[1] > 1:  # discrete
            place = draws.argmax(-1)  # [S, N, M, K, N]
        else:
            place = (draws.squeeze(-1).nan_to_num() + 1) * (0.5 * (self.points - 1))
            place = place.round().long().clamp_(0, self.points - 1)
        code = (place * self.places[:, None, None, :]).sum(-1)  # [S, N, M, K]
        count = (code.unsqueeze(-1) == code.unsqueeze(-2)).sum(-1)
        entropy = math.log(code.shape[-1]) - count.double().log().mean(-1)  # [S, N, M]
        table = self.log_optimal.expand(code.shape[0], -1, -1, -1)
        expected = table.gather(3, code.expand(-1, -1, self.points, -1)).mean(-1)  # [S, N, G]
        regret = self.alpha * (_least_divergence(expected, entropy) - self.least)
        return torch.where(known, regret.clamp(min=0), math.nan).amax(1)


def _least_divergence(expected: Tensor, entropy: Tensor) -> Tensor:
    """``min_pi KL(pi rho || pi*)``: ``[...]``.

    Args:
        expected: ``[..., G]`` the mean of ``log pi*(u_i, u_-i)`` over rho, for each own action.
        entropy: ``[..., G or 1]`` of rho there.
    """
    # The divergence is E_pi[log pi(u_i) - entropy(u_i) - expected(u_i)], least where pi is
    # proportional to exp(entropy + expected).
    return -(expected + entropy).logsumexp(-1)


def grid_of(spec: EnvSpec, env: Any, device: torch.device | str = "cpu") -> Grid:
    """The grid of a game for which :func:`perceived_unavailable` says nothing."""
    assert spec.optimal_return is not None
    assert spec.safe_return is not None
    alpha = ALPHA * (spec.optimal_return - spec.safe_return)
    actions = answers_of(spec, GRID.get(spec.n_agents, 0), torch.zeros(1, device=device))
    return Grid(env.reward, spec.n_agents, alpha, actions)


def joint_of(others: Tensor, rest: Tensor, k: int) -> Tensor:
    """Put draws of the others' actions in their places; agents' own entries are 0.

    Args:
        others: ``[S, N, M*K, (N-1)*A]``
        rest: ``[N, N-1]`` whose actions these are, agent by agent.
        k: draws K for each of M own actions.

    Returns:
        ``[S, N, M, K, N, A]``
    """
    n = rest.shape[0]
    others = others.unflatten(-1, (n - 1, -1)).unflatten(2, (-1, k))  # [S, N, M, K, N-1, A]
    index = rest.view(1, n, 1, 1, n - 1, 1).expand_as(others)
    joint = others.new_zeros(*others.shape[:4], n, others.shape[-1])
    return joint.scatter_(4, index, others)
