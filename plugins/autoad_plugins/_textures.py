"""Patches of a photographed texture, some with a pasted defect: an inspection task that needs no download.

The photographs are those that scikit-image ships. Good patches of the two parts come from opposite sides of
the photograph, so that no test patch overlaps a training patch; both sides are mirrored at random.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from autoad_core.data import ArrayDataset, Floats
from autoad_core.errors import DataError
from autoad_plugins._params import one_of, whole

TEXTURES = ("brick", "grass", "gravel")
SIDE = 256  # of the photograph, after halving it
SPLIT = 152  # columns left of it give training patches, those right of it test patches

# A defect takes a patch (H, W) and gives it back spoilt, with the strength of the damage at each pixel.
Defect = Callable[[Floats, Generator], tuple[Floats, Floats]]


def make(
    root: Path | None,
    shape: tuple[int, int, int] | None,
    seed: int,
    *,
    texture: str = "brick",
    size: int = 32,
    train: int = 400,
    test: int = 100,
    defects: int = 40,
) -> ArrayDataset:
    """Classes ``good``, ``foreign``, ``scratch`` and ``stain``, with masks; grey, (1, size, size).

    Args:
        root: Not used.
        shape: Not used: patches are cut, not scaled.
        seed: Same seed, same patches.
        texture: ``brick``, ``grass`` or ``gravel``.
        size: Side of a patch, 16 to 104 pixels.
        train: Good patches in the training part.
        test: Good patches in the test part.
        defects: Patches with a defect of each of the three kinds, in the test part.

    Raises:
        DataError: A parameter out of its range, or a scikit-image without this photograph.
    """
    one_of("textures.texture", texture, TEXTURES)
    whole("textures.size", size, 16, SIDE - SPLIT)
    for name, count in (("train", train), ("test", test), ("defects", defects)):
        whole(f"textures.{name}", count, 1, 100_000)
    rng = np.random.default_rng(seed)
    photo, other = _photo(texture), _photo(TEXTURES[TEXTURES.index(texture) - 1])
    kinds: dict[str, Defect] = {"foreign": _foreign(other), "scratch": _scratch, "stain": _stain}

    good = _patches(photo[:, :SPLIT], size, train, rng), _patches(photo[:, SPLIT:], size, test, rng)
    images, masks = [*good], [np.zeros(patches.shape, bool) for patches in good]
    for defect in kinds.values():
        for patch in _patches(photo[:, SPLIT:], size, defects, rng):
            spoilt, strength = defect(patch, rng)
            images.append(spoilt[None])
            masks.append(strength[None] > 0.5 * strength.max())
    counts = [train, test, *[defects] * len(kinds)]
    return ArrayDataset(
        np.round(np.concatenate(images)[:, None] * 255).astype(np.uint8),
        np.repeat([0, *range(len(kinds) + 1)], counts),
        ("good", *kinds),
        np.repeat([0, *[1] * (len(kinds) + 1)], counts),
        np.concatenate(masks),
    )


def _photo(texture: str) -> Floats:
    """(SIDE, SIDE) float32 in [0, 1], evenly lit: otherwise the two sides would differ in brightness."""
    file = importlib.resources.files("skimage") / "data" / f"{texture}.png"
    try:
        with file.open("rb") as stream, Image.open(stream) as image:
            halved = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        light = halved.filter(ImageFilter.GaussianBlur(SIDE / 8))
    except OSError as error:
        raise DataError(
            f"textures: this scikit-image has no {texture}.png ({error}); install another"
        ) from error
    pixels: Floats = np.asarray(halved, dtype=np.float32)
    even: Floats = pixels / np.asarray(light) * np.float32(0.45)
    return np.clip(even, 0, 1)


def _patches(photo: Floats, size: int, count: int, rng: Generator) -> Floats:
    """(count, size, size), from anywhere in the photograph, no place twice if there are enough; some mirrored."""
    windows = np.lib.stride_tricks.sliding_window_view(photo, (size, size))
    rows, columns = windows.shape[:2]
    places = rng.choice(rows * columns, count, replace=count > rows * columns)
    chosen = windows[places // columns, places % columns]
    mirrored = rng.random(count) < 0.5
    patches: Floats = np.where(mirrored[:, None, None], chosen[:, :, ::-1], chosen)
    return patches


def _foreign(other: Floats) -> Defect:
    """A piece of ``other`` lies in the patch, as bright as what it covers: only the structure betrays it."""

    def spoil(patch: Floats, rng: Generator) -> tuple[Floats, Floats]:
        strength = _blob(len(patch), rng, edge=1)
        (piece,) = _patches(other, len(patch), 1, rng)
        weights = strength / strength.sum()
        piece = piece + np.sum((patch - piece) * weights)
        return _blend(patch, piece, strength), strength

    return spoil


def _stain(patch: Floats, rng: Generator) -> tuple[Floats, Floats]:
    """A soft spot, darker or brighter, through which the texture shows."""
    strength = _blob(len(patch), rng, edge=len(patch) / 8)
    factor = rng.choice([rng.uniform(0.5, 0.75), rng.uniform(1.25, 1.6)])
    return _blend(patch, patch * np.float32(factor), strength), strength


def _scratch(patch: Floats, rng: Generator) -> tuple[Floats, Floats]:
    """A thin bent line, darker or brighter than the patch."""
    size = len(patch)
    ends = rng.uniform(0.1, 0.9, (3, 2)) * size
    while np.linalg.norm(ends[2] - ends[0]) < size / 2:
        ends = rng.uniform(0.1, 0.9, (3, 2)) * size
    t = np.linspace(0, 1, 2 * size)[:, None]
    curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
    distance = np.linalg.norm(_grid(size)[:, :, None] - curve, axis=-1).min(axis=-1)
    strength = np.clip(rng.uniform(0.8, 1.4) - distance, 0, 1).astype(np.float32)
    contrast = rng.uniform(1.5, 3) * max(patch.std(), 0.06)  # a patch may lie within one brick
    tone = np.clip(patch.mean() + rng.choice([-1, 1]) * contrast, 0, 1)
    return _blend(patch, np.full_like(patch, tone), strength), strength


def _blob(size: int, rng: Generator, edge: float) -> Floats:
    """(size, size) in [0, 1]: a round-ish spot inside the patch, whose border is ``edge`` pixels wide."""
    radius = rng.uniform(0.12, 0.22) * size
    offset = _grid(size) - rng.uniform(0.25, 0.75, 2) * size
    angle = np.arctan2(offset[..., 0], offset[..., 1])
    waves = sum(0.1 * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    border = radius * (1 + waves) - np.linalg.norm(offset, axis=-1)
    strength: Floats = np.clip(border / edge + 0.5, 0, 1).astype(np.float32)
    return strength


def _grid(size: int) -> Floats:
    """(size, size, 2): row and column of every pixel."""
    return np.indices((size, size), dtype=np.float32).transpose(1, 2, 0)


def _blend(below: Floats, above: Floats, strength: Floats) -> Floats:
    return np.clip(below + strength * (above - below), 0, 1)
