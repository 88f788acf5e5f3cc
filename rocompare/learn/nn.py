"""Seed-batched networks: one multilayer perceptron per seed (and agent), trained as one program.

The parameters of all networks of an :class:`MLP` lie in one flat tensor, layer after layer, each
layer a block ``[G, in, out]`` over the ``G`` networks. So a layer of every network is one ``bmm``,
and an optimiser step, a Polyak step or a norm is one call on one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.optim.adam import adam

from rocompare.learn.rng import Streams

Activation = Literal["relu", "tanh", "silu"]
Chunks = list[list[tuple[Tensor, Tensor, Tensor]]]

# Activations of a block of networks and rows should stay near the core: bigger tensors spend their
# time in memory traffic. Smaller blocks, down to a quarter of this, cost a few per cent in calls.
CACHE_BYTES = 1 << 20


class Workspace:
    """Hidden activations, reused from call to call.

    A buffer is taken in the forward pass and given back by the backward pass. If no backward pass
    comes, the buffer is dropped with the graph and another is made when needed.
    """

    def __init__(self) -> None:
        self.free: dict[tuple[int, ...], list[Tensor]] = {}

    def take(self, like: Tensor, *shape: int) -> Tensor:
        stack = self.free.get(shape)
        while stack:
            buffer = stack.pop()
            if buffer.device == like.device and buffer.dtype == like.dtype:
                return buffer
        *outer, rows = shape
        # Lines 4 KiB apart fall into the same sets of a core's first-level cache, which made
        # products with a narrow side three times slower: such lines are kept a little longer.
        stride = rows + 16 if rows % 1024 == 0 else rows
        return torch.empty(*outer, stride, device=like.device, dtype=like.dtype)[..., :rows]

    def give(self, *buffers: Tensor) -> None:
        for buffer in buffers:
            self.free.setdefault(tuple(buffer.shape), []).append(buffer)


_WORKSPACE = Workspace()


def fast_tanh_(x: Tensor) -> Tensor:
    """``tanh`` in place to within 1e-7; on CPUs torch's sigmoid is several times faster."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


def _product(
    a: Tensor,
    b: Tensor,
    out: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    add: bool = False,
) -> Tensor:
    """``scale * a [G, n, k] @ b [G, k, M] + bias [G, n, 1]`` into ``out [G, n, M]``.

    Args:
        add: to what ``out`` holds, in place of a bias.
    """
    if a.shape[2] == 1 and not add:
        torch.mul(a, b, out=out)
        if scale != 1:
            out.mul_(scale)
        return out if bias is None else out.add_(bias)
    added, beta = (out, int(add)) if bias is None else (bias, 1)
    if out.shape[2] == 1:
        # A product with a narrow side is several times faster when that side is the leading one;
        # for a single column the transposed product is the same memory.
        torch.baddbmm(added.mT, b.mT, a.mT, beta=beta, alpha=scale, out=out.mT)
    else:
        torch.baddbmm(added, a, b, beta=beta, alpha=scale, out=out)
    return out


class _MLPFunction(torch.autograd.Function):
    """``y = MLP(x)`` for ``G`` networks; ``x [G, M, in]``, ``flat [P]``, ``y [G, M, out]``.

    Written by hand because autograd would allocate every intermediate, and walk each of them
    through memory as a whole, where a cache-sized block of networks and rows at a time is faster.
    Activations lie feature by feature, ``[G, features, M]``: the rows, many and a round number, are
    then the side that a product vectorises over, and sums over them are sums over memory in order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, flat: Tensor, mlp: MLP) -> Tensor:
        keep = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        chunk, tile = mlp.block(x)
        chunks = mlp.chunks(flat, chunk)
        y = x.new_empty(x.shape[0], mlp.sizes[-1], x.shape[1])
        blocks, out_blocks = split_blocks(x.mT, chunk, tile), split_blocks(y, chunk, tile)
        kept = []
        for k, h in enumerate(blocks):
            layers = chunks[k * len(chunks) // len(blocks)]
            layer_inputs, before, scale = [h], [], mlp.input_scale
            for _, weight_t, bias_t in layers[:-1]:
                z = _WORKSPACE.take(x, h.shape[0], weight_t.shape[1], h.shape[2])
                _product(weight_t, h, z, bias_t, scale=scale)
                if mlp.activation == "silu":
                    # Its derivative needs the activation's input, ReLU's and tanh's the output.
                    before.append(z)
                    h = torch.ops.aten.silu.out(z, out=_WORKSPACE.take(x, *z.shape))
                else:
                    h = z.relu_() if mlp.activation == "relu" else fast_tanh_(z)
                layer_inputs.append(h)
                scale = 1.0
            _, weight_t, bias_t = layers[-1]
            _product(weight_t, h, out_blocks[k], bias_t, scale=scale)
            if keep:
                kept.append((layer_inputs, before))
            else:
                _WORKSPACE.give(*layer_inputs[1:], *before)
        if keep:
            ctx.save_for_backward(x, flat)
            ctx.mlp, ctx.kept = mlp, kept
        return y.mul_(mlp.output_scale).mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if ctx.kept is None:
            raise RuntimeError("the backward pass of an MLP runs once: its buffers are reused")
        x, flat = ctx.saved_tensors
        mlp, kept = ctx.mlp, ctx.kept
        need_x, need_flat = ctx.needs_input_grad[:2]
        chunk, tile = mlp.block(x)
        chunks = mlp.chunks(flat, chunk)
        grad_x = x.new_empty(x.mT.shape) if need_x else None
        grad_x_blocks = split_blocks(grad_x, chunk, tile) if grad_x is not None else ()
        grad_flat, grads = mlp.take_grad(chunk) if need_flat else (None, None)
        grad_y_blocks = split_blocks((grad_y.mT * mlp.output_scale).contiguous(), chunk, tile)
        tiles = len(kept) // len(chunks)
        for k in reversed(range(len(kept))):  # the last block's activations are still in the cache
            grad, (layer_inputs, before) = grad_y_blocks[k], kept[k]
            weights = chunks[k // tiles]
            add = (k + 1) % tiles > 0  # a network's gradient is the sum over its tiles of rows
            scratch = []
            for i in range(len(weights) - 1, -1, -1):
                h = layer_inputs[i]
                scale = 1.0 if i else mlp.input_scale
                if grads is not None:
                    grad_weight, grad_weight_t, grad_bias_t = grads[k // tiles][i]
                    if i == len(weights) - 1:
                        # Outputs are narrow, and a product with one narrow side is several times
                        # faster when that side is the leading one.
                        _product(grad, h.mT, grad_weight_t, scale=scale, add=add)
                    else:
                        _product(h, grad.mT, grad_weight, scale=scale, add=add)
                    if add:
                        grad_bias_t.add_(grad.sum(2, keepdim=True))
                    else:
                        torch.sum(grad, 2, keepdim=True, out=grad_bias_t)
                weight = weights[i][0]
                if i:
                    buffer = _WORKSPACE.take(x, *h.shape)
                    scratch.append(buffer)
                    grad = _product(weight, grad, buffer)
                    _through(mlp.activation, grad, h, before[i - 1] if before else None)
                elif need_x:
                    _product(weight, grad, grad_x_blocks[k], scale=scale)
            _WORKSPACE.give(*layer_inputs[1:], *before, *scratch)
        ctx.kept = None
        return grad_x.mT if grad_x is not None else None, grad_flat, None


def _through(activation: Activation, grad: Tensor, h: Tensor, z: Tensor | None) -> None:
    """Multiply ``grad`` in place by an activation's derivative, given its output ``h`` or, for
    SiLU, its input ``z``."""
    if activation == "relu":
        torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)
    elif activation == "tanh":
        torch.ops.aten.tanh_backward.grad_input(grad, h, grad_input=grad)
    else:
        torch.ops.aten.silu_backward.grad_input(grad, z, grad_input=grad)


def split_blocks(x: Tensor, chunk: int, tile: int) -> list[Tensor]:
    """``x [G, features, M]`` in blocks of ``chunk`` networks and ``tile`` rows, rows fastest."""
    return [block for part in x.split(chunk) for block in part.split(tile, 2)]


class MLP:
    """One multilayer perceptron per index of ``groups``, e.g. ``(S, N)``: one per seed and agent.

    Args:
        groups: leading axes, the seeds first.
        sizes: features of the input, of each hidden layer and of the output.
        activation: between the layers; the output is linear.
        streams: where the initial weights come from.
        input_scale, output_scale: fixed factors, so that returns in the hundreds are learnt by
            outputs near 1.
    """

    def __init__(
        self,
        groups: Sequence[int],
        sizes: Sequence[int],
        activation: Activation,
        streams: Streams,
        *,
        input_scale: float = 1.0,
        output_scale: float = 1.0,
    ) -> None:
        self.groups = tuple(groups)
        self.sizes = tuple(sizes)
        self.activation = activation
        self.input_scale = input_scale
        self.output_scale = output_scale
        self._count = math.prod(self.groups)
        blocks = []
        for fan_in, fan_out in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            # PyTorch's nn.Linear default, with the fan-in of one network's [in, out] slice.
            bound = 1 / math.sqrt(fan_in)
            for rows in (fan_in, 1):
                block = streams.uniform(*self.groups[1:], rows, fan_out) * (2 * bound) - bound
                blocks.append(block.reshape(-1))
        self.flat = torch.cat(blocks).requires_grad_()
        self._chunks: dict[tuple[int, int], Chunks] = {}
        self._grad: tuple[Tensor, int, Chunks] | None = None
        self._grad_is_free = False

    def take_grad(self, chunk: int) -> tuple[Tensor, Chunks]:
        """Memory for the parameters' gradient, and its views: the last one's if that is free."""
        if self._grad is None or not self._grad_is_free or self._grad[1] != chunk:
            grad = torch.empty_like(self.flat, requires_grad=False)
            self._grad = grad, chunk, self.split(self.layers(grad), chunk)
        self._grad_is_free = False
        return self._grad[0], self._grad[2]

    def give_grad(self, grad: Tensor) -> None:
        """Let the next backward pass overwrite ``grad``, which nobody may need any more."""
        self._grad_is_free = self._grad is not None and self._grad[0].data_ptr() == grad.data_ptr()

    def chunks(self, flat: Tensor, chunk: int) -> Chunks:
        """:meth:`split` of ``flat``'s layers, remembered for as long as it stays where it is."""
        key = flat.data_ptr(), chunk
        if key not in self._chunks:
            self._chunks[key] = self.split(self.layers(flat.detach()), chunk)
        return self._chunks[key]

    def split(self, layers: list[tuple[Tensor, Tensor]], chunk: int) -> Chunks:
        """For each chunk of networks and each layer, views: its weight, and transposed, its
        weight and bias."""
        parts = [
            zip(weight.split(chunk), weight.mT.split(chunk), bias.mT.split(chunk), strict=True)
            for weight, bias in layers
        ]
        return [list(chunk_layers) for chunk_layers in zip(*parts, strict=True)]

    def layers(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """``(weight [G, in, out], bias [G, 1, out])`` of each layer, as views of ``flat``."""
        layers, at = [], 0
        for fan_in, fan_out in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            mid = at + self._count * fan_in * fan_out
            end = mid + self._count * fan_out
            weight = flat[at:mid].view(self._count, fan_in, fan_out)
            layers.append((weight, flat[mid:end].view(self._count, 1, fan_out)))
            at = end
        return layers

    def per_seed(self, flat: Tensor) -> list[Tensor]:
        """``flat`` as views ``[S, parameters of a layer]``."""
        return [part.view(self.groups[0], -1) for layer in self.layers(flat) for part in layer]

    def block(self, x: Tensor) -> tuple[int, int]:
        """How many of the networks and of the rows to work on at a time, for ``x [G, M, in]``."""
        groups, rows, _ = x.shape
        if x.is_cuda:
            return groups, rows
        row_bytes = max(self.sizes[1:-1], default=1) * x.element_size()
        tile = max(1, min(rows, CACHE_BYTES // row_bytes))
        return max(1, min(groups, CACHE_BYTES // (row_bytes * tile))), tile

    def __call__(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """``x [*groups, ..., in] -> [*groups, ..., out]``.

        Args:
            frozen: gradients reach ``x`` but not the parameters.
        """
        middle = x.shape[len(self.groups) : -1]
        if x.shape[: len(self.groups)] != self.groups or x.shape[-1] != self.sizes[0]:
            expected = [*self.groups, "...", self.sizes[0]]
            raise ValueError(f"MLP input has shape {list(x.shape)}, expected {expected}")
        flat = self.flat.detach() if frozen else self.flat
        rows = x.reshape(self._count, -1, self.sizes[0])
        y = _MLPFunction.apply(rows, flat, self)
        return y.reshape(*self.groups, *middle, self.sizes[-1])

    def clone(self) -> MLP:
        """A copy that takes no gradients: a target network."""
        twin = object.__new__(MLP)
        twin.__dict__.update(self.__dict__)
        twin.flat = self.flat.detach().clone()
        twin._chunks, twin._grad, twin._grad_is_free = {}, None, False
        return twin

    @torch.no_grad()
    def follow(self, source: MLP, tau: float) -> None:
        """Polyak averaging: move a share ``tau`` of the way to ``source``."""
        self.flat.lerp_(source.flat, tau)

    def state_dict(self) -> dict[str, Any]:
        return {"flat": self.flat.detach()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["flat"].shape != self.flat.shape:  # copying would broadcast one that is smaller
            sizes = f"{list(state['flat'].shape)} instead of {list(self.flat.shape)}"
            raise ValueError(f"the state is of a network of other sizes: {sizes}")
        self.flat.copy_(state["flat"])

    def parameters_per_seed(self) -> int:
        return self.flat.numel() // self.groups[0]


class Adam:
    """Adam (Kingma and Ba, 2015) on one MLP; every seed's step is its own.

    Args:
        clip: largest gradient norm of a seed (over all its networks here); None clips nothing.
    """

    def __init__(self, mlp: MLP, lr: float, clip: float | None = None) -> None:
        self.mlp = mlp
        self.lr = lr
        self.clip = clip
        self.mean = torch.zeros_like(mlp.flat, requires_grad=False)
        self.square = torch.zeros_like(self.mean)
        self.count = torch.zeros((), device=self.mean.device)

    def step(self, loss: Tensor, lr_factor: float = 1.0) -> None:
        """Descend ``loss [S, ...]``: each item the mean over its own elements.

        The items are summed, never averaged, over seeds and agents: a seed's gradient must not
        depend on how many others there are.
        """
        (grad,) = torch.autograd.grad(loss.sum(), self.mlp.flat)
        self.apply(grad, lr_factor)

    def apply(self, grad: Tensor, lr_factor: float = 1.0) -> None:
        """Step along ``grad``, shaped like the MLP's ``flat``; its memory is used up."""
        if self.clip is not None:
            clip_per_seed(self.mlp.per_seed(grad), self.clip)
        with torch.no_grad():
            # torch's functional form: the optimiser object costs as much again in bookkeeping.
            adam(
                [self.mlp.flat], [grad], [self.mean], [self.square], [], [self.count],
                fused=True, amsgrad=False, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0,
                lr=self.lr * lr_factor, maximize=False,
            )  # fmt: skip
        self.mlp.give_grad(grad)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "square": self.square, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in self.state_dict().items():
            value.copy_(state[name])


def clip_per_seed(parts: list[Tensor], limit: float) -> None:
    """Scale each seed's gradient in place to a norm of at most ``limit``; parts are ``[S, n]``."""
    norms = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts])
    factor = (limit / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_(max=1.0)  # [S]
    for part in parts:
        part.mul_(factor[:, None])


def beside(obs: Tensor, joint: Tensor) -> Tensor:
    """A critic's input: all agents' ``obs [S, B, N, O]`` beside each ``joint [S, N, B, ..., D]``.

    Returns ``[S, N, B, ..., N*O + D]``.
    """
    state = obs.flatten(2).unsqueeze(1)  # [S, 1, B, N*O]
    state = state.view(*state.shape[:3], *[1] * (joint.dim() - 4), -1)
    return torch.cat([state.expand(*joint.shape[:-1], -1), joint], -1)


def seed_mean(x: Tensor, keep: int = 1) -> Tensor:
    """Mean over everything but the first ``keep`` axes: a seed's (and agent's) own elements."""
    return x.reshape(*x.shape[:keep], -1).mean(-1)
