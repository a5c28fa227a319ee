"""Large images through a network tile by tile, without seams.

Tiles begin at multiples of the network's stride, so that positions of the code stand for the same pixels as in the whole image.
Near an inner border a tile knows less than the whole image: what lies within ``margin`` of it is left to the neighbour, and there
neighbours are blended. Where the margin covers all that a pixel depends on, the result is that of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autoad_core.geometry import Size

TILE = 512  # side of a tile, about; images of no more pixels than one has go through whole
RAMP = 32  # pixels over which neighbours are blended
MOST_MARGIN = 192


def tiled(
    network: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor, stride: Size, margin: int
) -> tuple[Tensor, Tensor]:
    """Reconstructions (B, C, H, W) and codes (B, C', H', W') of (B, C, H, W) images.

    Args:
        network: Gives both for images of any size, one position of the code for every ``stride`` pixels, begun ones included.
        stride: Pixels, down and across, of one position.
        margin: Pixels, at most `MOST_MARGIN` of which count.
    """
    margin = min(margin, MOST_MARGIN)
    height, width = images.shape[2:]
    out: list[Tensor] = []
    weights: list[Tensor] = []
    for top, bottom, down in _spans(height, stride[0], margin):
        for left, right, across in _spans(width, stride[1], margin):
            parts = network(images[:, :, top:bottom, left:right])
            every = ((1, 1), stride)
            for k, (part, (step_down, step_across)) in enumerate(zip(parts, every, strict=True)):
                if len(out) <= k:
                    size = -(-height // step_down), -(-width // step_across)
                    out.append(torch.zeros(*part.shape[:2], *size))
                    weights.append(torch.zeros(size))
                y, x = top // step_down, left // step_across
                place = (..., slice(y, y + part.shape[2]), slice(x, x + part.shape[3]))
                weight = _middles(down, step_down)[:, None] * _middles(across, step_across)
                out[k][place] += part * weight
                weights[k][place] += weight
    reconstruction, code = (total / weight for total, weight in zip(out, weights, strict=True))
    return reconstruction, code


def _spans(length: int, stride: int, margin: int) -> list[tuple[int, int, Tensor]]:
    """(begin, end, weights) of the tiles along one side."""
    overlap = 2 * margin + RAMP
    step = max(1, (TILE - overlap) // stride) * stride
    found = []
    begin = 0
    while True:
        end = min(length, begin + step + overlap)
        places = torch.arange(begin, end) + 0.5
        weight = torch.ones(end - begin)
        if begin:
            weight = weight.minimum(((places - begin - margin) / RAMP).clamp(1e-6, 1))
        if end < length:
            weight = weight.minimum(((end - margin - places) / RAMP).clamp(1e-6, 1))
        found.append((begin, end, weight))
        if end == length:
            return found
        begin += step


def _middles(weights: Tensor, step: int) -> Tensor:
    """The weight in the middle of every ``step`` pixels, the last of which may be begun only."""
    middles = torch.arange(0, len(weights), step) + step // 2
    return weights[middles.clamp(max=len(weights) - 1)]
