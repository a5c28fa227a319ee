"""Built-in distances between an image and its reconstruction; the torch code is in `_distances` and `_ssim`."""

from __future__ import annotations

from collections.abc import Iterator

from autoad_core import Component, hookimpl


@hookimpl
def autoad_distances() -> Iterator[Component]:
    yield Component(
        name="l1",
        target="autoad_plugins._distances:L1",
        summary="Sum of absolute errors",
        in_paper=True,
    )
    yield Component(
        name="l2",
        target="autoad_plugins._distances:L2",
        summary="Sum of squared errors",
        in_paper=True,
    )
    yield Component(
        name="l21",
        target="autoad_plugins._distances:L21",
        summary="The l2,1 norm of the error: Euclidean norms of the image columns, summed",
        in_paper=True,
    )
    yield Component(
        name="ssim",
        target="autoad_plugins._ssim:SSIM",
        summary="1 - structural similarity, 11x11 Gaussian window",
        in_paper=True,
    )
    yield Component(
        name="relative",
        target="autoad_plugins._distances:Relative",
        summary="Squared error over the image's own variance of pixels",
    )
