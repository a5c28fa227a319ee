"""Does a second look at the image help? A defect on an object before a busy background, with and without refinement.

    pip install 'autoad[textures,saliency,pretrained]'
    AUTOAD_WEIGHTS=DIR python examples/case_study.py [--to FOLDER]

The AutoAD paper's case study (V-F) trains on photographs of cats, and refines maps of reconstruction errors by saliency and
Grad-CAM (eq. 20), so that what is strange on the cat counts, and a busy background does not. Its pictures are not labelled. Here
the truth is known: a child model is trained on crops of scikit-image's photograph of a cat, or of a cup of coffee, and then
judged on other crops with a piece of the other photograph pasted onto the object. DIR holds u2netp.onnx.

Printed is the pixel AUROC of the pasted piece against the rest of its image, over all cases, for each chain of refinements, and
how much better than the raw map it is, with 95 % bootstrap intervals over the cases. FOLDER gets pictures of some.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from autoad_core.component import Kind
from autoad_core.config import Train
from autoad_core.discovery import discover
from autoad_core.metrics import auroc
from autoad_core.modelfile import Model
from autoad_core.pictures import Look, panels
from autoad_core.pixel_detector import Pixels, build
from autoad_core.refine import refined
from autoad_core.spec import Layer, Spec
from autoad_core.thresholds import Usual
from autoad_core.training import fit, seed_everything

Floats = NDArray[np.float32]

SIDE = 224
CASES = 30  # of each photograph
CHAINS = ("saliency-u2net", "grad-cam-lite", "saliency-u2net,grad-cam-lite")
# The object's place, as (top, bottom, left, right) shares of the photograph.
OBJECTS = {"cat": (0.15, 0.95, 0.2, 0.75), "coffee": (0.2, 0.85, 0.3, 0.75)}


def photograph(name: str) -> Floats:
    """(3, H, W) in [0, 1], its shorter side 256."""
    pixels = Image.fromarray(getattr(data, name)())
    scale = 256 / min(pixels.size)
    small = pixels.resize(
        (round(pixels.width * scale), round(pixels.height * scale)), Image.Resampling.BILINEAR
    )
    return np.asarray(small, np.float32).transpose(2, 0, 1) / np.float32(255)


def crop(image: Floats, rng: np.random.Generator) -> tuple[Floats, tuple[int, int]]:
    """A square with most of the photograph in it, a little brighter or darker, with a camera's noise; and where it begins."""
    _, height, width = image.shape
    top, left = rng.integers(0, height - SIDE + 1), rng.integers(0, width - SIDE + 1)
    found = image[:, top : top + SIDE, left : left + SIDE] * rng.uniform(0.95, 1.05)
    return np.clip(found + rng.normal(0, 0.01, found.shape), 0, 1).astype(np.float32), (int(top), int(left))


def cases(name: str, rng: np.random.Generator) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    """Crops with a round piece of the other photograph on the object, and its mask."""
    image, other = photograph(name), photograph("coffee" if name == "cat" else "cat")
    top, bottom, left, right = OBJECTS[name]
    _, height, width = image.shape
    rows, columns = np.mgrid[:SIDE, :SIDE]
    made = 0
    while made < CASES:
        found, (y0, x0) = crop(image, rng)
        radius = rng.integers(8, 18)
        y = rng.uniform(top, bottom) * height - y0
        x = rng.uniform(left, right) * width - x0
        mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        if mask.sum() < 0.9 * np.pi * radius**2:
            continue  # not all of it lies in the crop
        piece, _ = crop(other, rng)
        found[:, mask] = np.roll(piece, rng.integers(0, SIDE, 2), (1, 2))[:, mask]
        made += 1
        yield found, mask


def model_of(name: str, rng: np.random.Generator) -> Model:
    """A child model by hand, trained on 60 crops without a defect."""
    registry = discover(builtin_only=True).registry
    train = torch.from_numpy(np.stack([crop(photograph(name), rng)[0] for _ in range(60)]))

    def layer(channels: int) -> Layer:
        return Layer(
            channels=channels, kernel=3, pooling="max", pooling_kernel=3, normalization="batch", activation="relu"
        )  # fmt: skip

    spec = Spec("reconstruction", "l2", (layer(32), layer(32))).resolve(registry)
    seed_everything(0)
    detector = build(spec, (3, SIDE, SIDE), registry, Pixels(64, 3.0, "pixel_auroc", 50))
    fit(detector, train, 15, Train(batch_size=16))
    detector.eval()
    scores = {"own": ("distance",)}
    normal = torch.from_numpy(np.stack([crop(photograph(name), rng)[0] for _ in range(20)]))
    return Model(detector, scores, "own", {"own": Usual.of(Model(detector, scores, "own")(normal))})


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    registry = discover(builtin_only=True).registry
    parts = {n: registry.get(Kind.REFINEMENT, n).build({}) for chain in CHAINS for n in chain.split(",")}
    figures: dict[str, list[float]] = {"raw": [], **{chain: [] for chain in CHAINS}}
    for name in OBJECTS:
        rng = np.random.default_rng(0)
        model = model_of(name, rng)
        look = Look.of(model.usual["own"], 0.01)
        for number, (image, mask) in enumerate(cases(name, rng)):
            maps = model(torch.from_numpy(image[None]))
            shown = {"raw": maps}
            for chain in CHAINS:
                shown[chain] = refined([parts[n] for n in chain.split(",")], image[None], maps, look)
            for chain, found in shown.items():
                figures[chain].append(auroc(found[0].ravel(), mask.ravel()))
            if given.to and number < 4:
                given.to.mkdir(parents=True, exist_ok=True)
                for chain, found in shown.items():
                    picture = panels(image, found[0], look, mask)
                    Image.fromarray(picture).save(given.to / f"{name}-{number}-{chain.replace(',', '+')}.png")
    rng = np.random.default_rng(0)
    raw = np.array(figures["raw"])
    print(f"{len(raw)} cases; pixel AUROC, and how much better than the raw map")
    for chain, values in figures.items():
        gain = np.array(values) - raw
        drawn = [rng.choice(gain, len(gain)).mean() for _ in range(2000)]
        low, high = np.quantile(drawn, (0.025, 0.975))
        print(f"{chain:<30} {np.mean(values):.3f}  {gain.mean():+.3f} [{low:+.3f}, {high:+.3f}]")


if __name__ == "__main__":
    main()
