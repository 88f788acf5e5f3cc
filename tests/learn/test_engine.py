"""The training loop, on a probe algorithm and a probe environment with known answers."""

import errno
import math
import os
import re

import pytest
import torch

from rocompare.envs.max_of_three import MaxOfThree
from rocompare.learn import checkpoint as checkpoints
from rocompare.learn import engine, ro
from rocompare.learn.engine import Interrupted, _Training, train_cell
from rocompare.learn.ro import executed_ro
from rocompare.suite import registry
from rocompare.suite.load import parse_suite
from tests.support.helpers import CPU, game_for, line, make_spec, without_clock
from tests.support.probe import Recorder, Sharer, Walk

SUITE = """
name: probe
seeds: {seeds}
budget: {{env_steps: {steps}, envs: {envs}}}
evaluation: {{episodes: 6, points: {points}}}
algorithms: {{probe: {{use: "{use}", {algorithm}}}}}
scenarios: {{walk: {{{env}}}}}
"""
PROBE = "tests.support.probe:Recorder"
WALK = 'env: "tests.support.probe:Walk"'
GAME = "env: max_of_three"
GATHER = "env: particle_gather, horizon: 4"


def cell(
    seeds="[3, 1]", steps=40, envs=1, points=4, algorithm="random_fraction: 0.25", env=WALK, use=PROBE
):  # fmt: skip
    text = SUITE.format(
        seeds=seeds, steps=steps, envs=envs, points=points, algorithm=algorithm, env=env, use=use
    )
    return parse_suite(text).cells()[0]


# The loop


def test_the_budget_is_kept():
    result = train_cell(cell())
    probe = Recorder.last
    explored = [progress for mode, progress in probe.acted if mode == "explore"]
    assert len(explored) == 30  # 40 steps, the first quarter uniform without asking
    assert len(probe.seen) == 40
    assert len(probe.batches) == 3 * (40 - 4)  # updates from a tenth of the budget on
    assert [seed.seed for seed in result] == [3, 1]
    assert {(seed.env_steps, seed.updates) for seed in result} == {(40, 108)}
    # Acting is told the progress of the newest update.
    assert explored == [step / 40 for step in range(9, 39)]


@pytest.mark.parametrize("envs", [1, 3, 7])
def test_environments_share_the_budget(envs):
    result = train_cell(cell(envs=envs))
    steps = math.ceil(40 / envs)
    assert len(Recorder.last.seen) == steps
    assert result[0].env_steps == steps * envs


def test_transitions_tell_what_happened():
    train_cell(cell(steps=200))
    before = None
    for seen in Recorder.last.seen:
        # Position moves by the agents' actions, time by one.
        moved = seen.next_obs - seen.obs
        torch.testing.assert_close(moved[..., 0, 0], seen.action.sum((2, 3)), atol=1e-5, rtol=0)
        assert (moved[..., 1] == 1).all()
        # The last observation of an episode that ended is told, not the next one's first.
        assert (seen.next_obs[..., 1] >= 1).all()
        assert (seen.next_obs[..., 1] <= 5).all()
        assert not (seen.terminated & seen.truncated).any()
        if before is not None:
            goes_on = ~(before.terminated | before.truncated)
            assert torch.equal(seen.obs[goes_on], before.next_obs[goes_on])
            assert (seen.obs[~goes_on] == 0).all()
        before = seen


def test_truncation_is_not_termination():
    train_cell(cell(steps=200, env=f"{WALK}, stop: 0.0"))
    seen = Recorder.last.seen
    assert not any(one.terminated.any() for one in seen)
    assert [bool(one.truncated.all()) for one in seen[:10]] == [
        False,
        False,
        False,
        False,
        True,
    ] * 2
    train_cell(cell(steps=200, env=f"{WALK}, stop: 1.0"))
    assert all(one.terminated.all() for one in Recorder.last.seen)
    train_cell(cell(steps=200, env=f"{WALK}, stop: 0.0, horizon: 1"))  # but of a one-step game
    assert all(one.terminated.all() for one in Recorder.last.seen)


def test_updates_are_told_the_share_of_the_budget():
    train_cell(cell(steps=10, algorithm="updates_per_step: 2, learning_starts_fraction: 0.5"))
    assert Recorder.last.progress == [0.5, 0.5, 0.6, 0.6, 0.7, 0.7, 0.8, 0.8, 0.9, 0.9]


def test_there_is_something_to_learn_from_at_every_update():
    train_cell(cell(steps=10, algorithm="updates_per_step: 1, learning_starts_fraction: 0.0"))
    assert Recorder.last.progress == [step / 10 for step in range(10)]
    train_cell(cell(steps=10, algorithm="updates_per_step: 1, learning_starts_fraction: 1.0"))
    assert Recorder.last.progress == [0.9]


def test_random_actions_are_uniform_over_the_action_space():
    train_cell(cell(steps=400, algorithm="random_fraction: 1.0"))
    actions = torch.stack([one.action for one in Recorder.last.seen])
    assert actions.shape == (400, 2, 1, 2, 1)
    assert actions.abs().max() <= 1
    for seed in range(2):
        below = (actions[:, seed] < -0.5).float().mean().item()
        assert below == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 800))


def test_random_actions_of_a_discrete_game_are_one_hot():
    train_cell(cell(steps=400, algorithm="random_fraction: 1.0", env=f"{WALK}, choices: 3"))
    actions = torch.stack([one.action for one in Recorder.last.seen])
    assert actions.shape == (400, 2, 1, 2, 3)
    assert torch.equal(actions.sum(-1), torch.ones(400, 2, 1, 2))
    assert set(actions.unique().tolist()) == {0.0, 1.0}
    for share in actions.mean((0, 2, 3)).flatten().tolist():  # [seeds, choices]
        assert share == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 800))


def test_a_seed_does_not_depend_on_its_neighbours():
    together = without_clock(train_cell(cell(seeds="[3, 1, 8]")))
    alone = without_clock(train_cell(cell(seeds="[1]")))
    assert together[1] == alone[0]


# Evaluations


def test_each_mode_has_its_own_returns():
    """Sharer plays its mean, and less of it in the other two modes."""
    game = MaxOfThree(MaxOfThree.Config(p=(-1, -1, -1), q=(-7, -7, -7), s2=3.0), [0], 1)
    env = f"{GAME}, s2: 3.0, p: [-1, -1, -1], q: [-7, -7, -7]"
    algorithm = "learning_starts_fraction: 1.0, updates_per_step: 1"
    result = train_cell(cell(env=env, algorithm=algorithm, use="tests.support.probe:Sharer"))
    for seed, mean in zip(result, Sharer.last.mean.tolist(), strict=True):
        assert list(seed.returns) == ["decentralised", "deterministic", "shared"]
        for mode, less, basin in (
            ("decentralised", 0.0, "safe"),
            ("deterministic", 0.5, "optimum"),
            ("shared", 0.2, "safe"),
        ):
            action = torch.full((1, 1, 3, 1), mean - less)
            expected = [game.reward(action).item()] * 6
            assert seed.returns[mode] == pytest.approx(expected, abs=1e-5)
            assert seed.basin[mode] == basin
            assert seed.in_optimum[mode] == float(basin == "optimum")
            assert seed.curve.returns[mode][-1] == pytest.approx(seed.returns[mode][0], abs=1e-5)
            assert seed.curve.in_optimum[mode][-1] == seed.in_optimum[mode]


def test_shared_execution_is_only_of_those_that_have_it():
    (one, two) = train_cell(cell())
    for seed in (one, two):
        for by_mode in (
            seed.returns, seed.in_optimum, seed.basin, seed.curve.returns, seed.curve.in_optimum,
        ):  # fmt: skip
            assert list(by_mode) == ["decentralised", "deterministic"]


def test_every_mode_is_evaluated_from_the_same_starts():
    """When a walk ends is drawn from the environment's stream alone."""
    for seed in train_cell(cell(use="tests.support.probe:Sharer")):
        returns = seed.returns
        assert returns["decentralised"] == returns["deterministic"] == returns["shared"]
        assert len(set(returns["shared"])) > 1
        curve = seed.curve.returns
        assert curve["decentralised"] == curve["deterministic"] == curve["shared"]
        assert len(set(curve["shared"])) > 1  # other starts each time


def test_evaluation_counts_first_episodes_only():
    for stop, returned, basin in ((0.0, 5.0, "long"), (1.0, 1.0, "short")):
        for seed in train_cell(cell(env=f"{WALK}, stop: {stop}")):
            assert seed.returns["decentralised"] == [returned] * 6
            assert seed.basin["decentralised"] == basin
            assert seed.in_optimum["decentralised"] == float(basin == "long")


def test_the_curve_has_its_points():
    for seed in train_cell(cell(points=4)):
        assert seed.curve.env_steps == [10, 20, 30, 40]
        for mode, values in seed.curve.returns.items():
            assert len(values) == len(seed.curve.in_optimum[mode]) == 4
            assert values[-1] == pytest.approx(sum(seed.returns[mode]) / 6, abs=1e-6)
        assert len(seed.curve.executed_ro) == len(seed.curve.perceived_ro) == 4


def test_how_often_one_evaluates_does_not_change_training():
    few, many = train_cell(cell(points=1)), train_cell(cell(points=40))
    for one, other in zip(few, many, strict=True):
        assert other.returns == one.returns
        assert other.curve.env_steps == list(range(1, 41))


def test_one_step_games_keep_joint_actions():
    for seed in train_cell(cell(env=GAME)):
        assert [len(action) for action in seed.actions] == [3] * 6
        assert seed.positions == []
    assert train_cell(cell())[0].actions == []


def test_an_episode_of_each_seed_is_kept():
    for seed in train_cell(cell(steps=20, points=2, env=GATHER)):
        path = torch.tensor(seed.positions)  # [T+1, P, 2]
        assert path.shape[1:] == (2, 2)
        assert (path[0].norm(dim=-1) >= 0.5999).all()
        inside = (path.norm(dim=-1) < 0.4).sum(1)
        assert not inside[:-1].any()  # entering ends an episode, and the next one is not shown
        expected = {0: 0.0, 1: -1.0, 2: 5.0}[int(inside[-1])]
        assert seed.returns["decentralised"][0] == expected
        assert len(path) == 5 or inside[-1]


def test_a_seed_is_in_the_optimum_with_more_than_half_of_its_episodes():
    training = _Training(cell(env=GATHER), CPU)
    names = training.spec.basins
    assert len(names) == 3
    for basins, expected in (
        ([0, 0, 1], 0), ([0, 0, 1, 1], 1), ([0, 0, 1, 2, 2], 2), ([0, 0, 0, 1, 2], 0), ([1, 2, 2], 2),
        ([0, 1, 2], 1),
    ):  # fmt: skip
        assert training.majority(torch.tensor(basins)) == names[expected]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["svnr", "maddpg"])
def test_the_final_basin_does_not_depend_on_neighbours(algorithm):
    """A whole run: rounding differs between batch sizes, where a seed ends must not."""
    suite = """
name: probe
seeds: {seeds}
budget: {{env_steps: 500}}
evaluation: {{episodes: 50, points: 1}}
algorithms: {{{algorithm}: {{hidden: 32}}}}
scenarios: {{game: {{env: max_of_three, s2: 3.0}}}}
"""

    def basins(seeds):
        (chosen,) = parse_suite(suite.format(seeds=seeds, algorithm=algorithm)).cells()
        return {seed.seed: seed.basin for seed in train_cell(chosen)}

    together = basins("[0, 1, 2, 3]")
    for seed in (0, 3):
        assert basins(f"[{seed}]") == {seed: together[seed]}


# Divergence and progress


@pytest.mark.parametrize("algorithm", ["", ", metrics_every: 25"])
def test_a_diverged_seed_is_marked_and_the_others_are_not(algorithm):
    """Also where metrics come only now and then: the newest ones count."""
    result = train_cell(cell(algorithm=f"diverge_seed: 1{algorithm}"))
    assert {seed.seed: seed.diverged for seed in result} == {3: False, 1: True}


def test_returns_that_are_not_finite_mark_a_seed(monkeypatch):
    def bad(self, obs, mode, progress):
        action = torch.zeros(2, obs.shape[1], 3, 1)
        action[1] = math.nan
        return action

    monkeypatch.setattr(Recorder, "act", bad)
    one, two = train_cell(cell(env=GAME, algorithm="random_fraction: 1.0"))
    assert (one.diverged, two.diverged) == (False, True)
    assert two.returns["decentralised"] == [None] * 6
    assert two.curve.returns["decentralised"] == [None] * 4
    assert two.basin["decentralised"] == "safe"
    assert two.actions == []
    assert two.curve.executed_ro == [None] * 4
    assert None not in one.curve.executed_ro


def test_progress_is_reported():
    seen = []
    train_cell(cell(points=4, env=f"{WALK}, stop: 0.0"), report=seen.append)
    assert [progress.fraction for progress in seen] == [0.25, 0.5, 0.75, 1.0]
    assert all(progress.n_seeds == 2 and progress.updates_per_second > 0 for progress in seen)
    assert all(progress.mean_return == 5.0 and progress.successes == 2 for progress in seen)
    assert seen[-1].seconds_left == 0
    assert {progress.message for progress in seen} == {""}


def test_successes_are_seeds_with_a_high_score():
    seen = []
    train_cell(cell(env=f"{WALK}, stop: 1.0"), report=seen.append)
    assert {progress.successes for progress in seen} == {0}  # they return 1 of 5
    train_cell(cell(env=f"{WALK}, stop: 0.0, known: false"), report=seen.append)
    assert seen[-1].successes is None
    assert seen[-1].mean_return == 5.0


def test_diverged_seeds_are_left_out_of_the_reported_mean():
    seen = []
    train_cell(cell(algorithm="diverge_seed: 1", env=f"{WALK}, stop: 0.0"), report=seen.append)
    assert seen[-1].mean_return == 5.0
    train_cell(cell(seeds="[1]", algorithm="diverge_seed: 1"), report=seen.append)
    assert math.isnan(seen[-1].mean_return)


def test_updates_that_learnt_nothing_do_not_count():
    """MAPPO learns from each of seven rollouts, and not from the four steps that are left."""
    chosen = cell(use="mappo", algorithm="rollout_steps: 8, hidden: 8", env=GAME, steps=60)
    assert [record.updates for record in train_cell(chosen)] == [7, 7]


# Checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_a_checkpoint_continues_bit_for_bit(algorithm, tmp_path):
    fields = registry.load("algorithm", algorithm.split(",")[0]).Config.model_fields
    small = "rollout_steps: 8" if "rollout_steps" in fields else "batch_size: 16"
    chosen = parse_suite(
        f"""
name: probe
seeds: [2, 5]
budget: {{env_steps: 60}}
evaluation: {{episodes: 5, points: 6}}
algorithms: {{it: {{use: {algorithm}, hidden: 8, {small}}}}}
scenarios: {{easy: {{env: {game_for(algorithm)}}}}}
"""
    ).cells()[0]
    whole = train_cell(chosen)
    path = tmp_path / "checkpoint.pt"
    for stop_at in (13, 59):
        asked = iter(range(1, 100))
        with pytest.raises(Interrupted):
            train_cell(chosen, should_stop=lambda a=asked, s=stop_at: next(a) >= s, checkpoint=path)
        training, message = _Training.resume(chosen, CPU, path)
        assert (training.step, message) == (stop_at, "")
        continued = train_cell(chosen, checkpoint=path)
        assert without_clock(continued) == without_clock(whole)
        path.unlink()


def test_a_checkpoint_holds_what_the_algorithm_remembers(tmp_path):
    """Recorder samples its replay, so that its mean tells every reward that it remembers."""
    path = tmp_path / "checkpoint.pt"
    whole = without_clock(train_cell(cell(env=GAME)))
    memory, mean = Recorder.last.replay.state_dict(), Recorder.last.mean
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        train_cell(cell(env=GAME), should_stop=lambda: next(asked) == 20, checkpoint=path)
    assert without_clock(train_cell(cell(env=GAME), checkpoint=path)) == whole
    assert len(Recorder.last.seen) == 40 - 21
    assert torch.equal(Recorder.last.replay.state_dict()["rows"], memory["rows"])
    assert torch.equal(Recorder.last.mean, mean)


def flip(data):
    return data[:-50] + bytes([data[-50] ^ 1]) + data[-49:]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip, "damaged: its content does not match its digest"),
        (lambda data: data[: len(data) // 2], "damaged: its content does not match its digest"),
        (lambda data: b"", "not a checkpoint of this version"),
        (lambda data: b"rubbish", "not a checkpoint of this version"),
    ],
)
def test_a_bad_checkpoint_is_set_aside_and_training_starts_anew(damage, reason, tmp_path):
    path, seen = tmp_path / "checkpoint.pt", []
    with pytest.raises(Interrupted):
        train_cell(cell(), should_stop=lambda: True, checkpoint=path)
    path.write_bytes(damage(path.read_bytes()))
    bad = path.read_bytes()
    result = train_cell(cell(), checkpoint=path, report=seen.append)
    assert without_clock(result) == without_clock(train_cell(cell()))
    aside = tmp_path / "checkpoint.pt.unusable"
    assert seen[0].message.startswith(f"{aside}: checkpoint set aside, training starts anew: ")
    assert reason in seen[0].message
    assert not any(progress.message for progress in seen[1:])
    assert aside.read_bytes() == bad
    assert not path.exists()


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_set_aside(tmp_path):
    """A whole one of the same seeds, but of networks of another size."""
    path, seen = tmp_path / "checkpoint.pt", []

    def of(hidden):
        return cell(env=GAME, algorithm=f"hidden: {hidden}, batch_size: 4", use="maddpg")

    with pytest.raises(Interrupted):
        train_cell(of(8), should_stop=lambda: True, checkpoint=path)
    result = train_cell(of(16), checkpoint=path, report=seen.append)
    assert without_clock(result) == without_clock(train_cell(of(16)))
    assert "does not fit: ValueError: the state is of a network of other sizes" in seen[0].message
    assert (tmp_path / "checkpoint.pt.unusable").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.pop("mean"), "the state lacks mean"),
        (lambda parts: parts.update(old=torch.zeros(2)), "has what the algorithm has not: old"),
        (lambda parts: parts.update(new=parts.pop("mean")), "lacks mean and has .* not: new"),
    ],
)
def test_a_checkpoint_of_other_code_is_set_aside(change, message, tmp_path):
    """What a part is missing from would go on with that part as new, and nobody would know."""
    path, seen = tmp_path / "checkpoint.pt", []
    with pytest.raises(Interrupted):
        train_cell(cell(), should_stop=lambda: True, checkpoint=path)
    state = checkpoints.load(path, CPU)
    change(state["algorithm"])
    checkpoints.save(path, state)
    result = train_cell(cell(), checkpoint=path, report=seen.append)
    assert without_clock(result) == without_clock(train_cell(cell()))
    assert re.search(f"training starts anew: does not fit: .*{message}", seen[0].message)
    assert (tmp_path / "checkpoint.pt.unusable").exists()
    assert not path.exists()


def test_a_part_that_comes_up_in_training_is_put_back():
    algorithm = Recorder(make_spec(), Recorder.Config(), [0], CPU)
    algorithm.hidden = None
    algorithm.load_state_dict({**algorithm.state_dict(), "hidden": torch.ones(1)})
    assert torch.equal(algorithm.hidden, torch.ones(1))


def test_a_checkpoint_of_other_seeds_is_not_used(tmp_path):
    """Those were finished since, or were asked for otherwise: nothing is wrong."""
    path, seen = tmp_path / "checkpoint.pt", []
    with pytest.raises(Interrupted):
        train_cell(cell(seeds="[9]"), should_stop=lambda: True, checkpoint=path)
    result = train_cell(cell(), checkpoint=path, report=seen.append)
    assert without_clock(result) == without_clock(train_cell(cell()))
    assert not any(progress.message for progress in seen)


def test_checkpoints_are_written_at_intervals(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "checkpoint.pt"
    train_cell(cell(), checkpoint=path)
    assert _Training.resume(cell(), CPU, path)[0].step == 39
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_full_disk_is_a_message_and_training_goes_on(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = without_clock(train_cell(cell()))
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", full)
    path, seen = tmp_path / "checkpoint.pt", []
    assert without_clock(train_cell(cell(), checkpoint=path, report=seen.append)) == expected
    messages = [progress.message for progress in seen if progress.message]
    assert len(messages) == 39
    assert "cannot write the checkpoint: No space left on device" in messages[0]
    assert str(path) in messages[0]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Interrupted):  # asked to stop, it stops all the same
        train_cell(cell(), checkpoint=path, should_stop=lambda: True)


# Environments are closed


def test_environments_are_closed(monkeypatch, tmp_path):
    chosen, failing = cell(), cell(algorithm="fail_at: 0.5")
    Walk.open.clear()
    made = []
    monkeypatch.setattr(
        Walk, "reset", lambda self, reset=Walk.reset: made.append(set(Walk.open)) or reset(self)
    )
    train_cell(chosen)
    assert Walk.open == set()
    # Of an evaluation one at a time, beside the environment that is trained in.
    assert made[0] == {"env"}
    assert [sorted(streams) for streams in made[1:]] == [
        ["env", f"evaluation/{step}"] for step in (10, 20, 30, 40) for _ in range(2)
    ]
    with pytest.raises(ValueError, match="on purpose"):
        train_cell(failing)
    assert Walk.open == set()
    with pytest.raises(Interrupted):
        train_cell(chosen, should_stop=lambda: True, checkpoint=tmp_path / "checkpoint.pt")
    assert Walk.open == set()


def test_an_algorithm_that_cannot_be_made_leaves_no_environment_open(monkeypatch):
    def refuse(self, *arguments):
        raise ValueError("it went wrong on purpose")

    chosen = cell()
    Walk.open.clear()
    monkeypatch.setattr(Recorder, "__init__", refuse)
    with pytest.raises(ValueError, match="on purpose"):
        train_cell(chosen)
    assert Walk.open == set()


def test_an_evaluation_that_fails_leaves_nothing_open(monkeypatch):
    def act(self, obs, mode, progress, act=Recorder.act):
        if mode == "deterministic":
            raise ValueError("it went wrong on purpose")
        return act(self, obs, mode, progress)

    chosen = cell()
    Walk.open.clear()
    monkeypatch.setattr(Recorder, "act", act)
    with pytest.raises(ValueError, match="on purpose"):
        train_cell(chosen)
    assert Walk.open == set()


# Speed and RO


@pytest.mark.slow
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

    chosen = cell(
        seeds="10", steps=6400, envs=64, points=1, algorithm="hidden: 64", use="maddpg",
        env="env: particle_gather",
    )  # fmt: skip
    training = _Training(chosen, CPU)
    while training.step < training.n_steps // 2:
        training.advance()
    with Count() as whole:
        training.advance()
    action = training.random_action()
    with Count() as own:
        training.env.step(action)
    assert 10 * own.numbers < whole.numbers


def test_ro_is_measured_where_it_can_be():
    """Recorder executes one constant action; it says nothing of beliefs."""
    game = MaxOfThree(MaxOfThree.Config(), [0], 1)
    for seed in train_cell(cell(env=GAME)):
        action = torch.tensor(seed.actions).view(1, -1, 3, 1)
        expected = executed_ro(game.reward, action, line(201)).item()
        assert seed.curve.executed_ro[-1] == pytest.approx(expected, abs=1e-4)
        assert None not in seed.curve.executed_ro
        assert seed.curve.perceived_ro == [None] * 4
    for seed in train_cell(cell()):  # episodes of several steps, which cannot be forked
        assert seed.curve.executed_ro == seed.curve.perceived_ro == [None] * 4


@pytest.mark.slow
def test_measuring_ro_does_not_change_training(monkeypatch):
    suite = """
name: probe
seeds: [2, 5]
budget: {env_steps: 60}
evaluation: {episodes: 5, points: 6}
algorithms:
  maddpg: {hidden: 8, batch_size: 16}
  svnr: {hidden: 8, batch_size: 16, particles: 4}
  lenient_madrl: {hidden: 8, batch_size: 16}
  pr2: {hidden: 8, batch_size: 16}
scenarios: {easy: {env: max_of_three}, gather: {env: particle_gather}}
"""
    for chosen in parse_suite(suite).cells():
        measured = train_cell(chosen)
        for seed in measured:
            executed, perceived = seed.curve.executed_ro, seed.curve.perceived_ro
            if chosen.scenario.name == "easy":
                assert None not in executed + perceived
            else:  # every fifth evaluation, counted from the last
                assert [value is not None for value in executed] == [True, *[False] * 4, True]
                assert perceived == [None] * 6
        with monkeypatch.context() as patch:
            patch.setattr(ro, "executed_unavailable", lambda spec, env: "not now")
            plain = train_cell(chosen)
        for seed, other in zip(plain, measured, strict=True):
            assert seed.curve.executed_ro == [None] * 6
            update = {"executed_ro": [None] * 6, "perceived_ro": [None] * 6}
            curve = other.curve.model_copy(update=update)
            assert without_clock([seed]) == without_clock(
                [other.model_copy(update={"curve": curve})]
            )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["svnr", "rommeo"])
def test_evaluations_of_a_seed_do_not_depend_on_how_long_others_play(name):
    """Both algorithms execute with noise; the seeds' episodes end at different steps."""
    suite = f"""
name: probe
seeds: [2, 5]
budget: {{env_steps: 40}}
evaluation: {{episodes: 4, points: 6}}
algorithms: {{{name}: {{learning_starts_fraction: 1.0, hidden: 8}}}}
scenarios: {{gather: {{env: particle_gather}}}}
"""
    _, beside = train_cell(parse_suite(suite).cells()[0])
    (alone,) = train_cell(parse_suite(suite.replace("[2, 5]", "[5]")).cells()[0])
    assert beside.returns == alone.returns
    assert beside.curve == alone.curve
