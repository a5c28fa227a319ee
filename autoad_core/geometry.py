"""Sizes inside a child model, from which every point of the space is valid; and which points are the same.

Pooling takes ``k' = min(k, H)`` with stride k' and gives ``ceil(H / k')``, so that no map falls below 1x1. A point whose code
would hold more than half of the image's numbers gets a parameter-free average pool on the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from autoad_core.space import Option
from autoad_core.spec import Layer

Shape = tuple[int, int, int]
Size = tuple[int, int]

FLAT_CODE = 512  # numbers at most in the flat view of a code: the side of the largest covariance to fit


@dataclass(frozen=True, slots=True)
class Stage:
    """Sizes of one encoder layer: (channels_in, *before) to (channels, *after) by convolution ``kernel`` and pooling ``pool``."""

    channels_in: int
    channels: int
    before: Size
    pool: Size
    after: Size
    kernel: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a whole model.

    Attributes:
        shape: (C, H, W) of the image.
        stages: One an encoder layer.
        squeeze: Kernel and stride (channels, height, width) of the average pool on the code; (1, 1, 1) for none.
        code: (C, H, W) of the code after it.
    """

    shape: Shape
    stages: tuple[Stage, ...]
    squeeze: Shape
    code: Shape

    @property
    def flat_pool(self) -> int:
        """Side of the average pool that leaves at most `FLAT_CODE` numbers, or one a channel, of the code."""
        c, h, w = self.code
        return next(
            f for f in range(1, max(h, w) + 1) if c * ceil(h / f) * ceil(w / f) <= FLAT_CODE or f >= max(h, w)
        )

    @property
    def stride(self) -> Size:
        """Pixels of the image, down and across, that one position of the code stands for."""
        down, across = self.squeeze[1:]
        for stage in self.stages:
            down, across = down * stage.pool[0], across * stage.pool[1]
        return (down, across)

    @property
    def reach(self) -> int:
        """Pixels of the image, at most, that a pixel of the reconstruction is away from one that it depends on."""
        step, total = 1, 0
        for stage in self.stages:
            total += 2 * (stage.kernel // 2) * step  # in the encoder and in the decoder
            step *= max(stage.pool)
        return total + step * max(self.squeeze[1:])

    def sizes(self, size: Size) -> tuple[Size, ...]:
        """(H, W) before each stage and after the last on images of any ``size``, pooled as these stages pool."""
        out = [size]
        for stage in self.stages:
            h, w = out[-1]
            out.append((ceil(h / stage.pool[0]), ceil(w / stage.pool[1])))
        return tuple(out)

    def code_dim(self, view: str) -> int:
        """Length of a code in a hypothesis's ``view``, ``"mean"`` or ``"flat"``."""
        c, h, w = self.code
        return c if view == "mean" else c * ceil(h / self.flat_pool) * ceil(w / self.flat_pool)


def measure(layers: Sequence[Layer], shape: Shape) -> Geometry:
    """The sizes that ``layers`` have on images of ``shape`` (C, H, W)."""
    channels, size = shape[0], (shape[1], shape[2])
    stages = []
    for layer in layers:
        pool = effective_pool(layer.pooling_kernel, size)
        after = (ceil(size[0] / pool[0]), ceil(size[1] / pool[1]))
        stages.append(Stage(channels, layer.channels, size, pool, after, layer.kernel))
        channels, size = layer.channels, after
    squeeze = _squeeze((channels, *size), shape[0] * shape[1] * shape[2] // 2)
    code = (ceil(channels / squeeze[0]), ceil(size[0] / squeeze[1]), ceil(size[1] / squeeze[2]))
    return Geometry(shape, tuple(stages), squeeze, code)


def effective_pool(kernel: int, size: Size) -> Size:
    """The pooling kernel that fits on a map of ``size``."""
    return (min(kernel, size[0]), min(kernel, size[1]))


def _squeeze(code: Shape, most: int) -> Shape:
    """The smallest pooling factors that leave at most ``most`` numbers: over positions first, then over channels."""
    c, h, w = code
    for f in range(1, max(h, w) + 1):
        if c * ceil(h / f) * ceil(w / f) <= most:
            return (1, min(f, h), min(f, w))
    return (next(g for g in range(2, c + 1) if ceil(c / g) <= max(most, 1)), h, w)


@dataclass(frozen=True, slots=True)
class SameModel:
    """The rule by which points of the space are the same model on images of ``size``; a rule for `Space`.

    A pooling type does not matter under an effective 1x1 kernel, kernels larger than the map act alike, and on a 1x1
    map the normalizations in ``identities`` do nothing: the encoder normalizes after pooling, the decoder, but for its
    last layer, at the size before it.
    """

    size: Size
    poolings: tuple[tuple[str, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    identities: frozenset[str]
    normalizations: tuple[tuple[str, ...], ...]

    def __call__(self, values: Mapping[str, Option]) -> Mapping[str, Option]:
        """Canonical values."""
        out, size = dict(values), self.size
        for i in range(1, len(self.kernels) + 1):
            kernel = int(out[f"layer{i}.pooling_kernel"])
            pool = effective_pool(kernel, size)
            alike = [k for k in self.kernels[i - 1] if effective_pool(k, size) == pool]
            out[f"layer{i}.pooling_kernel"] = min(alike, default=kernel)
            if pool == (1, 1):
                out[f"layer{i}.pooling"] = self.poolings[i - 1][0]
            before, size = size, (ceil(size[0] / pool[0]), ceil(size[1] / pool[1]))
            normalized = size if i == 1 else before  # the largest map that this layer's normalization sees
            if normalized == (1, 1) and out[f"layer{i}.normalization"] in self.identities:
                out[f"layer{i}.normalization"] = next(
                    n for n in self.normalizations[i - 1] if n in self.identities
                )
        return out
