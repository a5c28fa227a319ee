"""A data set whose images stay on disk and are decoded when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoad_core.data import Bools, Floats, Ints
from autoad_core.images import Shape, read_image


@dataclass(frozen=True, slots=True)
class FileDataset:
    """A `Dataset` of image files.

    Args:
        files: One an image.
        labels: (n,) int64.
        classes: Names of the labels.
        shape: (C, H, W) that every image is brought to.
        parts: (n,) int64 or None.
        notes: Lines for the user.
        mask_files: One an image, None for an image without anomaly; or None as a whole.
    """

    files: tuple[Path, ...]
    labels: Ints
    classes: tuple[str, ...]
    shape: Shape
    parts: Ints | None = None
    notes: tuple[str, ...] = ()
    mask_files: tuple[Path | None, ...] | None = None

    def read(self, indices: Ints) -> Floats:
        """See `Dataset.read`."""
        images = np.empty((len(indices), *self.shape), dtype=np.float32)
        for image, index in zip(images, indices, strict=True):
            image[:] = read_image(self.files[index], self.shape)
        return images

    def masks(self, indices: Ints) -> Bools | None:
        """See `Dataset.masks`."""
        if self.mask_files is None:
            return None
        masks = np.zeros((len(indices), *self.shape[1:]), dtype=np.bool_)
        for mask, index in zip(masks, indices, strict=True):
            if (file := self.mask_files[index]) is not None:
                covered = read_image(file, (1, *self.shape[1:]))[0]
                # Half of a pixel makes it anomalous; of what is thinner than that, the middle line remains.
                mask[:] = covered > covered.max() / 2
        return masks
