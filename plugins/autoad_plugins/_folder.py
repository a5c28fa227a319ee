"""A user's own images: MVTec AD's layout, ``good`` beside other folders, or good images only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoad_core.errors import DataError
from autoad_core.images import EXTENSIONS, MASKS, Probe, Shape, find_images, probe_image
from autoad_plugins._image_files import FileDataset
from autoad_plugins._params import one_of, sides

GOOD = "good"
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
        size: The shorter side, of which the proportions of the most frequent image make a shape; or [height, width]. Images are
            brought to it in their own proportions, see `autoad_core.images.read_image`.
        colour: ``grey``, ``rgb``, or ``auto``: grey if every image is.

    Raises:
        DataError: No such folder, no good images, or none that can be read.
    """
    return open_folder("folder", _folder(root, path), shape, size, colour)


def open_folder(name: str, folder: Path, shape: Shape | None, size: Any, colour: str) -> FileDataset:
    """The images of a folder that exists; ``name`` is that of the data set, for messages. Otherwise as `make`."""
    one_of(f"{name}.colour", colour, ("auto", "grey", "rgb"))
    given = sides(f"{name}.size", size)
    if shape is not None and shape[0] not in (1, 3):
        raise DataError(f"{name}: images have 1 or 3 channels, not {shape[0]}")
    found, notes = _find(folder)
    items, probes = _readable(found, notes)
    if not any(item.type == GOOD for item in items):
        raise DataError(f"{folder}: no good image can be read; " + "; ".join(notes or ["no images there"]))
    _note_sizes(probes, notes)
    grey = colour == "grey" or (colour == "auto" and all(probe.grey for probe in probes))
    classes = (GOOD, *sorted({item.type for item in items} - {GOOD}))
    parts = np.array([item.part for item in items])
    height, width = given if isinstance(size, (list, tuple)) else _shape_of(probes, given[0])
    return FileDataset(
        files=tuple(item.file for item in items),
        labels=np.array([classes.index(item.type) for item in items], dtype=np.int64),
        classes=classes,
        shape=shape or (1 if grey else 3, height, width),
        parts=parts if parts.any() else None,
        mask_files=_masks(folder, items, probes, notes),
        notes=tuple(notes),
        fit=True,
    )


def _shape_of(probes: list[Probe], shorter: int) -> tuple[int, int]:
    """(H, W) in the proportions of the most frequent size."""
    ((height, width), _), *_ = Counter((probe.height, probe.width) for probe in probes).most_common(1)
    scale = shorter / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


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
    if trained := [sub for sub in _folders(folder / "train") if _type(sub) == GOOD]:
        groups = [*((sub, 0) for sub in trained), *((sub, 1) for sub in _folders(folder / "test"))]
        unused = [name for name in beside if name not in ("train", "test", MASKS)]
    elif any(_type(sub) == GOOD for sub in beside.values()):
        groups = [(sub, 0) for name, sub in beside.items() if name != MASKS]
        unused = []
    else:
        return _flat(folder, [path for path in within if path.suffix.lower() in EXTENSIONS], list(beside))
    if unused:
        notes.append(f"left out, as this layout does not know them: {', '.join(unused)}")
    notes += [f"{sub}: taken for {_type(sub)!r}" for sub, _ in groups if sub.name != _type(sub)]
    items = [item for group, part in groups for item in _group(folder, group, part, notes)]
    return items, notes


def _folders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.glob("*/") if sub.name[0] != ".")


def _type(folder: Path) -> str:
    """What a folder's images are: its name, but for blanks around it; ``Good`` is good."""
    name = folder.name.strip()
    return GOOD if name.casefold() == GOOD else name


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
    masks = _mask_files(folder / MASKS / group.name)
    for file in files:
        stem = str(file.relative_to(group).with_suffix(""))
        yield _Item(file, _type(group), part, masks.pop(f"{stem}_mask", None) or masks.pop(stem, None))
    if masks and part == 1:
        left = sorted(masks.values())
        notes.append(f"left out: masks without an image: {len(left)}, such as {left[0]}")


def _mask_files(folder: Path) -> dict[str, Path]:
    """The masks in a folder, by their path in it without its ending."""
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    return {
        str(f.relative_to(folder).with_suffix("")): f
        for f in found
        if f.suffix.lower() in EXTENSIONS and f.name[0] != "."
    }


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
            f"images of {len(sizes)} sizes, all brought to one: {common}" + ", ..." * (len(sizes) > 3)
        )


def _masks(
    folder: Path, items: list[_Item], probes: list[Probe], notes: list[str]
) -> tuple[Path | None, ...] | None:
    """The mask of each image, where there is one that can be read and has the image's proportions."""
    if not any(item.mask for item in items):
        if (folder / MASKS).is_dir():
            notes.append(
                f"{folder / MASKS}: no masks there that fit the names of the images, <type>/<stem>_mask.png"
            )
        return None
    found: list[Path | None] = []
    lacking = []
    for item, probe in zip(items, probes, strict=True):
        found.append(None)
        try:
            if item.mask:
                _check_mask(item.mask, probe)
                found[-1] = item.mask
            elif item.type != GOOD:
                lacking.append(f"{item.file} has none")
        except DataError as error:
            lacking.append(str(error))
    if lacking:
        notes.append(
            f"{len(lacking)} masks are missing or cannot be used: {'; '.join(lacking[:_NAMED])}"
            + "; ..." * (len(lacking) > _NAMED)
        )
    return tuple(found)


def _check_mask(file: Path, image: Probe) -> None:
    """Raises DataError: it cannot be read, or has other proportions than its image, by more than a pixel."""
    mask = probe_image(file)
    if abs(mask.height * image.width - mask.width * image.height) > max(
        image.height, image.width, mask.height, mask.width
    ):
        raise DataError(
            f"{file}: a mask of {mask.width}x{mask.height} pixels on an image of {image.width}x{image.height}"
        )
