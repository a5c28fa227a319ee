"""SVHN's cropped digits: MATLAB files of X (32, 32, 3, n) and y (n, 1), in which 10 stands for the digit 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autoad_core.data import ArrayDataset
from autoad_core.errors import DataError
from autoad_plugins._files import Piece, Published, Remote, join, locate

_PAGE = "http://ufldl.stanford.edu/housenumbers"
_PUBLISHED = Published(
    name="svhn",
    holds="train_32x32.mat and test_32x32.mat",
    page=f"{_PAGE}/",
    marks=("train_32x32.mat", "test_32x32.mat"),
    remotes=(
        Remote(
            f"{_PAGE}/train_32x32.mat",
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        ),
        Remote(
            f"{_PAGE}/test_32x32.mat",
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        ),
    ),
)


def make(
    root: Path | None, shape: tuple[int, int, int] | None, seed: int, *, download: Any = False
) -> ArrayDataset:
    """Colour images (3, 32, 32) of ten digits.

    Args:
        root: The data root.
        shape: Not used.
        seed: Not used.
        download: True fetches what is missing.

    Raises:
        DataError: Missing or damaged files.
    """
    folder = locate(_PUBLISHED, root, download)
    files = {part: folder / f"{part}_32x32.mat" for part in ("train", "test")}
    parts = {part: [_read(file)] if file.exists() else [] for part, file in files.items()}
    return join(parts, tuple("0123456789"), folder)


def _read(file: Path) -> Piece:
    from scipy.io import loadmat  # slow to import

    try:
        content = loadmat(file, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].ravel()
        if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)) or not len(labels):
            raise ValueError(f"X is {images.shape} {images.dtype} beside {len(labels)} labels")
        if not np.isin(labels, np.arange(1, 11)).all():
            raise ValueError("labels other than 1 to 10")
    except Exception as error:  # on damaged bytes scipy raises anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: cannot be read as SVHN ({reason}); get the file again") from error
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), (labels % 10).astype(np.uint8)
