"""What a child costs to train, predicted from its sizes alone, so that the cap is the same on every machine.

``seconds = 8.0 ms / GFLOP + 1.8 s / GB of activations + 5 ms a step``: fitted on a 2-core CPU machine, where its rank correlation
with the measured time was 0.956 (design, 6). Only the order of the predictions matters to a search.
"""

from __future__ import annotations

import random

from autoad_core.geometry import Geometry, measure
from autoad_core.space import Space
from autoad_core.spec import Spec

SECONDS_PER_GFLOP = 8.0e-3
SECONDS_PER_GB = 1.8
SECONDS_PER_STEP = 5.0e-3


def flops(spec: Spec, geometry: Geometry) -> int:
    """Multiply-adds times two of one forward pass of one image, convolutions only."""
    total = 0
    for layer, stage in zip(spec.layers, geometry.stages, strict=True):
        weights = stage.channels_in * stage.channels * layer.kernel**2
        total += 2 * 2 * weights * stage.before[0] * stage.before[1]  # the decoder mirrors the encoder
    return total


def activation_bytes(geometry: Geometry) -> int:
    """Bytes of the float32 maps that one image leaves behind for the backward pass."""
    numbers = 0
    for stage in geometry.stages:
        before, after = stage.before[0] * stage.before[1], stage.after[0] * stage.after[1]
        # encoder: convolution, then pooling, normalization, activation; decoder: upsampling, then the same
        numbers += (
            stage.channels * (before + 3 * after) + stage.channels * before + 3 * stage.channels_in * before
        )
    return 4 * numbers


def predict_seconds(spec: Spec, geometry: Geometry, images: int, batch_size: int) -> float:
    """Predicted seconds to train on ``images`` images in all (epochs counted), one thread."""
    forward_and_backward = 3 * flops(spec, geometry) * images / 1e9
    moved = activation_bytes(geometry) * images / 1e9
    return (
        SECONDS_PER_GFLOP * forward_and_backward
        + SECONDS_PER_GB * moved
        + SECONDS_PER_STEP * -(-images // batch_size)
    )


def cost_of(spec: Spec, shape: tuple[int, int, int], images: int, batch_size: int) -> float:
    """`predict_seconds` of ``spec`` on images of ``shape`` (C, H, W)."""
    return predict_seconds(spec, measure(spec.layers, shape), images, batch_size)


def cost_cap(
    space: Space, shape: tuple[int, int, int], quantile: float, images: int, batch_size: int
) -> float:
    """The predicted seconds below which ``quantile`` of the space's points lie, by a sample of 1,000 points.

    ``quantile`` 1 gives infinity: no cap.
    """
    if quantile >= 1:
        return float("inf")
    rng = random.Random(0)  # the cap belongs to the space, not to a run
    sample = (Spec.from_values(space.decode(space.sample(rng))) for _ in range(1000))
    costs = sorted(cost_of(spec, shape, images, batch_size) for spec in sample)
    return costs[int(quantile * (len(costs) - 1))]
