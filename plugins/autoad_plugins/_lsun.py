"""LSUN: the published databases of one scene category each, or a folder of images such as ODIN's LSUN_resize."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from autoad_core.data import Bools, Floats, Ints
from autoad_core.errors import DataError
from autoad_core.images import Shape, find_images, read_image
from autoad_plugins._files import Published, locate
from autoad_plugins._image_files import FileDataset
from autoad_plugins._params import one_of, sides

_SUFFIX = "_val_lmdb"
_PUBLISHED = Published(
    name="lsun",
    holds="folders <category>_val_lmdb (https://github.com/fyu/lsun) or LSUN_resize",
    page="https://github.com/facebookresearch/odin",
    marks=(f"*{_SUFFIX}/data.mdb", "LSUN*/"),
)


@dataclass(frozen=True, slots=True)
class LmdbDataset:
    """A `Dataset` over LMDB environments that hold one encoded image a key.

    Args:
        keys: Environment and key, one an image.
        labels: (n,) int64.
        classes: Names of the labels.
        shape: (C, H, W) that every image is brought to.
    """

    keys: tuple[tuple[Path, bytes], ...]
    labels: Ints
    classes: tuple[str, ...]
    shape: Shape
    parts: None = None
    notes: tuple[str, ...] = ()

    def read(self, indices: Ints) -> Floats:
        """See `Dataset.read`."""
        images = np.empty((len(indices), *self.shape), dtype=np.float32)
        for wanted in dict.fromkeys(self.keys[index][0] for index in indices):
            with _values(wanted) as values:
                for image, index in zip(images, indices, strict=True):
                    folder, key = self.keys[index]
                    if folder == wanted:
                        image[:] = read_image(
                            folder / key.decode(errors="replace"), self.shape, values.get(key)
                        )
        return images

    def masks(self, indices: Ints) -> Bools | None:
        """See `Dataset.masks`."""
        return None


def make(
    root: Path | None,
    shape: Shape | None,
    seed: int,
    *,
    size: Any = 32,
    category: str | None = None,
) -> LmdbDataset | FileDataset:
    """Colour images (3, H, W); the classes are the scene categories, or the names of the folders of images.

    Args:
        root: The data root.
        shape: What to bring the images to; goes before ``size``.
        seed: Not used.
        size: Side, or [height, width].
        category: The only one to take, e.g. ``bedroom`` or ``LSUN_resize``. By default all databases that are
            there, and without any all folders of images.

    Raises:
        DataError: Missing or damaged files, or a database without ``lmdb``.
    """
    folder = locate(_PUBLISHED, root)
    shape = shape or (3, *sides("lsun.size", size))
    databases = {path.name.removesuffix(_SUFFIX): path for path in sorted(folder.glob(f"*{_SUFFIX}/"))}
    folders = {path.name: path for path in sorted(folder.glob("LSUN*/"))}
    if category is not None:
        one_of("lsun.category", category, [*databases, *folders])
        databases = {name: path for name, path in databases.items() if name == category}
        folders = {name: path for name, path in folders.items() if name == category}
    if databases:
        keys = [[(path, key) for key in _keys(path)] for path in databases.values()]
        return LmdbDataset(tuple(chain(*keys)), _numbered(keys), tuple(databases), shape)
    files = [list(find_images([path])) for path in folders.values()]
    return FileDataset(tuple(chain(*files)), _numbered(files), tuple(folders), shape)


def _numbered(groups: Sequence[Sequence[object]]) -> Ints:
    return np.repeat(np.arange(len(groups)), [len(group) for group in groups])


def _keys(folder: Path) -> list[bytes]:
    with _values(folder) as values, values.cursor() as cursor:
        return list(cursor.iternext(keys=True, values=False))


@contextmanager
def _values(folder: Path) -> Iterator[Any]:
    """A read transaction."""
    try:
        import lmdb
    except ImportError as error:
        raise DataError(f"{folder}: reading this database needs pip install 'autoad[lsun]'") from error
    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as values:
            yield values
    except lmdb.Error as error:
        raise DataError(f"{folder}: cannot be read as LMDB ({error}); get it again") from error
