"""Seed-batched networks against torch.nn, autograd and one optimiser per seed."""

import math

import pytest
import torch
from torch import nn as torch_nn

from rocompare.learn import nn
from rocompare.learn.nn import MLP, Adam, clip_per_seed, seed_mean
from rocompare.learn.rng import Streams

ACTIVATIONS = {"relu": torch_nn.ReLU, "tanh": torch_nn.Tanh, "silu": torch_nn.SiLU}


def make(groups=(2, 3), sizes=(4, 7, 5, 2), activation="silu", **kwargs):
    return MLP(groups, sizes, activation, Streams(range(groups[0]), "init"), **kwargs)


def plain(mlp, index):
    """The network at ``index`` as a torch.nn.Sequential."""
    layers = []
    for weight, bias in mlp.layers(mlp.flat.detach()):
        linear = torch_nn.Linear(weight.shape[1], weight.shape[2])
        linear.weight.data = weight[index].mT.clone()
        linear.bias.data = bias[index, 0].clone()
        layers += [linear, ACTIVATIONS[mlp.activation]()]
    return torch_nn.Sequential(*layers[:-1])


def check_against_torch(mlp, rows):
    """Values and gradients, given scales of 2 for the input and 5 for the output."""
    fan_in, fan_out = mlp.sizes[0], mlp.sizes[-1]
    x = torch.randn(2, 3, rows, fan_in, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    y = mlp(x)
    target = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    grad_x, grad_flat = torch.autograd.grad((y * target).sum(), (x, mlp.flat))
    tolerance = {"atol": 1e-5 * max(1, rows**0.5), "rtol": 1e-5}
    for g in range(6):
        s, n = divmod(g, 3)
        net = plain(mlp, g)
        own = x.detach()[s, n].clone().requires_grad_()
        out = net(own * 2) * 5
        assert out.shape == (rows, fan_out)
        torch.testing.assert_close(y[s, n], out, atol=1e-5, rtol=1e-5)
        (out * target[s, n]).sum().backward()
        torch.testing.assert_close(grad_x[s, n], own.grad, atol=1e-5, rtol=1e-5)
        for (weight, bias), linear in zip(mlp.layers(grad_flat), net[::2], strict=True):
            torch.testing.assert_close(weight[g], linear.weight.grad.mT, **tolerance)
            torch.testing.assert_close(bias[g, 0], linear.bias.grad, **tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("cache", "block"),
    [(1, (1, 1)), (120, (1, 4)), (400, (2, 6)), (1 << 20, (6, 6))],
    ids=["a row", "some rows", "some networks", "all"],
)
def test_values_and_gradients_are_torchs(activation, cache, block, monkeypatch):
    monkeypatch.setattr(nn, "CACHE_BYTES", cache)
    mlp = make(activation=activation, input_scale=2.0, output_scale=5.0)
    assert mlp.block(torch.empty(6, 6, 4)) == block
    check_against_torch(mlp, 6)


@pytest.mark.parametrize("sizes", [(4, 7, 5, 2), (1, 7, 1), (3, 1)], ids=str)
@pytest.mark.parametrize("rows", [1, 2, 1024])
def test_values_and_gradients_of_other_shapes_are_torchs(sizes, rows):
    check_against_torch(make(sizes=sizes, input_scale=2.0, output_scale=5.0), rows)


def test_a_gradient_stays_until_a_step_used_it_up():
    mlp = make()
    adam = Adam(mlp, 0.01)
    a, b = (torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    (held,) = torch.autograd.grad(mlp(a).sum(), mlp.flat)
    copy = held.clone()
    (other,) = torch.autograd.grad(mlp(b).sum(), mlp.flat)
    assert torch.equal(held, copy)
    (both,) = torch.autograd.grad(mlp(a).sum() + mlp(b).sum(), mlp.flat)
    torch.testing.assert_close(both, held + other)
    adam.apply(torch.zeros_like(mlp.flat))  # another's memory: no step used up theirs
    torch.autograd.grad(mlp(b).sum(), mlp.flat)
    assert torch.equal(held, copy)
    (used,) = torch.autograd.grad(mlp(a).sum(), mlp.flat)
    adam.apply(used)
    (after,) = torch.autograd.grad(mlp(a).sum(), mlp.flat)
    assert after.data_ptr() == used.data_ptr()


def test_fast_tanh():
    x = torch.linspace(-20, 20, 10_001)
    assert (nn.fast_tanh_(x.clone()) - torch.tanh(x.double())).abs().max() < 2e-7


def test_frozen_stops_at_the_parameters():
    mlp = make()
    x = torch.randn(2, 3, 6, 4, requires_grad=True)
    y = mlp(x, frozen=True)
    (grad,) = torch.autograd.grad(mlp(x).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], grad)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(mlp(x, frozen=True).sum(), mlp.flat)


def test_reused_buffers_do_not_mix_calls():
    """Two graphs alive at once, taken back in either order, repeatedly."""
    mlp = make()
    a, b = (torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    expected = [torch.autograd.grad(mlp(x).sum(), mlp.flat)[0] for x in (a, b)]
    for order in ((0, 1), (1, 0)) * 3:
        outputs = [mlp(x) for x in (a, b)]
        with torch.no_grad():
            mlp(a + b)
        for i in order:
            grad = torch.autograd.grad(outputs[i].sum(), mlp.flat)[0]
            torch.testing.assert_close(grad, expected[i])


def test_a_second_backward_is_refused():
    mlp = make()
    y = mlp(torch.randn(2, 3, 6, 4)).sum()
    torch.autograd.grad(y, mlp.flat, retain_graph=True)
    with pytest.raises(RuntimeError, match="runs once"):
        torch.autograd.grad(y, mlp.flat)


def test_wrong_input_shape_says_what_was_expected():
    with pytest.raises(ValueError, match=r"expected \[2, 3, '...', 4\]"):
        make()(torch.zeros(2, 3, 6, 5))


def test_initial_weights_have_the_true_fan_in():
    mlp = make(groups=(5, 3), sizes=(16, 64, 2))
    for (weight, bias), fan_in in zip(mlp.layers(mlp.flat.detach()), (16, 64), strict=True):
        bound = 1 / math.sqrt(fan_in)
        for values in (weight, bias):
            assert values.abs().max() <= bound
        # A uniform's standard deviation is its half-width over the root of 3.
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert mlp.parameters_per_seed() == 3 * (16 * 64 + 64 + 64 * 2 + 2)


def test_initial_weights_of_a_seed_are_its_own():
    both = MLP((2, 3), (4, 7, 2), "relu", Streams([8, 5], "init"))
    alone = MLP((1, 3), (4, 7, 2), "relu", Streams([5], "init"))
    pairs = zip(both.per_seed(both.flat), alone.per_seed(alone.flat), strict=True)
    for together, single in pairs:
        assert torch.equal(together[1], single[0])


@pytest.mark.parametrize("clip", [None, 0.1])
def test_adam_is_one_optimiser_per_seed(clip):
    mlp = make(groups=(3,), sizes=(4, 6, 1))
    nets = [plain(mlp, s) for s in range(3)]
    optimizers = [torch.optim.Adam(net.parameters(), lr=0.01) for net in nets]
    adam = Adam(mlp, 0.01, clip)
    scale = torch.tensor([1.0, 100.0, 0.01])  # gradients of very different sizes
    for step in range(5):
        x = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(step))
        adam.step(seed_mean(mlp(x).squeeze(-1).square()) * scale)
        for s, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
            optimizer.zero_grad()
            (net(x[s]).square().mean() * scale[s]).backward()
            if clip:
                torch_nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
    for s, net in enumerate(nets):
        for (weight, _), linear in zip(mlp.layers(mlp.flat.detach()), net[::2], strict=True):
            torch.testing.assert_close(weight[s], linear.weight.mT, atol=2e-5, rtol=1e-4)


def test_clip_per_seed_by_hand():
    parts = [torch.tensor([[3.0], [0.3]]), torch.tensor([[4.0], [0.4]])]
    clip_per_seed(parts, 1.0)
    torch.testing.assert_close(parts[0], torch.tensor([[0.6], [0.3]]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts[1], torch.tensor([[0.8], [0.4]]), atol=1e-5, rtol=1e-5)


def test_targets_follow():
    mlp = make()
    target = mlp.clone()
    with torch.no_grad():
        mlp.flat += 1
    target.follow(mlp, 0.25)
    torch.testing.assert_close(mlp.flat - target.flat, torch.full_like(mlp.flat, 0.75))
    assert not target.flat.requires_grad


def test_seed_mean():
    x = torch.arange(24.0).view(2, 3, 4)
    torch.testing.assert_close(seed_mean(x), torch.tensor([5.5, 17.5]))
    assert seed_mean(x, keep=2).shape == (2, 3)
