"""CIFAR-10's binary version: records of one label byte and 3,072 bytes of pixels, channels first.

The Python version is pickled, which could run anything, and is not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autoad_core.data import ArrayDataset
from autoad_core.errors import DataError
from autoad_plugins._files import Piece, Published, Remote, join, locate

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_RECORD = 1 + 3 * 32 * 32
_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
_PUBLISHED = Published(
    name="cifar10",
    holds="the folder cifar-10-batches-bin (binary version)",
    page="https://www.cs.toronto.edu/~kriz/cifar.html",
    marks=("data_batch_*.bin", "test_batch.bin"),
    inside=("cifar-10-batches-bin", ""),
    remotes=(
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
)


def make(
    root: Path | None, shape: tuple[int, int, int] | None, seed: int, *, download: Any = False
) -> ArrayDataset:
    """Colour images (3, 32, 32) of ten classes.

    Args:
        root: The data root.
        shape: Not used.
        seed: Not used.
        download: True fetches what is missing.

    Raises:
        DataError: Missing or damaged files.
    """
    folder = locate(_PUBLISHED, root, download)
    files = [folder / name for names in _FILES.values() for name in names]
    missing = ", ".join(file.name for file in files if not file.exists())
    notes = (f"missing in {folder}: {missing}",) if missing else ()
    parts = {
        part: [_records(folder / name) for name in names if (folder / name).exists()]
        for part, names in _FILES.items()
    }
    return join(parts, CLASSES, folder, notes)


def _records(file: Path) -> Piece:
    """Images (n, 3, 32, 32) and labels (n,), uint8."""
    try:
        data = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); get the file again") from error
    if len(data) == 0 or len(data) % _RECORD:
        raise DataError(f"{file}: {len(data):,} bytes are not a multiple of {_RECORD:,}; get the file again")
    records = data.reshape(-1, _RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
