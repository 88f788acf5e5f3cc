"""One random stream per seed, drawn in blocks.

A seed's numbers depend on the seed and on the stream's name alone: not on how many seeds train
beside it, nor on which. Drawing in blocks keeps the Python loop over seeds out of the hot path.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK = 16_384  # numbers per seed and draw


def derive(seed: int, name: str) -> int:
    """A 63-bit seed for the stream ``name`` of ``seed``, independent of every other stream."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class _Source:
    """Numbers of one distribution, ``[S, n]`` at a time, from one generator per seed."""

    def __init__(self, kind: str, seeds: Sequence[int], name: str, device: torch.device) -> None:
        self.draw = torch.rand if kind == "uniform" else torch.randn
        # Generators live on the CPU so that every device sees the same numbers.
        self.generators = [
            torch.Generator().manual_seed(derive(seed, f"{name}/{kind}")) for seed in seeds
        ]
        self.device = device
        self.block = torch.empty(len(seeds), 0, device=device)
        self.used = 0
        self.start = [g.get_state() for g in self.generators]

    def refill(self, n: int) -> None:
        self.start = [g.get_state() for g in self.generators]
        rows = [self.draw(n, generator=g) for g in self.generators]
        # A new tensor each time: views handed out earlier stay valid.
        self.block = torch.stack(rows).to(self.device)
        self.used = 0

    def take(self, shape: Sequence[int]) -> Tensor:
        n = math.prod(shape)
        if self.used + n > self.block.shape[1]:
            self.refill(max(n, BLOCK))
        numbers = self.block[:, self.used : self.used + n]
        self.used += n
        return numbers.view(len(self.generators), *shape)

    def state_dict(self) -> dict[str, Any]:
        return {"start": torch.stack(self.start), "size": self.block.shape[1], "used": self.used}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for generator, start in zip(self.generators, state["start"], strict=True):
            generator.set_state(start.cpu().clone())  # torch ignores a view's offset
        self.block = self.block[:, :0]
        if state["size"]:
            self.refill(state["size"])
        self.used = state["used"]


class Streams:
    """Random numbers for ``seeds``, from the stream called ``name``."""

    def __init__(self, seeds: Sequence[int], name: str, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        self._uniform = _Source("uniform", seeds, name, device)
        self._normal = _Source("normal", seeds, name, device)

    def uniform(self, *shape: int) -> Tensor:
        """``[S, *shape]`` uniform in ``[0, 1)``."""
        return self._uniform.take(shape)

    def normal(self, *shape: int) -> Tensor:
        """``[S, *shape]`` standard normal."""
        return self._normal.take(shape)

    def index(self, high: int, *shape: int) -> Tensor:
        """``[S, *shape]`` integers uniform in ``[0, high)``, for ``high`` up to 2**24."""
        return (self.uniform(*shape) * high).long().clamp_(max=high - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"uniform": self._uniform.state_dict(), "normal": self._normal.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._uniform.load_state_dict(state["uniform"])
        self._normal.load_state_dict(state["normal"])
