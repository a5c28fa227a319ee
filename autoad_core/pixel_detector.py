"""A child model that scores pixels: trained on patches, it makes a score map of images of any size.

A distance gives a map by itself. The hypothesis sees each position of the code as an image of its own, the part of the picture
that the position stands for with its vector, and its scores are brought to the image's size. Terms are standardised in one of two
ways: `l2` by its median and MAD over all pixels of training images; `l2@place` by its mean and deviation at the same place of all
training images, where too little counts as too much does. The second knows what belongs where: it is for objects that lie alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autoad_core.data import Floats
from autoad_core.detector import HYPOTHESIS, Detector, Scale, Terms
from autoad_core.geometry import Shape, Size
from autoad_core.protocols import Batch
from autoad_core.registry import Registry
from autoad_core.spec import Spec

PLACE = "@place"
CALIBRATION_PIXELS = 2**24
_SAMPLE = 2**20  # pixels that medians are taken of, at most
_FLOOR = 0.1  # of the median deviation, added to each: where nothing ever varies, rounding is no defect
_SPREAD = 2.0  # sigma in pixels, by which variances at neighbouring places are averaged: a few images say little of one pixel


class PixelDetector(Detector):
    """See the module.

    Args:
        spec, shape, registry: As for `Detector`; ``shape`` is that of whole images.
        patch: Side of the patches that it is trained on; whole images where they are smaller.
        smoothing: Sigma in pixels of the Gaussian that maps are smoothed with; 0 for none.
        rest: As for `Detector`.
    """

    places: Tensor  # (terms, 2, H, W), mean and deviation of each term at each place

    def __init__(
        self, spec: Spec, shape: Shape, registry: Registry, *, patch: int, smoothing: float, **rest: Any
    ) -> None:
        self._patch = min(patch, shape[1]), min(patch, shape[2])
        super().__init__(spec, shape, registry, **rest)
        self.patch, self.smoothing = patch, smoothing
        self.register_buffer("places", torch.zeros(len(self.terms), 2, *shape[1:]))

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms, in the order of ``places``."""
        return (*self.distances, HYPOTHESIS)

    @property
    def layout(self) -> Shape:
        """(C, H, W) of a patch."""
        return (self.shape[0], *self._patch)

    def vector_length(self, view: str) -> int:
        """Channels of the code, whatever the ``view``."""
        return self.network.geometry.code[0]

    def vectors(self, code: Tensor) -> Tensor:
        """(B * H' * W', C') float32 of a code (B, C', H', W'): one vector a position, row by row."""
        return code.float().permute(0, 2, 3, 1).flatten(0, 2)

    def seen(self, batch: Batch) -> Batch:
        """What the hypothesis gets of `forward`: each position as an image."""
        size, stride = (batch.code.shape[2], batch.code.shape[3]), self.network.geometry.stride
        image, reconstruction = (_cells(x, size, stride) for x in (batch.image, batch.reconstruction))
        return Batch(image, reconstruction, self.vectors(batch.code))

    def term_maps(self, images: Tensor) -> Iterator[dict[str, Tensor]]:
        """Every term of (n, C, H, W) images as maps (B, H, W) float32, batch by batch."""
        for batch in self.batches(images):
            with torch.inference_mode():
                maps = {k: d(batch.image, batch.reconstruction) for k, d in self.distances.items()}
                yield maps | {HYPOTHESIS: self._spread(self.hypothesis.score(self.seen(batch)), batch)}

    def raw_terms(self, images: Tensor) -> Terms:
        """Every term of (n, C, H, W) images, (n, H, W) float32 each, in one pass."""
        every = list(self.term_maps(images))
        return {k: torch.cat([maps[k] for maps in every]).numpy().astype(np.float32) for k in self.terms}

    def calibrate(self, images: Tensor) -> None:
        """Fix the scales of the terms on training images (n, C, H, W), as many as have `CALIBRATION_PIXELS`."""
        pixels = self.shape[1] * self.shape[2]
        images = images[: max(2, CALIBRATION_PIXELS // pixels)]
        step = max(1, len(images) * pixels // _SAMPLE) | 1  # odd, so that it falls on every column
        drawn: dict[str, list[Tensor]] = {k: [] for k in self.terms}
        sums = torch.zeros(len(self.terms), 2, *self.shape[1:], dtype=torch.float64)
        # Of deviations from the first image, which are small where the terms are large, as sums of squares must be.
        first = [next(self.term_maps(images[:1]))[k][0].double() for k in self.terms]
        for maps in self.term_maps(images):
            for i, name in enumerate(self.terms):
                drawn[name].append(maps[name].flatten()[::step])
                deviations = maps[name].double() - first[i]
                sums[i, 0] += deviations.sum(0)
                sums[i, 1] += deviations.square().sum(0)
        self.scales = {k: Scale.of(torch.cat(v).numpy()) for k, v in drawn.items()}
        means = sums / len(images)
        variances = (means[:, 1] - means[:, 0].square()).clamp(min=0)
        deviations = blurred(variances.float(), _SPREAD).sqrt()
        usual = deviations.flatten(1).median(1).values[:, None, None]
        places = means[:, 0] + torch.stack(first)
        self.places.copy_(torch.stack([places.float(), deviations + _FLOOR * usual + 1e-12], 1))

    def score(self, raw: Mapping[str, Floats], definition: Sequence[str]) -> Floats:
        """Score maps (n, H, W) float32: the sum of standardised terms, smoothed.

        Raises:
            ValueError: A term ``@place`` for maps of another size than the images that were trained on.
        """
        total = torch.zeros(())
        for name in self.terms_of(definition):
            term, at_place = name.removesuffix(PLACE), name.endswith(PLACE)
            values = torch.from_numpy(raw[term])
            if not at_place:
                total = total + (values - self.scales[term].median) / self.scales[term].mad
            elif values.shape[1:] != self.places.shape[2:]:
                raise ValueError(
                    f"maps of {tuple(values.shape[1:])} and places of {tuple(self.places.shape[2:])}"
                )
            else:
                mean, deviation = self.places[self.terms.index(term)]
                total = total + ((values - mean) / deviation).abs()
        return blurred(total, self.smoothing).numpy()

    def terms_of(self, definition: Sequence[str]) -> list[str]:
        """The terms of a score, each with the mark of its standardisation."""
        marks = [PLACE if name.endswith(PLACE) else "" for name in definition]
        plain = [super(PixelDetector, self).terms_of([name.removesuffix(PLACE)]) for name in definition]
        return [name + mark for names, mark in zip(plain, marks, strict=True) for name in names]

    def _spread(self, scores: Tensor, batch: Batch) -> Tensor:
        """(B, H, W) from a score for each position of the code."""
        count, _, height, width = batch.code.shape
        down, across = self.network.geometry.stride
        at_positions = scores.view(count, 1, height, width)
        size = (height * down, width * across)
        wide: Tensor = F.interpolate(at_positions, size, mode="bilinear", align_corners=False)
        return wide[:, 0, : batch.image.shape[2], : batch.image.shape[3]]


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """(n, H, W) maps after a Gaussian of ``sigma`` pixels, cut off at 4 sigma, edges repeated."""
    if not sigma:
        return maps
    radius = int(4 * sigma + 0.5)
    weights = torch.exp(-(torch.arange(-radius, radius + 1) / sigma).square() / 2)
    kernel = (weights / weights.sum()).to(maps.dtype)
    wide = F.pad(maps[:, None], (radius, radius, radius, radius), mode="replicate")
    down = F.conv2d(wide, kernel[None, None, :, None])
    across: Tensor = F.conv2d(down, kernel[None, None, None, :])
    return across[:, 0]


def _cells(images: Tensor, size: Size, stride: Size) -> Tensor:
    """(B * h * w, C, down, across): the part of (B, C, H, W) images under each of (h, w) positions, edges repeated."""
    (height, width), (down, across) = size, stride
    missing = (0, width * across - images.shape[3], 0, height * down - images.shape[2])
    padded = F.pad(images, missing, mode="replicate") if any(missing) else images
    parts = padded.unflatten(3, (width, across)).unflatten(2, (height, down))
    out: Tensor = parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    return out
