"""Images from files: find them, read them in any mode, bring them to the shape that is wanted.

Alpha is dropped, not blended: the stored colours count. Of animations and stacks the first frame is read.
"""

from __future__ import annotations

import glob
import io
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from autoad_core.data import Bools, Floats
from autoad_core.errors import DataError

Shape = tuple[int, int, int]
Size = tuple[int, int]  # height, width

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MASKS = "ground_truth"  # folder in which masks lie
MAX_BYTES = 512 * 2**20
MAX_PIXELS = 100_000_000

# Pillow knows many more, some of which start other programs (EPS) or are rarely tested.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)[:, None, None]  # ITU-R 601, as Pillow's grey


def find_images(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The images that files, folders and globs name, in the order given; folders recursively, sorted.

    A file that is named itself is taken whatever its name. Inside folders, and where a glob matches, hidden
    files, files without an image's extension, and the masks in ``ground_truth`` are passed over. A folder is listed as it
    is consumed.

    Raises:
        DataError: At once, for a path that does not exist or that holds no image.
    """
    return itertools.chain.from_iterable([_at_least_one(path) for path in paths])


def _at_least_one(path: str | Path) -> Iterator[Path]:
    if not str(path):
        raise DataError("an empty path; name a file, a folder or a pattern")
    found = _named(path)
    for first in found:
        return itertools.chain((first,), found)
    if Path(path).exists() or glob.has_magic(str(path)):
        raise DataError(f"{path}: no images here; looked for {', '.join(EXTENSIONS)}")
    raise DataError(f"{path}: no such file or folder; check the spelling")


def _named(path: str | Path) -> Iterator[Path]:
    if Path(path).is_file():
        yield Path(path)
        return
    # Path.glob takes no absolute pattern. A folder whose name reads like a pattern is still a folder.
    matches = [path] if Path(path).is_dir() else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
    for match in map(Path, matches):
        if match.is_dir():
            yield from _walk(match)
        elif _is_image(match.name):
            yield match


def _walk(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder, onerror=_unlisted):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != MASKS)
        yield from (Path(where, name) for name in sorted(files) if _is_image(name))


def _unlisted(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check permissions") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


@dataclass(frozen=True, slots=True)
class Probe:
    """What an undamaged file holds; ``grey`` if its three channels are equal or it has only one."""

    height: int
    width: int
    grey: bool


def probe_image(path: str | Path) -> Probe:
    """Decode a file to its end, as fast as that goes.

    Raises:
        DataError: As `read_image`.
    """
    with _opened(path) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation, 1) > 4:  # stored on its side
            width, height = height, width
        image.draft(None, (64, 64))  # of a JPEG all coefficients are read, but few become pixels
        small = np.asarray(_plain(image).resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    return Probe(height, width, small.ndim == 2 or float(np.ptp(small, axis=-1).max()) <= 2)


def fitted(size: Size, canvas: Size) -> Size:
    """(h, w) of an image of ``size`` once it is scaled, in its own proportions, to fit into ``canvas``."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    height, width = (min(max(1, round(side * scale)), most) for side, most in zip(size, canvas, strict=True))
    return height, width


def read_image(
    path: str | Path, shape: Shape | None = None, data: bytes | None = None, *, fit: bool = False
) -> Floats:
    """One image, upright as its EXIF orientation says.

    Args:
        path: 8 bits are divided by 255, 16 bits and 32-bit integers by 65535; floats must lie in [0, 1].
        shape: (C, H, W) to bring it to, as `resize` does, C 1 or 3; None for its own size, and C 1 if it is
            stored in grey, 3 otherwise.
        data: What the file holds, where it is no file of its own; ``path`` then only names it in errors.
        fit: Keep its proportions: it comes to lie at the top left, as large as fits, and its edges are repeated.

    Returns:
        (C, H, W) float32 in [0, 1].

    Raises:
        DataError: Missing, damaged, truncated, empty or too large; one line, which names the file.
    """
    with _opened(path, data) as image:
        plain = _plain(ImageOps.exif_transpose(image))
        if shape is not None:
            height, width = fitted((plain.height, plain.width), shape[1:]) if fit else shape[1:]
            if plain.size != (width, height):
                plain = plain.resize((width, height), Image.Resampling.BILINEAR)
        scale = np.float32(1 if plain.mode == "F" else 255)
        pixels = np.atleast_3d(np.asarray(plain, dtype=np.float32)).transpose(2, 0, 1) / scale
    if shape is not None and pixels.shape[1:] != shape[1:]:
        missing = [(0, most - side) for most, side in zip(shape[1:], pixels.shape[1:], strict=True)]
        pixels = np.pad(pixels, ((0, 0), *missing), mode="edge")
    return np.ascontiguousarray(_rechannel(pixels, shape[0] if shape else len(pixels)))


def read_mask(path: str | Path) -> Bools:
    """(H, W), true where the anomaly is: of a mask with greys, what has more than half of its brightest.

    Raises:
        DataError: As `read_image`.
    """
    grey = read_image(path).mean(0)
    mask: Bools = grey > grey.max() / 2
    return mask


@contextmanager
def _opened(path: str | Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """An image whose decoding, too, happens inside the block, so that every failure names the file."""
    try:
        size = Path(path).stat().st_size if data is None else len(data)
        if not 0 < size <= MAX_BYTES:
            raise ValueError(f"{size:,} bytes are more than {MAX_BYTES:,}" if size else "the file is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata, and its own limit of pixels
            with Image.open(path if data is None else io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}")
                yield image
    except Exception as error:  # on damaged bytes decoders raise anything, SyntaxError and IndexError too
        known = not isinstance(error, UnidentifiedImageError)
        text = (getattr(error, "strerror", None) or str(error)) if known else "not in a known format"
        reason = " ".join(text.split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as an image ({reason}); replace or remove it") from error


def _plain(image: Image.Image) -> Image.Image:
    """To mode L, RGB, or F in [0, 1] where 8 bits would lose something."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        top = 1 if image.mode == "F" else 65535
        values = np.asarray(image, dtype=np.float32)
        if not (values.min() >= 0 and values.max() <= top):  # so written that NaN fails
            raise ValueError(f"values from {values.min():g} to {values.max():g}; expected 0 to {top}")
        return Image.fromarray(values / np.float32(top))
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def resize(images: Floats, shape: Shape) -> Floats:
    """Bilinear with antialiasing, as Pillow does it; colours become luminance, grey is repeated.

    Args:
        images: (n, C, H, W) float32 in [0, 1].
        shape: (C', H', W') that is wanted.

    Returns:
        (n, C', H', W') float32 in [0, 1]; the array itself where nothing is to be done.

    Raises:
        ValueError: Channels other than one or three to one, and one to any.
    """
    channels, height, width = shape
    if channels < images.shape[1]:
        images = _rechannel(images, channels)
    if images.shape[2:] != (height, width):
        rows, columns = _weights(images.shape[2], height), _weights(images.shape[3], width)
        images = np.clip(rows @ images @ columns.T, 0, 1)
    return _rechannel(images, channels)


def _weights(source: int, target: int) -> Floats:
    """(target, source): the share of each old pixel in each new one, by PIL's antialiased triangle."""
    centres = (np.arange(target)[:, None] + 0.5) * source / target
    distance = np.abs(np.arange(source) + 0.5 - centres) / max(source / target, 1)
    weights: Floats = np.clip(1 - distance, 0, None).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _rechannel(images: Floats, channels: int) -> Floats:
    """(..., C, H, W) to (..., channels, H, W)."""
    own = images.shape[-3]
    if own == channels:
        return images
    if own == 1:
        return np.repeat(images, channels, axis=-3)
    if (own, channels) == (3, 1):
        grey: Floats = (images * _LUMINANCE).sum(axis=-3, keepdims=True)
        return np.clip(grey, 0, 1)
    raise ValueError(f"cannot turn {own} channels into {channels}")
