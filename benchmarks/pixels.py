"""How long pixel metrics and SSIM maps take: seconds of one thread, and SSIM beside scikit-image's in the same run.

python benchmarks/pixels.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from skimage.metrics import structural_similarity

from autoad_core import pixel_metrics
from autoad_core.data import Floats
from autoad_core.pixel_metrics import Truth
from autoad_plugins._ssim import SSIM

SIDE = 256
IMAGES = 160


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Median seconds of ``times`` calls."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def metrics() -> float:
    """Every pixel metric, with RPRO and its threshold, of 160 maps of 256x256 with two regions on half of them."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(IMAGES, SIDE, SIDE)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[IMAGES // 2 :, 40:80, 60:90] = masks[IMAGES // 2 :, 150:170, 30:200] = True
    maps[masks] += 1

    def work() -> None:
        truths = [Truth.of(mask, (SIDE, SIDE)) for mask in masks]
        threshold = pixel_metrics.area_threshold(list(maps[: IMAGES // 4]), 66)
        pixel_metrics.figures(list(maps), truths, threshold)

    return seconds(work)


def ssim(images: int, channels: int) -> tuple[float, float]:
    """Seconds of a scored map of ``images``, ours and scikit-image's, medians of 15 in turns."""
    rng = np.random.default_rng(0)
    shape = (images, channels, SIDE, SIDE)
    x = rng.uniform(size=shape).astype(np.float32)
    y = (x + rng.normal(0, 0.1, shape)).clip(0, 1).astype(np.float32)
    a, b, ours = torch.from_numpy(x), torch.from_numpy(y), SSIM()

    def theirs() -> list[Floats]:
        keys = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        return [
            structural_similarity(p, q, full=True, channel_axis=0, **keys)[1]
            for p, q in zip(x, y, strict=True)
        ]

    pairs = [(seconds(lambda: ours(a, b)), seconds(theirs)) for _ in range(16)][1:]
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    return first, second


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    print(f"metrics of {IMAGES} maps of {SIDE}x{SIDE}: {metrics():.1f} s")
    for images, channels in ((1, 1), (1, 3), (16, 1), (16, 3)):
        ours, theirs = ssim(images, channels)
        print(
            f"SSIM maps of {images} images, {channels} channels: {1000 * ours:.1f} ms, "
            f"scikit-image {1000 * theirs:.1f} ms: {theirs / ours:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
