"""MVTec AD (Bergmann et al., 2019) in its published layout; files are read on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoad_core.errors import DataError
from autoad_core.images import Shape
from autoad_plugins._folder import GOOD, open_folder
from autoad_plugins._image_files import FileDataset

CATEGORIES = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw"),
    *("tile", "toothbrush", "transistor", "wood", "zipper"),
)
_PAGE = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
_PLACES = ("mvtec_ad", "mvtec-ad", "mvtec_anomaly_detection", "")


def make(
    root: Path | None,
    shape: Shape | None,
    seed: int,
    *,
    category: str,
    size: Any = 256,
    colour: str = "auto",
) -> FileDataset:
    """One category: ``train/good`` is the training part, ``test`` the other, with masks.

    Args:
        root: The data root; the categories' folders lie in ``mvtec_ad`` there, or in itself.
        shape: What to bring the images to; goes before ``size`` and ``colour``.
        seed: Not used.
        category: One of the 15, in any case.
        size, colour: As for ``folder``.

    Raises:
        DataError: No such category, or it is not there.
    """
    name = _name(str(category))
    if name not in CATEGORIES:
        raise DataError(f"mvtec-ad.category: {category!r} must be one of {', '.join(CATEGORIES)}")
    if root is None:
        raise DataError("mvtec-ad: no data root; pass --data-root DIR or set AUTOAD_DATA")
    for place in (root / sub for sub in _PLACES):
        for folder in sorted(place.glob("*/")):
            if _name(folder.name) == name and (folder / "train" / GOOD).is_dir():
                return open_folder("mvtec-ad", folder, shape, size, colour)
    where = root / _PLACES[0]
    raise DataError(
        f"mvtec-ad: no {name}/train/good in {where} or {root}; get {name} from {_PAGE} and put its folder into {where}"
    )


def _name(category: str) -> str:
    return category.strip().casefold().replace(" ", "_").replace("-", "_")
