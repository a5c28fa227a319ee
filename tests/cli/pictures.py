"""Small images as users have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 8


def picture(rng: np.random.Generator, *, bad: bool, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """(H, W) uint8: stripes and noise, with a bright spot if ``bad``."""
    stripes = 100 + 40 * np.sin(np.arange(width))[None] + rng.normal(0, 10, (height, width))
    image = stripes.clip(0, 180).astype(np.uint8)
    if bad:
        image[height // 4 : height // 2, width // 4 : width // 2] = 255
    return image


def write_pictures(folder: Path, good: int, bad: int) -> Path:
    """``good/`` and ``bad/`` in ``folder``, as PNG files; no folder for none."""
    rng = np.random.default_rng(0)
    for name, count in (("good", good), ("bad", bad)):
        for i in range(count):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(rng, bad=name == "bad")).save(folder / name / f"{i:02d}.png")
    return folder


def write_oddities(folder: Path, good: int, bad: int) -> Path:
    """As `write_pictures`, but of three sizes and six modes, and with files that are no images among them."""
    rng = np.random.default_rng(0)
    for name, count in (("good", good), ("bad", bad)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            height, width = ((8, 8), (12, 8), (5, 13))[i // 6 % 3]
            grey = picture(rng, bad=name == "bad", height=height, width=width)
            _in_mode(grey, i % 6).save(folder / name / f"{i:02d}.png")
    (folder / "good" / "nothing.png").touch()
    (folder / "good" / "words.jpg").write_text("not an image")
    whole = (folder / "bad" / "00.png").read_bytes()
    (folder / "bad" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


def _in_mode(grey: np.ndarray, mode: int) -> Image.Image:
    """8 bits, 16 bits, palette, RGBA, grey with alpha, RGB; all of the same grey."""
    image = Image.fromarray(grey)
    if mode == 1:
        return Image.fromarray(grey.astype(np.uint16) * 257)
    return image.convert(("L", "", "P", "RGBA", "LA", "RGB")[mode])
