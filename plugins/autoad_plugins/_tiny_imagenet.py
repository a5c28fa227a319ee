"""Tiny-ImageNet's published folders; files are read on demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autoad_core.errors import DataError
from autoad_core.images import Shape
from autoad_plugins._files import Published, Remote, locate
from autoad_plugins._image_files import FileDataset

_ANNOTATIONS = "val/val_annotations.txt"
_PUBLISHED = Published(
    name="tiny-imagenet",
    holds="the folder tiny-imagenet-200",
    page="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    marks=(_ANNOTATIONS, "train/n*/images"),
    inside=("tiny-imagenet-200", ""),
    remotes=(
        Remote(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
        ),
    ),
)


def make(root: Path | None, shape: Shape | None, seed: int, *, download: Any = False) -> FileDataset:
    """Colour images, (3, 64, 64) where ``shape`` is None; classes are WordNet ids.

    The published validation half, which has labels, is the test part; the published test half has none and
    is left out.

    Args:
        root: The data root.
        shape: What to bring the images to.
        seed: Not used.
        download: True fetches what is missing.

    Raises:
        DataError: Missing files, or annotations of another form.
    """
    folder = locate(_PUBLISHED, root, download)
    train = [(file, file.parts[-3]) for file in sorted(folder.glob("train/*/images/*.JPEG"))]
    test = list(_annotated(folder)) if (folder / _ANNOTATIONS).exists() else []
    if not train and not test:
        raise DataError(f"{folder}: holds no images; get {_PUBLISHED.page} again")
    classes = sorted({wnid for _, wnid in train + test})
    number = {wnid: i for i, wnid in enumerate(classes)}
    missing = [name for name, part in (("train", train), ("val", test)) if not part]
    return FileDataset(
        files=tuple(file for file, _ in train + test),
        labels=np.array([number[wnid] for _, wnid in train + test], dtype=np.int64),
        classes=tuple(classes),
        shape=shape or (3, 64, 64),
        parts=None if missing else np.repeat([0, 1], [len(train), len(test)]),
        notes=tuple(
            f"the {name} half is not in {folder}; splits are drawn from the other" for name in missing
        ),
    )


def _annotated(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file of the validation half with its WordNet id."""
    table = folder / _ANNOTATIONS
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror}); get the set again") from error
    for number, line in enumerate(lines, 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        file = folder / "val" / "images" / name
        if not wnid or Path(name).name != name:
            raise DataError(f"{table}: line {number} does not read 'file<TAB>class...'; get the set again")
        yield file, wnid
