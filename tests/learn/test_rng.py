"""Random streams: a seed's numbers are its own, whoever stands beside it."""

import pytest
import torch
from scipy import stats

from rocompare.learn import rng
from rocompare.learn.rng import Streams, derive


def draws(seeds, name="a"):
    streams = Streams(seeds, name)
    # Through several blocks, with sizes that do not divide them.
    return torch.cat(
        [part(7001, 3).flatten(1) for part in (streams.uniform, streams.normal) * 3], 1
    )


def test_numbers_depend_on_the_seed_alone():
    both, alone = draws([4, 9, 2]), draws([9])
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0], both[1])


def test_names_give_different_streams():
    assert not torch.equal(draws([1], "a"), draws([1], "b"))
    assert derive(1, "a") != derive(2, "a") != derive(1, "b")


def test_values_do_not_change_after_they_were_handed_out():
    streams = Streams([0, 1], "a")
    first = streams.normal(5)
    copy = first.clone()
    streams.normal(3 * rng.BLOCK)
    assert torch.equal(first, copy)


def test_distributions():
    streams = Streams([3], "a")
    assert stats.kstest(streams.uniform(20_000)[0].numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(streams.normal(20_000)[0].numpy(), "norm").pvalue > 0.01
    index = streams.index(7, 20_000)[0]
    assert stats.chisquare(torch.bincount(index, minlength=7).numpy()).pvalue > 0.01
    assert index.min() == 0
    assert index.max() == 6


@pytest.mark.parametrize("taken", [0, 10, rng.BLOCK + 10, 3 * rng.BLOCK])
def test_state_continues_where_it_was(taken):
    streams = Streams([0, 5], "a")
    if taken:
        streams.normal(taken)
        streams.uniform(taken)
    state = streams.state_dict()
    expected = [streams.normal(2 * rng.BLOCK), streams.uniform(11), streams.normal(5)]
    again = Streams([0, 5], "other")
    again.load_state_dict(state)
    got = [again.normal(2 * rng.BLOCK), again.uniform(11), again.normal(5)]
    assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))
