"""Score maps as pictures: the image, the map over it with a contour at the threshold, and the mask where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from autoad_core.data import Bools, Floats
from autoad_core.images import Size, fitted
from autoad_core.thresholds import Usual

Picture = NDArray[np.uint8]  # (H, W, 3)

LONGEST = 1024  # side of a panel
_SMALLEST = 128
_GAP = 8
_OPACITY = 0.7
_CONTOUR = (0, 255, 255)
# Dark to bright, in even steps of lightness; also apart for the colour-blind.
_STOPS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)


@dataclass(frozen=True, slots=True)
class Look:
    """How maps of one model are coloured, the same for all images.

    Attributes:
        dark: Score of the darkest colour: the median pixel of normal images.
        contour: Score at which the contour is drawn, in the middle of the colours.
    """

    dark: float
    contour: float

    @classmethod
    def of(cls, usual: Usual, rate: float) -> Look:
        """For a share ``rate`` of false alarms among the pixels of normal images."""
        return cls(usual.pixel_threshold(0.5)[0], usual.pixel_threshold(rate)[0])


def plain(image: Floats) -> Picture:
    """An image (C, H, W) by itself, its pixels repeated where it is small."""
    times = max(1, _SMALLEST // max(image.shape[1:]))
    pixels = np.round(255 * image.transpose(1, 2, 0)).astype(np.uint8).repeat(times, 0).repeat(times, 1)
    return _resized(pixels, pixels.shape[:2])


def panels(image: Floats, scores: Floats, look: Look, mask: Bools | None = None) -> Picture:
    """The image, the map over it, and the mask, side by side.

    Args:
        image: (C, H, W) float32 in [0, 1], 1 or 3 channels.
        scores: (h, w) map of the whole image.
        mask: (h', w') of the whole image; None where it is not known.
    """
    size = image.shape[1], image.shape[2]
    shown = _resized(np.round(255 * image.transpose(1, 2, 0)).astype(np.uint8), size)
    parts = [shown, _heated(shown, scores, look)]
    if mask is not None:
        parts.append(_resized(np.where(mask, 255, 0).astype(np.uint8)[:, :, None], shown.shape[:2]))
    gap = np.full((shown.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([p for part in parts for p in (part, gap)][:-1], axis=1)


def _heated(shown: Picture, scores: Floats, look: Look) -> Picture:
    """The map as colours over the picture, the more opaque the higher, with its contour."""
    height, width = shown.shape[:2]
    wide = np.asarray(Image.fromarray(scores).resize((width, height), Image.Resampling.BILINEAR))
    span = np.float32(max(2 * (look.contour - look.dark), 1e-12))
    level = np.clip((wide - np.float32(look.dark)) / span, 0, 1)
    colours = coloured(level)
    opacity = (_OPACITY * level)[:, :, None]
    out: Picture = np.round(shown * (1 - opacity) + colours * opacity).astype(np.uint8)
    found = wide > look.contour
    thick = max(1, round(max(height, width) / 256))
    out[ndimage.binary_dilation(found, iterations=thick) & ~found] = _CONTOUR
    return out


def coloured(level: Floats) -> Floats:
    """(H, W) in [0, 1] to (H, W, 3) in [0, 255]."""
    places = np.linspace(0, 1, len(_STOPS))
    channels = [np.interp(level, places, _STOPS[:, c]) for c in range(3)]
    return np.stack(channels, axis=2).astype(np.float32)


def _resized(pixels: Picture, size: Sequence[int]) -> Picture:
    """(H, W, 1 or 3) to three channels and ``size``, or as much of it as fits into `LONGEST`."""
    height, width = fitted((size[0], size[1]), (LONGEST, LONGEST)) if max(size) > LONGEST else size
    three = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    out: Picture = np.asarray(Image.fromarray(three).resize((width, height), Image.Resampling.BILINEAR))
    return out


def uncanvassed(scores: Floats, size: Size) -> Floats:
    """The part of a map (H, W) that an image of ``size`` takes, as `autoad_core.images.read_image` fits it in."""
    height, width = fitted(size, (scores.shape[0], scores.shape[1]))
    return scores[:height, :width]
