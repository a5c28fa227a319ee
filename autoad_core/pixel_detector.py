"""A child model that scores pixels: trained on patches, it makes a score map of images of any size.

A distance gives a map by itself. The hypothesis sees each position of the code as an image of its own, the part of the picture
that the position stands for with its vector, and its scores are brought to the image's size. The code has a term of its own: how
far it is from what training images have at the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autoad_core.code_places import CodePlaces
from autoad_core.data import Floats
from autoad_core.detector import HYPOTHESIS, Detector, Terms
from autoad_core.geometry import Shape, Size
from autoad_core.protocols import Batch
from autoad_core.registry import Registry
from autoad_core.score_maps import PLACE, Standard
from autoad_core.spec import Spec
from autoad_core.tiles import TILE, tiled

CODE = "code"  # the term of the code, see `autoad_core.code_places`
CALIBRATION_PIXELS = 2**22
CALIBRATION_CODES = 512  # images


@dataclass(frozen=True, slots=True)
class Pixels:
    """How maps are made, and what they are worth.

    Attributes:
        patch: Side of the patches that a child is trained on; whole images where they are smaller.
        metric: The reward, one of `autoad_core.pixel_metrics.figures`.
        area: Pixels that a connected part of a normal map must stay below; see `autoad_core.pixel_metrics.area_threshold`.
    """

    patch: int
    metric: str
    area: int


def build(spec: Spec, shape: Shape, registry: Registry, pixels: Pixels | None, **rest: Any) -> Detector:
    """A `Detector`, or a `PixelDetector` where ``pixels`` are wanted."""
    if pixels is None:
        return Detector(spec, shape, registry, **rest)
    return PixelDetector(spec, shape, registry, pixels, **rest)


class PixelDetector(Detector):
    """See the module.

    Args:
        spec, shape, registry: As for `Detector`; ``shape`` is that of whole images.
        pixels: Settings.
        rest: As for `Detector`.
    """

    aligned = True
    places: Tensor  # (terms, 2, H, W), mean and deviation of each term at each place

    def __init__(self, spec: Spec, shape: Shape, registry: Registry, pixels: Pixels, **rest: Any) -> None:
        self._layout = (shape[0], min(pixels.patch, shape[1]), min(pixels.patch, shape[2]))
        super().__init__(spec, shape, registry, **rest)
        self.pixels = pixels
        geometry = self.network.geometry
        down, across = geometry.stride
        self.code_places = CodePlaces(geometry.code[0], (ceil(shape[1] / down), ceil(shape[2] / across)))
        self.register_buffer("places", torch.zeros(len(self.terms), 2, *shape[1:]))

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms, in the order of ``places``."""
        return (*self.distances, HYPOTHESIS, CODE)

    @property
    def layout(self) -> Shape:
        """(C, H, W) of a patch."""
        return self._layout

    def through(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions and codes; of images larger than a tile, tile by tile."""
        if images.shape[2] * images.shape[3] <= TILE**2:
            return super().through(images)
        geometry = self.network.geometry
        return tiled(super().through, images, geometry.stride, geometry.reach)

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
        """Every term of (n, C, H, W) images as maps (B, H, W) float32, batch by batch; `CODE` of images of ``shape`` only."""
        for batch in self.batches(images):
            with torch.inference_mode():
                maps = {k: d(batch.image, batch.reconstruction) for k, d in self.distances.items()}
                maps[HYPOTHESIS] = self._spread(self.hypothesis.score(self.seen(batch)), batch)
                if images.shape[2:] == self.shape[1:]:
                    maps[CODE] = _cut(self.code_places(batch.code, self.network.geometry.stride), batch)
                yield maps

    def raw_terms(self, images: Tensor) -> Terms:
        """Every term of (n, C, H, W) images, (n, H, W) float32 each, in one pass; see `term_maps`."""
        every = list(self.term_maps(images))
        return {k: torch.cat([maps[k] for maps in every]).numpy().astype(np.float32) for k in every[0]}

    def calibrate(self, images: Tensor, codes: Tensor) -> None:
        """Fix what is usual of the code, on `CALIBRATION_CODES` training images (n, C, H, W) at most, and of the terms.

        Of the terms on as many as have `CALIBRATION_PIXELS`.
        """
        self.code_places.fit(self.code_batches(images[:CALIBRATION_CODES]), codes)
        few = max(2, CALIBRATION_PIXELS // (self.shape[1] * self.shape[2]))
        standard = Standard.of(self.term_maps(images[:few]))
        self.scales = dict(standard.scales)
        self.places.copy_(torch.stack([standard.places[name] for name in self.terms]))

    def score(self, raw: Mapping[str, Floats], definition: Sequence[str]) -> Floats:
        """Score maps (n, H, W) float32; see `Standard.score`."""
        standard = Standard(self.scales, dict(zip(self.terms, self.places, strict=True)))
        return standard.score(raw, self.terms_of(definition))

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
        wide = F.interpolate(at_positions, size, mode="bilinear", align_corners=False)
        return _cut(wide[:, 0], batch)


def _cut(maps: Tensor, batch: Batch) -> Tensor:
    """The part of (B, H, W) maps that the image takes."""
    return maps[:, : batch.image.shape[2], : batch.image.shape[3]]


def _cells(images: Tensor, size: Size, stride: Size) -> Tensor:
    """(B * h * w, C, down, across): the part of (B, C, H, W) images under each of (h, w) positions, edges repeated."""
    (height, width), (down, across) = size, stride
    missing = (0, width * across - images.shape[3], 0, height * down - images.shape[2])
    padded = F.pad(images, missing, mode="replicate") if any(missing) else images
    parts = padded.unflatten(3, (width, across)).unflatten(2, (height, down))
    out: Tensor = parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    return out
