"""CrackForest (Shi et al., 2016): photographs of roads, all with cracks, cut into tiles with and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoad_core.data import ArrayDataset, Bools
from autoad_core.errors import DataError
from autoad_core.images import Shape, find_images, read_image
from autoad_plugins._files import Published, locate
from autoad_plugins._params import whole

_PUBLISHED = Published(
    name="crackforest",
    holds="its folders image and groundTruth",
    page="https://github.com/cuilimeng/CrackForest-dataset",
    marks=("image/*", "test/crack/*"),
    inside=("", "CrackForest-dataset-master", "CrackForest-dataset"),
)
_LAYOUTS = (("image", "groundTruth"), ("test/crack", "ground_truth/crack"))  # as published; as in MVTec AD
_ENDINGS = (".mat", "_mask.png", ".png", "_label.PNG")
_CRACK = 2  # in the published label images
_TRAINING = 0.6


def make(root: Path | None, shape: Shape | None, seed: int, *, tile: int = 160) -> ArrayDataset:
    """Grey tiles, (1, tile, tile): class ``good`` without a crack, ``crack`` with one; masks.

    Tiles of one photograph are all in the training part or all in the test part, so that none is tested beside a neighbour
    that was trained on. Tiles with a crack from photographs of the training part are left out.

    Args:
        root: The data root.
        shape: Not used: tiles are cut, not scaled.
        seed: Of which photographs are for training.
        tile: Side of a tile, 32 to 320 pixels; what is left over at the right and at the bottom is not used.

    Raises:
        DataError: Missing or damaged files, or a photograph that is smaller than a tile.
    """
    whole("crackforest.tile", tile, 32, 320)
    folder = locate(_PUBLISHED, root)
    pairs = list(_pairs(folder))
    trained = np.random.default_rng(seed).permutation(len(pairs)) < round(_TRAINING * len(pairs))
    images: list[NDArray[Any]] = []
    masks: list[Bools] = []
    parts: list[int] = []
    for (file, truth), training in zip(pairs, trained, strict=True):
        pixels = read_image(file)
        grey = np.round(255 * (read_image(file, (1, *pixels.shape[1:])))).astype(np.uint8)[0]
        mask = _mask(truth)
        if mask.shape != grey.shape:
            raise DataError(
                f"{truth}: labels of {mask.shape} for an image of {grey.shape}; get the set again"
            )
        if min(grey.shape) < tile:
            raise DataError(f"crackforest.tile: {file} is smaller than {tile}; choose a smaller tile")
        for top in range(0, grey.shape[0] - tile + 1, tile):
            for left in range(0, grey.shape[1] - tile + 1, tile):
                place = slice(top, top + tile), slice(left, left + tile)
                if not (training and mask[place].any()):
                    images.append(grey[place])
                    masks.append(mask[place])
                    parts.append(0 if training else 1)
    cracked = np.array([mask.any() for mask in masks])
    return ArrayDataset(
        np.stack(images)[:, None],
        cracked.astype(np.int64),
        ("good", "crack"),
        np.array(parts, np.int64),
        np.stack(masks),
    )


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Photographs and their labels."""
    for images, labels in _LAYOUTS:
        if not (folder / images).is_dir():
            continue
        for file in find_images([folder / images]):
            near = [folder / labels / f"{file.stem}{ending}" for ending in _ENDINGS]
            if (truth := next((path for path in near if path.is_file()), None)) is None:
                raise DataError(
                    f"crackforest: {file} has no labels in {folder / labels}; get {_PUBLISHED.page} again"
                )
            yield file, truth
        return


def _mask(file: Path) -> Bools:
    """(H, W), True on a crack."""
    if file.suffix != ".mat":
        grey = read_image(file).mean(0)
        found: Bools = grey > grey.max() / 2
        return found
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(file)["groundTruth"][0, 0]["Segmentation"] == _CRACK)
    except Exception as error:  # of damaged bytes it raises anything
        raise DataError(f"{file}: cannot be read as CrackForest's labels ({error}); get it again") from error
