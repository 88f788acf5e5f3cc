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

from rocompare.rng import Streams

Activation = Literal["relu", "tanh", "silu"]
Chunks = list[list[tuple[Tensor, Tensor, Tensor]]]

# Activations of a chunk of networks should stay in a core's second-level cache: bigger tensors
# spend their time in memory traffic, and on the CPU in page faults.
CACHE_BYTES = 1 << 19


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
        return torch.empty(shape, device=like.device, dtype=like.dtype)

    def give(self, *buffers: Tensor) -> None:
        for buffer in buffers:
            self.free.setdefault(tuple(buffer.shape), []).append(buffer)


_WORKSPACE = Workspace()


def fast_tanh_(x: Tensor) -> Tensor:
    """``tanh`` in place to within 1e-7; on CPUs torch's sigmoid is several times faster."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class _MLPFunction(torch.autograd.Function):
    """``y = MLP(x)`` for ``G`` networks; ``x [G, M, in]``, ``flat [P]``, ``y [G, M, out]``.

    Written by hand because autograd would allocate every intermediate, and walk each of them
    through memory for the whole batch of networks where a cache-sized chunk at a time is faster.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, flat: Tensor, mlp: MLP) -> Tensor:
        groups, rows, _ = x.shape
        keep = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        chunk = mlp.chunk(x)
        # Outputs are narrow, and a product with one narrow side is several times faster when that
        # side is the leading one: the last layer is computed transposed.
        y = x.new_empty(groups, mlp.sizes[-1], rows)
        kept = []
        for h, layers, out_y in zip(
            x.split(chunk), mlp.chunks(flat, chunk), y.split(chunk), strict=True
        ):
            layer_inputs, before = [h], []
            for weight, _, bias in layers[:-1]:
                z = _WORKSPACE.take(x, h.shape[0], rows, weight.shape[2])
                torch.baddbmm(bias, h, weight, out=z)
                if mlp.activation == "silu":
                    # Its derivative needs the activation's input, ReLU's and tanh's the output.
                    before.append(z)
                    h = torch.ops.aten.silu.out(z, out=_WORKSPACE.take(x, *z.shape))
                else:
                    h = z.relu_() if mlp.activation == "relu" else fast_tanh_(z)
                layer_inputs.append(h)
            _, weight_t, bias = layers[-1]
            torch.baddbmm(bias.mT, weight_t.contiguous(), h.mT, out=out_y)
            if keep:
                kept.append((layer_inputs, before))
            else:
                _WORKSPACE.give(*layer_inputs[1:], *before)
        if keep:
            ctx.save_for_backward(x, flat)
            ctx.mlp, ctx.kept = mlp, kept
        return y.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if ctx.kept is None:
            raise RuntimeError("the backward pass of an MLP runs once: its buffers are reused")
        x, flat = ctx.saved_tensors
        mlp, kept = ctx.mlp, ctx.kept
        need_x, need_flat = ctx.needs_input_grad[:2]
        chunk = mlp.chunk(x)
        grad_x = torch.empty_like(x) if need_x else None
        grad_flat = torch.empty_like(flat) if need_flat else None
        grad_x_parts = grad_x.split(chunk) if grad_x is not None else ()
        grads = mlp.split(mlp.layers(grad_flat), chunk) if grad_flat is not None else None
        weights = mlp.chunks(flat, chunk)
        last = len(mlp.sizes) - 2
        grad_y_t = grad_y.mT.contiguous().split(chunk)
        for c, grad in enumerate(grad_y.contiguous().split(chunk)):
            layer_inputs, before = kept[c]
            scratch = []
            for i in range(last, -1, -1):
                h = layer_inputs[i]
                if grads is not None:
                    grad_weight, grad_weight_t, grad_bias = grads[c][i]
                    if i == last:
                        grad_weight_t.copy_(torch.bmm(grad_y_t[c], h))
                    else:
                        torch.bmm(h.mT, grad, out=grad_weight)
                    torch.sum(grad, 1, keepdim=True, out=grad_bias)
                weight_t = weights[c][i][1]
                if i:
                    product = torch.mul if grad.shape[-1] == 1 else torch.bmm
                    grad = product(grad, weight_t, out=_WORKSPACE.take(x, *h.shape))
                    scratch.append(grad)
                    if mlp.activation == "relu":
                        torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)
                    elif mlp.activation == "tanh":
                        torch.ops.aten.tanh_backward.grad_input(grad, h, grad_input=grad)
                    else:
                        torch.ops.aten.silu_backward.grad_input(
                            grad, before[i - 1], grad_input=grad
                        )
                elif need_x:
                    torch.bmm(grad, weight_t, out=grad_x_parts[c])
            _WORKSPACE.give(*layer_inputs[1:], *before, *scratch)
        ctx.kept = None
        return grad_x, grad_flat, None


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

    def chunks(self, flat: Tensor, chunk: int) -> Chunks:
        """:meth:`split` of ``flat``'s layers, remembered for as long as it stays where it is."""
        key = flat.data_ptr(), chunk
        if key not in self._chunks:
            self._chunks[key] = self.split(self.layers(flat.detach()), chunk)
        return self._chunks[key]

    def split(self, layers: list[tuple[Tensor, Tensor]], chunk: int) -> Chunks:
        """For each chunk of networks, the weight, its transpose and the bias of each layer."""
        parts = [
            zip(weight.split(chunk), weight.mT.split(chunk), bias.split(chunk), strict=True)
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

    def chunk(self, x: Tensor) -> int:
        """How many of the networks to work on at a time, for ``x [G, M, in]``."""
        groups, rows, _ = x.shape
        if x.is_cuda:
            return groups
        widest = max(self.sizes[1:-1], default=1) * rows * x.element_size()
        return max(1, min(groups, CACHE_BYTES // widest))

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
        if self.input_scale != 1:
            rows = rows * self.input_scale
        y = _MLPFunction.apply(rows, flat, self)
        if self.output_scale != 1:
            y = y * self.output_scale
        return y.reshape(*self.groups, *middle, self.sizes[-1])

    def clone(self) -> MLP:
        """A copy that takes no gradients: a target network."""
        twin = object.__new__(MLP)
        twin.__dict__.update(self.__dict__)
        twin.flat = self.flat.detach().clone()
        twin._chunks = {}
        return twin

    @torch.no_grad()
    def follow(self, source: MLP, tau: float) -> None:
        """Polyak averaging: move a share ``tau`` of the way to ``source``."""
        self.flat.lerp_(source.flat, tau)

    def state_dict(self) -> dict[str, Any]:
        return {"flat": self.flat.detach()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
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
        """Step along ``grad``, shaped like the MLP's ``flat``; it is clipped in place."""
        if self.clip is not None:
            clip_per_seed(self.mlp.per_seed(grad), self.clip)
        with torch.no_grad():
            # torch's functional form: the optimiser object costs as much again in bookkeeping.
            adam(
                [self.mlp.flat], [grad], [self.mean], [self.square], [], [self.count],
                fused=True, amsgrad=False, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0,
                lr=self.lr * lr_factor, maximize=False,
            )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "square": self.square, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in self.state_dict().items():
            value.copy_(state[name])


def state_of(owner: object) -> dict[str, Any]:
    """The state of every network, optimiser and random stream among ``owner``'s attributes."""
    return {name: part.state_dict() for name, part in vars(owner).items() if _stateful(part)}


def load_state_of(owner: object, state: dict[str, Any]) -> None:
    """Put back what :func:`state_of` returned."""
    for name, part in vars(owner).items():
        if _stateful(part):
            part.load_state_dict(state[name])


def _stateful(part: object) -> bool:
    return isinstance(part, MLP | Adam | Streams)


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
