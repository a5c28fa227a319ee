"""Refinement by a fully connected conditional random field (Kraehenbuehl and Koltun, 2011), as neural batch sampling uses it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_MOST_ITERATIONS = 100
_SHARE = 1e-6  # least probability: keeps energies finite


class DenseCrf:
    """Two classes, usual and anomalous, with a Gaussian and a bilateral term; mean field by pydensecrf.

    A level v stands for the probability ``1 / (1 + exp(-steepness (v - 1)))`` of anomalous, and back.

    Args:
        steepness: Of that curve.
        smoothness, reach: Weight of the Gaussian term, and its sigma in pixels.
        edges, edge_reach, colour: Weight of the bilateral term, its sigma in pixels, and in levels of 0 to 255.
        iterations: Of the mean field, at most 100.

    Raises:
        ValueError: A parameter that is not positive, or too many iterations.
    """

    def __init__(
        self,
        *,
        steepness: float = 4.0,
        smoothness: float = 3.0,
        reach: float = 3.0,
        edges: float = 5.0,
        edge_reach: float = 30.0,
        colour: float = 13.0,
        iterations: int = 5,
    ) -> None:
        given = {k: v for k, v in locals().items() if k != "self"}
        if wrong := [k for k, v in given.items() if not (isinstance(v, int | float) and v > 0)]:
            raise ValueError(f"{wrong[0]} must be positive, got {given[wrong[0]]!r}")
        if iterations > _MOST_ITERATIONS:
            raise ValueError(f"iterations must be at most {_MOST_ITERATIONS}, got {iterations}")
        self._steepness, self._iterations = steepness, int(iterations)
        self._smoothness, self._reach = smoothness, reach
        self._edges, self._edge_reach, self._colour = edges, edge_reach, colour

    def __call__(self, images: Tensor, levels: Tensor) -> Tensor:
        three = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        pixels = (255 * three).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return torch.stack([self._one(image, level) for image, level in zip(pixels, levels, strict=True)])

    def _one(self, image: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]], level: Tensor) -> Tensor:
        from pydensecrf.densecrf import DenseCRF2D

        height, width = level.shape
        anomalous = torch.sigmoid(self._steepness * (level.double() - 1)).clamp(_SHARE, 1 - _SHARE)
        unary = -torch.stack([(1 - anomalous).log(), anomalous.log()]).reshape(2, -1)
        field = DenseCRF2D(width, height, 2)
        field.setUnaryEnergy(np.ascontiguousarray(unary.numpy(), np.float32))
        field.addPairwiseGaussian(sxy=self._reach, compat=self._smoothness)
        field.addPairwiseBilateral(sxy=self._edge_reach, srgb=self._colour, rgbim=image, compat=self._edges)
        found = torch.from_numpy(np.array(field.inference(self._iterations))[1].astype(np.float64)).reshape(
            height, width
        )
        crf = (1 + torch.logit(found, _SHARE) / self._steepness).clamp(min=0)
        # What a probability cannot tell from certainty keeps its order.
        beyond = (level.double() - 1 + math.log(_SHARE) / self._steepness).clamp(min=0)
        return (crf + found * beyond).float()
