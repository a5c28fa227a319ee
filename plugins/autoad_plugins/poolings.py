"""Built-in poolings; the torch code is in `_blocks`."""

from __future__ import annotations

from collections.abc import Iterator

from autoad_core import Component, hookimpl


@hookimpl
def autoad_poolings() -> Iterator[Component]:
    yield Component(
        name="max",
        target="autoad_plugins._blocks:max_pool",
        summary="The largest value of each window",
        in_paper=True,
    )
    yield Component(
        name="average",
        target="autoad_plugins._blocks:average_pool",
        summary="The mean of each window, over the pixels that lie in the image",
        in_paper=True,
    )
