"""Particle Gather against values worked out by hand, and the facts that make it an RO task."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pydantic import ValidationError

from rocompare.envs.particle_gather import ParticleGather
from rocompare.errors import UserError
from rocompare.learn.rng import Streams


def make(seeds=(0,), n_envs=1, stream="env", **params):
    env = ParticleGather(ParticleGather.Config(**params), list(seeds), n_envs, stream)
    env.reset()
    return env


def place(env, *positions):
    """Put every environment's two particles at ``(x, y), (x, y)``."""
    env.position = torch.tensor(positions).expand(env.position.shape).clone()


def act(env, *u):
    """One joint action in every environment."""
    return env.step(torch.tensor(u).view(1, 1, 4, 1).expand(*env.position.shape[:2], -1, -1))


def direct(env):
    """Both particles towards the landmark's centre, as far as a step goes: ``[S, E, N, 1]``."""
    return (-env.position / env.config.step).clamp(-1, 1).view(*env.position.shape[:2], 4, 1)


def oracle(env):
    """Wait at the landmark's edge until both particles can enter in one step, then enter."""
    config, go = env.config, direct(env).view_as(env.position)
    after = env.position + config.step * go
    ready = after.norm(dim=-1) < config.radius  # [S, E, 2]
    distance = env.position.norm(dim=-1, keepdim=True)
    # Along the line to the centre, no further than just outside the landmark.
    length = (distance - config.radius - 1e-3).clamp(min=0) / distance
    approach = (-env.position * length / config.step).clamp(-1, 1)
    enter = ready.all(-1)[..., None, None]
    wait = torch.where(ready[..., None], 0.0, approach)
    return torch.where(enter, go, wait).view(*env.position.shape[:2], 4, 1)


def play(env, policy):
    """Mean return of the episodes, one in each environment, under ``policy(env)``."""
    env.reset()
    returns = torch.zeros(env.age.shape)
    running = torch.ones(env.age.shape, dtype=torch.bool)
    for _ in range(env.config.horizon):
        step = env.step(policy(env))
        returns += torch.where(running, step.reward, 0.0)
        running &= ~(step.terminated | step.truncated)
    assert not running.any()
    return returns.mean().item()


def uniform_policy(seeds):
    streams = Streams(seeds, "partner")
    return lambda env: streams.uniform(env.age.shape[1], 4, 1) * 2 - 1


SEEDS = (0, 1, 2, 3)
HARDER = {"radius": 0.2, "step": 0.5, "near": 0.4}


@pytest.mark.parametrize("params", [{}, {"start": "ring"}, HARDER, HARDER | {"start": "ring"}])
def test_the_oracle_gathers(params):
    assert play(make(SEEDS, 500, **params), oracle) >= 4.95


def test_entering_at_once_is_the_defaults_optimum():
    assert play(make(SEEDS, 500), direct) == 5


@pytest.mark.parametrize("params", [{}, {"start": "ring"}, HARDER])
def test_staying_is_worth_nothing(params):
    assert play(make(SEEDS, 50, **params), lambda env: torch.zeros(4, 50, 4, 1)) == 0


@pytest.mark.parametrize("params", [{}, {"start": "ring"}, HARDER])
def test_exploring_loses(params):
    assert -1 < play(make(SEEDS, 2000, **params), uniform_policy(SEEDS)) < -0.3


@pytest.mark.parametrize("params", [{}, {"start": "ring"}, HARDER])
@pytest.mark.parametrize("mover", [0, 1])
def test_entering_beside_an_explorer_is_worse_than_staying(params, mover):
    """This is what makes the task one of relative over-generalization."""
    explore = uniform_policy(SEEDS)

    def policy(env):
        action = explore(env).clone()
        own = slice(2 * mover, 2 * mover + 2)
        action[:, :, own] = direct(env)[:, :, own]
        return action

    assert play(make(SEEDS, 2000, **params), policy) < -0.2


def test_entering_beside_one_step_of_exploring_is_worth_what_the_docstring_says():
    """The partner moves uniformly once and plays safe afterwards: what this step returns."""
    env = make(SEEDS, 50_000)
    start, explore = env.position.clone(), uniform_policy(SEEDS)(env)
    worth = {}
    for own in ("enter", "stay"):
        env.position = start
        action = explore.clone()
        action[:, :, :2] = direct(env)[:, :, :2] if own == "enter" else 0.0
        worth[own] = env.step(action).reward.mean().item()
    # With q = 0.10745, the disc's share of a step's square averaged over the starts: 6 q - 1, -q.
    assert worth["enter"] == pytest.approx(-0.355, abs=0.012)  # 3 standard errors
    assert worth["stay"] == pytest.approx(-0.107, abs=0.002)


def test_beside_a_partner_that_explores_on_entering_is_the_better_answer():
    """RO is against playing safe after one step: the docstring says so and gives these numbers."""
    returns = {}
    for own in ("enter", "stay"):
        explore = uniform_policy(SEEDS)

        def policy(env, own=own, explore=explore):
            action = explore(env).clone()
            action[:, :, :2] = direct(env)[:, :, :2] if own == "enter" else 0.0
            return action

        returns[own] = play(make(SEEDS, 10_000), policy)
    assert returns["stay"] == pytest.approx(-0.86, abs=0.01)
    assert returns["enter"] == pytest.approx(-0.355, abs=0.03)


def test_an_explorer_enters_as_often_as_the_docstring_says():
    env = make(SEEDS, 5000)
    place(env, (0.6, 0.0), (0.0, -0.6))
    enter, explore = direct(env)[:, :, :2], uniform_policy(SEEDS)(env)[:, :, 2:]
    won = (env.step(torch.cat([enter, explore], 2)).reward == 5).float().mean().item()
    assert won == pytest.approx(math.pi * 0.4**2 / 4, abs=0.01)
    assert 6 * math.pi * 0.4**2 / 4 - 1 == pytest.approx(-0.246, abs=1e-3)


def test_random_data_hold_wins():
    env, policy = make(SEEDS, 500), uniform_policy(SEEDS)
    rewards = torch.stack([env.step(policy(env)).reward for _ in range(50)])
    assert 0.005 < (rewards == 5).float().mean() < 0.009
    assert 0.13 < (rewards == -1).float().mean() < 0.17


def test_rewards_and_endings_by_hand():
    # (actions of the four agents, reward, terminated, basin) from (0.6, 0) and (0, -0.8)
    cases = [
        ((-0.6, 0.0, 0.0, 0.8), 5.0, True, 0),  # both at the centre
        ((-0.25, 0.0, 0.0, 0.5), 5.0, True, 0),  # at 0.35 and 0.3 from it
        ((-0.6, 0.0, 0.0, 0.0), -1.0, True, 2),
        ((0.0, 0.0, 0.0, 0.8), -1.0, True, 2),
        ((-0.25, 0.35, 0.0, 0.8), -1.0, True, 2),  # (0.35, 0.35) is outside
        ((0.0, 0.0, 0.0, 0.0), 0.0, False, 1),
    ]
    for action, reward, terminated, basin in cases:
        env = make()
        place(env, (0.6, 0.0), (0.0, -0.8))
        step = act(env, *action)
        assert step.reward.item() == reward
        assert step.terminated.item() is terminated
        assert not step.truncated.item()
        assert step.basin.item() == basin


def test_walls_hold_and_agents_move_their_own_axis():
    env = make(radius=0.2, step=0.5)
    place(env, (0.8, 0.5), (-0.8, 0.9))
    step = act(env, 1.0, -0.2, -1.0, 1.0)
    expected = torch.tensor([1.0, 0.4, -1.0, 1.0])
    torch.testing.assert_close(step.next_obs[0, 0], expected.expand(4, -1))
    torch.testing.assert_close(step.obs, step.next_obs)


def test_only_the_horizon_truncates():
    env = make(SEEDS, 3, horizon=4)
    for _ in range(2):  # the clock starts again with each episode
        for t in range(1, 5):
            step = act(env, 0.0, 0.0, 0.0, 0.0)
            assert not step.terminated.any()
            assert step.truncated.all() == (t == 4)
            assert step.truncated.any() == (t == 4)
    for _ in range(3):
        act(env, 0.0, 0.0, 0.0, 0.0)
    step = env.step(direct(env))  # a win in the last step is a termination
    assert step.terminated.all()
    assert not step.truncated.any()


def test_environments_that_end_are_reset():
    env = make(SEEDS, 6)
    before = env.position.clone()
    action = direct(env)
    action[:, ::2] = 0  # every other one stays
    step = env.step(action)
    assert not step.terminated[:, ::2].any()
    torch.testing.assert_close(step.obs[:, ::2], step.next_obs[:, ::2])
    torch.testing.assert_close(step.obs[:, ::2, 0], before[:, ::2].flatten(2))
    assert step.terminated[:, 1::2].all()
    torch.testing.assert_close(step.next_obs[:, 1::2], torch.zeros(4, 3, 4, 4))
    assert (env.position[:, 1::2].norm(dim=-1) >= 0.6).all()
    assert (env.age[:, ::2] == 1).all()
    assert (env.age[:, 1::2] == 0).all()


@settings(max_examples=30, deadline=None)
@given(
    start=st.sampled_from(["uniform", "ring"]),
    near=st.floats(0.3, 0.9),
    width=st.floats(0, 0.1),
    seed=st.integers(0, 2**40),
)
def test_starts_are_where_they_should_be(start, near, width, seed):
    env = make((seed,), 50, radius=0.2, near=near, far=near + width, start=start)
    distance = env.position.norm(dim=-1)
    assert (distance > near - 1e-5).all()
    assert (distance < near + width + 1e-5).all()
    if start == "ring":
        torch.testing.assert_close(distance[..., 0], distance[..., 1])


def test_starts_are_uniform_over_the_annulus():
    for start in ("uniform", "ring"):
        square = make(SEEDS, 5000, start=start).position.square().sum(-1)
        assert square.mean().item() == pytest.approx((0.6**2 + 1) / 2, abs=0.005)


def test_seeds_do_not_touch_each_other():
    together, alone = make((7, 8, 9), 5), make((8,), 5)
    policy = uniform_policy((7, 8, 9))
    for _ in range(60):
        action = policy(together)
        ours, other = together.step(action), alone.step(action[1:2])
        for name in ours._fields:
            assert torch.equal(getattr(ours, name)[1:2], getattr(other, name)), name


def test_streams_differ():
    positions = [make((0,), 5, stream).position for stream in ("env", "evaluation/0")]
    assert not torch.equal(*positions)


def test_resuming_is_bit_exact():
    env, policy = make((0, 1), 7, horizon=5), uniform_policy((0, 1))
    for _ in range(12):
        obs = env.step(policy(env)).obs
    twin = make((0, 1), 7, horizon=5)
    twin.load_state_dict(env.state_dict())
    assert torch.equal(twin._observe(twin.position), obs)
    for _ in range(20):
        action = policy(env)
        for ours, theirs in zip(env.step(action), twin.step(action), strict=True):
            assert torch.equal(ours, theirs)


def test_a_nan_stays_in_its_seed_and_shows():
    env, twin = make((0, 1), 3), make((0, 1), 3)
    action = torch.zeros(2, 3, 4, 1)
    good = twin.step(action)
    action[0, :, 1] = math.nan
    step = env.step(action)
    assert step.reward[0].isnan().all()
    assert (step.basin[0] != 0).all()
    for name in step._fields:
        assert torch.equal(getattr(step, name)[1], getattr(good, name)[1])


def test_spec_and_shapes():
    env = make(SEEDS, 5)
    assert (env.spec.n_agents, env.spec.obs_dim, env.spec.action_dim) == (4, 4, 1)
    assert (env.spec.optimal_return, env.spec.safe_return) == (5.0, 0.0)
    assert env.spec.basins == ("optimum", "safe", "alone")
    assert env.reset().shape == (4, 5, 4, 4)
    step = act(env, 0.0, 0.0, 0.0, 0.0)
    assert step.obs.shape == step.next_obs.shape == (4, 5, 4, 4)
    assert step.reward.shape == step.basin.shape == step.truncated.shape == (4, 5)
    assert step.reward.dtype == torch.float32
    assert make(win=3.0).spec.optimal_return == 3


@pytest.mark.parametrize(
    "params",
    [
        {"radius": 0.0},
        {"radius": 0.6},  # as near as the starts
        {"near": 0.9, "far": 0.8},
        {"far": 1.2},
        {"step": 0.0},
        {"penalty": 0.5},
        {"win": float("inf")},
        {"horizon": 1},
        {"start": "corner"},
        {"raduis": 0.4},
    ],
)
def test_bad_parameters_are_refused(params):
    with pytest.raises(ValidationError):
        ParticleGather.Config(**params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        # The chance is pi 0.16 / 4 = 0.12566. The bound is 1/7 = 0.1429 by default.
        ({"win": 6.0}, r"0\.1257, which must be below .* = 0\.125; lower radius"),  # 1/8
        ({"penalty": -0.8}, r"= 0\.1257, .* = 0\.1212"),  # 0.8 / 6.6
        ({"step": 0.9}, r"= 0\.1551, .* = 0\.1429"),  # 0.12566 / 0.81
        ({"radius": 0.43}, r"= 0\.1452, .* = 0\.1429"),  # pi 0.1849 / 4
        ({"win": 0.0}, "win must be above 0 and penalty below it, .* got win 0 and penalty -1"),
        ({"penalty": 0.0}, "win must be above 0 and penalty below it"),
        # From 1 to within 0.01 in steps of 0.03: 33 do, 25 are allowed.
        ({"radius": 0.01, "step": 0.03}, "it takes up to 34 steps of 0.03 .* horizon of 25"),
    ],
)
def test_games_without_the_declared_returns_are_refused(params, message):
    with pytest.raises(ValidationError, match=message):
        ParticleGather.Config(**params)


@pytest.mark.parametrize("params", [{"win": 4.9}, {"penalty": -1.1}, {"step": 0.95}, {"step": 2.0}])
def test_staying_beats_entering_in_games_that_pass(params):
    """At the partner's most frequent entering, by the rewards themselves."""
    config = ParticleGather.Config(**params)
    q = math.pi * config.radius**2 / (4 * config.step**2)
    assert config.win * q + config.penalty * (1 - q) < config.penalty * q


def test_a_curriculum_changes_the_rewards_of_running_games():
    env, twin = make(SEEDS, 2), make(SEEDS, 2)
    step = act(env, 0.0, 0.0, 0.0, 0.0)
    act(twin, 0.0, 0.0, 0.0, 0.0)
    env.set(penalty=0.25)  # refused as a target
    assert torch.equal(env.position, twin.position)
    place(env, (0.6, 0.0), (0.0, -0.8))
    assert (act(env, -0.6, 0.0, 0.0, 0.0).reward == 0.25).all()
    assert (env.spec.optimal_return, step.reward.sum().item()) == (5.0, 0.0)
    again = make(SEEDS, 2)
    again.load_state_dict(env.state_dict())
    assert again.config.penalty == 0.25
    with pytest.raises(UserError, match="'radius' cannot be changed while training; can be: win"):
        env.set(radius=0.3)


def test_the_landmark_is_drawn():
    ax = Figure().subplots()
    make(radius=0.3).draw(ax)
    (disc,) = ax.patches
    assert (disc.radius, disc.center) == (0.3, (0, 0))
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-1, 1, -1, 1)


def test_positions_are_what_is_observed():
    env = make(SEEDS, 3)
    place(env, (0.6, 0.1), (0.2, -0.8))
    position = env.positions(env._observe(env.position))
    assert torch.equal(position, env.position)
    assert position.shape == (4, 3, 2, 2)
