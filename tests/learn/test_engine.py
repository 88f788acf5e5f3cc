"""The training loop, on a probe algorithm and a probe environment with known answers."""

import dataclasses
import math

import pytest
import torch

from rocompare.envs.max_of_three import MaxOfThree
from rocompare.learn import engine, ro
from rocompare.learn.engine import Interrupted, _Training, train_cell
from rocompare.learn.ro import executed_ro
from rocompare.suite import registry
from rocompare.suite.load import parse_suite
from tests.support.probe import Recorder

SUITE = """
name: probe
seeds: {seeds}
budget: {{env_steps: {steps}, envs: {envs}}}
evaluation: {{episodes: 6, points: {points}}}
algorithms: {{probe: {{use: "tests.support.probe:Recorder", {algorithm}}}}}
scenarios: {{walk: {{{env}}}}}
"""
WALK = 'env: "tests.support.probe:Walk"'
GAME = "env: max_of_three"


def cell(seeds="[3, 1]", steps=40, envs=1, points=4, algorithm="random_until: 0.25", env=WALK):
    text = SUITE.format(
        seeds=seeds, steps=steps, envs=envs, points=points, algorithm=algorithm, env=env
    )
    return parse_suite(text).cells()[0]


def records(result):
    """Result records without the clock's part."""
    return [dataclasses.replace(seed, seconds=0.0) for seed in result.seeds]


def test_the_budget_is_kept():
    result = train_cell(cell())
    probe = Recorder.last
    explored = [mode for mode in probe.acted if mode == "explore"]
    assert len(explored) == 30  # 40 steps, the first quarter uniform without asking
    assert len(probe.noted) == 40
    assert len(probe.batches) == 3 * (40 - 4)  # updates from a tenth of the budget on
    assert [seed.seed for seed in result.seeds] == [3, 1]
    assert {(seed.env_steps, seed.updates) for seed in result.seeds} == {(40, 108)}


@pytest.mark.parametrize("envs", [1, 3, 7])
def test_environments_share_the_budget(envs):
    result = train_cell(cell(envs=envs))
    steps = math.ceil(40 / envs)
    assert len(Recorder.last.noted) == steps
    assert result.seeds[0].env_steps == steps * envs


def test_batches_hold_what_happened():
    train_cell(cell(steps=200))
    for batch in Recorder.last.batches[-20:]:
        # Position moves by the agents' actions, time by one; what was noted is their sum.
        moved = batch.next_obs[..., 0, :] - batch.obs[..., 0, :]
        torch.testing.assert_close(moved[..., 0], batch.action.sum((2, 3)), atol=1e-5, rtol=0)
        assert (moved[..., 1] == 1).all()
        torch.testing.assert_close(batch.extras["sum"], batch.action.sum((2, 3)))
        # The last observation of an episode that was cut off is kept, not the next one's first.
        assert (batch.next_obs[..., 1] >= 1).all()
        assert (batch.next_obs[..., 1] <= 5).all()


def test_truncation_is_not_termination():
    train_cell(cell(steps=200, env=f"{WALK}, stop: 0.0"))
    batches = Recorder.last.batches
    assert not any(batch.terminated.any() for batch in batches)
    train_cell(cell(steps=200, env=f"{WALK}, stop: 1.0"))
    assert all(batch.terminated.all() for batch in Recorder.last.batches)
    train_cell(cell(steps=200, env=f"{WALK}, stop: 0.0, horizon: 1"))  # but of a one-step game
    assert all(batch.terminated.all() for batch in Recorder.last.batches)


def test_updates_are_told_the_share_of_the_budget():
    train_cell(cell(steps=10, algorithm="updates_per_step: 2, learn_from: 0.5"))
    assert Recorder.last.progress == [0.5, 0.5, 0.6, 0.6, 0.7, 0.7, 0.8, 0.8, 0.9, 0.9]


def test_each_mode_has_its_own_returns():
    """Recorder plays its mean as it executes, and half less in the noiseless mode."""
    game = MaxOfThree(MaxOfThree.Config(p=(-1, -1, -1), q=(-7, -7, -7), s2=3.0), [0], 1)
    env = f"{GAME}, s2: 3.0, p: [-1, -1, -1], q: [-7, -7, -7]"
    result = train_cell(cell(env=env, algorithm="learn_from: 0.9, updates_per_step: 1"))
    for seed, row, mean in zip(
        result.seeds, result.curve[-2:], Recorder.last.mean.tolist(), strict=True
    ):
        executed, noiseless = (torch.full((1, 1, 3, 1), u) for u in (mean, mean - 0.5))
        for action, returns, basin, at in (
            (executed, seed.returns, seed.basin, 2),
            (noiseless, seed.returns_noiseless, seed.basin_noiseless, 3),
        ):
            assert returns == pytest.approx([game.reward(action).item()] * 6, abs=1e-5)
            assert row[at] == pytest.approx(returns[0], abs=1e-5)
            assert row[at + 2] == float(basin == "optimum")
        assert (seed.basin, seed.basin_noiseless) == ("safe", "optimum")


def test_a_seed_is_in_the_optimum_with_more_than_half_of_its_episodes():
    training = _Training(cell(env=GATHER), torch.device("cpu"))
    names = training.spec.basins
    assert len(names) == 3
    for basins, expected in (
        ([0, 0, 1], 0), ([0, 0, 1, 1], 1), ([0, 0, 1, 2, 2], 2), ([0, 0, 0, 1, 2], 0), ([1, 2, 2], 2),
        ([0, 1, 2], 1),
    ):  # fmt: skip
        assert training.majority(torch.tensor(basins)) == names[expected]


def test_ro_by_rollouts_is_that_of_execution(monkeypatch):
    def rollouts(env, act, aside):
        Recorder.last.acted.clear()
        act(env.reset())
        assert Recorder.last.acted == ["execute"]
        return torch.tensor([1.5, 2.5])

    monkeypatch.setattr(ro, "rollout_ro", rollouts)
    result = train_cell(cell(env=GATHER, points=1))
    assert [row[2] for row in result.diagnosis] == [1.5, 2.5]


def test_evaluation_counts_first_episodes_only():
    result = train_cell(cell(env=f"{WALK}, stop: 0.0"))
    assert all(seed.returns == [5.0] * 6 for seed in result.seeds)
    assert {seed.basin for seed in result.seeds} == {"long"}
    result = train_cell(cell(env=f"{WALK}, stop: 1.0"))
    assert all(seed.returns == [1.0] * 6 for seed in result.seeds)
    assert {seed.basin for seed in result.seeds} == {"short"}


def test_the_curve_has_its_points():
    result = train_cell(cell(points=4))
    assert [row[:2] for row in result.curve] == [(s, t) for t in (10, 20, 30, 40) for s in (3, 1)]
    last = {row[0]: row[2] for row in result.curve[-2:]}
    for seed in result.seeds:
        assert last[seed.seed] == pytest.approx(sum(seed.returns) / 6)


def test_how_often_one_evaluates_does_not_change_training():
    few, many = train_cell(cell(points=1)), train_cell(cell(points=40))
    assert records(few) == records(many)


def test_one_step_games_keep_joint_actions():
    result = train_cell(cell(env=GAME))
    assert all(len(seed.actions) == 6 and len(seed.actions[0]) == 3 for seed in result.seeds)
    assert not train_cell(cell()).seeds[0].actions
    assert Recorder.last.batches[0].obs.shape == (2, 4, 2, 2)


def test_a_seed_does_not_depend_on_its_neighbours():
    together = records(train_cell(cell(seeds="[3, 1, 8]")))
    alone = records(train_cell(cell(seeds="[1]")))
    assert together[1] == alone[0]


def test_a_diverged_seed_is_marked_and_the_others_are_not():
    result = train_cell(cell(algorithm="diverge_seed: 1"))
    assert {seed.seed: seed.diverged for seed in result.seeds} == {3: False, 1: True}


def test_progress_is_reported():
    seen = []
    train_cell(cell(points=4), report=seen.append)
    assert [progress.fraction for progress in seen] == [0.25, 0.5, 0.75, 1.0]
    assert all(progress.n_seeds == 2 and progress.updates_per_second > 0 for progress in seen)
    assert seen[-1].seconds_left == 0


@pytest.mark.parametrize("algorithm", [*registry.ALGORITHMS, "pr2, policy: deterministic"])
def test_a_checkpoint_continues_bit_for_bit(algorithm, tmp_path):
    chosen = parse_suite(
        f"""
name: probe
seeds: [2, 5]
budget: {{env_steps: 60}}
evaluation: {{episodes: 5, points: 6}}
algorithms: {{it: {{use: {algorithm}, hidden: 8}}}}
scenarios: {{easy: {{env: max_of_three}}}}
"""
    ).cells()[0]
    whole = train_cell(chosen)
    path = tmp_path / "checkpoint.pt"
    for stop_at in (1, 13, 30, 59):
        asked = iter(range(1, 100))
        with pytest.raises(Interrupted):
            train_cell(chosen, should_stop=lambda a=asked, s=stop_at: next(a) >= s, checkpoint=path)
        training = _Training.resume(chosen, torch.device("cpu"), path)
        assert training.step == stop_at
        continued = train_cell(chosen, checkpoint=path)
        assert records(continued) == records(whole)
        assert continued.curve == whole.curve
        assert continued.diagnosis == whole.diagnosis
        path.unlink()


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_bad_checkpoint_means_starting_anew(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    if content is None:  # a good one of other seeds
        with pytest.raises(Interrupted):
            train_cell(cell(seeds="[9]"), should_stop=lambda: True, checkpoint=path)
    else:
        path.write_bytes(content)
    assert records(train_cell(cell(), checkpoint=path)) == records(train_cell(cell()))


def test_checkpoints_are_written_at_intervals(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "checkpoint.pt"
    train_cell(cell(), checkpoint=path)
    assert _Training.resume(cell(), torch.device("cpu"), path).step == 39
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("algorithm", ["svnr", "maddpg"])
def test_the_final_basin_does_not_depend_on_neighbours(algorithm):
    """A whole run: rounding differs between batch sizes, where a seed ends must not."""
    suite = """
name: probe
seeds: {seeds}
budget: {{env_steps: 500}}
evaluation: {{episodes: 50, points: 1}}
algorithms: {{svnr: {{hidden: 32}}, maddpg: {{hidden: 32}}}}
scenarios: {{game: {{env: max_of_three, s2: 3.0}}}}
"""

    def basins(seeds):
        cells = parse_suite(suite.format(seeds=seeds)).cells()
        chosen = next(c for c in cells if c.algorithm.name == algorithm)
        return {seed.seed: seed.basin for seed in train_cell(chosen).seeds}

    together = basins("[0, 1, 2, 3]")
    for seed in (0, 3):
        assert basins(f"[{seed}]") == {seed: together[seed]}


GATHER = "env: particle_gather, horizon: 4"


def test_an_episode_of_each_seed_is_kept():
    result = train_cell(cell(steps=20, points=2, env=GATHER, algorithm=""))
    assert set(result.episodes) == {3, 1}
    for seed in result.seeds:
        path = torch.tensor(result.episodes[seed.seed])  # [T+1, P, 2]
        assert path.shape[1:] == (2, 2)
        assert (path[0].norm(dim=-1) >= 0.5999).all()
        inside = (path.norm(dim=-1) < 0.4).sum(1)
        assert not inside[:-1].any()  # entering ends an episode, and the next one is not shown
        expected = {0: 0.0, 1: -1.0, 2: 5.0}[int(inside[-1])]
        assert seed.returns[0] == expected
        assert len(path) == 5 or inside[-1]


def test_games_without_positions_keep_none():
    assert train_cell(cell(steps=5, points=1, env=GAME)).episodes == {}


def test_stepping_the_environment_is_a_small_part_of_training():
    """Counted in tensor operations, which wall time cannot blur: a step against the updates that
    follow it, of the cheapest algorithm."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            first = out[0] if isinstance(out, list | tuple) and out else out
            self.numbers += first.numel() if isinstance(first, torch.Tensor) else 0
            return out

    text = (
        SUITE.format(
            seeds="10", steps=6400, envs=64, points=1, algorithm="", env="env: particle_gather"
        )
        .replace("tests.support.probe:Recorder", "baselines.maddpg:MADDPG")
        .replace(", }}", "}}")
    )
    training = _Training(parse_suite(text).cells()[0], torch.device("cpu"))
    while training.step < training.n_steps // 2:
        training.advance()
    with Count() as whole:
        training.advance()
    action = training.random.uniform(64, 4, 1)
    with Count() as own:
        training.env.step(action)
    assert 10 * own.numbers < whole.numbers


def test_ro_is_measured_where_it_can_be():
    """Recorder executes one constant action; it says nothing of beliefs."""
    result = train_cell(cell(env=GAME))
    assert [row[:2] for row in result.diagnosis] == [row[:2] for row in result.curve]
    game = MaxOfThree(MaxOfThree.Config(), [0], 1)
    for seed, row in zip(result.seeds, result.diagnosis[-2:], strict=True):
        action = torch.tensor(seed.actions).view(1, -1, 3, 1)
        assert row[2] == pytest.approx(executed_ro(game.reward, action).item(), abs=1e-4)
        assert math.isnan(row[3])
    assert train_cell(cell()).diagnosis == []  # episodes of several steps


def test_measuring_ro_does_not_change_training(monkeypatch):
    suite = """
name: probe
seeds: [2, 5]
budget: {env_steps: 60}
evaluation: {episodes: 5, points: 6}
algorithms: {svnr: {hidden: 8, particles: 4}, lenient_madrl: {hidden: 8}, pr2: {hidden: 8}}
scenarios: {easy: {env: max_of_three}, gather: {env: particle_gather}}
"""
    for chosen in parse_suite(suite).cells():
        measured = train_cell(chosen)
        if chosen.scenario.name == "easy":
            assert all(math.isfinite(x) for row in measured.diagnosis for x in row)
        else:  # every fifth evaluation, counted from the last
            assert [row[:2] for row in measured.diagnosis] == [
                (s, t) for t in (10, 60) for s in (2, 5)
            ]
            assert all(row[2] >= 0 and math.isnan(row[3]) for row in measured.diagnosis)
        with monkeypatch.context() as patch:
            patch.setattr(ro, "executed_unavailable", lambda spec, env: "not now")
            plain = train_cell(chosen)
        assert plain.diagnosis == []
        assert records(plain) == records(measured)
        assert plain.curve == measured.curve


@pytest.mark.parametrize("name", ["svnr", "rommeo"])
def test_evaluations_of_a_seed_do_not_depend_on_how_long_others_play(name):
    """Both algorithms execute with noise; the seeds' episodes end at different steps."""
    suite = f"""
name: probe
seeds: [2, 5]
budget: {{env_steps: 40}}
evaluation: {{episodes: 4, points: 6}}
algorithms: {{{name}: {{learn_from: 1.0, hidden: 8}}}}
scenarios: {{gather: {{env: particle_gather}}}}
"""
    both = train_cell(parse_suite(suite).cells()[0])
    alone = train_cell(parse_suite(suite.replace("[2, 5]", "[5]")).cells()[0])
    assert both.seeds[1].returns == alone.seeds[0].returns
    assert [row for row in both.curve if row[0] == 5] == alone.curve
    assert [row[:3] for row in both.diagnosis if row[0] == 5] == [
        row[:3] for row in alone.diagnosis
    ]
