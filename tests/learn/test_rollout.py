"""Rollouts in their order, and advantages against numbers worked out by hand."""

import torch

from rocompare.api import Transition
from rocompare.learn.rollout import Rollout, gae, n_step_returns
from tests.support.helpers import make_spec, make_transition

SEEDS = (0, 1)


def test_a_rollout_keeps_the_order_and_is_taken_once():
    rollout = Rollout(3)
    steps = [make_transition(make_spec(), SEEDS, i) for i in range(3)]
    for i, step in enumerate(steps):
        assert not rollout.full(), i
        rollout.add(step)
    assert rollout.full()
    taken = rollout.take()
    assert not rollout.full()
    for name, part in taken._asdict().items():
        for t in range(3):
            assert torch.equal(part[:, t], getattr(steps[t], name)), name


def test_its_state_is_the_steps_so_far():
    rollout, again = Rollout(2), Rollout(2)
    first, second = (make_transition(make_spec(), SEEDS, i) for i in range(2))
    rollout.add(first)
    again.load_state_dict(rollout.state_dict())
    assert not again.full()
    again.add(second)
    assert torch.equal(again.take().action, torch.stack([first.action, second.action], 1))


def test_advantages():
    """gamma and lambda 0.5; errors 1, 1.5 and 4 where nothing ends, so 1.625, 2.5, 4."""

    def column(*numbers):
        return torch.tensor(numbers).view(1, 3, 1).expand(1, 3, 3)

    ends, never = torch.zeros(1, 3, 3, dtype=torch.bool), torch.zeros(1, 3, 3, dtype=torch.bool)
    cut_off = never.clone()
    cut_off[0, 1, 1] = True  # the second game is cut off after two steps: 1.5 is the last error
    ends[0, 1, 2] = True  # the third ends: nothing follows, the error is 2 - 1
    empty = torch.zeros(1, 3, 3, 1, 1)
    rollout = Transition(empty, empty, column(1.0, 2.0, 3.0), empty, ends, cut_off)
    got = gae(rollout, column(1.0, 1.0, 1.0), column(2.0, 1.0, 4.0), 0.5, 0.5)
    expected = [[1.625, 2.5, 4.0], [1.375, 1.5, 4.0], [1.25, 1.0, 4.0]]
    assert got[0].mT.tolist() == expected


def test_n_step_returns():
    """Rewards 1, 2, 4, 8, gamma 0.5, values of 16 after each step; two steps where they are there."""
    shape = 1, 4, 3
    ended, cut_off = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    ended[0, 1, 1] = True
    cut_off[0, 1, 2] = True
    reward = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 4, 1).expand(shape)
    empty = torch.zeros(*shape, 1, 1)
    rollout = Transition(empty, empty, reward, empty, ended, cut_off)
    values = torch.stack([torch.full(shape, 16.0), torch.zeros(shape)])
    one, zero = n_step_returns(rollout, values, 0.5, 1)
    assert one[0, :, 0].tolist() == [9, 10, 12, 16]
    assert one[0, :, 1].tolist() == [9, 2, 12, 16]  # nothing follows the second step
    assert zero[0, :, 0].tolist() == [1, 2, 4, 8]
    two, zero = n_step_returns(rollout, values, 0.5, 2)
    assert two[0, :, 0].tolist() == [1 + 1 + 4, 2 + 2 + 4, 4 + 4 + 4, 8 + 8]
    assert two[0, :, 1].tolist() == [1 + 1, 2, 12, 16]
    assert two[0, :, 2].tolist() == [1 + 1 + 4, 2 + 8, 12, 16]
    assert zero[0, :, 0].tolist() == [2, 4, 8, 8]
    many = n_step_returns(rollout, values[0], 0.5, 9)
    assert many[0, :, 0].tolist() == [1 + 1 + 1 + 1 + 1, 2 + 2 + 2 + 2, 4 + 4 + 4, 8 + 8]
