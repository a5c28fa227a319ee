"""The Cat data set (Zhang, Sun and Tang, 2008), which the AutoAD paper's case study trains on; files are read on demand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoad_core.errors import DataError
from autoad_core.images import Shape
from autoad_plugins._files import Published, locate
from autoad_plugins._image_files import FileDataset

_PUBLISHED = Published(
    name="cat",
    holds="its folders CAT_00 to CAT_06",
    page="https://archive.org/details/CAT_DATASET",
    marks=("CAT_0*/*.jpg",),
    inside=("", "cats", "CAT_DATASET"),
)


def make(root: Path | None, shape: Shape | None, seed: int) -> FileDataset:
    """Colour images, (3, 224, 224) where ``shape`` is None [A, V-A]; all of class ``good``, without masks.

    Args:
        root: The data root.
        shape: What to bring the images to, in their own proportions.
        seed: Not used.

    Raises:
        DataError: Missing files.
    """
    folder = locate(_PUBLISHED, root)
    files = tuple(sorted(folder.glob("CAT_0*/*.jpg")))
    if not files:
        raise DataError(f"{folder}: holds no images; get {_PUBLISHED.page} again")
    labels = np.zeros(len(files), dtype=np.int64)
    return FileDataset(files, labels, ("good",), shape or (3, 224, 224), fit=True)
