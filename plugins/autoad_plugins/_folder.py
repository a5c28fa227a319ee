"""A user's own images: MVTec AD's layout, ``good`` beside other folders, or good images only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoad_core.errors import DataError
from autoad_core.images import EXTENSIONS, Probe, Shape, find_images, probe_image
from autoad_plugins._image_files import FileDataset
from autoad_plugins._params import one_of, sides

GOOD = "good"
MASKS = "ground_truth"
_NAMED = 5  # files that notes name before they only count


@dataclass(frozen=True, slots=True)
class _Item:
    """One image as it was found."""

    file: Path
    type: str
    part: int
    mask: Path | None = None


def make(
    root: Path | None,
    shape: Shape | None,
    seed: int,
    *,
    path: str | None = None,
    size: Any = 64,
    colour: str = "auto",
) -> FileDataset:
    """Images from a folder; class ``good`` and one for each type of anomaly, masks where there are some.

    Understood are ``train/good`` with ``test/<type>`` and ``ground_truth/<type>/<stem>_mask.png``; ``good`` with
    any other folders beside it, each a type of anomaly; and a folder of images, all of which are then good.
    Every file is decoded once here, and those that cannot be read are left out with a note.

    Args:
        root: The folder, where ``path`` is not given.
        shape: What to bring the images to; goes before ``size`` and ``colour``.
        seed: Not used.
        path: The folder: as seen from the working directory, or else from the data root.
        size: Side, or [height, width].
        colour: ``grey``, ``rgb``, or ``auto``: grey if every image is.

    Raises:
        DataError: No such folder, no good images, or none that can be read.
    """
    one_of("folder.colour", colour, ("auto", "grey", "rgb"))
    height, width = sides("folder.size", size)
    if shape is not None and shape[0] not in (1, 3):
        raise DataError(f"folder: images have 1 or 3 channels, not {shape[0]}")
    folder = _folder(root, path)
    found, notes = _find(folder)
    items, probes = _readable(found, notes)
    if not any(item.type == GOOD for item in items):
        raise DataError(f"{folder}: no good image can be read; " + "; ".join(notes or ["no images there"]))
    _note_sizes(probes, notes)
    grey = colour == "grey" or (colour == "auto" and all(probe.grey for probe in probes))
    classes = (GOOD, *sorted({item.type for item in items} - {GOOD}))
    parts = np.array([item.part for item in items])
    return FileDataset(
        files=tuple(item.file for item in items),
        labels=np.array([classes.index(item.type) for item in items], dtype=np.int64),
        classes=classes,
        shape=shape or (1 if grey else 3, height, width),
        parts=parts if parts.any() else None,
        mask_files=_masks(items, notes),
        notes=tuple(notes),
    )


def _folder(root: Path | None, path: str | None) -> Path:
    if path is not None:
        places = [Path(path).expanduser(), *([root / path] if root else [])]
    elif root is not None:
        places = [root]
    else:
        raise DataError("folder: no images named; set its parameter path, or pass --data-root DIR")
    for place in places:
        if place.is_dir():
            return place
    raise DataError(f"folder: {' or '.join(map(str, places))} is no folder; set path or --data-root to one")


def _find(folder: Path) -> tuple[list[_Item], list[str]]:
    """What the layout says, and notes on what was left out."""
    notes: list[str] = []
    try:
        within = sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    beside = {path.name: path for path in within if path.is_dir()}
    if (folder / "train" / GOOD).is_dir():
        tests = sorted(sub for sub in folder.glob("test/*/") if sub.name[0] != ".")
        groups = [(folder / "train" / GOOD, 0), *((sub, 1) for sub in tests)]
        unused = [name for name in beside if name not in ("train", "test", MASKS)]
    elif GOOD in beside:
        groups = [(sub, 0) for name, sub in beside.items() if name != MASKS]
        unused = []
    else:
        return _flat(folder, [path for path in within if path.suffix.lower() in EXTENSIONS], list(beside))
    if unused:
        notes.append(f"left out, as this layout does not know them: {', '.join(unused)}")
    items = [item for group, part in groups for item in _group(folder, group, part, notes)]
    return items, notes


def _flat(folder: Path, files: list[Path], beside: list[str]) -> tuple[list[_Item], list[str]]:
    if files:
        left_out = [f"left out, as images lie in {folder} itself: {', '.join(beside)}"] if beside else []
        return [_Item(file, GOOD, 0) for file in files], left_out
    raise DataError(
        f"{folder}: no good images; expected train/good, good or images ({', '.join(EXTENSIONS)}) in it, "
        f"found {'the folders ' + ', '.join(beside) if beside else 'nothing'}; rename the folder of good images "
        "to good, or name another folder"
    )


def _group(folder: Path, group: Path, part: int, notes: list[str]) -> Iterator[_Item]:
    """The images of one type, with their masks."""
    try:
        files = list(find_images([group]))
    except DataError as error:
        notes.append(str(error))
        return
    masks = folder / MASKS / group.name
    for file in files:
        stem = masks / file.relative_to(group).with_suffix("")
        near = (stem.with_name(f"{stem.name}{ending}") for ending in ("_mask.png", ".png"))
        yield _Item(file, group.name, part, next((mask for mask in near if mask.is_file()), None))


def _readable(found: list[_Item], notes: list[str]) -> tuple[list[_Item], list[Probe]]:
    items, probes, skipped = [], [], []
    for item in found:
        try:
            probes.append(probe_image(item.file))
            items.append(item)
        except DataError as error:
            skipped.append(f"skipped: {error}")
    notes += skipped[:_NAMED]
    if len(skipped) > _NAMED:
        notes.append(f"skipped: {len(skipped) - _NAMED} more files that cannot be read")
    return items, probes


def _note_sizes(probes: list[Probe], notes: list[str]) -> None:
    sizes = Counter((probe.height, probe.width) for probe in probes).most_common()
    if len(sizes) > 1:
        common = ", ".join(f"{count} of {width}x{height}" for (height, width), count in sizes[:3])
        notes.append(
            f"images of {len(sizes)} sizes, all scaled to one: {common}" + ", ..." * (len(sizes) > 3)
        )


def _masks(items: list[_Item], notes: list[str]) -> tuple[Path | None, ...] | None:
    """A mask for each image, if every anomaly has one that can be read."""
    if not any(item.mask for item in items):
        return None
    lacking = []
    for item in items:
        try:
            if item.mask:
                probe_image(item.mask)
            elif item.type != GOOD:
                lacking.append(f"{item.file} has none")
        except DataError as error:
            lacking.append(str(error))
    if lacking:
        notes.append(f"masks are not used, as {len(lacking)} of them are missing or damaged: {lacking[0]}")
        return None
    return tuple(item.mask for item in items)
