"""A data set whose images stay on disk and are decoded when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoad_core.data import Bools, Floats, Ints
from autoad_core.images import Shape, fitted, read_image, read_mask


@dataclass(frozen=True, slots=True)
class FileDataset:
    """A `Dataset` of image files.

    Args:
        files: One an image.
        labels: (n,) int64.
        classes: Names of the labels.
        shape: (C, H, W) that every image is brought to.
        fit: In its own proportions, see `autoad_core.images.read_image`; else it is squeezed or stretched.
        parts: (n,) int64 or None.
        notes: Lines for the user.
        mask_files: One an image, None for one without; or None as a whole.
        normal: Label of the images without anomaly, which need no mask.
    """

    files: tuple[Path, ...]
    labels: Ints
    classes: tuple[str, ...]
    shape: Shape
    parts: Ints | None = None
    notes: tuple[str, ...] = ()
    mask_files: tuple[Path | None, ...] | None = None
    fit: bool = False
    normal: int = 0

    def read(self, indices: Ints) -> Floats:
        """See `Dataset.read`."""
        images = np.empty((len(indices), *self.shape), dtype=np.float32)
        for image, index in zip(images, indices, strict=True):
            image[:] = read_image(self.files[index], self.shape, fit=self.fit)
        return images

    def masks(self, indices: Ints) -> Sequence[Bools | None] | None:
        """See `Dataset.masks`; of their files' own sizes."""
        if self.mask_files is None:
            return None
        return [self._mask(index) for index in indices]

    def _mask(self, index: int) -> Bools | None:
        file = self.mask_files[index] if self.mask_files else None
        if file is None:
            return np.zeros(self.shape[1:], np.bool_) if self.labels[index] == self.normal else None
        mask = read_mask(file)
        if not self.fit:
            return mask
        # The part of the canvas that the image does not fill has no defect.
        height, width = fitted(mask.shape, self.shape[1:])
        down, across = (
            round(h * c / f) - h for h, c, f in zip(mask.shape, self.shape[1:], (height, width), strict=True)
        )
        return np.pad(mask, ((0, down), (0, across)))
