"""Exact soft policy iteration with nested policies, on finite cooperative games.

What Lemmas 4.1 and 4.2 and Theorem 4.3 of Sheng et al. (AAMAS 2025) say, without networks and
particles. A joint policy is, in each state, a product of the agents' factors, ``pi(u) = prod_i
pi_i(u_i | u_{C_i})``, where agent i hears the agents ``C_i`` before it: all of them if strictly
nested, none if they choose independently::

    evaluation   Q = r + gamma P V,  V(s) = E_pi[Q(s, u) - alpha log pi(u|s)]          (Lemma 4.1)
    improvement  pi_i <- argmin KL(pi_i prod_{j != i} pi_j || exp(Q/alpha) / Z)        (Lemma 4.2)
    iteration    evaluate, improve every agent, again                               (Theorem 4.3)

Each improvement moves one agent with the others held, as SVNR's perturbations do, and never lowers
Q, whether nested or not. With strict nesting, from the last agent to the first, one round reaches
``exp(Q/alpha) / Z`` itself, since any joint policy is such a product: the iteration is then soft
policy iteration and converges to the best joint policy. With independent agents the same iteration
may stop elsewhere: relative over-generalization.

Letters here: ``S`` states, ``u`` a joint action, one axis for each agent's actions; all in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Game:
    """A finite cooperative game."""

    reward: Tensor
    """``[S, n_1, .., n_N]``"""
    transition: Tensor
    """``[S, n_1, .., n_N, S]`` probabilities of the next state"""
    gamma: float
    """Discount, below 1."""

    @property
    def n_agents(self) -> int:
        return self.reward.dim() - 1


Factors = list[Tensor]
"""Per agent ``log pi_i [S, m_1, .., m_N]``: normalised over axis i, and of size 1 on the axes of
agents that it does not hear."""


def one_step(payoff: Tensor) -> Game:
    """The game of one step with ``payoff [n_1, .., n_N]``."""
    reward = payoff.double().unsqueeze(0)
    return Game(reward, torch.zeros(*reward.shape, 1, dtype=torch.float64), 0.0)


def factors(game: Game, nested: bool, streams: torch.Generator | None = None) -> Factors:
    """Uniform factors, strictly nested or independent; random ones with a generator."""
    found = []
    for i in range(game.n_agents):
        shape = [game.reward.shape[0]]
        for j, size in enumerate(game.reward.shape[1:]):
            shape.append(size if j == i or (nested and j < i) else 1)
        logits = torch.zeros(shape, dtype=torch.float64)
        if streams is not None:
            logits = 2 * torch.randn(shape, generator=streams, dtype=torch.float64)
        found.append(logits.log_softmax(i + 1))
    return found


def joint(policy: Factors) -> Tensor:
    """``log pi(u|s) [S, n_1, .., n_N]``."""
    return torch.stack(torch.broadcast_tensors(*policy)).sum(0)


def backup(game: Game, q: Tensor, policy: Factors, alpha: float) -> Tensor:
    """Lemma 4.1's operator, applied to ``q [S, n_1, .., n_N]`` once."""
    log_pi = joint(policy)
    value = (log_pi.exp() * (q - alpha * log_pi)).flatten(1).sum(1)  # [S]
    return game.reward + game.gamma * game.transition @ value


def evaluate(game: Game, policy: Factors, alpha: float) -> Tensor:
    """Lemma 4.1's limit, the soft Q of ``policy``, by solving for the states' values."""
    log_pi = joint(policy)
    pi = log_pi.exp().flatten(1)  # [S, U]
    now = (pi * (game.reward - alpha * log_pi).flatten(1)).sum(1)
    states = torch.einsum("su,sut->st", pi, game.transition.flatten(1, -2))
    value = torch.linalg.solve(torch.eye(len(now), dtype=now.dtype) - game.gamma * states, now)
    return game.reward + game.gamma * game.transition @ value


def improve(policy: Factors, q: Tensor, alpha: float, agent: int) -> Factors:
    """Lemma 4.2: the agent's best factor towards ``exp(q/alpha)``, the others' held."""
    others = [f for j, f in enumerate(policy) if j != agent]
    log_others = joint(others).expand_as(q) if others else torch.zeros_like(q)
    # Minimised over pi_i, E[log pi - q/alpha] is least where log pi_i is, up to a constant, the
    # mean of q/alpha - log pi_others, given u_i and what i hears; weights are the others' factors.
    own = policy[agent]
    unheard = [d for d in range(1, q.dim()) if own.shape[d] == 1 and q.shape[d] > 1]
    score = q / alpha - log_others
    if unheard:
        # The chance of what is not heard, given what is heard and the own action.
        weight = log_others - log_others.logsumexp(unheard, keepdim=True)
        score = (weight.exp() * score).sum(unheard, keepdim=True)
    return [score.log_softmax(agent + 1) if j == agent else f for j, f in enumerate(policy)]


def iterate(game: Game, policy: Factors, alpha: float, rounds: int) -> Factors:
    """Theorem 4.3: evaluate, then improve every agent from the last to the first."""
    for _ in range(rounds):
        q = evaluate(game, policy, alpha)
        for agent in reversed(range(game.n_agents)):
            policy = improve(policy, q, alpha, agent)
    return policy


def anneal(game: Game, policy: Factors, alphas: list[float], rounds: int) -> Factors:
    """:func:`iterate` at each temperature in turn."""
    for alpha in alphas:
        policy = iterate(game, policy, alpha, rounds)
    return policy
